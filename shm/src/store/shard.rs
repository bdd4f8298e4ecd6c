//! One shard: reading without its lock, changing with it, putting it right after a writer was killed.

use super::words::{self, Block, Blocks, WORD};
use super::{BLOCK, StoreFigures, WAYS};
use crate::lock::{SharedMutex, SharedMutexGuard, abandoned};
use crate::shareable;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::Duration;

/// A reader that meets a writer starts again so often; then the entry counts as absent.
const ATTEMPTS: usize = 3;

shareable! {
    /// What belongs to a shard as a whole. All but `lock` is changed by its holder, and counted anew after his death.
    pub(super) struct Head {
        pub lock: SharedMutex<AtomicU64>,
        /// First free block that was used before, plus 1; 0: none.
        pub free: AtomicU32,
        /// Blocks in that list.
        pub free_count: AtomicU32,
        /// Blocks that were ever used: those behind are untouched.
        pub fresh: AtomicU32,
        /// Where eviction looks next.
        hand: AtomicU32,
        pub entries: AtomicU64,
        /// Bytes of all entries.
        pub bytes: AtomicU64,
        evictions: AtomicU64,
    }
}

shareable! {
    /// An entry, or room for one. Its hash is in its [`Bucket`].
    pub(super) struct Slot {
        /// Odd: being changed, or left so by somebody killed; neither slot nor hash counts then.
        pub version: AtomicU64,
        /// Bytes of padded key and value; in the upper half, of the key without padding.
        length: AtomicU64,
        pub first: AtomicU32,
        /// Read since the hand came by.
        referenced: AtomicU32,
    }
}

shareable! {
    /// What is known of the entries in a bucket. It is one line of the processor's cache, and tells whether a key is there,
    /// which is the first thing every statement asks.
    pub(super) struct Bucket {
        /// Of the entries; 0 where a slot is free.
        pub hashes: [AtomicU64; WAYS],
        /// Marks of keys that were asked for in vain: see `admission`.
        pub asked: AtomicU64,
    }
}

/// A shard. A link of a block is the next one of its entry or of the free list, plus 1, and in the upper half the slot of
/// its entry.
#[derive(Clone, Copy)]
pub(super) struct Shard<'a> {
    pub head: &'a Head,
    pub buckets: &'a [Bucket],
    pub slots: &'a [Slot],
    pub links: &'a [AtomicU64],
    pub blocks: &'a [Block],
}

/// A shard whose lock is held.
pub(super) struct Locked<'a> {
    pub(super) shard: Shard<'a>,
    _guard: SharedMutexGuard<'a, AtomicU64>,
}

impl Slot {
    /// Bytes of padded key and value, and of the key alone.
    pub fn lengths(&self) -> (usize, usize) {
        let length = self.length.load(Relaxed);
        (length as u32 as usize, (length >> 32) as usize)
    }

    /// Blocks of the entry.
    pub fn count(&self) -> usize {
        self.lengths().0.div_ceil(BLOCK)
    }
}

impl<'a> Shard<'a> {
    /// See [`super::Store::get`].
    pub fn get(&self, hash: u64, key: &[u8], into: &mut Vec<u8>) -> bool {
        let (begin, bucket) = (into.len(), self.bucket(hash));
        for (way, known) in self.buckets[bucket].hashes.iter().enumerate() {
            if known.load(Relaxed) != hash {
                continue;
            }
            let slot = &self.slots[bucket * WAYS + way];
            for _ in 0..ATTEMPTS {
                let version = slot.version.load(Acquire);
                if version & 1 != 0 || known.load(Relaxed) != hash {
                    break;
                }
                let (length, key_length) = slot.lengths();
                let is_it = key_length == key.len() && self.copy(slot.first.load(Relaxed), key, length, into);
                fence(Acquire);
                let is_whole = slot.version.load(Relaxed) == version;
                if is_it && is_whole {
                    if slot.referenced.load(Relaxed) == 0 {
                        slot.referenced.store(1, Relaxed);
                    }
                    return true;
                }
                into.truncate(begin);
                if is_whole {
                    break;
                }
            }
        }
        false
    }

    /// Takes the lock, and puts right what its former holder may have left when he was killed.
    pub fn lock(self, patience: Duration) -> Option<Locked<'a>> {
        let guard = self.head.lock.try_lock_for(patience)?;
        let left_behind = abandoned(&guard);
        let locked = Locked { shard: self, _guard: guard };
        if left_behind {
            locked.recover();
        }
        Some(locked)
    }

    /// Adds what this shard holds.
    pub fn add_to(&self, figures: &mut StoreFigures) {
        let fresh = u64::from(self.head.fresh.load(Relaxed));
        let used = fresh.saturating_sub(self.head.free_count.load(Relaxed).into()) * BLOCK as u64;
        figures.entries += self.head.entries.load(Relaxed);
        figures.used += used;
        figures.unused += used.saturating_sub(self.head.bytes.load(Relaxed));
        figures.evictions += self.head.evictions.load(Relaxed);
    }

    /// Blocks without an entry.
    pub fn free_blocks(&self) -> usize {
        let fresh = self.blocks.len().saturating_sub(self.head.fresh.load(Relaxed) as usize);
        fresh + self.head.free_count.load(Relaxed) as usize
    }

    /// The bucket of `hash`.
    pub fn bucket(&self, hash: u64) -> usize {
        hash as u32 as usize % self.buckets.len()
    }

    /// The hash of the entry in slot `index`, 0 if there is none.
    pub fn hash_of(&self, index: usize) -> &'a AtomicU64 {
        &self.buckets[index / WAYS].hashes[index % WAYS]
    }

    pub fn is_live(&self, index: usize) -> bool {
        self.slots[index].version.load(Relaxed) & 1 == 0 && self.hash_of(index).load(Relaxed) != 0
    }

    /// Copies the value of an entry of `length` bytes if `key` stands in front of it. Whatever `first` and `length` are, it
    /// comes to an end within the shard; then the version tells that this was no entry.
    fn copy(&self, first: u32, key: &[u8], length: usize, into: &mut Vec<u8>) -> bool {
        let length = length.min(self.blocks.len() * BLOCK);
        let value_at = key.len().next_multiple_of(WORD);
        into.reserve(length.saturating_sub(value_at));
        let (mut block, mut at) = (first as usize, 0);
        while at < length {
            let Some(words) = self.blocks.get(block) else { return false };
            let count = BLOCK.min(length - at);
            if at < key.len() && !words::begins_with(words, &key[at..key.len().min(at + BLOCK)]) {
                return false;
            }
            words::read(words, value_at.saturating_sub(at).min(count)..count, into);
            at += BLOCK;
            if at < length {
                // 0 is the end of a chain.
                block = (self.links[block].load(Relaxed) as u32 as usize).wrapping_sub(1);
            }
        }
        true
    }
}

impl Locked<'_> {
    /// Stores an entry. `false`: the shard cannot hold it.
    pub fn put(&mut self, hash: u64, key: &[u8], value: &[&[u8]]) -> bool {
        let shard = self.shard;
        let index = self.slot_for(hash);
        self.release(index);
        let padding = &[0; WORD][..key.len().next_multiple_of(WORD) - key.len()];
        let length = value.iter().fold(key.len() + padding.len(), |sum, piece| sum + piece.len());
        let count = length.div_ceil(BLOCK);
        if !self.make_room(count) {
            return false;
        }
        let mut blocks = Blocks::new([key, padding].into_iter().chain(value.iter().copied()));
        let owner = (index as u64) << 32;
        let (mut first, mut last) = (0, None);
        for _ in 0..count {
            let block = self.take_block();
            words::write(&shard.blocks[block], blocks.next());
            shard.links[block].store(owner, Relaxed);
            match last {
                None => first = block,
                Some(last) => shard.links[last as usize].store(owner | (block as u64 + 1), Relaxed),
            }
            last = Some(block as u32);
        }
        let slot = &shard.slots[index];
        self.change(slot, || {
            slot.first.store(first as u32, Relaxed);
            slot.length.store((key.len() as u64) << 32 | length as u64, Relaxed);
            slot.referenced.store(0, Relaxed);
            shard.hash_of(index).store(hash, Relaxed);
        });
        add(&shard.head.entries, 1);
        add(&shard.head.bytes, length as i64);
        true
    }

    /// Takes the entry out, if it is there.
    pub fn remove(&mut self, hash: u64) -> bool {
        let bucket = self.shard.bucket(hash);
        let way = self.shard.buckets[bucket].hashes.iter().position(|known| known.load(Relaxed) == hash);
        way.is_some_and(|way| self.release(bucket * WAYS + way))
    }

    /// Takes every entry out.
    pub fn clear(&mut self) {
        if self.shard.head.entries.load(Relaxed) > 0 {
            (0..self.shard.slots.len()).for_each(|index| {
                self.release(index);
            });
        }
    }

    /// The slot that an entry with this hash gets: its own, else a free one, else that of an entry not read lately.
    fn slot_for(&self, hash: u64) -> usize {
        let bucket = self.shard.bucket(hash);
        let (hashes, begin) = (&self.shard.buckets[bucket].hashes, bucket * WAYS);
        let find = |hash: u64| hashes.iter().position(|known| known.load(Relaxed) == hash);
        if let Some(way) = find(hash).or_else(|| find(0)) {
            return begin + way;
        }
        let slots = &self.shard.slots[begin..][..WAYS];
        if let Some(way) = slots.iter().position(|slot| slot.referenced.load(Relaxed) == 0) {
            return begin + way;
        }
        // All were read: from now on it counts again.
        slots.iter().for_each(|slot| slot.referenced.store(0, Relaxed));
        begin
    }

    /// Withdraws the entry of a slot and frees its blocks. Whether there was one.
    fn release(&self, index: usize) -> bool {
        let (head, slot) = (self.shard.head, &self.shard.slots[index]);
        if !self.shard.is_live(index) {
            return false;
        }
        let (first, count, length) = (slot.first.load(Relaxed), slot.count(), slot.lengths().0);
        self.empty(index);
        let mut last = first;
        for _ in 1..count {
            last = (self.shard.links[last as usize].load(Relaxed) as u32).saturating_sub(1);
        }
        if count > 0 {
            self.shard.links[last as usize].store(head.free.load(Relaxed).into(), Relaxed);
            head.free.store(first + 1, Relaxed);
            head.free_count.store(head.free_count.load(Relaxed) + count as u32, Relaxed);
        }
        add(&head.entries, -1);
        add(&head.bytes, -(length as i64));
        true
    }

    /// Lets nobody find what is in a slot.
    pub(super) fn empty(&self, index: usize) {
        let slot = &self.shard.slots[index];
        self.change(slot, || {
            self.shard.hash_of(index).store(0, Relaxed);
            slot.length.store(0, Relaxed);
        });
    }

    /// Changes a slot so that no reader believes anything in between. What comes after this is not seen before it.
    fn change(&self, slot: &Slot, change: impl FnOnce()) {
        let version = slot.version.load(Relaxed) | 1;
        slot.version.store(version, Relaxed);
        fence(Release);
        change();
        slot.version.store(version.wrapping_add(1), Release);
    }

    /// Evicts until `count` blocks are free.
    fn make_room(&self, count: usize) -> bool {
        let Shard { head, slots, links, blocks, .. } = self.shard;
        // Twice around: the first time everything may have been read lately.
        for _ in 0..=2 * blocks.len() {
            if self.shard.free_blocks() >= count {
                return true;
            }
            let hand = head.hand.load(Relaxed) as usize % blocks.len();
            head.hand.store((hand + 1) as u32, Relaxed);
            let owner = (links[hand].load(Relaxed) >> 32) as usize;
            let Some(slot) = slots.get(owner).filter(|_| self.shard.is_live(owner)) else { continue };
            if slot.first.load(Relaxed) as usize == hand && slot.referenced.swap(0, Relaxed) == 0 {
                self.release(owner);
                add(&head.evictions, 1);
            }
        }
        false
    }

    /// A free block; there is one, see [`Self::make_room`].
    fn take_block(&self) -> usize {
        let head = self.shard.head;
        match head.free.load(Relaxed) {
            0 => {
                let block = head.fresh.load(Relaxed);
                head.fresh.store(block + 1, Relaxed);
                block as usize
            }
            first => {
                let block = first as usize - 1;
                head.free.store(self.shard.links[block].load(Relaxed) as u32, Relaxed);
                head.free_count.store(head.free_count.load(Relaxed) - 1, Relaxed);
                block
            }
        }
    }
}

/// For counters that only the holder of the lock changes.
fn add(counter: &AtomicU64, amount: i64) {
    counter.store(counter.load(Relaxed).wrapping_add_signed(amount), Relaxed);
}
