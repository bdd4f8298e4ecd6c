//! Making processes.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{self, ForkResult, Pid};

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that called; with the new process's id.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks. The child starts without pending signals of the parent and with a random generator of its own; until it calls
/// [`super::signal::Signals::install`] the signals it gets are kept for that call.
///
/// # Errors
/// Those of fork(2): out of processes or memory.
pub fn fork() -> nix::Result<Fork> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: processes that fork never have a second thread, so the child has a complete copy of every lock and heap
    // structure.
    let forked = unsafe { unistd::fork() };
    if matches!(forked, Ok(ForkResult::Child)) {
        super::signal::forget_parents();
        reseed();
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    Ok(match forked? {
        ForkResult::Parent { child } => Fork::Parent(child),
        ForkResult::Child => Fork::Child,
    })
}

/// Asks the kernel to send `signal` to this process when its parent dies, however it dies.
///
/// Returns whether `parent` is still the parent: it may have died before this call, then no signal comes any more.
/// The wish is lost when the process changes its user, which none of ours does.
pub fn die_with_parent(parent: Pid, signal: Signal) -> bool {
    nix::sys::prctl::set_pdeathsig(signal).is_ok() && unistd::getppid() == parent
}

fn reseed() {
    let mut seed = [0_u8; 8];
    // SAFETY: the buffer is ours and as long as we say.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), libc::GRND_NONBLOCK) };
    if got == seed.len() as isize {
        fastrand::seed(u64::from_ne_bytes(seed));
    } else {
        fastrand::seed(u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    #[test]
    fn children_draw_their_own_numbers() {
        let (reader, writer) = unistd::pipe().expect("pipe");
        for _ in 0..2 {
            match fork().expect("fork") {
                Fork::Child => {
                    let _ = unistd::write(&writer, &fastrand::u64(..).to_ne_bytes());
                    // SAFETY: ends the child without running the test harness's handlers.
                    unsafe { libc::_exit(0) }
                }
                Fork::Parent(pid) => assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0))),
            }
        }
        let mut numbers = [0; 16];
        assert_eq!(unistd::read(&reader, &mut numbers), Ok(16));
        assert_ne!(numbers[..8], numbers[8..]);
    }
}
