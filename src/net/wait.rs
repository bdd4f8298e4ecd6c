//! Waiting for a descriptor.

use super::Deadline;
use crate::sys::signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::AsFd;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The descriptor is ready.
    Ready,
    /// The deadline has passed.
    TooLate,
    /// This process was told to stop at once.
    Stopped,
}

/// Waits until `fd` is ready for `events`, until `deadline`. Signals interrupt it only if they ask for a stop at once.
///
/// # Errors
/// Those of poll(2): out of memory.
pub fn wait(fd: impl AsFd, events: PollFlags, deadline: Deadline) -> io::Result<Waited> {
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), events)], deadline.poll_timeout()) {
            Ok(0) if deadline.passed() => return Ok(Waited::TooLate),
            Ok(0) => {}
            Ok(_) => return Ok(Waited::Ready),
            Err(Errno::EINTR) if signal::told_to_stop() => return Ok(Waited::Stopped),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
