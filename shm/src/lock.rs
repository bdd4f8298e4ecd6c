//! A lock in shared memory that survives the death of its holder.
//!
//! POSIX's robust, process-shared mutex behind `lock_api`. When the holder is killed the kernel hands the lock to the next
//! one, for whom [`abandoned`] is true until the lock is released: the data may be half changed and has to be
//! put right. `parking_lot`'s own lock cannot be used here, it parks on addresses private to a process.

use crate::traits::Shareable;
use libc::{CLOCK_MONOTONIC, EOWNERDEAD, ETIMEDOUT, clockid_t, pthread_mutex_t, timespec};
use lock_api::{GuardNoSend, RawMutex, RawMutexTimed};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

unsafe extern "C" {
    /// As `pthread_mutex_timedlock`, by a clock that nobody sets (glibc 2.30, POSIX 2024).
    fn pthread_mutex_clocklock(mutex: *mut pthread_mutex_t, clock: clockid_t, until: *const timespec) -> libc::c_int;
}

/// A mutex over `T` for shared memory. It has to be prepared once, before the first fork, with [`prepare`].
pub type SharedMutex<T> = lock_api::Mutex<RobustRaw, T>;

/// The right to use the contents of a [`SharedMutex`].
pub type SharedMutexGuard<'a, T> = lock_api::MutexGuard<'a, RobustRaw, T>;

/// Makes a lock usable. To be called by the process that creates the segment, before it forks; once is enough.
pub fn prepare<T>(lock: &SharedMutex<T>) {
    // SAFETY: the raw lock is prepared, not unlocked.
    unsafe { lock.raw() }.prepare();
}

/// Whether the former holder died inside the lock, so that its contents may be half changed. True until it is released.
pub fn abandoned<T>(guard: &SharedMutexGuard<'_, T>) -> bool {
    // SAFETY: the raw lock is asked, not unlocked.
    unsafe { SharedMutexGuard::mutex(guard).raw() }.abandoned()
}

/// The raw lock.
#[repr(C)]
pub struct RobustRaw {
    prepared: AtomicU32,
    abandoned: AtomicU32,
    mutex: UnsafeCell<MaybeUninit<pthread_mutex_t>>,
}

// SAFETY: a process-shared mutex is made for this.
unsafe impl Sync for RobustRaw {}

// SAFETY: all zero is "not prepared"; no pointer of ours; a prepared mutex stays where it is, in the mapping that all
// processes inherit at the same address.
unsafe impl Shareable for RobustRaw {}

// SAFETY: the contents are reached with the lock held only. `Send` because they move between processes.
unsafe impl<T: Shareable + Send> Shareable for SharedMutex<T> {}

impl RobustRaw {
    fn prepare(&self) {
        if self.prepared.load(Ordering::Acquire) == 1 {
            return;
        }
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: attributes are initialised before they are used; the mutex is not in use by anybody yet. None of these
        // calls can fail for valid arguments on Linux.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(self.mutex(), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
        self.prepared.store(1, Ordering::Release);
    }

    fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) == 1
    }

    fn mutex(&self) -> *mut pthread_mutex_t {
        assert_eq!(size_of::<MaybeUninit<pthread_mutex_t>>(), size_of::<pthread_mutex_t>());
        self.mutex.get().cast()
    }

    fn ready(&self) -> bool {
        debug_assert!(self.prepared.load(Ordering::Relaxed) == 1, "shared lock used before it was prepared");
        self.prepared.load(Ordering::Acquire) == 1
    }

    /// What a lock call returned: have we got it?
    fn taken(&self, result: libc::c_int) -> bool {
        match result {
            0 => true,
            EOWNERDEAD => {
                // SAFETY: we hold the mutex, as EOWNERDEAD says.
                unsafe { libc::pthread_mutex_consistent(self.mutex()) };
                self.abandoned.store(1, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    fn lock_for(&self, patience: Duration) -> bool {
        // Nearly always it is free, and nobody needs to know what time it is.
        if self.try_lock() {
            return true;
        }
        if !self.ready() {
            return false;
        }
        let mut until = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `until` is ours.
        unsafe { libc::clock_gettime(CLOCK_MONOTONIC, &mut until) };
        let nanos = until.tv_nsec as u64 + u64::from(patience.subsec_nanos());
        let seconds = patience.as_secs().min(1 << 32) + nanos / 1_000_000_000;
        until.tv_sec = until.tv_sec.saturating_add(seconds as libc::time_t);
        until.tv_nsec = (nanos % 1_000_000_000) as libc::c_long;
        // SAFETY: the mutex is prepared.
        let result = unsafe { pthread_mutex_clocklock(self.mutex(), CLOCK_MONOTONIC, &until) };
        debug_assert!(matches!(result, 0 | EOWNERDEAD | ETIMEDOUT), "pthread_mutex_clocklock: {result}");
        self.taken(result)
    }
}

// SAFETY: the mutex gives exclusion between all threads of all processes that map it.
unsafe impl RawMutex for RobustRaw {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait asks for it")]
    const INIT: Self = Self {
        prepared: AtomicU32::new(0),
        abandoned: AtomicU32::new(0),
        mutex: UnsafeCell::new(MaybeUninit::zeroed()),
    };

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.lock_for(Duration::from_secs(3600)) {
            std::thread::yield_now();
        }
    }

    fn try_lock(&self) -> bool {
        // SAFETY: the mutex is prepared.
        self.ready() && self.taken(unsafe { libc::pthread_mutex_trylock(self.mutex()) })
    }

    unsafe fn unlock(&self) {
        self.abandoned.store(0, Ordering::Relaxed);
        // SAFETY: the caller holds the mutex.
        unsafe { libc::pthread_mutex_unlock(self.mutex()) };
    }
}

// SAFETY: as above; a timed attempt either takes the lock or does not.
unsafe impl RawMutexTimed for RobustRaw {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, timeout: Duration) -> bool {
        self.lock_for(timeout)
    }

    fn try_lock_until(&self, timeout: Instant) -> bool {
        self.lock_for(timeout.saturating_duration_since(Instant::now()))
    }
}
