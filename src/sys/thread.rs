//! Threads beside the main one of a process that never forks.

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Runs `start` with all signals blocked, so that the threads it starts never get one: signals are for the main thread,
/// whose waits they interrupt.
pub fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    let mut before = SigSet::empty();
    // Neither call can fail: the arguments are always valid.
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before));
    let started = start();
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    started
}
