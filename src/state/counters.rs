//! What workers count: statements by class and node, errors (show-commands 5.7b), how long nodes take to answer, and why
//! statements go where they go.
//!
//! Every worker has a block of its own for each node, on cache lines of its own, and is its only writer: counting is a load
//! and a store, without a lock prefix and without another processor in the way. Whoever wants to know sums up the blocks.
//! A block outlives its process: the next process of the same slot goes on counting where that one was killed.
//!
//! Blocks of workers that have never had a client are not read, so that no memory is made for them.

use super::latency::{Latency, LatencyRecord};
use super::{MAX_NODES, Shared, WorkerSlot};
use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many reasons can be told apart.
pub const MAX_REASONS: usize = 64;

shareable! {
    /// What one worker counts of one node. Relaxed: the numbers order nothing.
    #[derive(Debug)]
    pub struct NodeCounters {
        /// SELECT, TABLE, VALUES.
        pub select: AtomicU64,
        /// INSERT.
        pub insert: AtomicU64,
        /// UPDATE.
        pub update: AtomicU64,
        /// DELETE.
        pub delete: AtomicU64,
        /// CREATE, ALTER, DROP and their like.
        pub ddl: AtomicU64,
        /// Everything else.
        pub other: AtomicU64,
        /// PANIC messages from the server.
        pub panic: AtomicU64,
        /// FATAL messages from the server.
        pub fatal: AtomicU64,
        /// ERROR messages from the server.
        pub error: AtomicU64,
        /// Reads that it refused as writes and that were sent to the primary instead.
        pub retried: AtomicU64,
        /// How long it took to answer.
        pub latency: LatencyRecord,
    }
}

shareable! {
    /// How often one worker had which reason for a destination.
    #[derive(Debug)]
    pub(super) struct ReasonCounters {
        counts: [AtomicU64; MAX_REASONS],
    }
}

// Blocks begin on a page, so none of them shares a cache line with another.
const _: () = assert!(size_of::<NodeCounters>().is_multiple_of(64) && size_of::<ReasonCounters>().is_multiple_of(64));

/// Adds one to a counter of which this process is the only writer.
#[inline]
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The counters of one node at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named and described as in NodeCounters")]
pub struct NodeCounts {
    pub select: u64,
    pub insert: u64,
    pub update: u64,
    pub delete: u64,
    pub ddl: u64,
    pub other: u64,
    pub panic: u64,
    pub fatal: u64,
    pub error: u64,
    pub retried: u64,
}

impl NodeCounters {
    /// Counts one: `counters.count(&counters.select)` reads badly, so `NodeCounters::count(&counters.select)`. Only for the
    /// worker that the block belongs to.
    #[inline]
    pub fn count(counter: &AtomicU64) {
        count(counter);
    }

    fn add_to(&self, sum: &mut NodeCounts) {
        let NodeCounts { select, insert, update, delete, ddl, other, panic, fatal, error, retried } = sum;
        for (sum, counter) in [
            (select, &self.select),
            (insert, &self.insert),
            (update, &self.update),
            (delete, &self.delete),
            (ddl, &self.ddl),
            (other, &self.other),
            (panic, &self.panic),
            (fatal, &self.fatal),
            (error, &self.error),
            (retried, &self.retried),
        ] {
            *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
        }
    }
}

/// What all workers have counted of one node.
#[derive(Clone, Copy)]
pub struct CountersOfNode<'a> {
    shared: &'a Shared,
    node: usize,
}

impl<'a> CountersOfNode<'a> {
    /// The statements and errors.
    pub fn read(self) -> NodeCounts {
        let mut sum = NodeCounts::default();
        self.blocks().for_each(|block| block.add_to(&mut sum));
        sum
    }

    /// How long the node took to answer.
    pub fn latency(self) -> Latency {
        let mut sum = Latency::default();
        self.blocks().for_each(|block| block.latency.add_to(&mut sum));
        sum
    }

    fn blocks(self) -> impl Iterator<Item = &'a NodeCounters> {
        let blocks = self.shared.node_counters();
        self.shared.workers_that_served().map(move |worker| &blocks[worker * MAX_NODES + self.node])
    }
}

impl Shared {
    /// The counters of a node. An id out of range gets those of the last possible node.
    pub fn counters(&self, node: usize) -> CountersOfNode<'_> {
        CountersOfNode { shared: self, node: node.min(MAX_NODES - 1) }
    }

    /// How often each reason has decided where a statement goes; what an index means is the caller's to know.
    pub fn reasons(&self) -> [u64; MAX_REASONS] {
        let mut sum = [0u64; MAX_REASONS];
        for worker in self.workers_that_served() {
            for (sum, counter) in sum.iter_mut().zip(&self.reason_counters()[worker].counts) {
                *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
            }
        }
        sum
    }

    fn workers_that_served(&self) -> impl Iterator<Item = usize> {
        (0..self.limits().workers).filter(|worker| self.has_served(*worker))
    }
}

impl WorkerSlot {
    /// What this worker counts of a node. An id out of range gets those of the last possible node.
    #[inline]
    pub fn counters(&self, node: usize) -> &NodeCounters {
        &self.shared().node_counters()[self.index() * MAX_NODES + node.min(MAX_NODES - 1)]
    }

    /// A statement goes where it goes for this reason.
    #[inline]
    pub fn count_reason(&self, reason: usize) {
        count(&self.shared().reason_counters()[self.index()].counts[reason.min(MAX_REASONS - 1)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{ClientInfo, Limits};
    use std::time::Duration;

    #[test]
    fn workers_count_for_themselves_and_the_dead_count_on() {
        let shared = Shared::create(Limits { workers: 3, pool_slots: 1, ..Limits::default() }).expect("shared");
        for (worker, times) in [(0, 1), (2, 3)] {
            let slot = shared.worker(worker);
            slot.begin_client(&ClientInfo::default());
            for _ in 0..times {
                NodeCounters::count(&slot.counters(1).select);
                NodeCounters::count(&slot.counters(127).error);
                slot.counters(1).latency.observe(Duration::from_millis(2));
                slot.count_reason(worker);
            }
        }
        shared.worker(2).reclaim();
        let expected = NodeCounts { select: 4, ..NodeCounts::default() };
        assert_eq!(shared.counters(1).read(), expected);
        assert_eq!(shared.counters(127).read(), NodeCounts { error: 4, ..NodeCounts::default() });
        assert_eq!(shared.counters(0).read(), NodeCounts::default());
        let latency = shared.counters(1).latency();
        assert_eq!((latency.count(), latency.microseconds), (4, 8000));
        assert_eq!(shared.reasons()[..4], [1, 0, 3, 0]);
    }
}
