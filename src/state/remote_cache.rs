//! What the processes of one pgpool tell each other of a query cache that is kept outside, in memcached: whether it is to be
//! had, and whether it still has to be told of a write.
//!
//! Invariants:
//! - A *debt* is a write that memcached has not been told of. It is noted before the client of the write hears of its commit,
//!   and as long as there is one nobody uses the cache. At the start there is one: nobody knows what was written before.
//! - Every change is one atomic operation: whoever is killed leaves a debt, never the lack of one.

use pgpool_shm::shareable;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// How long a memcached that could not be reached is left alone, in milliseconds.
const PAUSE: u64 = 3000;

shareable! {
    /// The words behind it.
    pub(super) struct Record {
        /// Debts so far, without the one at the start.
        owed: AtomicU64,
        /// Debts so far that are paid, with the one at the start.
        paid: AtomicU64,
        /// When the last was paid, in milliseconds of uptime.
        paid_at: AtomicU64,
        /// Not to be tried before; 0: it is there.
        away_until: AtomicU64,
    }
}

/// What memcached has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debt {
    /// Nothing.
    None,
    /// At once, that everything was written; with this number in [`RemoteCache::pay`].
    Due(u64),
    /// The same in a moment, when nothing can come into force any more that nobody waits for.
    Later,
}

/// View of it.
#[derive(Clone, Copy)]
pub struct RemoteCache<'a> {
    record: &'a Record,
    doubtful_until: u64,
    now: u64,
}

impl<'a> RemoteCache<'a> {
    pub(super) fn new(record: &'a Record, doubtful_until: u64, now: u64) -> Self {
        Self { record, doubtful_until, now }
    }

    /// Memcached has to be told that everything was written.
    pub fn owe(self) {
        self.record.owed.fetch_add(1, SeqCst);
    }

    /// What it has to be told.
    pub fn debt(self) -> Debt {
        let owed = 1 + self.record.owed.load(SeqCst);
        let is_paid = self.record.paid.load(SeqCst) >= owed;
        let doubts = self.doubtful_until;
        match is_paid {
            true if doubts == 0 || self.record.paid_at.load(SeqCst) > doubts => Debt::None,
            true if self.now <= doubts => Debt::Later,
            _ => Debt::Due(owed),
        }
    }

    /// Whether something is due that happened since the start.
    pub fn owes_for_the_dead(self) -> bool {
        matches!(self.debt(), Debt::Due(2..))
    }

    /// It was told, after `number` was given out by [`Self::debt`] of this view.
    pub fn pay(self, number: u64) {
        self.record.paid_at.fetch_max(self.now, SeqCst);
        self.record.paid.fetch_max(number, SeqCst);
    }

    /// Whether it may be tried: it is there, or it is this caller's turn to look.
    pub fn may_try(self) -> bool {
        let until = self.record.away_until.load(SeqCst);
        let turn = |until| self.record.away_until.compare_exchange(until, self.now + PAUSE, SeqCst, SeqCst).is_ok();
        until == 0 || (self.now >= until && turn(until))
    }

    /// It has answered. Whether that is news.
    pub fn found(self) -> bool {
        self.record.away_until.load(SeqCst) != 0 && self.record.away_until.swap(0, SeqCst) != 0
    }

    /// It could not be reached, or has not answered. Whether that is news.
    pub fn missed(self) -> bool {
        self.record.away_until.swap(self.now + PAUSE, SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgpool_shm::{Layout, Segment};

    fn with(test: impl for<'a> Fn(&'a (dyn Fn(u64, u64) -> RemoteCache<'a> + 'a))) {
        let mut layout = Layout::new();
        let record = layout.array::<Record>(1);
        let segment = Segment::create(layout).expect("memory");
        let record = &segment.slice(record)[0];
        test(&|doubtful_until, now| RemoteCache::new(record, doubtful_until, now));
    }

    #[test]
    fn there_is_a_debt_at_the_start_and_after_each_write_not_told() {
        with(|at| {
            assert_eq!(at(0, 5).debt(), Debt::Due(1));
            assert!(!at(0, 5).owes_for_the_dead());
            at(0, 5).pay(1);
            assert_eq!(at(0, 6).debt(), Debt::None);
            at(0, 7).owe();
            at(0, 7).owe();
            assert_eq!(at(0, 8).debt(), Debt::Due(3));
            // Paid for what was owed before the last came.
            at(0, 8).pay(2);
            assert_eq!(at(0, 9).debt(), Debt::Due(3));
            at(0, 9).pay(3);
            assert_eq!(at(0, 9).debt(), Debt::None);
        });
    }

    #[test]
    fn in_doubt_it_is_paid_at_once_and_again_when_the_doubt_is_over() {
        with(|at| {
            at(0, 1).pay(1);
            at(100, 2).owe();
            assert_eq!(at(100, 3).debt(), Debt::Due(2));
            assert!(at(100, 3).owes_for_the_dead());
            at(100, 4).pay(2);
            assert_eq!(at(100, 100).debt(), Debt::Later);
            assert_eq!(at(100, 101).debt(), Debt::Due(2));
            at(100, 101).pay(2);
            assert_eq!(at(100, 102).debt(), Debt::None);
        });
    }

    #[test]
    fn one_at_a_time_looks_whether_it_is_back() {
        with(|at| {
            assert!(at(0, 1).may_try() && at(0, 1).may_try());
            assert!(at(0, 1).missed() && !at(0, 1).missed());
            assert!(!at(0, 2).may_try());
            assert!(at(0, 1 + PAUSE).may_try() && !at(0, 1 + PAUSE).may_try());
            assert!(at(0, 2 + PAUSE).found() && !at(0, 2 + PAUSE).found());
            assert!(at(0, 2 + PAUSE).may_try());
        });
    }
}
