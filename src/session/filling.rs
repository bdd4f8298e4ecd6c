//! An answer on its way into the query cache: collected as it passes by, complete with ReadyForQuery.
//!
//! There is one at a time, and its memory is used again for the next: a statement whose answer is not kept yet is to cost
//! hardly more than without the cache.

use super::meaning::Meaning;
use super::statements::Definition;
use crate::cache::{self, Entry};
use std::rc::Rc;

/// An answer is collected with its ReadyForQuery and what comes in the same breath, in bytes.
const MARGIN: usize = 8 * 1024;
/// Memory kept for the next answer, in bytes.
const KEPT: usize = 64 * 1024;

/// The answer that is wanted or collected, if any.
#[derive(Debug, Default)]
pub(super) struct Filling {
    stage: Stage,
    key: Vec<u8>,
    entry: Entry,
    /// What the client was sent, so far.
    bytes: Vec<u8>,
    limit: usize,
    /// The prepared statement whose answer it is, if that shows what it means.
    proof: Option<(Rc<Definition>, Meaning)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// It will be collected if the statement at the front is sent to a server.
    Wanted,
    /// It comes from this node, in answer to the message of this number in its reply queue.
    Collecting { node: usize, number: u64 },
    /// ReadyForQuery is the next message to be collected, or among the next.
    Answered { node: usize },
}

impl Filling {
    /// The answer of the statement with this `key` is to be kept as `entry`, if it has not more than `longest` bytes.
    pub fn want(&mut self, key: &[u8], entry: Entry, longest: i32) {
        self.stage = Stage::Wanted;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.entry = entry;
        self.bytes.clear();
        self.limit = usize::try_from(longest).unwrap_or(0).saturating_add(MARGIN);
        self.proof = None;
    }

    /// What is wanted will show, if it comes, that the statement `prepared` means what texts mean now.
    pub fn is_proof(&mut self, prepared: Rc<Definition>, meaning: Meaning) {
        self.proof = Some((prepared, meaning));
    }

    /// The answer that was collected last came without complaint.
    pub fn has_run(&mut self) {
        if let Some((prepared, meaning)) = self.proof.take() {
            prepared.has_run(meaning);
        }
    }

    /// What comes next is not to be kept. What is being collected is not concerned.
    pub fn want_nothing(&mut self) {
        if self.stage == Stage::Wanted {
            self.stage = Stage::None;
        }
    }

    /// Key and entry of what is wanted, if anything is.
    pub fn wanted(&self) -> Option<(&[u8], &Entry)> {
        (self.stage == Stage::Wanted).then_some((&self.key, &self.entry))
    }

    /// What is wanted is the answer of `node` to its message `number`.
    pub fn begin(&mut self, node: usize, number: u64) {
        self.stage = Stage::Collecting { node, number };
    }

    /// What is collected is not the answer, or not to be kept.
    pub fn give_up(&mut self) {
        self.stage = Stage::None;
    }

    /// `node` has answered its message `number` to the end.
    pub fn answered(&mut self, node: usize, number: u64) {
        if self.stage == (Stage::Collecting { node, number }) {
            self.stage = Stage::Answered { node };
        }
    }

    /// `node` has sent `bytes` to the client. Whether that was the last of the answer.
    pub fn collect(&mut self, node: usize, bytes: &[u8]) -> bool {
        let is_answered = match self.stage {
            Stage::Collecting { node: of, .. } if of == node => false,
            Stage::Answered { node: of } if of == node => true,
            _ => return false,
        };
        if self.bytes.len() + bytes.len() > self.limit {
            self.stage = Stage::None;
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        if is_answered {
            self.stage = Stage::None;
        }
        is_answered
    }

    /// Key, entry and messages of the answer that was collected last, if it may be kept.
    pub fn collected(&self) -> Option<(&[u8], &Entry, &[u8])> {
        let is_batch = self.key.get(cache::TEXT_AT - 1) == Some(&b'E');
        let answer = if is_batch { cache::answer_of_batch } else { cache::answer_of_query };
        answer(&self.bytes).map(|messages| (&*self.key, &self.entry, messages))
    }

    /// Gives back memory that only a long answer needed.
    pub fn shrink(&mut self) {
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{TransactionStatus, write};

    const KEY: &[u8] = b"0123456789abcdefQselect 1";

    fn answer() -> Vec<u8> {
        let mut answer = Vec::new();
        write::row_description(&mut answer, &["a"]);
        write::data_row(&mut answer, &["1"]);
        write::command_complete(&mut answer, "SELECT 1");
        write::ready_for_query(&mut answer, TransactionStatus::Idle);
        answer
    }

    #[test]
    fn an_answer_is_complete_with_its_ready_for_query() {
        let (mut filling, answer) = (Filling::default(), answer());
        let (first, last) = answer.split_at(20);
        for _ in 0..2 {
            filling.want(KEY, Entry::default(), 1000);
            assert!(!filling.collect(0, b"of the statement before"));
            assert!(filling.wanted().is_some());
            filling.begin(1, 7);
            assert!(!filling.collect(1, first));
            assert!(!filling.collect(2, b"of another node"));
            filling.answered(1, 6);
            filling.answered(2, 7);
            filling.answered(1, 7);
            assert!(filling.collect(1, last));
            let (key, _, messages) = filling.collected().expect("it may be kept");
            assert_eq!((key, messages), (KEY, &answer[..answer.len() - 6]));
            assert!(!filling.collect(1, b"of the statement behind") && filling.wanted().is_none());
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_collected() {
        let mut filling = Filling::default();
        let mut is_collected = |change: fn(&mut Filling)| {
            filling.want(KEY, Entry::default(), 1000);
            filling.begin(0, 1);
            change(&mut filling);
            filling.answered(0, 1);
            filling.collect(0, &answer())
        };
        assert!(is_collected(|_| {}));
        assert!(is_collected(Filling::want_nothing), "that concerns the next statement");
        assert!(!is_collected(Filling::give_up));
        assert!(!is_collected(|filling| assert!(!filling.collect(0, &[0; 1001 + MARGIN]))));
        filling.want(KEY, Entry::default(), 1000);
        filling.want_nothing();
        assert!(filling.wanted().is_none());
    }
}
