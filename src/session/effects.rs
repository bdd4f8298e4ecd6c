//! What statements leave behind in a session, so that a node that joins later can be brought to the same state.
//!
//! Settings changed outside transactions are kept in a journal and replayed on a node before its next statement. Anything
//! else that lives in the session (temporary tables, SQL-level prepared statements, LISTEN, advisory locks, settings made
//! inside a transaction) ties the session's reads to the primary until DISCARD ALL.

use crate::sql::{DiscardTarget, Kind, Statement, VariableScope};
use crate::wire::TransactionStatus;

/// The journal may not grow beyond this many bytes; a session that sets so much reads from the primary.
const MAX_JOURNAL: usize = 64 * 1024;

/// The effects of a session's statements.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Statements whose success makes them part of the journal.
    pending: Vec<Vec<u8>>,
    /// One of the pending is DISCARD ALL.
    discarding: bool,
    /// Statements to replay, oldest first.
    journal: Vec<Vec<u8>>,
    bytes: usize,
    /// The session holds something that the journal cannot bring to another node.
    tied: bool,
    /// Statements replayed by node id.
    replayed: Vec<usize>,
}

impl Effects {
    /// A statement is sent to the primary, whose transaction status was `status`.
    pub fn note(&mut self, facts: &Statement, text: &[u8], status: TransactionStatus) {
        if !facts.has.session_state {
            return;
        }
        let alone = status == TransactionStatus::Idle && !facts.is_multi();
        match &facts.kind {
            // A standby would accept the setting and then refuse every read.
            kind if kind.asks_serializable() => self.tied = true,
            Kind::Set { scope: VariableScope::Session, .. } | Kind::Reset(_) if alone => {
                self.pending.push(text.to_vec())
            }
            Kind::Discard(DiscardTarget::All) if alone => {
                self.pending.push(text.to_vec());
                self.discarding = true;
            }
            // Without a transaction block SET LOCAL does nothing.
            Kind::Set { scope: VariableScope::Transaction, .. } if alone => {}
            _ => self.tied = true,
        }
    }

    /// Something unknown was sent to the primary.
    pub fn note_unknown(&mut self) {
        self.tied = true;
    }

    /// The primary answered with an error: nothing pending took effect.
    pub fn failed(&mut self) {
        self.pending.clear();
        self.discarding = false;
    }

    /// The primary is ready again. Returns whether everything was discarded, prepared statements included.
    pub fn settle(&mut self, status: TransactionStatus) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let discarded = std::mem::take(&mut self.discarding);
        if status != TransactionStatus::Idle {
            // A setting made in a transaction block may be undone with it.
            self.pending.clear();
            self.tied = true;
            return false;
        }
        if discarded {
            self.tied = false;
        }
        self.bytes += self.pending.iter().map(Vec::len).sum::<usize>();
        self.journal.append(&mut self.pending);
        self.tied |= self.bytes > MAX_JOURNAL;
        discarded
    }

    /// Whether the session's state cannot be brought to another node, or is about to change.
    pub fn tied(&self) -> bool {
        self.tied || !self.pending.is_empty()
    }

    /// What `node` has not seen yet. The node counts as up to date from now on.
    pub fn replay_for(&mut self, node: usize) -> &[Vec<u8>] {
        if self.replayed.len() <= node {
            self.replayed.resize(node + 1, 0);
        }
        let from = std::mem::replace(&mut self.replayed[node], self.journal.len());
        &self.journal[from..]
    }

    /// Whether `node` has seen everything.
    pub fn is_current(&self, node: usize) -> bool {
        self.replayed.get(node).copied().unwrap_or(0) == self.journal.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};
    use TransactionStatus::{Idle, Open};

    fn note(effects: &mut Effects, text: &str, status: TransactionStatus) {
        effects.note(&analyse(text.as_bytes(), Lexing::default()), text.as_bytes(), status);
    }

    #[test]
    fn settings_are_replayed_once_per_node() {
        let mut effects = Effects::default();
        note(&mut effects, "SET a.b = 1", Idle);
        assert!(effects.tied());
        effects.settle(Idle);
        assert!(!effects.tied() && !effects.is_current(1));
        assert_eq!(effects.replay_for(1), [b"SET a.b = 1".to_vec()]);
        assert!(effects.is_current(1) && effects.replay_for(1).is_empty() && !effects.is_current(0));
    }

    #[test]
    fn a_failed_setting_leaves_nothing() {
        let mut effects = Effects::default();
        note(&mut effects, "SET a.b = 1", Idle);
        effects.failed();
        effects.settle(Idle);
        assert!(effects.is_current(1) && !effects.tied());
    }

    #[test]
    fn settings_in_a_transaction_tie() {
        let mut effects = Effects::default();
        note(&mut effects, "SET a.b = 1", Open);
        assert!(effects.tied());
        note(&mut effects, "DISCARD ALL", Idle);
        assert!(effects.settle(Idle) && !effects.tied());
    }

    #[test]
    fn what_cannot_be_replayed_ties() {
        for text in [
            "PREPARE p AS SELECT 1",
            "SET default_transaction_isolation = 'serializable'",
            "LISTEN x",
            "CREATE TEMP TABLE t (a int)",
            "SET a.b = 1; SET a.c = 2",
        ] {
            let mut effects = Effects::default();
            note(&mut effects, text, Idle);
            effects.settle(Idle);
            assert!(effects.tied(), "{text}");
        }
        let mut effects = Effects::default();
        note(&mut effects, "UPDATE t SET a = 1", Idle);
        assert!(!effects.tied());
    }
}
