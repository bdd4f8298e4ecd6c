//! Question and answer with a client that is not let in yet, all before one deadline.

use super::super::client::Client;
use super::super::end::End;
use super::super::startup::timed_out;
use crate::auth::Secret;
use crate::net::{Deadline, Received, Waited, wait};
use crate::report::{Report, SqlState};
use crate::wire::{HEADER_LENGTH, Header, frontend};
use nix::poll::PollFlags;
use std::time::Duration;

/// The longest answer in bytes, as with a server.
const MAX_ANSWER: usize = 65_535;

/// The conversation.
pub(in super::super) struct Dialogue<'a> {
    client: &'a mut Client,
    deadline: Deadline,
    is_stopping: &'a dyn Fn() -> bool,
}

impl<'a> Dialogue<'a> {
    /// With `client`, until `deadline` or until pgpool stops.
    pub fn new(client: &'a mut Client, deadline: Deadline, is_stopping: &'a dyn Fn() -> bool) -> Self {
        Self { client, deadline, is_stopping }
    }

    /// Its deadline, or `patience` from now if that is earlier.
    pub fn within(&self, patience: Duration) -> Deadline {
        Deadline::after(patience).min(self.deadline)
    }

    /// Sends `message` and returns the content of the PasswordMessage that answers it.
    pub fn ask(&mut self, message: impl FnOnce(&mut Vec<u8>)) -> Result<Secret, End> {
        self.tell(message)?;
        self.answer()
    }

    /// Sends `message`.
    pub fn tell(&mut self, message: impl FnOnce(&mut Vec<u8>)) -> Result<(), End> {
        self.tell_later(message);
        while !self.client.flush()? {
            match wait(&self.client.stream, PollFlags::POLLOUT, self.deadline).map_err(End::client_lost)? {
                Waited::Ready => {}
                Waited::TooLate => return Err(timed_out()),
                Waited::Stopped => return Err(End::shutdown()),
            }
        }
        Ok(())
    }

    /// Sends `message` with the next one: whatever comes, there will be one.
    pub fn tell_later(&mut self, message: impl FnOnce(&mut Vec<u8>)) {
        message(&mut self.client.output);
    }

    fn answer(&mut self) -> Result<Secret, End> {
        loop {
            let input = &mut self.client.input;
            match Header::read(input.bytes(), frontend::name).map_err(|error| End::protocol_violation(&error))? {
                Some(Header { kind, .. }) if kind != b'p' => {
                    return Err(invalid("invalid authentication packet. password packet does not start with \"p\""));
                }
                Some(Header { total, .. }) if total - HEADER_LENGTH > MAX_ANSWER => {
                    let length = total - HEADER_LENGTH;
                    return Err(invalid(&format!("password is too long. password length is {length}")));
                }
                Some(Header { total, .. }) if total <= input.len() => {
                    let content = Secret::new(&input.bytes()[HEADER_LENGTH..total]);
                    input.wipe(total);
                    return Ok(content);
                }
                Some(Header { total, .. }) => input.make_room(total),
                None => {}
            }
            match input.receive_until(&self.client.stream, self.deadline).map_err(End::client_lost)? {
                Received::Closed => return Err(End::ClientGone),
                _ if (self.is_stopping)() => return Err(End::shutdown()),
                _ if self.deadline.passed() => return Err(timed_out()),
                _ => {}
            }
        }
    }
}

/// The client does not keep to the protocol.
pub(super) fn invalid(detail: &str) -> End {
    Report::fatal("authentication failed").detail(detail).code(SqlState::PROTOCOL_VIOLATION).into()
}
