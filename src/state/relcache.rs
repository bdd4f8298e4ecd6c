//! Facts of the servers' catalogs that all workers share, and the number that tells when facts are out of date
//! (query-cache 10).
//!
//! A table of fixed size, found by a fingerprint of everything that decides a fact; a full bucket drops its oldest entry.
//! There is no lock, so none can be left behind: an entry is two words, the data and the fingerprint combined with the
//! data by exclusive or. Halves of two writes, or a write whose process was killed in the middle, give a fingerprint that
//! nobody asks for, and the entry counts as not there.
//!
//! The *generation* moves when a statement may have changed what names mean. A fact is stored with the generation that
//! was current before it was asked for, and is found by those only who still see the same.

use super::Shared;
use pgpool_shm::shareable;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Entries of a bucket: one cache line.
const WAYS: usize = 4;

shareable! {
    /// Numbers that belong to all facts.
    pub(super) struct Epoch {
        generation: AtomicU32,
        prepared: AtomicU32,
        /// Seconds of [`Relcache::now`] when the generation moved last.
        changed: AtomicU64,
        // Keeps what every statement reads on a cache line of its own.
        filler: [AtomicU64; 6],
    }
}

shareable! {
    struct Entry {
        /// Fingerprint, exclusive or data.
        sealed: AtomicU64,
        /// See [`SharedFact`]; 0 when empty.
        data: AtomicU64,
    }
}

shareable! {
    /// The entries that a fingerprint may be found in.
    pub(super) struct Bucket {
        entries: [Entry; WAYS],
    }
}

/// How fingerprints are made: secret, so that no client can prepare two that are equal.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    place: RandomState,
    check: RandomState,
    origin: Instant,
}

impl Secret {
    /// New keys. For the parent, before it forks.
    pub fn new() -> Self {
        Self { place: RandomState::new(), check: RandomState::new(), origin: Instant::now() }
    }
}

/// Stands for the key of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    place: u64,
    check: u64,
}

impl Fingerprint {
    /// As bytes, to be part of another key.
    pub fn bytes(self) -> [u8; 16] {
        (u128::from(self.place) << 64 | u128::from(self.check)).to_le_bytes()
    }
}

/// A fact in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFact {
    /// What it says, 1 to 15; what that means is the asker's business.
    pub value: u8,
    /// When it was learnt, as [`Relcache::now`] counts.
    pub learnt: u32,
}

/// Bits of the data word: generation, time, value.
const VALUE_BITS: u32 = 4;
const TIME_BITS: u32 = 28;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;

impl SharedFact {
    fn pack(self, generation: u32) -> u64 {
        let low = (self.learnt & TIME_MASK) << VALUE_BITS | u32::from(self.value & 0xf);
        u64::from(generation) << 32 | u64::from(low)
    }

    /// Generation and fact.
    fn unpack(data: u64) -> (u32, Self) {
        let low = data as u32;
        ((data >> 32) as u32, Self { value: low as u8 & 0xf, learnt: low >> VALUE_BITS })
    }
}

/// The shared relation cache.
#[derive(Clone, Copy)]
pub struct Relcache<'a> {
    epoch: &'a Epoch,
    buckets: &'a [Bucket],
    secret: &'a Secret,
}

/// Buckets for `entries` facts.
pub(super) fn buckets(entries: usize) -> usize {
    entries.div_ceil(WAYS)
}

impl<'a> Relcache<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let inner = &shared.0;
        Self {
            epoch: &inner.segment.slice(inner.epoch)[0],
            buckets: inner.segment.slice(inner.facts),
            secret: &inner.secret,
        }
    }

    /// Moves when facts learnt before are out of date. One atomic read.
    #[inline]
    pub fn generation(self) -> u32 {
        self.epoch.generation.load(Ordering::Acquire)
    }

    /// All facts learnt so far are out of date, in every process.
    pub fn bump(self) {
        self.epoch.changed.store(self.now().into(), Ordering::Relaxed);
        self.epoch.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Seconds since the generation moved last; for ever if it never did.
    pub fn quiet_for(self) -> u32 {
        let changed = self.epoch.changed.load(Ordering::Relaxed) as u32;
        if self.generation() == 0 { u32::MAX } else { self.now().saturating_sub(changed) }
    }

    /// A transaction that changed the catalog was prepared (PREPARE TRANSACTION): from now on any COMMIT PREPARED may
    /// make such a change visible.
    pub fn change_prepared(self) {
        self.epoch.prepared.store(1, Ordering::Relaxed);
    }

    /// Whether [`Relcache::change_prepared`] was ever called.
    pub fn has_prepared_change(self) -> bool {
        self.epoch.prepared.load(Ordering::Relaxed) != 0
    }

    /// Seconds since the start of pgpool; no system call. Facts are timed with it.
    pub fn now(self) -> u32 {
        u32::try_from(self.secret.origin.elapsed().as_secs()).unwrap_or(u32::MAX) & TIME_MASK
    }

    /// What `key` is known by in all processes of this pgpool.
    pub fn fingerprint(self, key: &impl Hash) -> Fingerprint {
        Fingerprint { place: self.secret.place.hash_one(key), check: self.secret.check.hash_one(key) }
    }

    /// The fact of this generation, if it is there. No lock, no system call.
    pub fn find(self, fingerprint: Fingerprint, generation: u32) -> Option<SharedFact> {
        self.bucket(fingerprint)?.entries.iter().find_map(|entry| {
            let (check, data) = entry.load();
            let (stored, fact) = SharedFact::unpack(data);
            (check == fingerprint.check && stored == generation && fact.value != 0).then_some(fact)
        })
    }

    /// Stores a fact asked for while `generation` was current. It takes the place of its predecessor, else of one that
    /// is empty or out of date, else of the oldest.
    pub fn store(self, fingerprint: Fingerprint, generation: u32, fact: SharedFact) {
        let Some(bucket) = self.bucket(fingerprint) else { return };
        let worth = |entry: &&Entry| {
            let (check, data) = entry.load();
            let (stored, old) = SharedFact::unpack(data);
            let is_alive = old.value != 0 && stored == generation;
            (check != fingerprint.check, is_alive, old.learnt)
        };
        if let Some(entry) = bucket.entries.iter().min_by_key(worth) {
            entry.store(fingerprint.check, fact.pack(generation));
        }
    }

    fn bucket(self, fingerprint: Fingerprint) -> Option<&'a Bucket> {
        let index = fingerprint.place.checked_rem(self.buckets.len() as u64)?;
        self.buckets.get(index as usize)
    }
}

impl Entry {
    /// Fingerprint's check word and data.
    fn load(&self) -> (u64, u64) {
        let data = self.data.load(Ordering::Relaxed);
        (self.sealed.load(Ordering::Relaxed) ^ data, data)
    }

    fn store(&self, check: u64, data: u64) {
        self.sealed.store(check ^ data, Ordering::Relaxed);
        self.data.store(data, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;
    use crate::sys::{Fork, fork};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::waitpid;
    use std::time::Duration;

    fn shared(relcache: usize) -> Shared {
        Shared::create(Limits { workers: 1, pool_slots: 1, relcache, ..Limits::default() }).expect("shared")
    }

    fn fact(value: u8) -> SharedFact {
        SharedFact { value, learnt: 7 }
    }

    #[test]
    fn a_fact_is_found_by_its_key_and_generation_only() {
        let shared = shared(64);
        let cache = shared.relcache();
        let key = cache.fingerprint(&("db", "t"));
        assert_eq!(cache.find(key, 0), None);
        cache.store(key, 0, fact(3));
        assert_eq!(cache.find(key, 0), Some(fact(3)));
        assert_eq!(cache.find(cache.fingerprint(&("db", "u")), 0), None);
        cache.store(key, 0, fact(4));
        assert_eq!(cache.find(key, 0), Some(fact(4)));
        cache.bump();
        assert_eq!((cache.generation(), cache.find(key, cache.generation())), (1, None));
    }

    #[test]
    fn a_full_bucket_drops_what_is_out_of_date_then_the_oldest() {
        let shared = shared(WAYS);
        let cache = shared.relcache();
        let key = |name: u32| cache.fingerprint(&name);
        for name in 0..WAYS as u32 {
            cache.store(key(name), 1, SharedFact { value: 1, learnt: 10 + name });
        }
        cache.store(key(100), 1, SharedFact { value: 1, learnt: 50 });
        let found = |name| cache.find(key(name), 1).is_some();
        assert_eq!([0, 1, 2, 3, 100].map(found), [false, true, true, true, true]);
        cache.store(key(1), 0, SharedFact { value: 1, learnt: 60 });
        cache.store(key(101), 1, SharedFact { value: 1, learnt: 0 });
        assert_eq!([1, 2, 3, 100, 101].map(found), [false, true, true, true, true]);
    }

    #[test]
    fn a_table_without_entries_holds_nothing() {
        let shared = shared(0);
        let cache = shared.relcache();
        let key = cache.fingerprint(&1);
        cache.store(key, 0, fact(1));
        assert_eq!(cache.find(key, 0), None);
    }

    /// Many writers of the same few entries: whatever is found belongs to the name it is found by.
    fn write_for_ever(cache: Relcache<'_>, stop: impl Fn() -> bool) {
        let mut round = 0_u32;
        while !stop() {
            round = round.wrapping_add(1);
            let name = round % 50;
            cache.store(cache.fingerprint(&name), 0, SharedFact { value: 1 + (name % 15) as u8, learnt: round });
        }
    }

    fn check_all(cache: Relcache<'_>) -> usize {
        let names = (0..50).filter_map(|name: u32| Some((name, cache.find(cache.fingerprint(&name), 0)?)));
        names.inspect(|(name, fact)| assert_eq!(u32::from(fact.value), 1 + name % 15)).count()
    }

    #[test]
    fn halves_of_different_writes_are_never_taken_for_a_fact() {
        let shared = shared(WAYS);
        let until = Instant::now() + Duration::from_millis(300);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| write_for_ever(shared.relcache(), || Instant::now() > until));
            }
            let mut found = 0;
            while Instant::now() < until {
                found += check_all(shared.relcache());
            }
            assert!(found > 0);
        });
    }

    #[test]
    fn a_killed_writer_leaves_nothing_in_the_way() {
        let shared = shared(WAYS);
        let cache = shared.relcache();
        for round in 0..30 {
            let Fork::Parent(pid) = fork().expect("fork") else {
                write_for_ever(cache, || false);
                unreachable!("killed before");
            };
            let deadline = Instant::now() + Duration::from_secs(20);
            while check_all(cache) == 0 {
                assert!(Instant::now() < deadline, "the child does not get on");
            }
            kill(pid, Signal::SIGKILL).expect("kill");
            while waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
            check_all(cache);
            let key = cache.fingerprint(&("mine", round));
            cache.store(key, 0, fact(9));
            assert_eq!(cache.find(key, 0), Some(fact(9)));
            // The next child begins with an empty table.
            (0..50).for_each(|name: u32| cache.store(cache.fingerprint(&name), 1, fact(1)));
        }
    }
}
