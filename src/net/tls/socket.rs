//! What lies under OpenSSL: the socket, with a buffer for each direction.

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::RawFd;

/// So much is fetched by one receive, in bytes: a full record and some more.
const READ_AHEAD: usize = 32 * 1024;

/// What a read may do when nothing has been fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Wait for the socket, as long as its patience lasts.
    Wait,
    /// Ask the socket.
    Ask,
    /// Do without.
    Never,
}

/// The socket. It belongs to the [`Stream`](crate::net::Stream) that owns the descriptor, and does not outlive it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: RawFd,
    /// What was fetched and not read yet is `start..end` of it.
    fetched: Vec<u8>,
    start: usize,
    end: usize,
    /// Records that the kernel has not taken yet.
    unsent: Vec<u8>,
    pub fetch: Fetch,
    /// A signal came while it waited; asked once.
    interrupted: bool,
    /// The peer has closed its side.
    pub closed: bool,
}

impl Socket {
    /// `first` has been received already.
    pub fn new(fd: RawFd, first: &[u8]) -> Self {
        let (fetched, end, unsent) = (first.to_vec(), first.len(), Vec::new());
        Self { fd, fetched, start: 0, end, unsent, fetch: Fetch::Ask, interrupted: false, closed: false }
    }

    /// Whether something has been fetched that nobody has read.
    pub fn has_fetched(&self) -> bool {
        self.start < self.end
    }

    pub fn take_interrupted(&mut self) -> bool {
        std::mem::take(&mut self.interrupted)
    }

    /// Gives what waits to the kernel, as far as it takes it. `Ok(true)`: nothing waits any more.
    pub fn flush_now(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match socket::send(self.fd, &self.unsent, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Nothing that still comes is of interest: the socket is readable for ever, and at its end.
    pub fn end_receiving(&self) {
        let _ = socket::shutdown(self.fd, socket::Shutdown::Read);
    }

    fn fetch(&mut self) -> io::Result<()> {
        // The other side may be waiting for what lies here. Whether it can be sent at all is another matter: there may be
        // last words to be read.
        if self.fetch == Fetch::Wait && matches!(self.flush_now(), Ok(false)) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let flags = match self.fetch {
            Fetch::Wait => MsgFlags::empty(),
            Fetch::Ask => MsgFlags::MSG_DONTWAIT,
            Fetch::Never => return Err(ErrorKind::WouldBlock.into()),
        };
        self.fetched.resize(READ_AHEAD, 0);
        let received = socket::recv(self.fd, &mut self.fetched, flags);
        (self.start, self.end) = (0, received.unwrap_or(0));
        match received {
            Ok(count) => {
                self.closed = count == 0;
                // One call brings what is there; OpenSSL asking for more must not wait again.
                self.fetch = Fetch::Never;
                Ok(())
            }
            Err(Errno::EINTR) => {
                self.interrupted = true;
                // To OpenSSL it is a reason to come back later, not an error.
                Err(ErrorKind::WouldBlock.into())
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.has_fetched() {
            self.fetch()?;
        }
        let count = (&self.fetched[self.start..self.end]).read(buffer)?;
        self.start += count;
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unsent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
