//! The class of a statement, by its kind alone (routing 4.1, 6).

use super::{Reason, Route, SessionView, Target};
use crate::config::Settings;
use crate::sql::{CopyPeer, Kind, Statement};

/// What the kind of a statement says about its destination.
#[derive(Debug)]
pub(super) enum Class {
    /// It may go to any node; the load balance test decides.
    Either,
    /// The kind decides.
    Fixed(Route),
}

impl Class {
    fn primary(reason: Reason) -> Self {
        Self::Fixed(Route::primary(reason))
    }

    /// Primary and load balance node.
    fn both(reason: Reason, session: &SessionView<'_>) -> Self {
        if !session.settings.load_balance_mode {
            return Self::primary(Reason::BalanceOff);
        }
        Self::Fixed(Route::new(Target::Both, reason))
    }
}

/// Classifies a text for streaming and logical mode.
pub(super) fn classify(statement: &Statement, session: &SessionView<'_>) -> Class {
    if statement.is_multi() {
        return Class::primary(Reason::SeveralStatements);
    }
    match of_kind(&statement.kind, session) {
        Class::Either => of_contents(statement),
        fixed => fixed,
    }
}

fn of_kind(kind: &Kind, session: &SessionView<'_>) -> Class {
    match kind {
        Kind::Empty | Kind::Select | Kind::Show(_) => Class::Either,
        Kind::CopyTo { peer: CopyPeer::Client, query } => match query.as_deref() {
            None | Some(Kind::Select) => Class::Either,
            Some(_) => Class::primary(Reason::Writes),
        },
        Kind::CopyTo { .. } => Class::primary(Reason::CopyToServer),
        Kind::Prepare { .. } if !session.follows_prepared => Class::primary(Reason::PreparedOnPrimary),
        Kind::Prepare { inner, .. } => of_kind(inner, session),
        Kind::Execute(_) | Kind::Deallocate(Some(_)) => match session.prepared {
            Some(target) => Class::Fixed(Route::new(target, Reason::WherePrepared)),
            None => Class::primary(Reason::UnknownPrepared),
        },
        Kind::Begin(_)
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::Savepoint(_)
        | Kind::Release(_)
        | Kind::RollbackTo(_) => Class::both(Reason::TransactionControl, session),
        Kind::PrepareTransaction | Kind::CommitPrepared | Kind::RollbackPrepared => {
            Class::primary(Reason::TransactionControl)
        }
        Kind::Set { .. } | Kind::SetTransaction { .. } | Kind::Reset(_) => of_setting(kind, session),
        Kind::Discard(_) | Kind::Deallocate(None) => Class::both(Reason::SessionState, session),
        Kind::Lock { writes: false } => Class::both(Reason::TransactionControl, session),
        Kind::Lock { writes: true } => Class::primary(Reason::LocksTable),
        Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Merge
        | Kind::CopyFrom(_)
        | Kind::Truncate
        | Kind::CreateTableAs { .. } => Class::primary(Reason::Writes),
        Kind::Unparsable(why) => Class::primary(Reason::NotUnderstood(why.clone())),
        Kind::Pgpool(_) => Class::primary(Reason::OurOwn),
        _ => Class::primary(Reason::NotARead),
    }
}

fn of_setting(kind: &Kind, session: &SessionView<'_>) -> Class {
    if kind.asks_serializable() {
        return Class::primary(Reason::AsksSerializable);
    }
    if kind.asks_read_write() {
        return Class::primary(Reason::AsksReadWrite);
    }
    match kind {
        Kind::Set { name, .. } if &**name == "transaction_snapshot" => Class::primary(Reason::Snapshot),
        _ => Class::both(Reason::SessionState, session),
    }
}

/// What is inside, at any depth, may forbid what the kind allows.
fn of_contents(statement: &Statement) -> Class {
    if statement.has.modification || statement.has.select_into {
        return Class::primary(Reason::Writes);
    }
    if statement.has.locking {
        return Class::primary(Reason::Locks);
    }
    // PREPARE does so by itself; of all others it says that a function has an effect.
    if statement.has.session_state && !matches!(statement.kind, Kind::Prepare { .. }) {
        return Class::primary(Reason::SessionFunction);
    }
    Class::Either
}

/// With `allow_sql_comments` off a SELECT, or a text without statement, counts as a read only by its first character
/// (routing 3.2, 3.3).
pub(super) fn begins_like_a_read(statement: &Statement, settings: &Settings) -> bool {
    if settings.allow_sql_comments || !matches!(statement.kind, Kind::Select | Kind::Empty) {
        return true;
    }
    let first = if settings.ignore_leading_white_space { statement.lead.first_visible } else { statement.lead.first };
    first.is_none_or(|first| matches!(first.to_ascii_lowercase(), b's' | b'(' | b'w' | b't' | b';'))
}

/// Whether the text is a read by its kind, contents and beginning (routing 6); EXPLAIN is one, though not balanced, unless
/// it carries out something else.
pub(super) fn is_read(statement: &Statement, session: &SessionView<'_>) -> bool {
    match &statement.kind {
        Kind::Explain { analyze: false, .. } => !statement.is_multi(),
        Kind::Explain { inner, .. } => {
            !statement.is_multi() && **inner == Kind::Select && matches!(of_contents(statement), Class::Either)
        }
        _ => {
            // Where prepared statements are kept says nothing about what they do.
            let session = SessionView { follows_prepared: true, ..*session };
            matches!(classify(statement, &session), Class::Either) && begins_like_a_read(statement, session.settings)
        }
    }
}
