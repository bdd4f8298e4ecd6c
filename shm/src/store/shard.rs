//! One shard: reading without its lock, changing with it, putting it right after a writer was killed.

use super::words::{self, Block, Blocks};
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
        free: AtomicU32,
        /// Blocks in that list.
        free_count: AtomicU32,
        /// Blocks that were ever used: those behind are untouched.
        fresh: AtomicU32,
        /// Where eviction looks next.
        hand: AtomicU32,
        entries: AtomicU64,
        /// Bytes of all entries.
        bytes: AtomicU64,
        evictions: AtomicU64,
    }
}

shareable! {
    /// An entry, or room for one.
    pub(super) struct Slot {
        /// Odd: being changed, or left so by somebody killed; nothing in it counts then.
        version: AtomicU64,
        /// 0: free.
        hash: AtomicU64,
        /// Bytes of key and value; in the upper half, of the key.
        length: AtomicU64,
        first: AtomicU32,
        /// Read since the hand came by.
        referenced: AtomicU32,
    }
}

/// A shard. A link of a block is the next one of its entry or of the free list, plus 1, and in the upper half the slot of
/// its entry.
#[derive(Clone, Copy)]
pub(super) struct Shard<'a> {
    pub head: &'a Head,
    pub slots: &'a [Slot],
    pub links: &'a [AtomicU64],
    pub blocks: &'a [Block],
}

/// A shard whose lock is held.
pub(super) struct Locked<'a> {
    shard: Shard<'a>,
    _guard: SharedMutexGuard<'a, AtomicU64>,
}

impl Slot {
    fn is_live(&self) -> bool {
        self.version.load(Relaxed) & 1 == 0 && self.hash.load(Relaxed) != 0
    }

    /// Bytes of key and value, and of the key alone.
    fn lengths(&self) -> (usize, usize) {
        let length = self.length.load(Relaxed);
        (length as u32 as usize, (length >> 32) as usize)
    }

    /// Blocks of the entry.
    fn count(&self) -> usize {
        self.lengths().0.div_ceil(BLOCK)
    }
}

impl<'a> Shard<'a> {
    /// See [`super::Store::get`].
    pub fn get(&self, hash: u64, key: &[u8], into: &mut Vec<u8>) -> bool {
        let begin = into.len();
        for slot in &self.slots[self.bucket(hash)..][..WAYS] {
            for _ in 0..ATTEMPTS {
                let version = slot.version.load(Acquire);
                if version & 1 != 0 || slot.hash.load(Relaxed) != hash {
                    break;
                }
                let (length, key_length) = slot.lengths();
                self.copy(slot.first.load(Relaxed), length, into);
                fence(Acquire);
                if slot.version.load(Relaxed) != version {
                    into.truncate(begin);
                    continue;
                }
                if key_length == key.len() && into[begin..].starts_with(key) {
                    into.drain(begin..begin + key_length);
                    if slot.referenced.load(Relaxed) == 0 {
                        slot.referenced.store(1, Relaxed);
                    }
                    return true;
                }
                into.truncate(begin);
                break;
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

    /// The first slot of the bucket of `hash`.
    fn bucket(&self, hash: u64) -> usize {
        (hash as u32 as usize % (self.slots.len() / WAYS)) * WAYS
    }

    /// Copies an entry's bytes. Whatever `first` and `length` are, it comes to an end within the shard.
    fn copy(&self, first: u32, length: usize, into: &mut Vec<u8>) {
        let length = length.min(self.blocks.len() * BLOCK);
        into.reserve(length);
        let (mut block, mut rest) = (first as usize, length);
        while rest > 0 {
            let Some(words) = self.blocks.get(block) else { return };
            words::read(words, rest, into);
            rest = rest.saturating_sub(BLOCK);
            // 0 is the end of a chain; the version tells that this was none.
            block = (self.links[block].load(Relaxed) as u32 as usize).wrapping_sub(1);
        }
    }
}

impl Locked<'_> {
    /// Stores an entry of `length` bytes. `false`: the shard cannot hold it.
    pub fn put(&mut self, hash: u64, key: &[u8], value: &[&[u8]], length: usize) -> bool {
        let shard = self.shard;
        let index = self.slot_for(hash);
        self.release(index);
        let count = length.div_ceil(BLOCK);
        if !self.make_room(count) {
            return false;
        }
        let mut blocks = Blocks::new(std::iter::once(key).chain(value.iter().copied()));
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
            slot.hash.store(hash, Relaxed);
        });
        add(&shard.head.entries, 1);
        add(&shard.head.bytes, length as i64);
        true
    }

    /// Takes the entry out, if it is there.
    pub fn remove(&mut self, hash: u64) -> bool {
        let begin = self.shard.bucket(hash);
        let found = (begin..begin + WAYS).find(|index| {
            let slot = &self.shard.slots[*index];
            slot.is_live() && slot.hash.load(Relaxed) == hash
        });
        found.is_some_and(|index| self.release(index))
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
        let begin = self.shard.bucket(hash);
        let worth = |index: &usize| {
            let slot = &self.shard.slots[*index];
            match slot.hash.load(Relaxed) {
                known if known == hash => 0,
                0 => 1,
                _ => 2 + slot.referenced.load(Relaxed).min(1),
            }
        };
        let chosen = (begin..begin + WAYS).min_by_key(worth).unwrap_or(begin);
        if worth(&chosen) > 2 {
            // All were read: from now on it counts again.
            self.shard.slots[begin..][..WAYS].iter().for_each(|slot| slot.referenced.store(0, Relaxed));
        }
        chosen
    }

    /// Withdraws the entry of a slot and frees its blocks. Whether there was one.
    fn release(&self, index: usize) -> bool {
        let (head, slot) = (self.shard.head, &self.shard.slots[index]);
        if !slot.is_live() {
            return false;
        }
        let (first, count, length) = (slot.first.load(Relaxed), slot.count(), slot.lengths().0);
        self.change(slot, || {
            slot.hash.store(0, Relaxed);
            slot.length.store(0, Relaxed);
        });
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
        let Shard { head, slots, links, blocks } = self.shard;
        // Twice around: the first time everything may have been read lately.
        for _ in 0..=2 * blocks.len() {
            let free = head.free_count.load(Relaxed) as usize + blocks.len() - head.fresh.load(Relaxed) as usize;
            if free >= count {
                return true;
            }
            let hand = head.hand.load(Relaxed) as usize % blocks.len();
            head.hand.store((hand + 1) as u32, Relaxed);
            let owner = (links[hand].load(Relaxed) >> 32) as usize;
            let Some(slot) = slots.get(owner).filter(|slot| slot.is_live()) else { continue };
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

    /// Counts everything anew: whole entries stay, all other blocks are free.
    fn recover(&self) {
        let Shard { head, slots, links, .. } = self.shard;
        let fresh = (head.fresh.load(Relaxed) as usize).min(links.len());
        let mut taken = vec![false; fresh];
        let (mut entries, mut bytes) = (0, 0);
        for (index, slot) in slots.iter().enumerate() {
            let is_whole = slot.is_live() && self.claim(index, slot, &mut taken);
            if is_whole {
                entries += 1;
                bytes += slot.lengths().0 as u64;
            } else if slot.version.load(Relaxed) & 1 != 0 || slot.hash.load(Relaxed) != 0 {
                self.change(slot, || {
                    slot.hash.store(0, Relaxed);
                    slot.length.store(0, Relaxed);
                });
            }
        }
        let mut free = 0;
        let mut free_count = 0;
        for block in (0..fresh).filter(|block| !taken[*block]) {
            links[block].store(free, Relaxed);
            free = block as u64 + 1;
            free_count += 1;
        }
        head.free.store(free as u32, Relaxed);
        head.free_count.store(free_count, Relaxed);
        head.fresh.store(fresh as u32, Relaxed);
        head.entries.store(entries, Relaxed);
        head.bytes.store(bytes, Relaxed);
    }

    /// Marks the blocks of an entry as taken, if they are its own and nobody else's.
    fn claim(&self, index: usize, slot: &Slot, taken: &mut [bool]) -> bool {
        let mut chain = Vec::new();
        let mut block = slot.first.load(Relaxed) as usize;
        for _ in 0..slot.count() {
            let link = self.shard.links.get(block).map_or(0, |link| link.load(Relaxed));
            if taken.get(block) != Some(&false) || (link >> 32) as usize != index {
                chain.into_iter().for_each(|block: usize| taken[block] = false);
                return false;
            }
            taken[block] = true;
            chain.push(block);
            block = (link as u32 as usize).wrapping_sub(1);
        }
        true
    }

    /// See [`super::Store::check`].
    pub fn check(&mut self) -> Result<(), String> {
        let Shard { head, slots, links, .. } = self.shard;
        let fresh = head.fresh.load(Relaxed) as usize;
        let mut taken = vec![false; fresh];
        let (mut entries, mut bytes) = (0, 0);
        for (index, slot) in slots.iter().enumerate() {
            if slot.version.load(Relaxed) & 1 != 0 {
                return Err(format!("slot {index} is being changed, and the lock is ours"));
            }
            if slot.is_live() {
                if !self.claim(index, slot, &mut taken) {
                    return Err(format!("the blocks of slot {index} are not its own"));
                }
                entries += 1;
                bytes += slot.lengths().0 as u64;
            }
        }
        let mut free = head.free.load(Relaxed) as usize;
        let mut count = 0;
        while free != 0 {
            let block = free - 1;
            if taken.get(block) != Some(&false) {
                return Err(format!("block {block} is free and is not"));
            }
            taken[block] = true;
            count += 1;
            free = links[block].load(Relaxed) as u32 as usize;
        }
        let noted = (head.entries.load(Relaxed), head.bytes.load(Relaxed), head.free_count.load(Relaxed));
        if (entries, bytes, count) != noted {
            return Err(format!("counted {:?}, noted {noted:?}", (entries, bytes, count)));
        }
        match taken.iter().position(|taken| !taken) {
            Some(block) => Err(format!("block {block} belongs to nobody")),
            None => Ok(()),
        }
    }
}

/// For counters that only the holder of the lock changes.
fn add(counter: &AtomicU64, amount: i64) {
    counter.store(counter.load(Relaxed).wrapping_add_signed(amount), Relaxed);
}
