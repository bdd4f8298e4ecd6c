//! The mapping itself: a memory file without a name, mapped shared, inherited through fork.
//!
//! A memory file instead of an anonymous mapping because the latter is private after a fork with memmap2. The file is
//! sparse: a page exists once somebody wrote it. It vanishes with the last process, also after SIGKILL of all of them.

use crate::traits::Shareable;
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fmt;
use std::fs::File;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};

/// Why there is no segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The sizes asked for do not fit into an address space.
    #[error("shared memory segment would be larger than the address space")]
    TooLarge,
    /// The operating system refused.
    #[error("could not create shared memory for request size: {size}")]
    Refused {
        /// Bytes asked for.
        size: usize,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

/// Where an array of `T` lies in a segment. Made by [`Layout::array`], used with the segment built from that layout.
pub struct Region<T> {
    offset: usize,
    count: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Region<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Region<T> {}

impl<T> fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.count, self.offset)
    }
}

impl<T> Region<T> {
    /// A region without elements, for a layout that does not need one.
    pub const fn empty() -> Self {
        Self { offset: 0, count: 0, kind: PhantomData }
    }
}

/// Collects what a segment is to hold.
#[derive(Debug, Default)]
pub struct Layout {
    size: usize,
    too_large: bool,
}

impl Layout {
    /// An empty layout.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves room for `count` values of `T`, all zero at first.
    pub fn array<T: Shareable>(&mut self, count: usize) -> Region<T> {
        let place = self
            .size
            .checked_next_multiple_of(align_of::<T>())
            .and_then(|offset| Some((offset, offset.checked_add(size_of::<T>().checked_mul(count)?)?)));
        match place {
            Some((offset, end)) if isize::try_from(end).is_ok() => {
                self.size = end;
                Region { offset, count, kind: PhantomData }
            }
            _ => {
                self.too_large = true;
                Region::empty()
            }
        }
    }

    /// Starts the next region on a page of its own.
    pub fn page_break(&mut self) {
        match self.size.checked_next_multiple_of(4096) {
            Some(size) => self.size = size,
            None => self.too_large = true,
        }
    }
}

/// A piece of memory that this process and all processes forked from it share.
#[derive(Debug)]
pub struct Segment {
    map: MmapRaw,
}

impl Segment {
    /// Maps a new segment, all zero.
    pub fn create(layout: Layout) -> Result<Self, SegmentError> {
        if layout.too_large {
            return Err(SegmentError::TooLarge);
        }
        let size = layout.size.max(1);
        let refused = |source: std::io::Error| SegmentError::Refused { size, source };
        let file: File =
            memfd_create(c"pgpool", MFdFlags::MFD_CLOEXEC).map_err(|errno| refused(errno.into())).map(File::from)?;
        file.set_len(size as u64).map_err(refused)?;
        let map = MmapOptions::new().len(size).map_raw(&file).map_err(refused)?;
        Ok(Self { map })
    }

    /// Size in bytes, most of it usually untouched.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// The values of a region of this segment's layout.
    ///
    /// # Panics
    /// If the region belongs to another, larger layout: a mistake of the program, not of shared state.
    pub fn slice<T: Shareable>(&self, region: Region<T>) -> &[T] {
        let end = region.offset + region.count * size_of::<T>();
        assert!(end <= self.map.len() && region.offset.is_multiple_of(align_of::<T>()));
        // SAFETY: the region lies inside the mapping, is aligned (the mapping starts on a page) and was zero when mapped;
        // `Shareable` types are valid then and are only ever changed through `&self` by all processes.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(region.offset).cast::<T>(), region.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn an_impossible_size_is_an_error_not_a_panic() {
        let mut layout = Layout::new();
        layout.array::<[AtomicU64; 4096]>(usize::MAX / 100);
        assert!(matches!(Segment::create(layout), Err(SegmentError::TooLarge)));
    }

    #[test]
    fn a_huge_segment_costs_nothing_until_touched() {
        let mut layout = Layout::new();
        let region = layout.array::<AtomicU64>(1 << 33);
        let segment = Segment::create(layout).expect("sparse");
        segment.slice(region)[1 << 32].store(7, Ordering::Relaxed);
        assert_eq!(segment.slice(region)[1 << 32].load(Ordering::Relaxed), 7);
    }
}
