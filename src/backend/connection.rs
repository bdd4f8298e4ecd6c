//! One logged-in connection to a server.

use super::{Demand, ReplyQueue};
use crate::auth::scram::Verifier;
use crate::net::{InBuffer, Stream};
use crate::report::Report;
use crate::wire::{HEADER_LENGTH, TransactionStatus, backend, write};
use std::io;
use std::time::Instant;

/// Memory kept by a connection that waits in the pool, in bytes.
const POOLED_BUFFER: usize = 4096;
/// Receive buffer of a connection in use, in bytes.
pub(super) const BUFFER: usize = 64 * 1024;

/// A server reports a handful of parameters; the bound keeps a mad one from filling the memory.
const MAX_PARAMETERS: usize = 1024;
/// What is put aside during one query of our own, in bytes at most.
const MAX_ASIDE: usize = 64 * 1024;

/// A server connection with everything needed to go on using it.
#[derive(Debug)]
pub struct ServerConnection {
    /// Node id.
    pub node: usize,
    /// The socket.
    pub stream: Stream,
    /// Received, not yet relayed.
    pub input: InBuffer,
    /// To be sent before anything else.
    pub output: Vec<u8>,
    /// What is owed.
    pub replies: ReplyQueue,
    /// Where the relay stands in the message at the front of `input`.
    pub state: ReplyState,
    /// As the last ReadyForQuery said.
    pub status: TransactionStatus,
    /// Pid of the server process.
    pub pid: u32,
    /// Its cancel key, 4 to 256 bytes.
    pub cancel_key: Vec<u8>,
    /// Parameter values as last reported, in the order first reported.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// NegotiateProtocolVersion as received at login, whole message; empty if none came.
    pub negotiation: Vec<u8>,
    /// Parameter values and notifications that came while a query of our own was at work: the client's, whole messages.
    pub aside: Vec<u8>,
    /// The server has warned that it ends all its sessions.
    pub warned: bool,
    /// Why nothing can be sent to it any more: what it has said before is still to be received.
    pub broken: Option<String>,
    /// When it was made.
    pub created: Instant,
    /// What the server asked for at login.
    pub demand: Demand,
    /// Of the password that made the login, if nobody but the client knew it: the measure for who comes next.
    pub typed: Option<Box<Verifier>>,
}

/// Where the relay stands in a message that is longer than what has been received of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyState {
    /// At the start of a message.
    Between,
    /// Inside a message: so many bytes of it are still to come, for the client or for nobody.
    Inside {
        /// Bytes still to come.
        remaining: usize,
        /// Whether the client gets them.
        deliver: bool,
    },
}

impl ServerConnection {
    /// Remembers a reported parameter value.
    pub fn remember_parameter(&mut self, name: &[u8], value: &[u8]) {
        if let Some((_, known)) = self.parameters.iter_mut().find(|(known, _)| known == name) {
            known.clear();
            known.extend_from_slice(value);
        } else if self.parameters.len() < MAX_PARAMETERS {
            self.parameters.push((name.to_vec(), value.to_vec()));
        }
    }

    /// Puts the message at the front of `input`, of `length` bytes, aside for the client. It stays in `input`.
    pub(super) fn set_aside(&mut self, length: usize) {
        let message = &self.input.bytes()[..length];
        if self.aside.len() + length <= MAX_ASIDE {
            self.aside.extend_from_slice(message);
        }
        if message[0] == b'S'
            && let Ok((name, value)) = backend::parameter_status(&message[HEADER_LENGTH..])
        {
            let (name, value) = (name.to_vec(), value.to_vec());
            self.remember_parameter(&name, &value);
        }
    }

    /// A reported parameter value.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(known, _)| known == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// The log's line for a statement that is sent here (`log_per_node_statement`; routing 18).
    pub fn statement_line(&self, statement: &str) -> Report {
        Report::log_line(format!("DB node id: {} backend pid: {} statement: {statement}", self.node, self.pid))
    }

    /// Whether nothing is owed in either direction and no transaction is open: fit for the pool.
    pub fn is_clean(&self) -> bool {
        self.replies.is_settled()
            && self.output.is_empty()
            && self.input.is_empty()
            && self.state == ReplyState::Between
            && self.status == TransactionStatus::Idle
    }

    /// Sends what waits in `output`, as far as the kernel takes it. `Ok(true)`: nothing waits any more.
    #[inline]
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.output.is_empty() {
            return Ok(true);
        }
        let sent = self.stream.send(&self.output)?;
        self.output.drain(..sent);
        Ok(self.output.is_empty())
    }

    /// Takes it out of the pool: full-size buffer.
    pub(super) fn wake(&mut self) {
        if self.input.is_empty() {
            self.input = InBuffer::with_capacity(BUFFER);
        }
    }

    /// Puts it to rest in the pool: small buffer.
    pub(super) fn rest(&mut self) {
        self.aside = Vec::new();
        self.warned = false;
        self.input.shrink(POOLED_BUFFER);
        self.output.shrink_to(POOLED_BUFFER);
    }

    /// Says goodbye (Terminate) and closes.
    pub fn close(mut self) {
        self.output.clear();
        write::terminate(&mut self.output);
        let _ = self.stream.send(&self.output);
    }
}
