//! What all workers share of the query cache: the answers, and for every table a number that moves when it was written.
//!
//! A table's *generation* is a counter, found by a hash of database and OID; tables that share one are invalidated together,
//! which costs an answer and no truth. Each set of tables holds two more counters, one for its database and one for
//! everything. Counters only grow, so their sum is a *stamp*: it is what it was exactly if none of them has moved.
//!
//! Invariants:
//! - Who is about to read takes the stamp first; who has written moves the counters after the commit. So an answer whose
//!   stamp still holds was read after every write that anybody has been told of.
//! - Moving a counter is one atomic addition: no lock, nothing to be left half done.
//!
//! Where the answers are elsewhere, in memcached, generations are there, too, and count for answers. Those here move when
//! somebody of this pgpool notices that those there have: so they tell when to look anew at what was learnt from catalogs,
//! and which standby shows what was written.

use super::counters::count;
use super::remote_cache::{self, RemoteCache};
use super::running::Running;
use super::table_set::{COUNTERS, TableSet, behind, counter};
use super::uptime;
use pgpool_shm::{Layout, Region, Segment, SegmentError, Store, StoreFigures, StoreSize, shareable};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::time::Duration;

/// Where the answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerStore {
    /// In shared memory of this size.
    Here(StoreSize),
    /// Not here.
    Elsewhere,
}

/// A write of which nobody heard whether it came into force may still do so for this long, in milliseconds: nothing is kept
/// meanwhile.
const DOUBT: u64 = 3000;

shareable! {
    /// How often the tables of one counter were written, and when last.
    struct Generation {
        number: AtomicU64,
        /// Milliseconds of [`uptime`].
        written: AtomicU64,
        /// If the answers are elsewhere: what their generation there was when somebody looked last.
        seen: AtomicU64,
    }
}

shareable! {
    /// What one worker counts, on a cache line of its own.
    struct Counts {
        hits: AtomicU64,
        misses: AtomicU64,
        filler: [AtomicU64; 6],
    }
}

/// The query cache of one pgpool. Clones and forked processes see the same.
#[derive(Clone, Debug)]
pub struct QueryCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    segment: Segment,
    generations: Region<Generation>,
    counts: Region<Counts>,
    /// See [`Running`]: bits, and databases.
    running: [Region<AtomicU64>; 2],
    /// Milliseconds of [`uptime`].
    doubtful_until: Region<AtomicU64>,
    /// The end of the last doubt after which everything has been asked anew.
    settled_until: Region<AtomicU64>,
    remote: Region<remote_cache::Record>,
    /// `None`: the answers are elsewhere.
    store: Option<Store>,
    started: u64,
}

/// How often it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Answers from the cache.
    pub hits: u64,
    /// SELECTs that servers have answered.
    pub misses: u64,
}

impl QueryCache {
    /// Called by the parent, before it forks.
    pub(super) fn create(store: AnswerStore, workers: usize) -> Result<Self, SegmentError> {
        let mut layout = Layout::new();
        let generations = layout.array(COUNTERS as usize);
        let counts = layout.array(workers);
        let running = [Running::words(workers), workers].map(|length| layout.array(length));
        let doubtful_until = layout.array(1);
        let settled_until = layout.array(1);
        let remote = layout.array(1);
        let segment = Segment::create(layout)?;
        let store = match store {
            AnswerStore::Here(size) => Some(Store::create(size)?),
            AnswerStore::Elsewhere => None,
        };
        let started = millis();
        Ok(Self(Arc::new(Inner {
            segment,
            generations,
            counts,
            running,
            doubtful_until,
            settled_until,
            remote,
            store,
            started,
        })))
    }

    /// Keys and answers, if they are here.
    #[inline]
    pub fn store(&self) -> Option<&Store> {
        self.0.store.as_ref()
    }

    /// What is known of the cache elsewhere.
    pub fn remote(&self) -> RemoteCache<'_> {
        let record = &self.0.segment.slice(self.0.remote)[0];
        RemoteCache::new(record, self.doubtful_until().load(SeqCst), millis())
    }

    /// The stamp of answers that are read from now on and depend on `tables` of `database`.
    pub fn stamp(&self, database: &str, tables: &TableSet) -> u64 {
        self.stamp_of(database, tables.counters().iter().copied())
    }

    /// The same for the tables with these counters, whoever wrote them down.
    pub fn stamp_of(&self, database: &str, counters: impl Iterator<Item = u32>) -> u64 {
        let sum = |sum: u64, counter: u32| sum.wrapping_add(self.generation(counter).number.load(SeqCst));
        behind(database, counters).fold(0, sum)
    }

    /// Whether the generation of `counter` elsewhere was `number` already when somebody looked last.
    pub fn has_seen(&self, counter: u32, number: u64) -> bool {
        self.generation(counter).seen.load(SeqCst) == number
    }

    /// The generation of `counter` elsewhere is `number`. If it was another one when somebody looked last, the tables were
    /// written since, as far as is known here at this moment.
    pub fn saw(&self, counter: u32, number: u64) {
        if !self.has_seen(counter, number) {
            let generation = self.generation(counter);
            generation.written.fetch_max(millis(), SeqCst);
            generation.number.fetch_add(1, SeqCst);
            generation.seen.store(number, SeqCst);
        }
    }

    /// How often privileges or definitions of any kind may have changed.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.generation(0).number.load(SeqCst)
    }

    /// Moves when anything in the database may be defined otherwise than before.
    pub fn definitions(&self, database: &str) -> u64 {
        let sum = |sum: u64, counter: u32| sum.wrapping_add(self.generation(counter).number.load(SeqCst));
        [0, counter(database, u32::MAX)].into_iter().fold(0, sum)
    }

    /// When any of `tables` of `database` was written last, as [`uptime`] tells it; pgpool's start counts as a write.
    pub fn written(&self, database: &str, tables: &TableSet) -> Duration {
        let last =
            tables.behind(database).map(|counter| self.generation(counter).written.load(Acquire)).max().unwrap_or(0);
        Duration::from_millis(last.max(self.0.started))
    }

    /// `tables` were written, and the write is in force: no answer read before counts any more.
    pub fn invalidate(&self, tables: &TableSet) {
        for counter in tables.counters() {
            let generation = self.generation(*counter);
            generation.written.fetch_max(millis(), SeqCst);
            generation.number.fetch_add(1, SeqCst);
        }
    }

    /// `tables` may have been written, and that may come into force still.
    pub fn doubt(&self, tables: &TableSet) {
        self.doubtful_until().fetch_max(millis() + DOUBT, SeqCst);
        self.invalidate(tables);
        self.remote().owe();
    }

    /// Whether answers may be kept: nobody has died lately in the middle of a write.
    #[inline]
    pub fn is_sure(&self) -> bool {
        let until = self.doubtful_until().load(SeqCst);
        until == 0 || millis() > until
    }

    /// A doubt has ended, and nobody has done yet what [`settle`](Self::settle) is for.
    #[inline]
    pub(super) fn is_unsettled(&self) -> bool {
        let until = self.doubtful_until().load(SeqCst);
        until != self.settled_until().load(SeqCst) && millis() > until
    }

    /// What was learnt during a doubt may be from before what has come into force in it: whoever uses it asks anew.
    pub(super) fn settle(&self) {
        let until = self.doubtful_until().load(SeqCst);
        self.invalidate(&TableSet::everything());
        self.settled_until().store(until, SeqCst);
    }

    fn settled_until(&self) -> &AtomicU64 {
        &self.0.segment.slice(self.0.settled_until)[0]
    }

    /// No answer counts, and none is kept, until [`trust`](Self::trust): somebody writes who does not tell.
    pub fn distrust(&self) {
        self.doubtful_until().store(u64::MAX, SeqCst);
        self.invalidate(&TableSet::everything());
    }

    /// He has ended: what he has written last may come into force still, and then answers are kept again.
    pub fn trust(&self) {
        self.doubtful_until().store(millis() + DOUBT, SeqCst);
        self.invalidate(&TableSet::everything());
    }

    fn doubtful_until(&self) -> &AtomicU64 {
        &self.0.segment.slice(self.0.doubtful_until)[0]
    }

    /// Nothing read before counts any more, wherever it is kept.
    pub fn forget(&self) {
        self.invalidate(&TableSet::everything());
        if self.store().is_none() {
            self.remote().owe();
        }
    }

    /// Nothing read before counts any more, and its memory is given back. If the answers are elsewhere, nobody of this
    /// pgpool uses them before somebody has said so there.
    pub fn clear(&self) {
        self.forget();
        if let Some(store) = self.store() {
            store.clear();
        }
    }

    /// Who runs something that may commit and go on.
    #[inline]
    pub fn running(&self) -> Running<'_> {
        let [bits, databases] = self.0.running.map(|region| self.0.segment.slice(region));
        Running::new(bits, databases)
    }

    /// What is held of answers here.
    pub fn figures(&self) -> StoreFigures {
        self.store().map(Store::figures).unwrap_or_default()
    }

    /// `worker` has answered from the cache.
    #[inline]
    pub fn count_hit(&self, worker: usize) {
        if let Some(counts) = self.counts().get(worker) {
            count(&counts.hits);
        }
    }

    /// `worker` has let a server answer a SELECT.
    #[inline]
    pub fn count_miss(&self, worker: usize) {
        if let Some(counts) = self.counts().get(worker) {
            count(&counts.misses);
        }
    }

    /// What all workers have counted.
    pub fn counted(&self) -> CacheCounts {
        self.counts().iter().fold(CacheCounts::default(), |sum, counts| CacheCounts {
            hits: sum.hits.wrapping_add(counts.hits.load(Relaxed)),
            misses: sum.misses.wrapping_add(counts.misses.load(Relaxed)),
        })
    }

    fn counts(&self) -> &[Counts] {
        self.0.segment.slice(self.0.counts)
    }

    fn generation(&self, counter: u32) -> &Generation {
        &self.0.segment.slice(self.0.generations)[(counter % COUNTERS) as usize]
    }
}

fn millis() -> u64 {
    u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> QueryCache {
        let size = StoreSize { bytes: 1 << 20, entries: 64, largest: 1 << 16 };
        QueryCache::create(AnswerStore::Here(size), 2).expect("cache")
    }

    #[test]
    fn a_stamp_holds_until_one_of_its_tables_is_written() {
        let cache = cache();
        let (a, b, both) = (TableSet::of("d", [1]), TableSet::of("d", [2]), TableSet::of("d", [1, 2, 2]));
        let stamps = || [&a, &b, &both].map(|tables| cache.stamp("d", tables));
        let moved = |change: &dyn Fn()| {
            let before = stamps();
            change();
            let after = stamps();
            [0, 1, 2].map(|index| before[index] != after[index])
        };
        assert_eq!(both.counters().len(), 2);
        assert_eq!(moved(&|| cache.invalidate(&a)), [true, false, true]);
        assert_eq!(moved(&|| cache.invalidate(&TableSet::default())), [false; 3]);
        assert_eq!(moved(&|| cache.invalidate(&TableSet::of("other", [1, 2]))), [false; 3]);
        assert_eq!(moved(&|| cache.invalidate(&TableSet::database("other"))), [false; 3]);
        assert_eq!(moved(&|| cache.invalidate(&TableSet::database("d"))), [true; 3]);
        assert_eq!(moved(&|| cache.invalidate(&TableSet::everything())), [true; 3]);
        assert_eq!(moved(&|| cache.clear()), [true; 3]);
    }

    #[test]
    fn after_a_doubt_nothing_is_kept_for_a_while() {
        let cache = cache();
        let tables = TableSet::of("d", [1]);
        let stamp = cache.stamp("d", &tables);
        assert!(cache.is_sure());
        cache.doubt(&tables);
        assert!(!cache.is_sure() && cache.stamp("d", &tables) != stamp && !cache.is_unsettled());
        cache.doubtful_until().store(1, SeqCst);
        assert!(cache.is_sure() && cache.is_unsettled());
        let definitions = cache.definitions("d");
        cache.settle();
        assert!(!cache.is_unsettled() && cache.definitions("d") != definitions);
    }

    #[test]
    fn while_somebody_writes_who_does_not_tell_nothing_is_kept() {
        let cache = cache();
        let tables = TableSet::of("d", [1]);
        let stamp = cache.stamp("d", &tables);
        cache.distrust();
        cache.doubt(&tables);
        assert!(!cache.is_sure() && cache.doubtful_until().load(SeqCst) == u64::MAX);
        assert!(cache.stamp("d", &tables) != stamp);
        cache.trust();
        assert!(!cache.is_sure() && cache.doubtful_until().load(SeqCst) <= millis() + DOUBT);
    }

    #[test]
    fn counts_are_summed_up() {
        let cache = cache();
        cache.count_hit(0);
        cache.count_hit(1);
        cache.count_miss(1);
        cache.count_miss(7);
        assert_eq!(cache.counted(), CacheCounts { hits: 2, misses: 1 });
    }
}
