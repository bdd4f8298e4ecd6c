//! Where log messages go: stderr, whoever reads it and however slowly; or the collector, in [`frame`]s.
//!
//! A full pipe would stop the process that writes to it, in the end the parent. So a message waits a moment for its reader
//! at most; then it is dropped and counted, and nothing waits until there is room again, where the number is told first.
//! A disk that is full, or a reader that is gone, is the same case without the waiting.

use super::{Report, frame, logger};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use parking_lot::RwLock;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process;
use std::time::{Duration, Instant};

/// How long a message may wait for a slow reader.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long one may wait for the collector, which waits for nothing but its disk.
const COLLECTOR_PATIENCE: Duration = Duration::from_secs(1);
/// A pipe that is ready takes at least so many bytes.
const PIPE_ROOM: usize = 4096;

/// The pipe to the collector, if there is one; writing to it does not wait.
static COLLECTOR: RwLock<Option<File>> = RwLock::new(None);

/// From here on messages of this process and of those it forks go to the collector through `pipe`, a pipe of which this
/// is a non-blocking end; with `None` to stderr.
pub fn to_collector(pipe: Option<File>) {
    *COLLECTOR.write() = pipe;
}

/// Stderr, as the log writes to it: one whole message per call, never failing.
#[derive(Debug, Default)]
pub struct Sink {
    /// Messages dropped since the last one that was written.
    lost: u64,
    /// Who lost them; a forked process has lost none yet.
    loser: u32,
    /// The last one was written in part.
    is_cut: bool,
}

impl Write for Sink {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if self.lost > 0 && self.loser == process::id() && !self.put(losses(self.lost).as_bytes(), Duration::ZERO) {
            self.lost += 1;
            return Ok(message.len());
        }
        let written = self.put(message, PATIENCE);
        (self.lost, self.loser) = if written { (0, 0) } else { (1, process::id()) };
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn losses(lost: u64) -> String {
    let report = Report::warning(format!("{lost} log messages were lost"))
        .detail("Whoever reads the log did not take them in time, or there was no room for them.");
    logger::render(&report)
}

impl Sink {
    /// Writes `message`. Returns whether all of it was taken.
    fn put(&mut self, message: &[u8], patience: Duration) -> bool {
        if let Some(pipe) = COLLECTOR.read().as_ref() {
            let patience = if patience.is_zero() { patience } else { COLLECTOR_PATIENCE };
            let until = Instant::now() + patience;
            // One that is not finished is ended by the collector when the next begins.
            return frame::frames(message, process::id()).all(|frame| put_frame(pipe, &frame, until));
        }
        let until = Instant::now() + patience;
        let ended;
        let mut rest = message;
        if self.is_cut {
            ended = [b"\n", message].concat();
            rest = &ended;
        }
        let length = rest.len();
        while !rest.is_empty() {
            match write_some(rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if is_ready(io::stderr(), until.saturating_duration_since(Instant::now())) => {}
                Err(_) => break,
            }
        }
        self.is_cut = if rest.len() == length { self.is_cut } else { !rest.is_empty() };
        rest.is_empty()
    }
}

/// Writes a frame, which the pipe takes whole or not at all.
fn put_frame(mut pipe: &File, frame: &[u8], until: Instant) -> bool {
    loop {
        match pipe.write(frame).map_err(errno) {
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if is_ready(pipe, until.saturating_duration_since(Instant::now())) => {}
            Err(_) => return false,
        }
    }
}

/// Writes as much as stderr takes without waiting.
fn write_some(bytes: &[u8]) -> nix::Result<usize> {
    let stderr = io::stderr();
    let kind = SFlag::from_bits_truncate(fstat(&stderr)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFSOCK {
        return send(stderr.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
    if kind == SFlag::S_IFIFO
        // Not waiting is a property of the open file, which others share: it needs one of our own.
        && let Ok(mut pipe) =
            File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/proc/self/fd/2")
    {
        return pipe.write(bytes).map_err(errno);
    }
    if !is_ready(&stderr, Duration::ZERO) {
        return Err(Errno::EAGAIN);
    }
    let room = if kind == SFlag::S_IFREG { bytes.len() } else { PIPE_ROOM };
    nix::unistd::write(&stderr, &bytes[..bytes.len().min(room)])
}

/// Whether `target` takes something now or within `patience`.
pub(super) fn is_ready(target: impl AsFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(target.as_fd(), PollFlags::POLLOUT)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    // A descriptor in error is ready as well: writing to it tells what is wrong.
    !matches!(poll(&mut fds, timeout), Ok(0) | Err(_))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
