//! The client's side of a session: its socket, what it has sent, what it must still get.

use super::end::End;
use crate::net::{InBuffer, Received, Stream};

/// Receive buffer of a client connection, in bytes.
const BUFFER: usize = 32 * 1024;

/// One client connection.
pub(super) struct Client {
    pub stream: Stream,
    /// Received, not yet forwarded.
    pub input: InBuffer,
    /// What the kernel did not take yet. While something waits here no answer is read from a server.
    pub output: Vec<u8>,
    /// How often something was received.
    pub heard: u64,
    /// It has left behind its last statement: what is sent goes nowhere.
    pub deaf: bool,
}

impl Client {
    pub fn new(stream: Stream) -> Self {
        Self { stream, input: InBuffer::with_capacity(BUFFER), output: Vec::new(), heard: 0, deaf: false }
    }

    /// Sends `bytes`, keeping what the kernel does not take.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.deaf {
            return Ok(());
        }
        let sent = if self.output.is_empty() { self.stream.send(bytes).map_err(End::client_lost)? } else { 0 };
        if sent < bytes.len() {
            self.output.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }

    /// Sends what waits. `Ok(true)`: nothing waits any more.
    #[inline]
    pub fn flush(&mut self) -> Result<bool, End> {
        if self.output.is_empty() {
            return Ok(true);
        }
        let sent =
            if self.deaf { self.output.len() } else { self.stream.send(&self.output).map_err(End::client_lost)? };
        self.output.drain(..sent);
        Ok(self.output.is_empty())
    }

    /// Receives what the client has sent; `Ok(false)`: nothing came.
    pub fn receive(&mut self, wait: bool) -> Result<bool, End> {
        match self.input.receive(&self.stream, wait).map_err(End::client_lost)? {
            Received::Bytes(_) => {
                self.heard += 1;
                Ok(true)
            }
            Received::Nothing | Received::Interrupted => Ok(false),
            Received::Closed => Err(End::ClientGone),
        }
    }
}
