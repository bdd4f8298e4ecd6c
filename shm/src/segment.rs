//! The mapping itself: a memory file without a name, mapped shared, inherited through fork.
//!
//! A memory file instead of an anonymous mapping because the latter is private after a fork with memmap2. The file is
//! sparse: a page exists once somebody wrote it. It vanishes with the last process, also after SIGKILL of all of them.
//! Where memory files are refused (by a sandbox, an old kernel) it is an anonymous shared mapping, which is the same without
//! a name in /proc.

use crate::traits::Shareable;
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::fmt;
use std::fs::File;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

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
    map: Map,
}

#[derive(Debug)]
enum Map {
    File(MmapRaw),
    Anonymous(Anonymous),
}

/// An anonymous mapping that forked processes share.
#[derive(Debug)]
struct Anonymous {
    start: NonNull<u8>,
    size: NonZeroUsize,
}

// SAFETY: it owns its memory, which is reached through `Segment::slice` only.
unsafe impl Send for Anonymous {}
// SAFETY: as above.
unsafe impl Sync for Anonymous {}

impl Anonymous {
    fn create(size: usize) -> nix::Result<Self> {
        let size = NonZeroUsize::new(size).ok_or(nix::errno::Errno::EINVAL)?;
        let (access, flags) =
            (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let start = unsafe { mmap_anonymous(None, size, access, flags) }?;
        Ok(Self { start: start.cast(), size })
    }
}

impl Drop for Anonymous {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this size, and nobody can hold a reference into it any more.
        let _ = unsafe { munmap(self.start.cast(), self.size.get()) };
    }
}

impl Segment {
    /// Maps a new segment, all zero.
    pub fn create(layout: Layout) -> Result<Self, SegmentError> {
        if layout.too_large {
            return Err(SegmentError::TooLarge);
        }
        let size = layout.size.max(1);
        let refused = |source: std::io::Error| SegmentError::Refused { size, source };
        let Ok(file) = memfd_create(c"pgpool", MFdFlags::MFD_CLOEXEC).map(File::from) else {
            let map = Anonymous::create(size).map_err(|errno| refused(errno.into()))?;
            return Ok(Self { map: Map::Anonymous(map) });
        };
        file.set_len(size as u64).map_err(refused)?;
        let map = MmapOptions::new().len(size).map_raw(&file).map_err(refused)?;
        Ok(Self { map: Map::File(map) })
    }

    /// Size in bytes, most of it usually untouched.
    pub fn size(&self) -> usize {
        match &self.map {
            Map::File(map) => map.len(),
            Map::Anonymous(map) => map.size.get(),
        }
    }

    fn start(&self) -> *const u8 {
        match &self.map {
            Map::File(map) => map.as_ptr(),
            Map::Anonymous(map) => map.start.as_ptr(),
        }
    }

    /// The values of a region of this segment's layout.
    ///
    /// # Panics
    /// If the region belongs to another, larger layout: a mistake of the program, not of shared state.
    pub fn slice<T: Shareable>(&self, region: Region<T>) -> &[T] {
        let end = region.offset + region.count * size_of::<T>();
        assert!(end <= self.size() && region.offset.is_multiple_of(align_of::<T>()));
        // SAFETY: the region lies inside the mapping, is aligned (the mapping starts on a page) and was zero when mapped;
        // `Shareable` types are valid then and are only ever changed through `&self` by all processes.
        unsafe { std::slice::from_raw_parts(self.start().add(region.offset).cast::<T>(), region.count) }
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
    fn without_memory_files_forked_processes_share_it_all_the_same() {
        let map = Anonymous::create(8192).expect("a mapping");
        let segment = Segment { map: Map::Anonymous(map) };
        let mut layout = Layout::new();
        let region = layout.array::<AtomicU64>(1024);
        // SAFETY: the child does nothing but store and end.
        match unsafe { libc::fork() } {
            0 => {
                segment.slice(region)[1023].store(7, Ordering::SeqCst);
                // SAFETY: ends the child without running the test harness's handlers.
                unsafe { libc::_exit(0) }
            }
            // SAFETY: no status is asked for.
            pid => assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid),
        }
        assert_eq!(segment.slice(region)[1023].load(Ordering::SeqCst), 7);
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
