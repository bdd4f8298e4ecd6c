//! Putting a shard right after a writer was killed, by what its slots say; and comparing that with what is noted of it.

use super::shard::{Locked, Shard, Slot};
use std::sync::atomic::Ordering::Relaxed;

impl Locked<'_> {
    /// Counts everything anew: whole entries stay, all other blocks are free.
    pub(super) fn recover(&self) {
        let Shard { head, slots, links, .. } = self.shard;
        let fresh = (head.fresh.load(Relaxed) as usize).min(links.len());
        let mut taken = vec![false; fresh];
        let (mut entries, mut bytes) = (0, 0);
        for (index, slot) in slots.iter().enumerate() {
            let is_whole = self.shard.is_live(index) && self.claim(index, slot, &mut taken);
            if is_whole {
                entries += 1;
                bytes += slot.lengths().0 as u64;
            } else if slot.version.load(Relaxed) & 1 != 0 || self.shard.hash_of(index).load(Relaxed) != 0 {
                self.empty(index);
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
            if self.shard.is_live(index) {
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
