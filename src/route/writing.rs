//! Which statements send the session's later reads to the primary (routing 7.1, 7.2).

use super::catalog::{Catalog, Known, Volatility};
use super::class::is_read;
use super::{SessionView, Transaction};
use crate::config::DisableLoadBalanceOnWrite as OnWrite;
use crate::sql::{AccessMode, Kind, Statement};

/// Whether the writing flag is set once `statement` has succeeded. `session` is its state when the statement was sent.
///
/// As in the original, whatever is no read counts inside a transaction, also SET and SAVEPOINT; it costs reads of the
/// primary, never correctness. The caller clears the flag at the end of a transaction, but not at ROLLBACK TO, after
/// which earlier writes still stand; never in mode `always`, and in mode `trans_transaction` not before the session ends.
pub fn sets_writing_flag(statement: &Statement, session: &SessionView<'_>, catalog: &impl Catalog) -> bool {
    let counts = match session.settings.disable_load_balance_on_write {
        OnWrite::Off | OnWrite::DmlAdaptive | OnWrite::DmlAdaptiveGlobal => false,
        OnWrite::Transaction | OnWrite::TransTransaction => session.transaction != Transaction::Idle,
        OnWrite::Always => true,
    };
    let reads = || (is_read(statement, session) || explains_a_read(statement)) && !may_write(statement, catalog);
    counts && !is_harmless(statement) && !reads()
}

/// EXPLAIN is not balanced, but it is no write either, unless it carries one out.
fn explains_a_read(statement: &Statement) -> bool {
    match &statement.kind {
        Kind::Explain { analyze: true, inner } => **inner == Kind::Select && is_pure(statement),
        Kind::Explain { analyze: false, .. } => !statement.is_multi(),
        _ => false,
    }
}

fn is_pure(statement: &Statement) -> bool {
    let has = &statement.has;
    !(statement.is_multi() || has.modification || has.select_into || has.locking || has.session_state)
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
            Kind::Set { name, value: Some(_), .. } if name.eq_ignore_ascii_case("transaction_read_only") => {
                !statement.kind.asks_read_write()
            }
            kind => kind.asks_serializable(),
        }
}

/// Whether a function may; those of an EXPLAIN without ANALYZE are not carried out, but then it does not matter much.
fn may_write(statement: &Statement, catalog: &impl Catalog) -> bool {
    let reads = |name| matches!(catalog.function(name), Known::Yes(Volatility::Immutable | Volatility::Reads));
    !statement.functions.iter().all(reads)
}
