//! What a session's statements leave behind on the primary, kept so that another node can be brought to the same state in
//! the same write as the first statement that goes there (design decision 4; routing 4.2, 7).
//!
//! Two lists: *settings*, in force until the session ends or discards them, and the *block*, the transaction block that is
//! open on the primary, from its BEGIN on. Each node has its own progress in both. A statement counts only when the primary
//! has answered it with success: until then it is a *note*, filed under its number in the primary's reply queue.
//!
//! Invariants:
//! - A node is never told more than the primary has accepted, and a node that has a transaction open gets its end.
//! - Memory is bounded: a session that sets too much is *tied*, a block that grows too long is kept from other nodes.

mod block;
#[cfg(test)]
mod tests;

use super::effects::{Effect, Entry, Roots, Scope, effect_of, names_temporary, roots};
use crate::config::DisableLoadBalanceOnWrite as OnWrite;
use crate::route::Transaction;
use crate::sql::{Isolation, Statement};
use crate::state::NodeSet;
use crate::wire::TransactionStatus;
use block::Block;
use std::collections::VecDeque;

/// Neither list may grow beyond this many bytes.
const MAX_BYTES: usize = 64 * 1024;

/// What a statement may write, as far as later reads must know.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// It sets the writing flag (routing 7.1).
    pub flag: bool,
    /// Relations that reads of the same transaction must see, with all that depends on them (`dml_adaptive`, routing 7.4).
    pub touched: Vec<Box<str>>,
    /// Relations that reads of all sessions must see (`dml_adaptive_global`, routing 16).
    pub for_all: Vec<Box<str>>,
}

/// A statement sent to the primary that is not answered yet.
#[derive(Debug)]
struct Note {
    number: u64,
    effect: Effect,
    writes: Writes,
    /// It leaves something behind that cannot be had on another primary.
    roots: Roots,
}

/// How far one node has been told.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Id of the first setting it has not seen.
    settings: u64,
    /// Entries of the block it has seen; `None`: no transaction is open there.
    block: Option<usize>,
}

/// The journal of one session.
#[derive(Debug, Default)]
pub(super) struct Journal {
    notes: VecDeque<Note>,
    /// Settings with their ids, which grow.
    settings: Vec<(u64, Entry)>,
    next_id: u64,
    block: Option<Block>,
    /// Settings made outside a block since the last ReadyForQuery: an error in the same batch undoes them.
    fresh: Vec<Entry>,
    /// Something in the batch has failed.
    batch_failed: bool,
    /// The session holds something that the journal cannot bring to another node.
    tied: bool,
    /// The primary's session holds something that cannot be had on another primary.
    rooted: bool,
    /// Whatever the session makes may be temporary, from its beginning on.
    temporary: bool,
    progress: Vec<Progress>,
    /// The block has ended: other nodes must follow.
    ended: bool,
    /// All prepared statements were discarded.
    discarded: bool,
    /// The writing flag (routing 7.1).
    writing: bool,
    /// Bare names of the relations written in the block, sorted (routing 7.4).
    written: Vec<Box<str>>,
    /// Relations written for all sessions to see, not committed yet.
    uncommitted: Vec<Box<str>>,
    /// The same, committed and not told yet.
    committed: Vec<Box<str>>,
}

impl Journal {
    /// The session was opened with this startup packet. If that names the schema of temporary objects, everything that is made
    /// may be temporary.
    pub fn opened(startup: &[u8]) -> Self {
        let temporary = names_temporary(startup);
        Self { rooted: temporary, temporary, ..Self::default() }
    }

    /// A statement is sent to the primary as its message `number`. `is_joined`: behind others of the same batch.
    pub fn sent(&mut self, number: u64, facts: &Statement, text: &[u8], writes: Writes, is_joined: bool) {
        let effect = effect_of(facts, text, is_joined);
        let roots = roots(facts, text);
        let is_harmless = roots == Roots::No && !writes.flag && writes.touched.is_empty() && writes.for_all.is_empty();
        if !is_harmless || !matches!(effect, Effect::Nothing) {
            self.notes.push_back(Note { number, effect, writes, roots });
        }
    }

    /// Something that cannot be read was sent to the primary as its message `number`: it may have written.
    pub fn sent_unknown(&mut self, number: u64) {
        let writes = Writes { flag: true, ..Writes::default() };
        self.notes.push_back(Note { number, effect: Effect::Nothing, writes, roots: Roots::Always });
    }

    /// The primary has done its message `number`; `rolled_back`: a COMMIT that came out as ROLLBACK.
    pub fn finished(&mut self, number: u64, rolled_back: bool, mode: OnWrite) {
        if self.notes.front().is_none_or(|note| note.number != number) {
            return;
        }
        let Some(note) = self.notes.pop_front() else { return };
        self.apply(note.effect, rolled_back, mode);
        self.writing |= note.writes.flag;
        self.rooted |= note.roots != Roots::No;
        self.uncommitted.extend(note.writes.for_all);
        for name in note.writes.touched {
            if let Err(at) = self.written.binary_search(&name) {
                self.written.insert(at, name);
            }
        }
    }

    /// `count` messages from `number` on have failed on the primary, or will not be done.
    pub fn failed(&mut self, number: u64, count: u64) {
        let failed = |note: &Note| note.number.wrapping_sub(number) < count;
        // Of several statements the first ones may be in force.
        if self.notes.iter().any(|note| failed(note) && matches!(note.effect, Effect::Several { .. })) {
            self.tied = true;
            self.doubt_block();
        }
        self.rooted |= self.notes.iter().any(|note| failed(note) && note.roots == Roots::Always);
        self.notes.retain(|note| !failed(note));
        self.batch_failed = true;
    }

    fn apply(&mut self, effect: Effect, rolled_back: bool, mode: OnWrite) {
        match effect {
            Effect::Nothing => {}
            Effect::Setting(entry) => {
                self.discarded |= entry.scope == Scope::Statements;
                match &mut self.block {
                    // It commits at once, whatever fails behind it.
                    _ if entry.scope == Scope::Discard => self.set(entry),
                    Some(block) => block.add(entry),
                    None => self.fresh.push(entry),
                }
            }
            Effect::Local(entry, isolation) => {
                if let Some(block) = &mut self.block {
                    block.sets_modes |= isolation.is_some();
                    block.isolation = isolation.or(block.isolation);
                    block.add(entry);
                }
            }
            Effect::Release(entry, savepoint) => {
                if let Some(block) = &mut self.block {
                    block.release(&savepoint);
                    block.add(entry);
                }
            }
            Effect::RollbackTo(entry, savepoint) => {
                if let Some(block) = &mut self.block {
                    block.undo_behind(&savepoint);
                    block.add(entry);
                }
            }
            Effect::PrimaryOnly => {
                if let Some(block) = &mut self.block {
                    block.on_primary_only = true;
                }
                self.doubt_block();
            }
            Effect::Begin { text, modes, is_joined } => {
                self.forget_writing(mode);
                // A second BEGIN is only warned of.
                if self.block.is_none() {
                    let mut block =
                        Block { isolation: modes.isolation, on_primary_only: is_joined, ..Block::default() };
                    block.add(Entry::local(&text));
                    self.fresh.drain(..).for_each(|entry| block.add(entry));
                    self.block = Some(block);
                }
            }
            Effect::End { chain } => {
                self.forget_writing(mode);
                self.end_block(!rolled_back, chain);
            }
            Effect::Several { control, settings } => {
                self.tied |= settings;
                self.doubt_block();
                if control {
                    self.end_block(false, false);
                    self.writing = true;
                }
            }
            Effect::Tie => self.tied = true,
        }
    }

    /// The modes of the block may be other ones than was said.
    fn doubt_block(&mut self) {
        if let Some(block) = &mut self.block {
            block.is_uncertain = true;
        }
    }

    fn forget_writing(&mut self, mode: OnWrite) {
        self.written.clear();
        if !matches!(mode, OnWrite::Always | OnWrite::TransTransaction) {
            self.writing = false;
        }
    }

    fn end_block(&mut self, commit: bool, chain: bool) {
        if commit {
            self.committed.append(&mut self.uncommitted);
        }
        self.uncommitted.clear();
        let Some(block) = self.block.take() else { return };
        self.tied |= commit && block.bytes > MAX_BYTES;
        let mut entries = block.entries.into_iter();
        let begin = entries.next();
        for entry in entries {
            match entry.scope {
                Scope::Statements => self.set(entry),
                Scope::Session | Scope::Discard if commit => self.set(entry),
                Scope::Block | Scope::Session | Scope::Discard => {}
            }
        }
        self.ended = true;
        if chain {
            // Modes set by SET TRANSACTION live on in it, and are not in its BEGIN.
            let on_primary_only = block.on_primary_only || block.sets_modes;
            let Block { isolation, is_uncertain, .. } = block;
            let mut next = Block { isolation, is_uncertain, on_primary_only, ..Block::default() };
            begin.into_iter().for_each(|begin| next.add(begin));
            self.block = Some(next);
        }
    }

    fn set(&mut self, entry: Entry) {
        if entry.scope == Scope::Discard {
            self.settings.clear();
            (self.tied, self.rooted) = (false, self.temporary);
            self.discarded = true;
        } else if entry.key.is_some() {
            self.settings.retain(|(_, earlier)| earlier.key != entry.key);
        }
        self.settings.push((self.next_id, entry));
        self.next_id += 1;
        self.tied |= self.settings.iter().map(|(_, entry)| entry.text.len()).sum::<usize>() > MAX_BYTES;
    }

    /// The primary is ready again, its transaction in `status`.
    pub fn ready(&mut self, status: TransactionStatus) {
        let fresh = std::mem::take(&mut self.fresh);
        let failed = std::mem::take(&mut self.batch_failed);
        if !failed {
            fresh.into_iter().for_each(|entry| self.set(entry));
        }
        if status == TransactionStatus::Idle && !failed && self.block.is_none() {
            self.committed.append(&mut self.uncommitted);
        }
        match status {
            // It has ended without saying so: PREPARE TRANSACTION, a text of several statements.
            TransactionStatus::Idle => self.end_block(false, false),
            _ if self.block.is_none() => {
                self.block = Some(Block { on_primary_only: true, is_uncertain: true, ..Block::default() });
            }
            _ => {}
        }
    }

    /// The relations committed for all sessions to see since this was asked last.
    pub fn take_committed(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.committed)
    }

    /// Whether all prepared statements were discarded since this was asked last.
    pub fn take_discarded(&mut self) -> bool {
        std::mem::take(&mut self.discarded)
    }

    /// Whether the session's state cannot be brought to another node.
    pub fn tied(&self) -> bool {
        self.tied
    }

    /// Whether all that the session has on its primary, between transactions, can be had on another one.
    pub fn can_leave_primary(&self) -> bool {
        !self.tied && !self.rooted && self.block.is_none() && self.notes.is_empty() && self.fresh.is_empty()
    }

    /// The writing flag.
    pub fn writing(&self) -> bool {
        self.writing
    }

    /// Relations written in the block.
    pub fn written(&self) -> &[Box<str>] {
        &self.written
    }

    /// Whether no transaction block is open and nothing is still to be answered.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.notes.is_empty() && self.block.is_none()
    }

    /// The transaction as the next statement will meet it: what is still to be answered is taken for done. `status` is the
    /// primary's, `default` the isolation level that a plain BEGIN brings.
    pub fn transaction(&self, status: TransactionStatus, default: Option<Isolation>) -> Transaction {
        for note in self.notes.iter().rev() {
            match &note.effect {
                Effect::Begin { modes, .. } => {
                    return Transaction::Open { isolation: modes.isolation.or(default), on_primary_only: false };
                }
                Effect::End { chain: false } => return Transaction::Idle,
                Effect::Several { control: true, .. } => {
                    return Transaction::Open { isolation: None, on_primary_only: true };
                }
                _ => {}
            }
        }
        match (status, &self.block) {
            (TransactionStatus::Failed, _) => Transaction::Failed,
            // Between BEGIN and the ReadyForQuery that tells of it the status is still the old one.
            (_, Some(block)) => Transaction::Open {
                isolation: block.isolation.or(default).filter(|_| !block.is_uncertain),
                on_primary_only: block.on_primary_only || block.bytes > MAX_BYTES,
            },
            (TransactionStatus::Idle, None) => Transaction::Idle,
            (TransactionStatus::Open, None) => Transaction::Open { isolation: None, on_primary_only: true },
        }
    }

    fn progress(&mut self, node: usize) -> &mut Progress {
        if self.progress.len() <= node {
            self.progress.resize(node + 1, Progress::default());
        }
        &mut self.progress[node]
    }

    /// Whether `node` has seen everything.
    pub fn is_current(&self, node: usize) -> bool {
        let progress = self.progress.get(node).copied().unwrap_or_default();
        progress.settings == self.next_id && progress.block == self.block.as_ref().map(|block| block.entries.len())
    }

    /// Hands what `node` has not seen to `emit`, oldest first. The node counts as up to date from now on.
    pub fn replay(&mut self, node: usize, mut emit: impl FnMut(&[u8])) {
        let Progress { settings, block: seen } = *self.progress(node);
        let settings = self.settings.iter().filter(|(id, _)| *id >= settings).map(|(_, entry)| entry);
        let block = self.block.iter().flat_map(|block| block.entries.iter().skip(seen.unwrap_or(0)));
        settings.chain(block).for_each(|entry| emit(&entry.text));
        let block = self.block.as_ref().map(|block| block.entries.len());
        *self.progress(node) = Progress { settings: self.next_id, block };
    }

    /// `node` has left the session: nothing of it is there any more.
    pub fn forget_node(&mut self, node: usize) {
        *self.progress(node) = Progress::default();
    }

    /// Whether a block is open on the primary.
    pub fn has_block(&self) -> bool {
        self.block.is_some()
    }

    /// An end of the block is on its way to the primary: the nodes that have it open, `but` those, need it no more. Their
    /// settings are undone there with it, and made again when they are needed.
    pub fn release(&mut self, but: NodeSet, mut emit: impl FnMut(usize)) {
        for (node, progress) in self.progress.iter_mut().enumerate() {
            if progress.block.is_some() && !but.contains(node) {
                progress.block = None;
                emit(node);
            }
        }
    }

    /// Whether a block has ended on the primary and other nodes must follow; asked once.
    pub fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    /// Whether all prepared statements will be discarded by a statement that is not answered yet.
    pub fn will_discard(&self) -> bool {
        let discards = |entry: &Entry| matches!(entry.scope, Scope::Statements | Scope::Discard);
        self.notes.iter().any(|note| matches!(&note.effect, Effect::Setting(entry) if discards(entry)))
    }
}
