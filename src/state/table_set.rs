//! Sets of tables as the query cache knows them: by the numbers of their counters.

/// Counters, the first of which is that of everything.
pub(super) const COUNTERS: u32 = 1 << 16;

/// The tables that an answer depends on, or that a statement has written: numbers of their counters, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSet(Vec<u32>);

impl TableSet {
    /// All tables of all databases.
    pub fn everything() -> Self {
        Self(vec![0])
    }

    /// All tables of a database.
    pub fn database(database: &str) -> Self {
        Self(vec![counter(database, 0)])
    }

    /// What stands behind names in a database: not its rows, but which tables there are and what they are.
    pub fn definitions(database: &str) -> Self {
        Self(vec![counter(database, u32::MAX)])
    }

    /// The tables with these OIDs.
    pub fn of(database: &str, oids: impl IntoIterator<Item = u32>) -> Self {
        let mut counters: Vec<_> = oids.into_iter().map(|oid| counter(database, oid)).collect();
        counters.sort_unstable();
        counters.dedup();
        Self(counters)
    }

    /// As it was written down by [`Self::counters`].
    pub fn from_counters(counters: impl Iterator<Item = u32>) -> Self {
        Self(counters.map(|counter| counter % COUNTERS).collect())
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of their counters.
    pub fn counters(&self) -> &[u32] {
        &self.0
    }

    /// All counters that an answer from these tables of `database` depends on.
    pub fn behind(&self, database: &str) -> impl Iterator<Item = u32> + '_ {
        behind(database, self.0.iter().copied())
    }
}

/// The counters that an answer from the tables of these `counters` depends on.
pub(super) fn behind<I: Iterator<Item = u32>>(database: &str, counters: I) -> impl Iterator<Item = u32> + use<I> {
    [0, counter(database, 0)].into_iter().chain(counters)
}

/// FNV-1a. It must stay what it is: releases that share a memcached are to agree. A collision costs an invalidation too many.
pub(super) fn counter(database: &str, oid: u32) -> u32 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = database.as_bytes().iter().chain(&oid.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    1 + (hash % u64::from(COUNTERS - 1)) as u32
}
