//! Which new entries are worth the eviction of others: in a full store those whose key was asked for before, not long ago.
//!
//! So what nobody asks for twice does not push out what many ask for, and costs nobody the work of storing it. A shard
//! remembers about as many keys as it has blocks, by a mark of their hash in one place each; the later one overwrites the
//! earlier. Two keys with one mark, or a mark lost, cost an entry its place for once: these are hints and need no lock.

use super::shard::Shard;
use std::sync::atomic::Ordering::Relaxed;

/// A shard counts as full when of so many blocks less than one is free.
const FULL: usize = 64;

impl Shard<'_> {
    /// Whether an entry with this hash, which was just asked for in vain, is to be stored. If not, it is remembered.
    pub fn admits(&self, hash: u64) -> bool {
        let bucket = &self.hashes[self.bucket(hash)];
        let holds = |hash: u64| bucket.iter().any(|known| known.load(Relaxed) == hash);
        // What is there under this key is out of date, and gives its place.
        if holds(hash) || (holds(0) && !self.is_full()) {
            return true;
        }
        let mark = (hash >> 32) as u32 | 1;
        let seen = &self.seen[hash as u32 as usize % self.seen.len()];
        let is_known = seen.load(Relaxed) == mark;
        if !is_known {
            seen.store(mark, Relaxed);
        }
        is_known
    }

    fn is_full(&self) -> bool {
        self.free_blocks() <= self.blocks.len() / FULL
    }
}
