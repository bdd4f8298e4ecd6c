//! Values that are read without a lock and never torn.
//!
//! A [`Versioned`] value keeps two copies. The writer fills the copy that is not published and then moves the version,
//! whose lowest bit says which copy counts. A reader copies the published one and starts again only if a whole write was
//! completed meanwhile. So a writer killed in the middle leaves the former value in force, and nobody ever waits for it.

use crate::traits::{Plain, Shareable};
use std::cell::UnsafeCell;
use std::mem::{MaybeUninit, size_of};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Up to `N` elements of `T`, replaced as a whole by one writer at a time and read by anybody.
///
/// "One writer at a time" is the caller's business: the process that owns the slot, or the holder of a lock. Two writers at
/// once can mix their values, which is wrong but harmless to memory: every bit pattern of a plain type is valid.
#[repr(C)]
pub struct Versioned<T: Plain, const N: usize = 1> {
    version: AtomicU64,
    copies: [Copied<T, N>; 2],
}

#[repr(C, align(8))]
struct Copied<T, const N: usize> {
    count: AtomicU32,
    elements: UnsafeCell<Elements<T, N>>,
}

/// Aligned and so padded to whole words, which are the only unit shared memory is read and written in.
#[repr(C, align(8))]
struct Elements<T, const N: usize>(MaybeUninit<[T; N]>);

// SAFETY: all access to the elements is through atomic words, and the version orders it.
unsafe impl<T: Plain, const N: usize> Sync for Versioned<T, N> {}

// SAFETY: zero means version 0 and no elements; there is no pointer and no drop; readers detect writers by the version and
// depend on none of them to go on.
unsafe impl<T: Plain, const N: usize> Shareable for Versioned<T, N> {}

impl<T: Plain, const N: usize> Versioned<T, N> {
    /// A value without elements, for memory that is not shared (tests).
    pub fn new() -> Self {
        // SAFETY: all zero is a valid value of this type, see `Shareable`.
        unsafe { std::mem::zeroed() }
    }

    /// Moves with every completed write.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Publishes `elements`, at most `N`; more are cut off.
    #[inline]
    pub fn write(&self, elements: &[T]) {
        let elements = &elements[..elements.len().min(N)];
        let version = self.version.load(Ordering::Relaxed);
        let spare = &self.copies[(version as usize & 1) ^ 1];
        fence(Ordering::Release);
        spare.count.store(elements.len() as u32, Ordering::Relaxed);
        store_words(&spare.elements, elements);
        self.version.store(version.wrapping_add(1), Ordering::Release);
    }

    /// Replaces the contents of `into` by the published elements and returns their version.
    pub fn read_into(&self, into: &mut Vec<T>) -> u64 {
        loop {
            into.clear();
            let version = self.version.load(Ordering::Acquire);
            let published = &self.copies[version as usize & 1];
            let count = (published.count.load(Ordering::Relaxed) as usize).min(N);
            into.reserve(count);
            load_words(&published.elements, count, &mut into.spare_capacity_mut()[..count]);
            // SAFETY: `load_words` has filled `count` elements.
            unsafe { into.set_len(count) };
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return version;
            }
        }
    }

    /// Whether there are no elements. For the one writer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.copies[self.version() as usize & 1].count.load(Ordering::Relaxed) == 0
    }

    /// The published elements.
    pub fn read(&self) -> Vec<T> {
        let mut elements = Vec::new();
        self.read_into(&mut elements);
        elements
    }
}

impl<T: Plain + Default> Versioned<T, 1> {
    /// Publishes one value.
    #[inline]
    pub fn set(&self, value: T) {
        self.write(&[value]);
    }

    /// The published value; the default before the first [`Self::set`].
    pub fn get(&self) -> T {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let published = &self.copies[version as usize & 1];
            let mut value = [MaybeUninit::uninit()];
            let count = published.count.load(Ordering::Relaxed).min(1) as usize;
            load_words(&published.elements, count, &mut value[..count]);
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                // SAFETY: one element was loaded when `count` is 1.
                return if count == 1 { unsafe { value[0].assume_init() } } else { T::default() };
            }
        }
    }

    /// Reads, changes and publishes. For the one writer.
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.get();
        change(&mut value);
        self.set(value);
    }
}

impl<T: Plain, const N: usize> Default for Versioned<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

const WORD: usize = size_of::<u64>();

fn store_words<T: Plain, const N: usize>(to: &UnsafeCell<Elements<T, N>>, from: &[T]) {
    let bytes = size_of_val(from);
    let source = from.as_ptr().cast::<u8>();
    let target = to.get().cast::<u64>();
    for index in 0..bytes.div_ceil(WORD) {
        let at = index * WORD;
        let mut word = [0; WORD];
        // SAFETY: at most `bytes` bytes are read from the source, which has no padding; the target is aligned and padded
        // to whole words (`Elements`) and has room for `N` elements, of which `from` has no more.
        unsafe {
            std::ptr::copy_nonoverlapping(source.add(at), word.as_mut_ptr(), WORD.min(bytes - at));
            AtomicU64::from_ptr(target.add(index)).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }
}

fn load_words<T: Plain, const N: usize>(from: &UnsafeCell<Elements<T, N>>, count: usize, to: &mut [MaybeUninit<T>]) {
    let bytes = count.min(to.len()) * size_of::<T>();
    let source = from.get().cast::<u64>();
    let target = to.as_mut_ptr().cast::<u8>();
    for index in 0..bytes.div_ceil(WORD) {
        let at = index * WORD;
        // SAFETY: the source holds at least `count` elements, padded to whole words; at most `bytes` bytes are written.
        unsafe {
            let word = AtomicU64::from_ptr(source.add(index)).load(Ordering::Relaxed).to_ne_bytes();
            std::ptr::copy_nonoverlapping(word.as_ptr(), target.add(at), WORD.min(bytes - at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written_last() {
        let text = Versioned::<u8, 21>::new();
        assert!(text.read().is_empty());
        for length in [0_u8, 1, 7, 8, 9, 21, 3] {
            let value: Vec<u8> = (0..length).collect();
            text.write(&value);
            assert_eq!(text.read(), value);
        }
        text.write(&[9; 40]);
        assert_eq!(text.read(), [9; 21]);
        let one = Versioned::<[u16; 3]>::new();
        assert_eq!(one.get(), [0; 3]);
        one.update(|value| value[2] = 5);
        assert_eq!((one.get(), one.version()), ([0, 0, 5], 1));
    }

    #[test]
    fn readers_never_see_a_mixture() {
        let value = Versioned::<u64, 50>::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..20_000_u64 {
                    value.write(&vec![round; 1 + (round % 50) as usize]);
                }
            });
            while !writer.is_finished() {
                let seen = value.read();
                assert!(seen.iter().all(|element| *element == seen[0]));
                assert!(seen.is_empty() || seen.len() as u64 == 1 + seen[0] % 50);
            }
        });
    }
}
