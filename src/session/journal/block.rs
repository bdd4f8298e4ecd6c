//! The transaction block that is open on the primary, as other nodes are told of it.

use super::MAX_BYTES;
use crate::session::effects::{Entry, Scope};
use crate::sql::Isolation;

/// The transaction block open on the primary.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub entries: Vec<Entry>,
    pub bytes: usize,
    /// `None`: the one that transactions begin with.
    pub isolation: Option<Isolation>,
    /// It may have another isolation level: a text of several statements has begun it, chained it, or set something in it.
    pub is_uncertain: bool,
    /// SET TRANSACTION has changed its modes.
    pub sets_modes: bool,
    /// It cannot be opened on another node.
    pub on_primary_only: bool,
}

impl Block {
    fn find(&self, savepoint: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry.savepoint.as_deref() == Some(savepoint))
    }

    /// RELEASE: the savepoint is gone, and those behind it.
    pub fn release(&mut self, savepoint: &str) {
        let Some(at) = self.find(savepoint) else { return };
        self.entries[at..].iter_mut().for_each(|entry| entry.savepoint = None);
    }

    /// ROLLBACK TO: what was set behind the savepoint is undone with it, here and where the block is replayed.
    pub fn undo_behind(&mut self, savepoint: &str) {
        let Some(at) = self.find(savepoint) else { return };
        for entry in &mut self.entries[at + 1..] {
            entry.savepoint = None;
            if entry.scope == Scope::Session {
                entry.scope = Scope::Block;
            }
        }
    }

    pub fn add(&mut self, entry: Entry) {
        self.bytes += entry.text.len();
        if self.bytes <= MAX_BYTES {
            self.entries.push(entry);
        } else {
            self.on_primary_only = true;
        }
    }
}
