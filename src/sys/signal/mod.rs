//! Signals as facts that wait to be asked for.
//!
//! A handler only notes the signal and makes a descriptor readable. So a process in poll or epoll wakes by [`Signals::fd`],
//! a process in a blocking system call gets EINTR (no SA_RESTART), and a busy one asks [`Signals::pending`], which is one
//! load from memory. A signal that arrives between that question and a blocking call would be overlooked; therefore the
//! handler also sets an alarm, and the alarm interrupts once a second until somebody takes what is pending.
//!
//! SIGALRM belongs to this module.

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

mod meaning;

pub use meaning::{STOPS, ToCollector, ToDoorman, ToHelper, ToMetrics, ToParent, ToPcp, ToWorker, table};
pub use nix::sys::signal::Signal;

static PENDING: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// A fast or immediate stop was asked for.
static STOP: AtomicBool = AtomicBool::new(false);
/// The descriptor may be readable.
static RUNG: AtomicBool = AtomicBool::new(false);

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// Whether `signal` is in the set.
    #[inline]
    pub fn has(self, signal: impl Into<Signal>) -> bool {
        self.0 & bit(signal.into()) != 0
    }

    /// Whether a stop is in it, of whatever kind.
    pub fn has_stop(self) -> bool {
        STOPS.into_iter().any(|signal| self.has(signal))
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All but `signal`.
    pub fn without(self, signal: impl Into<Signal>) -> SignalSet {
        SignalSet(self.0 & !bit(signal.into()))
    }

    /// The signals of both.
    pub fn with(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        SignalSet(signals.into_iter().map(bit).fold(0, |set, bit| set | bit))
    }
}

/// The signals this process handles. One per process; a forked child makes its own.
#[derive(Debug)]
pub struct Signals {
    event: EventFd,
}

impl Signals {
    /// Handles exactly `signals` from now on; others that were handled before get their default back. Signals that came
    /// since the fork are pending already.
    ///
    /// # Errors
    /// Out of descriptors, or a signal that cannot be handled.
    pub fn install(signals: &[Signal]) -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        WAKE.store(event.as_fd().as_raw_fd(), Ordering::SeqCst);
        let wanted = SignalSet::from_iter(signals.iter().copied());
        let handled = SignalSet(HANDLED.load(Ordering::SeqCst));
        for signal in Signal::iterator().filter(|signal| handled.has(*signal) && !wanted.has(*signal)) {
            set(signal, SigHandler::SigDfl)?;
        }
        set(Signal::SIGALRM, SigHandler::Handler(insist))?;
        for signal in signals {
            set(*signal, SigHandler::Handler(note))?;
        }
        HANDLED.store(wanted.0, Ordering::SeqCst);
        if PENDING.load(Ordering::SeqCst) != 0 {
            let _ = event.write(1);
            RUNG.store(true, Ordering::SeqCst);
        }
        Ok(Self { event })
    }

    /// None is handled: for tests.
    #[cfg(test)]
    pub fn none() -> Self {
        Self { event: EventFd::new().expect("eventfd") }
    }

    /// What has arrived and was not taken yet. Costs one load; nothing is forgotten by asking.
    #[inline]
    pub fn pending(&self) -> SignalSet {
        SignalSet(PENDING.load(Ordering::Relaxed))
    }

    /// Takes what has arrived and makes the descriptor unreadable again. No system call when nothing has arrived.
    ///
    /// A signal that comes while this runs is never lost: either it is taken now and leaves the descriptor readable, which
    /// the next call puts right, or it is pending with the descriptor readable.
    pub fn take(&self) -> SignalSet {
        if self.pending().is_empty() && !RUNG.load(Ordering::Relaxed) {
            return SignalSet::default();
        }
        RUNG.store(false, Ordering::SeqCst);
        let _ = self.event.read();
        nix::unistd::alarm::cancel();
        SignalSet(PENDING.swap(0, Ordering::SeqCst))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Signals {
    /// Readable while signals are pending.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = WAKE.compare_exchange(self.event.as_fd().as_raw_fd(), -1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// Whether this process was ever told to stop at once, by SIGINT or SIGQUIT (process-model 6): for whoever waits far away
/// from the [`Signals`]. Taking the signal does not change it. A wait that such a signal interrupts should end.
pub fn told_to_stop() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Ignores `signals` in this process and those it forks.
///
/// # Errors
/// A signal that cannot be ignored.
pub fn ignore(signals: &[Signal]) -> nix::Result<()> {
    signals.iter().try_for_each(|signal| set(*signal, SigHandler::SigIgn))
}

/// For a new child, with all signals blocked: what the parent had not taken is not the child's.
pub(super) fn forget_parents() {
    WAKE.store(-1, Ordering::SeqCst);
    RUNG.store(false, Ordering::SeqCst);
    STOP.store(false, Ordering::SeqCst);
    PENDING.store(0, Ordering::SeqCst);
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as i32 - 1)
}

fn set(signal: Signal, handler: SigHandler) -> nix::Result<()> {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: our handlers only use atomics, write(2) and alarm(2), all of them async-signal-safe.
    unsafe { sigaction(signal, &action) }.map(drop)
}

extern "C" fn note(signal: libc::c_int) {
    PENDING.fetch_or(1 << (signal - 1), Ordering::SeqCst);
    if signal == libc::SIGINT || signal == libc::SIGQUIT {
        STOP.store(true, Ordering::SeqCst);
    }
    preserving_errno(|| {
        let wake = WAKE.load(Ordering::SeqCst);
        if wake >= 0 {
            let one = 1_u64;
            // SAFETY: the buffer is ours; a descriptor that is gone meanwhile only makes the call fail.
            unsafe { libc::write(wake, (&raw const one).cast(), size_of::<u64>()) };
            // Behind the write: whoever finds it set also finds the descriptor readable.
            RUNG.store(true, Ordering::SeqCst);
        }
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(1) };
    });
}

extern "C" fn insist(_: libc::c_int) {
    if PENDING.load(Ordering::SeqCst) != 0 {
        // SAFETY: no memory is involved.
        preserving_errno(|| unsafe {
            libc::alarm(1);
        });
    }
}

fn preserving_errno(work: impl FnOnce()) {
    // SAFETY: errno of this thread is always there.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    work();
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Fork, fork};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::{kill, raise};
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::time::{Duration, Instant};

    /// Signals belong to a process, so each test is one.
    fn in_child(test: impl FnOnce() -> bool) {
        match fork().expect("fork") {
            Fork::Child => {
                let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).unwrap_or(false);
                // SAFETY: ends the child without running the test harness's handlers.
                unsafe { libc::_exit(if passed { 0 } else { 1 }) }
            }
            Fork::Parent(pid) => assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0))),
        }
    }

    #[test]
    fn a_signal_is_pending_until_taken_and_wakes_poll() {
        in_child(|| {
            let signals = Signals::install(&[Signal::SIGHUP, Signal::SIGUSR1]).expect("install");
            let readable =
                || poll(&mut [PollFd::new(signals.fd(), PollFlags::POLLIN)], PollTimeout::ZERO).expect("poll") == 1;
            let before = signals.pending().is_empty() && signals.take().is_empty() && !readable();
            raise(Signal::SIGHUP).expect("raise");
            let pending = signals.pending();
            let woke = readable();
            let taken = signals.take();
            before
                && woke
                && pending == taken
                && taken.has(Signal::SIGHUP)
                && !taken.has(Signal::SIGUSR1)
                && !readable()
        });
    }

    #[test]
    fn a_signal_that_came_while_others_were_taken_does_not_leave_the_descriptor_readable() {
        in_child(|| {
            let signals = Signals::install(&[Signal::SIGHUP]).expect("install");
            raise(Signal::SIGHUP).expect("raise");
            // What is left when it came between emptying the descriptor and taking what is pending.
            PENDING.store(0, Ordering::SeqCst);
            let taken = signals.take();
            let ready = poll(&mut [PollFd::new(signals.fd(), PollFlags::POLLIN)], PollTimeout::ZERO);
            taken.is_empty() && ready == Ok(0)
        });
    }

    #[test]
    fn a_blocking_call_is_interrupted_even_if_the_signal_came_just_before_it() {
        in_child(|| {
            let signals = Signals::install(&[Signal::SIGTERM]).expect("install");
            let (reader, _writer) = nix::unistd::pipe().expect("pipe");
            raise(Signal::SIGTERM).expect("raise");
            let started = Instant::now();
            let interrupted = nix::unistd::read(&reader, &mut [0]) == Err(nix::errno::Errno::EINTR);
            interrupted && started.elapsed() < Duration::from_secs(5) && signals.take().has(Signal::SIGTERM)
        });
    }

    #[test]
    fn a_child_keeps_early_signals_and_not_the_parents() {
        in_child(|| {
            let signals = Signals::install(&[Signal::SIGTERM, Signal::SIGHUP]).expect("install");
            raise(Signal::SIGHUP).expect("raise");
            let (reader, writer) = nix::unistd::pipe().expect("pipe");
            match fork().expect("fork") {
                Fork::Child => {
                    let _ = nix::unistd::read(&reader, &mut [0]);
                    let own = Signals::install(&[Signal::SIGTERM]).expect("install");
                    let taken = own.take();
                    let right = taken.has(Signal::SIGTERM) && !taken.has(Signal::SIGHUP);
                    // SAFETY: as in `in_child`.
                    unsafe { libc::_exit(if right { 0 } else { 1 }) }
                }
                Fork::Parent(pid) => {
                    kill(pid, Signal::SIGTERM).expect("kill");
                    drop(writer);
                    // The signal that nobody takes interrupts this process once a second.
                    let mut status = waitpid(pid, None);
                    while status == Err(nix::errno::Errno::EINTR) {
                        status = waitpid(pid, None);
                    }
                    status == Ok(WaitStatus::Exited(pid, 0)) && signals.take().has(Signal::SIGHUP)
                }
            }
        });
    }
}
