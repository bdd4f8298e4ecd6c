//! Which tables were written lately, by any session: the memory of `dml_adaptive_global` (routing 16).
//!
//! A hash table of fixed size without locks: `track_table_mutation_table_buckets` buckets that share
//! `track_table_mutation_table_size` places. A place belongs to a table, known by a hash of database and bare name, and
//! holds the times of its first and its last write. When a bucket is full the place written longest ago is taken, and the
//! bucket remembers that time for everything it has dropped.
//!
//! Invariants:
//! - A write is never forgotten: whatever is dropped, overwritten at the same moment, or left half done by a process that
//!   was killed, a table can only seem to have been written later than it was.
//! - Times are those of [`uptime`](super::uptime), in milliseconds, and never 0.

use pgpool_shm::{Layout, Region, Segment, SegmentError, shareable};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// How long a write counts as recent while no delay of the standbys is known, and at least (routing 16.2).
const MIN_TTL: Duration = Duration::from_millis(100);

/// How long at most.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// The key of a place that is changing hands: it may be any table's.
const CHANGING: u64 = u64::MAX;

/// The shared table. Clones and forked processes see the same.
#[derive(Clone, Debug)]
pub struct TableMutations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    segment: Segment,
    header: Region<Header>,
    buckets: Region<Bucket>,
    places: Region<Place>,
    places_per_bucket: usize,
}

shareable! {
    struct Header {
        /// In milliseconds; 0: none was set.
        ttl: AtomicU64,
        /// Everything counts as written until then.
        cold_until: AtomicU64,
    }
}

shareable! {
    struct Bucket {
        /// The last write of what was dropped; 0: nothing was.
        dropped: AtomicU64,
    }
}

shareable! {
    struct Place {
        /// 0: free; [`CHANGING`]: a process gives it to another table, or was killed at that.
        key: AtomicU64,
        first: AtomicU64,
        last: AtomicU64,
    }
}

/// A table of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableKey(u64);

impl TableKey {
    /// The key of all tables with the bare name `table`, in any case, in `database`.
    pub fn new(database: &str, table: &str) -> Self {
        // Without a random key: all processes must agree, and a collision only costs a read of the primary.
        let mut hasher = DefaultHasher::new();
        database.hash(&mut hasher);
        table.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
        Self(hasher.finish().clamp(1, CHANGING - 1))
    }
}

/// How long ago a table was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteAge {
    /// Since the last write.
    pub last: Duration,
    /// Since the first write of this period. Pauses longer than the time to live end a period, and so does
    /// `track_table_mutation_max_staleness`.
    pub first: Duration,
}

impl TableMutations {
    /// An empty table. Called by the parent, before it forks.
    ///
    /// # Errors
    /// No memory for it.
    pub fn create(buckets: usize, places: usize) -> Result<Self, SegmentError> {
        let count = buckets.max(1);
        let places_per_bucket = places.div_ceil(count).max(1);
        let mut layout = Layout::new();
        let header = layout.array(1);
        let buckets = layout.array(count);
        let places = layout.array(count.saturating_mul(places_per_bucket));
        let segment = Segment::create(layout)?;
        Ok(Self(Arc::new(Inner { segment, header, buckets, places, places_per_bucket })))
    }

    /// Bytes of the table, touched as it is used.
    pub fn size(&self) -> usize {
        self.0.segment.size()
    }

    /// Notes that the table was written at `now`; `max_staleness` (0: none) is how long reads may be held on the primary by
    /// writes in a row.
    pub fn record(&self, table: TableKey, now: Duration, max_staleness: Duration) {
        let now = millis(now);
        let (bucket, places) = self.bucket(table);
        if let Some(place) = places.iter().find(|place| place.key.load(SeqCst) == table.0) {
            let since = |time: &AtomicU64| Duration::from_millis(now.saturating_sub(time.load(SeqCst)));
            let too_long = !max_staleness.is_zero() && since(&place.first) >= max_staleness;
            if too_long || since(&place.last) >= self.ttl() {
                place.first.store(now, SeqCst);
            }
            place.last.fetch_max(now, SeqCst);
            // Somebody may have taken the place meanwhile.
            if place.key.load(SeqCst) == table.0 {
                return;
            }
        }
        if !Self::settle(table, now, bucket, places) {
            bucket.dropped.fetch_max(now, SeqCst);
        }
    }

    /// Gives the table a place of its own; false if others are just about to take it.
    fn settle(table: TableKey, now: u64, bucket: &Bucket, places: &[Place]) -> bool {
        let keys = places.iter().map(|place| (place, place.key.load(SeqCst))).filter(|(_, key)| *key != CHANGING);
        let longest_ago = keys.min_by_key(|(place, key)| if *key == 0 { 0 } else { place.last.load(SeqCst) });
        let Some((place, former)) = longest_ago else { return false };
        if place.key.compare_exchange(former, CHANGING, SeqCst, SeqCst).is_err() {
            return false;
        }
        bucket.dropped.fetch_max(place.last.load(SeqCst), SeqCst);
        place.first.store(now, SeqCst);
        place.last.fetch_max(now, SeqCst);
        place.key.store(table.0, SeqCst);
        true
    }

    /// How long before `now` the table was written; None if that is not known to have happened.
    pub fn age(&self, table: TableKey, now: Duration) -> Option<WriteAge> {
        let now = millis(now);
        let ago = |time: u64| Duration::from_millis(now.saturating_sub(time));
        let (bucket, places) = self.bucket(table);
        let may_be_it = |place: &&Place| [table.0, CHANGING].contains(&place.key.load(SeqCst));
        let known = places.iter().filter(may_be_it).map(|place| (place.last.load(SeqCst), place.first.load(SeqCst)));
        // What was dropped may have been this table; when its writes began is not known any more. Looked at last: by then
        // it has what was dropped from the places seen above.
        let dropped = std::iter::once_with(|| bucket.dropped.load(SeqCst)).map(|last| (last, last));
        let (last, first) = known.chain(dropped).max()?;
        (last != 0).then(|| WriteAge { last: ago(last), first: ago(first) })
    }

    /// How long a write counts as recent.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.header().ttl.load(Relaxed)).clamp(MIN_TTL, MAX_TTL)
    }

    /// Sets how long a write counts as recent, within 100 ms and an hour: the delay of the slowest standby times
    /// `track_table_mutation_ttl_factor` (routing 16.5).
    pub fn set_ttl(&self, ttl: Duration) {
        self.header().ttl.store(millis(ttl.min(MAX_TTL)), Relaxed);
    }

    /// For `duration` from `now` on everything counts as just written (routing 16.6).
    pub fn begin_cold_start(&self, now: Duration, duration: Duration) {
        self.header().cold_until.fetch_max(millis(now + duration), Relaxed);
    }

    /// Whether everything counts as just written.
    pub fn is_cold(&self, now: Duration) -> bool {
        millis(now) < self.header().cold_until.load(Relaxed)
    }

    fn header(&self) -> &Header {
        &self.0.segment.slice(self.0.header)[0]
    }

    fn bucket(&self, table: TableKey) -> (&Bucket, &[Place]) {
        let buckets = self.0.segment.slice(self.0.buckets);
        let index = (table.0 % buckets.len() as u64) as usize;
        let first = index * self.0.places_per_bucket;
        let places = &self.0.segment.slice(self.0.places)[first..first + self.0.places_per_bucket];
        (&buckets[index], places)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CAP: Duration = Duration::ZERO;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn age(last: u64, first: u64) -> Option<WriteAge> {
        Some(WriteAge { last: at(last), first: at(first) })
    }

    #[test]
    fn a_write_has_an_age_in_its_database_only() {
        let table = TableMutations::create(1024, 2048).expect("memory");
        let key = TableKey::new("shop", "orders");
        assert_eq!(table.age(key, at(500)), None);
        table.record(key, at(500), NO_CAP);
        assert_eq!(table.age(key, at(530)), age(30, 30));
        assert_eq!(table.age(TableKey::new("shop", "Orders"), at(530)), age(30, 30));
        assert_eq!(table.age(TableKey::new("other", "orders"), at(530)), None);
        // A reader may have looked at the clock before the writer.
        assert_eq!(table.age(key, at(400)), age(0, 0));
    }

    #[test]
    fn writes_in_a_row_are_one_period_until_a_pause_or_the_cap() {
        let table = TableMutations::create(1, 1).expect("memory");
        let key = TableKey::new("shop", "orders");
        table.set_ttl(at(200));
        table.record(key, at(1_000), at(500));
        table.record(key, at(1_150), at(500));
        assert_eq!(table.age(key, at(1_160)), age(10, 160));
        table.record(key, at(1_349), at(500));
        assert_eq!(table.age(key, at(1_350)), age(1, 350));
        // Over the cap: a new period, as the manual says.
        table.record(key, at(1_500), at(500));
        assert_eq!(table.age(key, at(1_500)), age(0, 0));
        // Over the time to live.
        table.record(key, at(1_600), at(500));
        table.record(key, at(1_800), at(500));
        assert_eq!(table.age(key, at(1_801)), age(1, 1));
    }

    #[test]
    fn a_full_bucket_forgets_no_write() {
        let table = TableMutations::create(2, 4).expect("memory");
        let keys: Vec<_> = (0..50).map(|number| TableKey::new("shop", &format!("table{number}"))).collect();
        for (number, key) in (0u64..).zip(&keys) {
            table.record(*key, at(1_000 + 10 * number), NO_CAP);
        }
        for (number, key) in (0u64..).zip(&keys) {
            let age = table.age(*key, at(2_000)).expect("written");
            assert!(age.last <= at(1_000 - 10 * number), "{number}: {age:?}");
        }
        // Nor does it make everything recent for ever.
        let unwritten = table.age(TableKey::new("shop", "unwritten"), at(100_000)).expect("dropped something");
        assert!(unwritten.last >= at(98_000));
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let table = TableMutations::create(1, 2).expect("memory");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    let key = TableKey::new("shop", &format!("table{writer}"));
                    for now in 1..2_000 {
                        table.record(key, at(now), NO_CAP);
                        let age = table.age(key, at(now)).expect("just written");
                        assert_eq!(age.last, Duration::ZERO, "writer {writer} at {now}");
                    }
                });
            }
        });
    }

    #[test]
    fn the_time_to_live_has_bounds() {
        let table = TableMutations::create(64, 128).expect("memory");
        assert_eq!(table.ttl(), MIN_TTL);
        for (set, expected) in [(at(5), MIN_TTL), (at(700), at(700)), (at(u64::MAX), MAX_TTL)] {
            table.set_ttl(set);
            assert_eq!(table.ttl(), expected);
        }
    }

    #[test]
    fn a_cold_start_ends() {
        let table = TableMutations::create(64, 128).expect("memory");
        assert!(!table.is_cold(at(10)));
        table.begin_cold_start(at(10), at(50));
        table.begin_cold_start(at(20), at(5));
        assert!(table.is_cold(at(59)) && !table.is_cold(at(60)));
    }
}
