//! A connection of a small program: messages out, messages in, each within a deadline.

use crate::net::{Deadline, InBuffer, Received, Stream, Waited, wait};
use crate::wire::{HEADER_LENGTH, Header};
use nix::poll::PollFlags;
use std::io;

/// Longer messages are refused, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// The other side of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: Stream,
    buffer: InBuffer,
}

/// Why nothing could be sent or received.
#[derive(Debug)]
pub(super) enum Lost {
    /// The other side closed the connection.
    Closed,
    /// The deadline has passed.
    TooLate,
    /// What came is no message.
    Invalid,
    /// The system says why.
    Failed(io::Error),
}

impl Peer {
    /// Over a connected socket; `buffer` holds what has been received already.
    pub fn new(stream: Stream, buffer: InBuffer) -> Self {
        Self { stream, buffer }
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<(), Lost> {
        loop {
            bytes = &bytes[self.stream.send(bytes).map_err(Lost::Failed)?..];
            if bytes.is_empty() {
                return Ok(());
            }
            if wait(&self.stream, PollFlags::POLLOUT, deadline).map_err(Lost::Failed)? != Waited::Ready {
                return Err(Lost::TooLate);
            }
        }
    }

    /// Receives a message: its type byte and content.
    pub fn receive(&mut self, deadline: Deadline) -> Result<(u8, Vec<u8>), Lost> {
        loop {
            let header = Header::read(self.buffer.bytes(), |_| "message").map_err(|_| Lost::Invalid)?;
            match header {
                Some(Header { total, .. }) if total > MAX_MESSAGE => return Err(Lost::Invalid),
                Some(Header { kind, total }) if total <= self.buffer.len() => {
                    let content = self.buffer.bytes()[HEADER_LENGTH..total].to_vec();
                    self.buffer.consume(total);
                    return Ok((kind, content));
                }
                header => self.buffer.make_room(header.map_or(HEADER_LENGTH, |header| header.total)),
            }
            match self.buffer.receive_until(&self.stream, deadline).map_err(Lost::Failed)? {
                Received::Bytes(_) | Received::Interrupted => {}
                Received::Nothing => return Err(Lost::TooLate),
                Received::Closed => return Err(Lost::Closed),
            }
        }
    }
}
