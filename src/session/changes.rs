//! Changes to prepared statements that a server has still to confirm: made on record when they are sent, so that what
//! follows in a pipeline finds them, and undone if the server refuses.

use super::statements::{Prepared, Statements};
use crate::sql::Statement;
use std::collections::VecDeque;
use std::rc::Rc;

/// One change.
#[derive(Debug)]
pub(super) enum Change {
    /// A name that was free is prepared.
    New(Box<[u8]>),
    /// A name on record is prepared on one more node.
    Brought(Box<[u8]>),
    /// A name that was believed taken is prepared: if that succeeds, the record was wrong.
    Again(Box<[u8]>, Vec<u8>, Rc<Statement>),
    /// A name is closed; what it was.
    Closed(Box<[u8]>, Prepared),
    /// What a name is afterwards is not known.
    Unknown(Box<[u8]>),
}

/// The changes outstanding, with node and number of their messages, in the order sent.
#[derive(Debug, Default)]
pub(super) struct Changes(VecDeque<(usize, u64, Change)>);

impl Changes {
    /// A change is on its way to `node` as its message `number`.
    #[inline]
    pub fn sent(&mut self, node: usize, number: u64, change: Change) {
        self.0.push_back((node, number, change));
    }

    /// `node` has done its message `number`.
    #[inline]
    pub fn done(&mut self, node: usize, number: u64, statements: &mut Statements) {
        let Some(at) = self.0.iter().position(|(at, sent, _)| (*at, *sent) == (node, number)) else { return };
        match self.0.remove(at) {
            Some((_, _, Change::Again(name, message, facts))) => {
                statements.forget(&name);
                statements.prepare(&name, &message, facts, node);
            }
            Some((_, _, Change::Unknown(name))) => statements.forget(&name),
            _ => {}
        }
    }

    /// `count` messages of `node`, from `number` on, have failed or will not be done: the last change is undone first.
    pub fn failed(&mut self, node: usize, number: u64, count: u64, statements: &mut Statements) {
        let has_failed = |at: usize, sent: u64| at == node && sent.wrapping_sub(number) < count;
        let (failed, rest) = std::mem::take(&mut self.0).into_iter().partition(|(at, sent, _)| has_failed(*at, *sent));
        let failed: VecDeque<_> = failed;
        self.0 = rest;
        for (_, _, change) in failed.into_iter().rev() {
            match change {
                Change::New(name) => statements.forget_on(&name, node),
                Change::Brought(name) => statements.not_on(&name, node),
                Change::Again(..) => {}
                Change::Closed(name, prepared) => statements.restore(&name, prepared),
                Change::Unknown(name) => statements.forget(&name),
            }
        }
    }

    /// The connection to `node` is closed.
    pub fn forget_node(&mut self, node: usize) {
        self.0.retain(|(at, ..)| *at != node);
    }
}
