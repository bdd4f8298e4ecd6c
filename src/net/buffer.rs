//! The receive buffer of one connection.

use super::{Deadline, Received, Stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::AsFd;

/// Bytes received and not yet consumed, contiguous, in reusable memory.
#[derive(Debug, Default)]
pub struct InBuffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl InBuffer {
    /// A buffer of `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { memory: vec![0; capacity], start: 0, end: 0 }
    }

    /// The bytes that wait to be consumed.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Number of bytes that wait to be consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `count` bytes (at most all of them).
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Drops the first `count` bytes, which were a secret, so that nothing of them stays in memory.
    pub fn wipe(&mut self, count: usize) {
        let end = (self.start + count).min(self.end);
        self.memory[self.start..end].fill(0);
        self.consume(count);
    }

    /// Makes room for a message of `total` bytes of which the beginning is here already. Memory grows with what has
    /// arrived, at most doubling, never with what a peer merely announces.
    pub fn make_room(&mut self, total: usize) {
        if self.start > 0 && (total > self.memory.len() - self.start || self.end == self.memory.len()) {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.memory.len() {
            let grown = total.min(self.memory.len() * 2).max(self.memory.len() + 4096);
            self.memory.resize(grown, 0);
        }
    }

    /// Puts `bytes` in front of what waits.
    pub fn put_back(&mut self, bytes: &[u8]) {
        let waiting = self.len();
        if self.start < bytes.len() {
            let needed = bytes.len() + waiting;
            if self.memory.len() < needed {
                self.memory.resize(needed, 0);
            }
            let end = self.memory.len();
            self.memory.copy_within(self.start..self.end, end - waiting);
            (self.start, self.end) = (end - waiting, end);
        }
        self.start -= bytes.len();
        self.memory[self.start..self.start + bytes.len()].copy_from_slice(bytes);
    }

    /// Appends what waits in `other`.
    pub fn take_over(&mut self, other: Self) {
        let bytes = other.bytes();
        while self.memory.len() - self.end < bytes.len() {
            self.make_room(self.len() + bytes.len());
        }
        self.memory[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Gives back memory beyond `capacity` bytes when nothing waits.
    pub fn shrink(&mut self, capacity: usize) {
        if self.is_empty() && self.memory.len() > capacity {
            self.memory.truncate(capacity);
            self.memory.shrink_to_fit();
        }
    }

    /// Whether there is room behind the last byte.
    pub fn has_room(&self) -> bool {
        self.end < self.memory.len()
    }

    /// Receives, waiting until `deadline`: first within the stream's patience, which is one call where the answer comes
    /// soon. [`Received::Nothing`]: the deadline has passed.
    pub fn receive_until(&mut self, stream: &Stream, deadline: Deadline) -> io::Result<Received> {
        match self.receive(stream, true)? {
            Received::Nothing => {}
            received => return Ok(received),
        }
        while !deadline.passed() {
            match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
                Ok(0) => {}
                Ok(_) => return self.receive(stream, false),
                Err(Errno::EINTR) => return Ok(Received::Interrupted),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Received::Nothing)
    }

    /// Receives what is there, waiting at most the stream's patience if `wait` is set. There must be room.
    pub fn receive(&mut self, stream: &Stream, wait: bool) -> io::Result<Received> {
        if self.end == self.memory.len() {
            self.make_room(self.len() + 1);
        }
        let received = stream.receive(&mut self.memory[self.end..], wait)?;
        if let Received::Bytes(count) = received {
            self.end += count;
            if stream.has_fetched() {
                self.receive_fetched(stream)?;
            }
        }
        Ok(received)
    }

    /// All that TLS has fetched comes along, some 32 kB more at most.
    #[cold]
    fn receive_fetched(&mut self, stream: &Stream) -> io::Result<()> {
        while stream.has_fetched() {
            if self.end == self.memory.len() {
                self.make_room(self.len() + 1);
            }
            let Received::Bytes(count) = stream.receive_fetched(&mut self.memory[self.end..])? else { break };
            self.end += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_moving_first_and_grows_with_what_arrived() {
        let mut buffer = InBuffer { memory: vec![1; 8], start: 6, end: 8 };
        buffer.make_room(6);
        assert_eq!((buffer.start, buffer.end, buffer.memory.len()), (0, 2, 8));
        buffer.end = 8;
        buffer.make_room(1 << 30);
        assert_eq!(buffer.memory.len(), 8 + 4096);
        buffer.consume(100);
        assert!(buffer.is_empty() && buffer.has_room());
        buffer.put_back(b"ab");
        buffer.put_back(b"cd");
        assert_eq!(buffer.bytes(), b"cdab");
        buffer.consume(4);
        buffer.shrink(8);
        assert_eq!(buffer.memory.len(), 8);
    }
}
