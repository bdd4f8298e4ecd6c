//! Which workers run something that may commit and go on, a procedure, so that others can know of what nobody here has told of:
//! meanwhile no answer of that database counts.
//!
//! A bit for each worker, so that whoever looks reads one word for 64 of them, and a worker that is killed is struck off by
//! its parent.

use super::table_set::counter;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// View of it.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    bits: &'a [AtomicU64],
    /// The counter of each worker's database.
    databases: &'a [AtomicU64],
}

impl<'a> Running<'a> {
    /// Words of bits for so many workers.
    pub(super) fn words(workers: usize) -> usize {
        workers.div_ceil(64)
    }

    pub(super) fn new(bits: &'a [AtomicU64], databases: &'a [AtomicU64]) -> Self {
        Self { bits, databases }
    }

    /// `worker` is about to run something of the kind in `database`.
    pub fn begin(self, worker: usize, database: &str) {
        if let (Some(word), Some(of_worker)) = (self.bits.get(worker / 64), self.databases.get(worker)) {
            of_worker.store(counter(database, 0).into(), SeqCst);
            word.fetch_or(1 << (worker % 64), SeqCst);
        }
    }

    /// That has come to its end and all it has written is told, or `worker` is no more.
    pub fn end(self, worker: usize) {
        if let Some(word) = self.bits.get(worker / 64) {
            word.fetch_and(!(1 << (worker % 64)), SeqCst);
        }
    }

    /// Whether any worker does in `database`.
    #[inline]
    pub fn is_any_in(self, database: &str) -> bool {
        self.bits.iter().zip(self.databases.chunks(64)).any(|(word, databases)| {
            let bits = word.load(SeqCst);
            bits != 0 && is_among(bits, databases, counter(database, 0).into())
        })
    }
}

#[cold]
fn is_among(bits: u64, databases: &[AtomicU64], database: u64) -> bool {
    databases.iter().enumerate().any(|(bit, of_worker)| bits >> bit & 1 == 1 && of_worker.load(SeqCst) == database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_concerned_as_long_as_any_worker_runs_in_it() {
        let words = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let (bits, databases) = (words(Running::words(100)), words(100));
        let running = Running::new(&bits, &databases);
        let concerned = || ["a", "b"].map(|database| running.is_any_in(database));
        assert_eq!(concerned(), [false, false]);
        running.begin(3, "a");
        running.begin(99, "b");
        running.begin(70, "b");
        assert_eq!(concerned(), [true, true]);
        running.end(3);
        running.end(99);
        assert_eq!(concerned(), [false, true]);
        running.begin(70, "a");
        assert_eq!(concerned(), [true, false]);
        running.end(70);
        running.end(70);
        running.begin(100, "a");
        running.end(100_000);
        assert_eq!(concerned(), [false, false]);
    }
}
