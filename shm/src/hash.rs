//! A fast hash of short byte strings, keyed so that clients cannot prepare collisions.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes with a key of its own; two instances hash differently. Also for hash tables whose keys are byte strings.
#[derive(Clone, Copy, Debug)]
pub struct ByteHasher {
    key: [u64; 2],
}

impl Default for ByteHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildHasher for ByteHasher {
    type Hasher = ByteState;

    fn build_hasher(&self) -> ByteState {
        ByteState { hasher: *self, hash: 0 }
    }
}

/// The hash of what a table has fed it.
#[derive(Clone, Copy, Debug)]
pub struct ByteState {
    hasher: ByteHasher,
    hash: u64,
}

impl Hasher for ByteState {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        self.hash = fold(self.hash ^ self.hasher.hash(bytes), MULTIPLIER);
    }

    /// The length in front of the bytes, which their own hash has in it already.
    fn write_usize(&mut self, _: usize) {}
}

impl ByteHasher {
    /// A hasher with a random key.
    pub fn new() -> Self {
        let random = || RandomState::new().hash_one(0);
        Self { key: [random(), random()] }
    }

    /// The hash of `bytes`, in which all 64 bits are equally good.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = self.key[0] ^ bytes.len() as u64;
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
            state = fold(state ^ word, MULTIPLIER ^ self.key[1]);
        }
        let mut tail = [0; 8];
        tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        fold(fold(state ^ u64::from_le_bytes(tail), MULTIPLIER), self.key[1] | 1)
    }
}

/// An odd number with evenly spread bits (the golden ratio).
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Both halves of the product, one upon the other: every bit of the input moves every bit of the result.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::ByteHasher;
    use std::collections::HashSet;

    #[test]
    fn similar_texts_and_lengths_differ() {
        let hasher = ByteHasher::new();
        let texts = (0..10_000).map(|i| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {i};").into_bytes());
        let zeros = (0..64).map(|length| vec![0; length]);
        let hashes: HashSet<u64> = texts.chain(zeros).map(|text| hasher.hash(&text)).collect();
        assert_eq!(hashes.len(), 10_064);
        // The low bits choose the bucket; they must be spread too.
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xfff).collect();
        assert!(low.len() > 3_500, "{}", low.len());
    }
}
