//! Holding new clients back while an administrator's request waits for the sessions to leave (failover 13.2, 15.5).
//!
//! A hold is a lease that its holder takes again and again: a holder that dies or forgets holds nobody up for longer.

use super::uptime;
use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long one taking lasts.
const LEASE: Duration = Duration::from_secs(5);
/// Process ids have 22 bits; the rest is a time in milliseconds.
const PID_BITS: u32 = 22;
const FOR_EVER: u64 = (1 << (u64::BITS - PID_BITS)) - 1;

shareable! {
    pub(super) struct Record {
        /// Process id of the holder, and until when it holds; 0: nobody ever did.
        lease: AtomicU64,
    }
}

/// The hold. One process at a time has it.
#[derive(Clone, Copy)]
pub struct Hold<'a>(&'a Record);

impl<'a> Hold<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        Self(record)
    }

    /// Holds new clients back for some seconds from now. `false`: another process does so.
    pub fn take(self) -> bool {
        let (now, me) = (milliseconds(uptime()), std::process::id());
        let lease = Lease { holder: me, until: now + milliseconds(LEASE) };
        let renew = |word| Lease::of(word).is_free(me, now).then_some(lease.word());
        self.0.lease.fetch_update(Ordering::AcqRel, Ordering::Acquire, renew).is_ok()
    }

    /// Holds new clients back until this process lets them in. For the parent, which nobody here outlives.
    pub fn shut(self) {
        self.0.lease.store(Lease { holder: std::process::id(), until: FOR_EVER }.word(), Ordering::Release);
    }

    /// Whether nobody has been let in yet.
    pub fn is_shut(self) -> bool {
        Lease::of(self.0.lease.load(Ordering::Acquire)).until == FOR_EVER
    }

    /// Lets new clients in again, if this process holds them back.
    pub fn release(self) {
        let mine = |word| (Lease::of(word).holder == std::process::id()).then_some(0);
        let _ = self.0.lease.fetch_update(Ordering::AcqRel, Ordering::Acquire, mine);
    }

    /// How long new clients are to wait yet, at least, if they are to.
    #[inline]
    pub fn left(self) -> Option<Duration> {
        match self.0.lease.load(Ordering::Acquire) {
            0 => None,
            word => {
                let left = Lease::of(word).until.saturating_sub(milliseconds(uptime()));
                Some(Duration::from_millis(left).min(LEASE)).filter(|left| !left.is_zero())
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Lease {
    holder: u32,
    /// Milliseconds of [`uptime`].
    until: u64,
}

impl Lease {
    fn of(word: u64) -> Self {
        let holder = word & ((1 << PID_BITS) - 1);
        Self { holder: holder as u32, until: word >> PID_BITS }
    }

    fn word(self) -> u64 {
        self.until << PID_BITS | u64::from(self.holder)
    }

    fn is_free(self, me: u32, now: u64) -> bool {
        self.holder == me || self.until <= now
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> PID_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, Shared};

    #[test]
    fn what_is_shut_stays_so_until_it_is_opened() {
        let record = Record { lease: AtomicU64::new(0) };
        let hold = Hold::new(&record);
        hold.shut();
        let word = record.lease.load(Ordering::Acquire);
        assert!(!Lease::of(word).is_free(0, FOR_EVER - 1), "nobody else takes it");
        assert_eq!(hold.left(), Some(LEASE));
        assert!(hold.is_shut());
        hold.release();
        assert_eq!((hold.left(), hold.is_shut()), (None, false));
    }

    #[test]
    fn one_process_holds_and_not_for_ever() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let hold = shared.hold();
        assert_eq!(hold.left(), None);
        assert!(hold.take() && hold.take(), "the holder may take it again");
        assert!(hold.left().is_some_and(|left| left <= LEASE));
        let other = |until| Lease { holder: std::process::id() + 1, until }.word();
        hold.0.lease.store(other(milliseconds(uptime()) + 1000), Ordering::Release);
        assert!(!hold.take());
        hold.release();
        assert!(hold.left().is_some(), "only the holder lets go");
        hold.0.lease.store(other(milliseconds(uptime())), Ordering::Release);
        assert_eq!(hold.left(), None);
        assert!(hold.take());
        hold.release();
        assert_eq!(hold.left(), None);
    }
}
