//! Does a text change what outlives its transaction in the server session?

use crate::sql::kind::{Kind, VariableScope};
use crate::sql::{Name, Statement};

/// Functions that change session state by themselves.
const FUNCTIONS: [&str; 9] = [
    "dblink_connect",
    "dblink_connect_u",
    "dblink_disconnect",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "set_config",
    "setseed",
];

/// Whether the text says that something outlives the transaction: judged by kinds and function names alone.
pub(super) fn is_changed(statement: &Statement) -> bool {
    statement.kinds().any(by_kind) || statement.functions.iter().any(by_function)
}

fn by_kind(kind: &Kind) -> bool {
    match kind {
        Kind::Set { scope, .. } | Kind::SetTransaction { scope, .. } => *scope == VariableScope::Session,
        Kind::Declare { hold, .. } => *hold,
        Kind::CreateTable { temporary } | Kind::CreateTableAs { temporary } => *temporary,
        Kind::Explain { analyze, inner } => *analyze && by_kind(inner),
        Kind::CopyTo { query, .. } => query.as_deref().is_some_and(by_kind),
        Kind::Unparsable(_)
        | Kind::Reset(_)
        | Kind::Discard(_)
        | Kind::Prepare { .. }
        | Kind::Deallocate(_)
        | Kind::Listen
        | Kind::Unlisten
        | Kind::Load
        | Kind::Call
        | Kind::Do => true,
        Kind::Empty
        | Kind::Select
        | Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Merge
        | Kind::Begin(_)
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::Savepoint(_)
        | Kind::Release(_)
        | Kind::RollbackTo(_)
        | Kind::PrepareTransaction
        | Kind::CommitPrepared
        | Kind::RollbackPrepared
        | Kind::SetConstraints
        | Kind::Show(_)
        | Kind::Execute(_)
        | Kind::CopyFrom(_)
        | Kind::Fetch(_)
        | Kind::Close(_)
        | Kind::Notify
        | Kind::Lock { .. }
        | Kind::Truncate
        | Kind::Drop
        | Kind::DropDatabase(_)
        // Its own look has been taken where its tree was at hand.
        | Kind::Ddl
        | Kind::Checkpoint
        | Kind::Vacuum
        | Kind::Pgpool(_) => false,
    }
}

fn by_function(function: &Name) -> bool {
    FUNCTIONS.binary_search(&&*function.name).is_ok()
}
