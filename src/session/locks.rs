//! Which locks a session may hold: who waits for one is told of what its holder has written, so that the holder reads past
//! the query cache.

use crate::sql::{DiscardTarget, Kind, Name, Statement};

/// The locks of one session, taken for held as soon as they are asked for, and until it is certain that they are not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Locks {
    held: Held,
    /// A statement under way gives back those of the session, if nothing fails.
    gives_back: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    #[default]
    None,
    /// To the end of the transaction.
    OfTransaction,
    /// Until the session gives them back, with others to the end of the transaction perhaps.
    OfSession,
}

impl Locks {
    /// Whether there may be any.
    #[inline]
    pub fn are_held(&self) -> bool {
        self.held != Held::None
    }

    /// The statement with these `facts` is about to be sent.
    pub fn send(&mut self, facts: &Statement) {
        let taken = taken(facts);
        self.held = self.held.max(taken);
        self.gives_back = taken != Held::OfSession && (self.gives_back || gives_back(facts));
    }

    /// A statement has failed, perhaps the one that was to give locks back.
    pub fn failed(&mut self) {
        self.gives_back = false;
    }

    /// The primary owes nothing; `is_idle`: outside of a block.
    pub fn ready(&mut self, is_idle: bool) {
        if std::mem::take(&mut self.gives_back) {
            self.held = self.held.min(Held::OfTransaction);
        }
        if is_idle && self.held == Held::OfTransaction {
            self.held = Held::None;
        }
    }
}

fn taken(facts: &Statement) -> Held {
    let takes = |name: &Name| match &*name.name {
        name if !name.contains("advisory") || name.contains("unlock") => Held::None,
        name if name.contains("_xact_") => Held::OfTransaction,
        _ => Held::OfSession,
    };
    let by_function = facts.functions.iter().map(takes).max().unwrap_or_default();
    let locks = facts.has.locking || facts.kinds().any(|kind| matches!(kind, Kind::Lock { .. }));
    by_function.max(if locks { Held::OfTransaction } else { Held::None })
}

/// Whether it does nothing else than to give back all that the session has locked.
fn gives_back(facts: &Statement) -> bool {
    let is_unlock = |name: &Name| {
        &*name.name == "pg_advisory_unlock_all" && name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
    };
    let unlocks = facts.kind == Kind::Select
        && facts.relations.is_empty()
        && !facts.functions.is_empty()
        && facts.functions.iter().all(is_unlock);
    !facts.is_multi() && (unlocks || facts.kind == Kind::Discard(DiscardTarget::All))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};

    fn send(locks: &mut Locks, text: &str) {
        locks.send(&analyse(text.as_bytes(), Lexing::default()));
    }

    #[test]
    fn locks_end_with_the_transaction_or_are_given_back() {
        for (text, in_block, at_rest) in [
            ("select 1", false, false),
            ("select a from t for share", true, false),
            ("lock table t", true, false),
            ("select 1; select pg_advisory_xact_lock(1)", true, false),
            ("select pg_advisory_lock(1)", true, true),
            ("select pg_try_advisory_lock_shared(1)", true, true),
        ] {
            let mut locks = Locks::default();
            send(&mut locks, text);
            locks.ready(false);
            assert_eq!(locks.are_held(), in_block, "{text}");
            locks.ready(true);
            assert_eq!(locks.are_held(), at_rest, "{text}");
            send(&mut locks, "select pg_advisory_unlock_all()");
            assert_eq!(locks.are_held(), at_rest, "it is not done yet: {text}");
            locks.ready(true);
            assert!(!locks.are_held(), "{text}");
        }
    }

    #[test]
    fn only_what_surely_gives_them_back_counts() {
        for (text, gives_back) in [
            ("discard all", true),
            ("select pg_catalog.pg_advisory_unlock_all()", true),
            ("select my.pg_advisory_unlock_all()", false),
            ("select pg_advisory_unlock(1)", false),
            ("explain select pg_advisory_unlock_all()", false),
            ("select pg_advisory_unlock_all() from t", false),
            ("select pg_advisory_unlock_all(), pg_advisory_lock(1)", false),
            ("select pg_advisory_unlock_all(); select pg_advisory_lock(1)", false),
        ] {
            let mut locks = Locks::default();
            send(&mut locks, "select pg_advisory_lock(1)");
            send(&mut locks, text);
            locks.ready(true);
            assert_eq!(!locks.are_held(), gives_back, "{text}");
        }
        // Something has failed, or locks more behind it.
        let mut locks = Locks::default();
        send(&mut locks, "select pg_advisory_lock(1)");
        send(&mut locks, "select pg_advisory_unlock_all()");
        locks.failed();
        locks.ready(true);
        assert!(locks.are_held());
        send(&mut locks, "select pg_advisory_unlock_all()");
        send(&mut locks, "select pg_advisory_lock(1)");
        locks.ready(true);
        assert!(locks.are_held());
        // Those of the transaction are not given back.
        send(&mut locks, "select a from t for update");
        send(&mut locks, "select pg_advisory_unlock_all()");
        locks.ready(false);
        assert!(locks.are_held());
        locks.ready(true);
        assert!(!locks.are_held());
    }
}
