//! Bytes in shared words: blocks are read and written word by word, each an atomic of its own.

use super::BLOCK;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that are read and written at once.
pub(super) const WORD: usize = size_of::<u64>();

/// Room for [`BLOCK`] bytes.
pub(super) type Block = [AtomicU64; BLOCK / WORD];

/// Whether `block` begins with `bytes`, at most a block of them, and zeros to the end of the last word.
#[inline]
pub(super) fn begins_with(block: &Block, bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<WORD>();
    let is = |word: &AtomicU64, bytes: [u8; WORD]| word.load(Relaxed) == u64::from_ne_bytes(bytes);
    block.iter().zip(words).all(|(word, bytes)| is(word, *bytes))
        && (rest.is_empty() || block.get(words.len()).is_some_and(|word| is(word, padded(rest))))
}

/// Appends the bytes `range` of `block`, which begins with a whole word; what lies behind the block is cut off.
#[inline]
pub(super) fn read(block: &Block, range: Range<usize>, into: &mut Vec<u8>) {
    let end = range.end.min(BLOCK);
    let Some(words) = block.get(range.start / WORD..end.div_ceil(WORD)) else { return };
    let begin = into.len();
    into.reserve(words.len() * WORD);
    let room = into.as_mut_ptr().wrapping_add(begin).cast::<u64>();
    for (index, word) in words.iter().enumerate() {
        // SAFETY: there is room for all words, and nobody else has the vector.
        unsafe { room.add(index).write_unaligned(word.load(Relaxed)) };
    }
    // SAFETY: so many bytes were written just now, or a few more.
    unsafe { into.set_len(begin + (end - range.start)) };
}

/// Writes `bytes`, at most [`BLOCK`], to the beginning of `block`, and zeros to the end of the last word.
pub(super) fn write(block: &Block, bytes: &[u8]) {
    // A page that this process has not used yet is mapped with its neighbours for a reader, alone for a writer.
    std::hint::black_box(block[0].load(Relaxed));
    let (words, rest) = bytes.as_chunks::<WORD>();
    block.iter().zip(words).for_each(|(word, bytes)| word.store(u64::from_ne_bytes(*bytes), Relaxed));
    if let Some(word) = block.get(words.len())
        && !rest.is_empty()
    {
        word.store(u64::from_ne_bytes(padded(rest)), Relaxed);
    }
}

/// The beginning of a word, and zeros.
fn padded(bytes: &[u8]) -> [u8; WORD] {
    let mut padded = [0; WORD];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
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
