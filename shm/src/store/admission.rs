//! Which new entries are worth the eviction of others: in a full store those whose key was asked for before, not long ago.
//!
//! So what nobody asks for twice does not push out what many ask for, and costs nobody the work of storing it. A bucket
//! remembers the last four keys that it has not let in, by a mark of their hash. Two keys with one mark, or a mark lost, cost
//! an entry its place for once: these are hints and need no lock.

use super::shard::Shard;
use std::sync::atomic::Ordering::Relaxed;

/// A shard counts as full when of so many blocks less than one is free.
const FULL: usize = 64;

impl Shard<'_> {
    /// Whether an entry with this hash, which was just asked for in vain, is to be stored. If not, it is remembered.
    pub fn admits(&self, hash: u64) -> bool {
        let bucket = &self.buckets[self.bucket(hash)];
        let holds = |hash: u64| bucket.hashes.iter().any(|known| known.load(Relaxed) == hash);
        // What is there under this key is out of date, and gives its place.
        if holds(hash) || (holds(0) && !self.is_full()) {
            return true;
        }
        let (asked, mark) = (bucket.asked.load(Relaxed), (hash >> 48) as u16 | 1);
        let is_known = asked.to_le_bytes().chunks_exact(2).any(|known| known == mark.to_le_bytes());
        if !is_known {
            bucket.asked.store(asked << 16 | u64::from(mark), Relaxed);
        }
        is_known
    }

    fn is_full(&self) -> bool {
        self.free_blocks() <= self.blocks.len() / FULL
    }
}
