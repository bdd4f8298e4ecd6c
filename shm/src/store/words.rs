//! Bytes in shared words: blocks are read and written word by word, each an atomic of its own.

use super::BLOCK;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

const WORD: usize = size_of::<u64>();

/// Room for [`BLOCK`] bytes.
pub(super) type Block = [AtomicU64; BLOCK / WORD];

/// Appends the first `count` bytes of `block`, at most all.
#[inline]
pub(super) fn read(block: &Block, count: usize, into: &mut Vec<u8>) {
    let mut bytes = [0; BLOCK];
    let count = count.min(BLOCK);
    for (word, bytes) in block.iter().zip(bytes.chunks_exact_mut(WORD)).take(count.div_ceil(WORD)) {
        bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
    }
    into.extend_from_slice(&bytes[..count]);
}

/// Writes `bytes`, at most [`BLOCK`], to the beginning of `block`.
pub(super) fn write(block: &Block, bytes: &[u8]) {
    for (word, bytes) in block.iter().zip(bytes.chunks(WORD)) {
        let mut padded = [0; WORD];
        padded[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(padded), Relaxed);
    }
}

/// Cuts pieces that follow each other into whole blocks.
pub(super) struct Blocks<'a, I: Iterator<Item = &'a [u8]>> {
    pieces: I,
    rest: &'a [u8],
    buffer: [u8; BLOCK],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Blocks<'a, I> {
    pub fn new(pieces: I) -> Self {
        Self { pieces, rest: &[], buffer: [0; BLOCK] }
    }

    /// The next bytes: a whole block, or less at the end.
    pub fn next(&mut self) -> &[u8] {
        let mut filled = 0;
        while filled < BLOCK {
            if self.rest.is_empty() {
                match self.pieces.next() {
                    Some(piece) => self.rest = piece,
                    None => break,
                }
                continue;
            }
            let count = self.rest.len().min(BLOCK - filled);
            self.buffer[filled..filled + count].copy_from_slice(&self.rest[..count]);
            self.rest = &self.rest[count..];
            filled += count;
        }
        &self.buffer[..filled]
    }
}
