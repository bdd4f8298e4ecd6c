//! Which statements send the session's later reads to the primary (routing 7.1, 7.2).

use super::adaptive::writes_unseen;
use super::catalog::Catalog;
use super::class::is_read;
use super::decide::function_obstacle;
use super::{SessionView, Transaction};
use crate::config::DisableLoadBalanceOnWrite as OnWrite;
use crate::sql::{AccessMode, Kind, Statement};

/// Whether the writing flag is set once `statement` has succeeded. `session` is its state when the statement was sent.
///
/// As in the original, whatever is no read counts inside a transaction, also SET and SAVEPOINT; it costs reads of the
/// primary, never correctness. The caller clears the flag at the end of a transaction, but not at ROLLBACK TO, after
/// which earlier writes still stand; never in mode `always`, and in mode `trans_transaction` not before the session ends.
///
/// The modes `dml_adaptive` and `dml_adaptive_global` go by [names](super::relations_touched) instead, and set the flag
/// only for what has none: text that was not understood, DO, and the like.
pub fn sets_writing_flag(statement: &Statement, session: &SessionView<'_>, catalog: &impl Catalog) -> bool {
    let in_transaction = session.transaction != Transaction::Idle;
    match session.settings.disable_load_balance_on_write {
        OnWrite::Off => false,
        OnWrite::DmlAdaptive | OnWrite::DmlAdaptiveGlobal => in_transaction && writes_unseen(statement, session),
        OnWrite::Transaction | OnWrite::TransTransaction if !in_transaction => false,
        OnWrite::Transaction | OnWrite::TransTransaction | OnWrite::Always => {
            let calls_a_writer = || {
                executes_functions(&statement.kind) && function_obstacle(statement, session.settings, catalog).is_some()
            };
            !is_harmless(statement) && (!is_read(statement, session) || calls_a_writer())
        }
    }
}

/// Whether a read of this kind calls the functions that it names.
fn executes_functions(kind: &Kind) -> bool {
    !matches!(kind, Kind::Prepare { .. } | Kind::Explain { analyze: false, .. })
}

/// Transaction control and settings that make writing impossible.
fn is_harmless(statement: &Statement) -> bool {
    !statement.is_multi()
        && match &statement.kind {
            Kind::Begin(_)
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::RollbackTo(_)
            | Kind::PrepareTransaction
            | Kind::CommitPrepared
            | Kind::RollbackPrepared
            | Kind::Pgpool(_) => true,
            Kind::SetTransaction { modes, .. } if modes.access == Some(AccessMode::ReadOnly) => true,
            Kind::Set { name, .. } if name.eq_ignore_ascii_case("transaction_read_only") => {
                !statement.kind.asks_read_write()
            }
            kind => kind.asks_serializable(),
        }
}
