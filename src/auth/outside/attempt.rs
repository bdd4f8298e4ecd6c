//! One of several attempts, with a time limit of its own.
//!
//! A library that hangs, in a handshake of TLS or in the name service, cannot be interrupted, but a process can be ended.

use crate::net::{Deadline, Waited, wait};
use crate::sys::{Fork, die_with_parent, fork};
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::getpid;
use std::io::{self, Read, Write};
use std::time::Duration;

/// What `work` returns, done in a copy of this process. `None`: nothing in time, or it has crashed.
///
/// # Errors
/// Out of processes, memory or descriptors.
pub(super) fn within(limit: Duration, work: impl FnOnce() -> u8) -> io::Result<Option<u8>> {
    let (mut answer, mut its_end) = io::pipe()?;
    let this = getpid();
    let copy = match fork()? {
        Fork::Parent(copy) => copy,
        Fork::Child => {
            die_with_parent(this, Signal::SIGKILL);
            let _ = its_end.write_all(&[work()]);
            std::process::exit(0);
        }
    };
    drop(its_end);
    let mut verdict = [0];
    let answered = wait(&answer, PollFlags::POLLIN, Deadline::after(limit)).and_then(|waited| match waited {
        Waited::Ready => answer.read(&mut verdict),
        Waited::TooLate | Waited::Stopped => Ok(0),
    });
    let _ = kill(copy, Signal::SIGKILL);
    // If the kernel does not let it go, this process waits with it, for the end that the worker makes.
    let _ = waitpid(copy, None);
    answered.map(|length| (length == 1).then_some(verdict[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_hangs_or_ends_is_no_answer() {
        let minute = Duration::from_secs(60);
        assert_eq!(within(minute, || b'Y').expect("a copy"), Some(b'Y'));
        assert_eq!(within(minute, || std::process::abort()).expect("a copy"), None);
        let started = Instant::now();
        let hanging = || {
            std::thread::sleep(minute);
            b'Y'
        };
        assert_eq!(within(Duration::from_millis(20), hanging).expect("a copy"), None);
        assert!(started.elapsed() < minute / 2);
    }
}
