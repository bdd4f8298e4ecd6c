//! One connection to memcached.
//!
//! Every request has one deadline, from its first byte to the last of its answer. Whatever is not as it should be ends the
//! connection: an answer that comes late is never taken for that of the next request. Memory is bounded by what the caller
//! takes: lines have a limit, and values that are too long are passed over.

use super::protocol::{LONGEST_LINE, Line};
use crate::net::{Address, ConnectError, Deadline, InBuffer, Received, Stream, Waited, connect, wait};
use nix::poll::PollFlags;
use std::fmt::Display;
use std::time::Duration;

/// How long connecting may take, and how long a request.
pub(super) const LIMIT: Duration = Duration::from_secs(1);
/// Bytes received at once.
const BUFFER: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server, or the way to it, is at fault, for this reason.
    Theirs(String),
    /// The server has closed the connection before the first byte of the answer: it may have been idle for too long.
    Closed,
    /// This process is to end at once, or has no means to connect.
    Ours,
}

fn theirs(cause: impl Display) -> Failure {
    Failure::Theirs(cause.to_string())
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    input: InBuffer,
    deadline: Deadline,
    /// Something of the answer has come.
    heard: bool,
}

impl Link {
    pub fn open(address: &Address) -> Result<Self, Failure> {
        let stream = connect(address, Deadline::after(LIMIT)).map_err(|error| match error {
            ConnectError::Stopped | ConnectError::Ours(_) => Failure::Ours,
            other => theirs(other),
        })?;
        Ok(Self { stream, input: InBuffer::with_capacity(BUFFER), deadline: Deadline::NEVER, heard: false })
    }

    /// Sends a request; its deadline counts from now.
    pub fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.deadline = Deadline::after(LIMIT);
        self.heard = false;
        let mut rest = request;
        while !rest.is_empty() {
            match self.stream.send(rest) {
                Ok(0) => match wait(&self.stream, PollFlags::POLLOUT, self.deadline).map_err(theirs)? {
                    Waited::Ready => {}
                    Waited::TooLate => return Err(theirs("it takes no request in time")),
                    Waited::Stopped => return Err(Failure::Ours),
                },
                Ok(count) => rest = &rest[count..],
                Err(_) => return Err(Failure::Closed),
            }
        }
        Ok(())
    }

    /// The next line of the answer.
    pub fn line(&mut self) -> Result<Line, Failure> {
        loop {
            let bytes = self.input.bytes();
            if let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
                let line = Line::read(&bytes[..end]).ok_or_else(|| {
                    theirs(format!("it says \"{}\"", String::from_utf8_lossy(&bytes[..end.min(80)]).escape_debug()))
                })?;
                self.input.consume(end + 2);
                return Ok(line);
            }
            if bytes.len() > LONGEST_LINE {
                return Err(theirs("its answer is not in memcached's protocol"));
            }
            self.receive()?;
        }
    }

    /// The `length` bytes of a value, to the end of `into`; passed over without.
    pub fn value(&mut self, length: usize, mut into: Option<&mut Vec<u8>>) -> Result<(), Failure> {
        let mut rest = length;
        while rest > 0 {
            let count = rest.min(self.input.len());
            if let Some(into) = &mut into {
                into.extend_from_slice(&self.input.bytes()[..count]);
            }
            self.input.consume(count);
            rest -= count;
            if rest > 0 {
                self.receive()?;
            }
        }
        while self.input.len() < 2 {
            self.receive()?;
        }
        if !self.input.bytes().starts_with(b"\r\n") {
            return Err(theirs("a value is longer than it says"));
        }
        self.input.consume(2);
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        // Also from a server that sends byte by byte.
        while !self.deadline.passed() {
            match self.input.receive_until(&self.stream, self.deadline) {
                Ok(Received::Bytes(_)) => {
                    self.heard = true;
                    return Ok(());
                }
                Ok(Received::Interrupted | Received::Nothing) => {}
                Ok(Received::Closed) if self.heard => return Err(theirs("it has closed the connection")),
                Err(error) if self.heard => return Err(theirs(error)),
                Ok(Received::Closed) | Err(_) => return Err(Failure::Closed),
            }
        }
        Err(theirs("it does not answer in time"))
    }

    /// Whether more has come than was asked for.
    pub fn has_surplus(&self) -> bool {
        !self.input.is_empty()
    }
}
