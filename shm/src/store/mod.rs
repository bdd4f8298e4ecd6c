//! A store of keyed values for many processes: a hash table over chained blocks of one large mapping.
//!
//! The store is cut into *shards*, each with a lock for its writers. A shard has *slots*, in buckets of [`WAYS`], and
//! *blocks* of [`BLOCK`] bytes. A slot holds the length of an entry and the first of its blocks; the blocks hold the
//! key and the value, one behind the other. The hashes of a bucket stand together, apart from the slots. When blocks run
//! out, CLOCK evicts: a hand goes round the blocks and takes the entries that were not read since it came by last. What is
//! worth that is said by `admission`.
//!
//! Invariants:
//! - A reader takes no lock and never waits: it copies and then looks whether the slot's version is still the same. What it
//!   returns was stored as a whole under exactly this key. That is why a value cannot be sent from where it lies: bytes
//!   that are with the kernel cannot be taken back, and a pinned entry would outlive a reader that was killed.
//! - A slot is published when all its blocks are written, and withdrawn before the first of them is used again. So whoever
//!   is killed anywhere leaves whole entries and, at most, blocks that belong to nobody: the next writer is told by the lock
//!   and counts the shard anew ([`recover`](Store)).
//! - Memory is touched as it is used: an empty store costs nothing, whatever its size.

mod admission;
mod recovery;
mod shard;
mod words;

use crate::hash::ByteHasher;
use crate::lock::prepare;
use crate::segment::{Layout, Region, Segment, SegmentError};
use shard::{Bucket, Head, Shard, Slot};
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use words::WORD;

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Slots an entry may be found in.
const WAYS: usize = 7;
/// Shards at most.
const MAX_SHARDS: usize = 64;
/// A shard holds at least so many of the largest entries.
const ENTRIES_PER_SHARD: usize = 8;
/// How long a writer waits for its shard: longer only if the holder was stopped, and then the value is not stored.
const PATIENCE: Duration = Duration::from_millis(100);

/// How large a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Bytes for keys and values.
    pub bytes: usize,
    /// Entries at most; rounded up. There are no more than twice as many as blocks.
    pub entries: usize,
    /// Bytes of the longest key and value together.
    pub largest: usize,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the store.
    Yes,
    /// It is longer than the store takes.
    TooLong,
    /// The shard was locked for too long.
    Busy,
}

/// What a store holds at about one moment. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Slots there are.
    pub slots: u64,
    /// Entries in it.
    pub entries: u64,
    /// Room for keys and values.
    pub capacity: u64,
    /// Blocks in use.
    pub used: u64,
    /// Of these, behind the end of an entry.
    pub unused: u64,
    /// Entries evicted since the start.
    pub evictions: u64,
}

/// The store. To be made by the parent; processes forked from it see the same.
#[derive(Debug)]
pub struct Store {
    segment: Segment,
    heads: Region<Head>,
    buckets: Region<Bucket>,
    slots: Region<Slot>,
    links: Region<AtomicU64>,
    blocks: Region<words::Block>,
    shards: usize,
    slots_per_shard: usize,
    blocks_per_shard: usize,
    largest: usize,
    /// Secret, so that no client can choose keys that meet in one bucket.
    hasher: ByteHasher,
}

impl Store {
    /// An empty store.
    ///
    /// # Errors
    /// The sizes do not fit into an address space, or the operating system refuses.
    pub fn create(size: StoreSize) -> Result<Self, SegmentError> {
        let fits = size.bytes / size.largest.max(1).saturating_mul(ENTRIES_PER_SHARD);
        let shards = MAX_SHARDS.min(fits.max(1)).next_power_of_two();
        let shards = if shards > fits.max(1) { shards / 2 } else { shards };
        let blocks_per_shard = (size.bytes / shards / BLOCK).max(1);
        // An entry has a block at least; twice as many slots are enough for buckets to overflow hardly ever.
        let slots_per_shard = size.entries.div_ceil(shards).clamp(1, blocks_per_shard.saturating_mul(2));
        let slots_per_shard = slots_per_shard.checked_next_multiple_of(WAYS).ok_or(SegmentError::TooLarge)?;
        if blocks_per_shard >= u32::MAX as usize || slots_per_shard >= u32::MAX as usize {
            return Err(SegmentError::TooLarge);
        }
        let mut layout = Layout::new();
        let heads = layout.array(shards);
        layout.page_break();
        let buckets = layout.array(shards.saturating_mul(slots_per_shard / WAYS));
        layout.page_break();
        let slots = layout.array(shards.saturating_mul(slots_per_shard));
        layout.page_break();
        let links = layout.array(shards.saturating_mul(blocks_per_shard));
        layout.page_break();
        let blocks = layout.array(shards.saturating_mul(blocks_per_shard));
        let segment = Segment::create(layout)?;
        segment.slice::<Head>(heads).iter().for_each(|head| prepare(&head.lock));
        Ok(Self {
            segment,
            heads,
            buckets,
            slots,
            links,
            blocks,
            shards,
            slots_per_shard,
            blocks_per_shard,
            // A key is filled up to whole words.
            largest: size.largest.min(blocks_per_shard * BLOCK - WORD),
            hasher: ByteHasher::new(),
        })
    }

    /// Bytes of the mapping, most of it untouched at first.
    pub fn size(&self) -> usize {
        self.segment.size()
    }

    /// Copies the value of `key` to the end of `into`. `false`: there is none, and `into` is as it was.
    pub fn get(&self, key: &[u8], into: &mut Vec<u8>) -> bool {
        let hash = self.hash(key);
        self.shard(hash).get(hash, key, into)
    }

    /// Whether a value of `key`, which was just looked for in vain, is worth its place: not if others had to be evicted for it
    /// and nobody has asked for it lately.
    pub fn admits(&self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        self.shard(hash).admits(hash)
    }

    /// Stores the pieces of `value`, one behind the other, under `key`, in place of what is there.
    pub fn put(&self, key: &[u8], value: &[&[u8]]) -> Stored {
        let length = value.iter().fold(key.len(), |sum, piece| sum.saturating_add(piece.len()));
        if length > self.largest {
            return Stored::TooLong;
        }
        let hash = self.hash(key);
        let Some(mut shard) = self.shard(hash).lock(PATIENCE) else { return Stored::Busy };
        if shard.put(hash, key, value) { Stored::Yes } else { Stored::TooLong }
    }

    /// Takes the entry of `key` out. Whether there was one.
    pub fn remove(&self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        self.shard(hash).lock(PATIENCE).is_some_and(|mut shard| shard.remove(hash))
    }

    /// Takes every entry out, one shard after the other. A shard whose lock cannot be had keeps its entries.
    pub fn clear(&self) {
        for index in 0..self.shards {
            if let Some(mut shard) = self.shard_at(index).lock(PATIENCE) {
                shard.clear();
            }
        }
    }

    /// What it holds.
    pub fn figures(&self) -> StoreFigures {
        let mut sum = StoreFigures {
            slots: (self.shards * self.slots_per_shard) as u64,
            capacity: (self.shards * self.blocks_per_shard * BLOCK) as u64,
            ..StoreFigures::default()
        };
        for index in 0..self.shards {
            self.shard_at(index).add_to(&mut sum);
        }
        sum
    }

    /// Compares all that is written down twice; for tests, while nobody writes.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        (0..self.shards).try_for_each(|index| {
            let mut shard = self.shard_at(index).lock(PATIENCE).ok_or_else(|| format!("shard {index} is locked"))?;
            shard.check().map_err(|error| format!("shard {index}: {error}"))
        })
    }

    fn hash(&self, key: &[u8]) -> u64 {
        // 0 marks a free slot.
        self.hasher.hash(key).max(1)
    }

    fn shard(&self, hash: u64) -> Shard<'_> {
        self.shard_at((hash >> 32) as usize % self.shards)
    }

    fn shard_at(&self, index: usize) -> Shard<'_> {
        let slots = index * self.slots_per_shard..(index + 1) * self.slots_per_shard;
        let buckets = slots.start / WAYS..slots.end / WAYS;
        let blocks = index * self.blocks_per_shard..(index + 1) * self.blocks_per_shard;
        Shard {
            head: &self.segment.slice(self.heads)[index],
            buckets: &self.segment.slice(self.buckets)[buckets],
            slots: &self.segment.slice(self.slots)[slots],
            links: &self.segment.slice(self.links)[blocks.clone()],
            blocks: &self.segment.slice(self.blocks)[blocks],
        }
    }
}
