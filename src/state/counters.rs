//! How many statements of which kind each node got (show-commands 5.7b).

use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU64, Ordering};

shareable! {
    /// The counters of one node. Relaxed: they order nothing, they only count.
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
        // Keeps the counters of different nodes on different cache lines.
        filler: [AtomicU64; 6],
    }
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
    /// Counts one: `counters.count(&counters.select)` reads badly, so `NodeCounters::count(&counters.select)`.
    #[inline]
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All values.
    pub fn read(&self) -> NodeCounts {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NodeCounts {
            select: value(&self.select),
            insert: value(&self.insert),
            update: value(&self.update),
            delete: value(&self.delete),
            ddl: value(&self.ddl),
            other: value(&self.other),
            panic: value(&self.panic),
            fatal: value(&self.fatal),
            error: value(&self.error),
            retried: value(&self.retried),
        }
    }
}
