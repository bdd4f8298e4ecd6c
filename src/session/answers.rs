//! From the servers to the client: answers are checked against the reply queue and passed on as byte ranges.
//!
//! While something waits for the client's socket, no answer is touched: memory stays bounded by the receive buffers.

use super::end::End;
use super::{Session, trace};
use crate::backend::{Awaited, ReplyState};
use crate::wire::{HEADER_LENGTH, Header, backend};

/// The longest message of the kinds that must be read as a whole, in bytes. Longer ones are passed on unread.
const MAX_READ: usize = 1 << 20;

/// What to do behind a message.
enum Next {
    /// Look at the next one.
    Continue,
    /// The rest is not here yet.
    Incomplete,
}

impl Session<'_> {
    /// Passes on what the active node has answered. `Ok(true)`: something was done.
    pub(super) fn relay_answers(&mut self) -> Result<bool, End> {
        if !self.client.flush()? {
            return Ok(false);
        }
        let node = self.active;
        let Some(server) = self.group.get(node) else { return Ok(false) };
        if server.input.is_empty() {
            return Ok(false);
        }
        if node != self.home && server.replies.is_empty() && server.state == ReplyState::Between {
            let before = server.input.len();
            self.hear_bystander(node)?;
            return Ok(self.group.get(node).is_none_or(|server| server.input.len() < before));
        }
        let mut moved = false;
        loop {
            self.pass_rows(node);
            moved |= self.answered > 0;
            let Some(server) = self.group.get_mut(node) else { break };
            let available = server.input.len() - self.answered;
            if available == 0 {
                break;
            }
            if let ReplyState::Inside { remaining, deliver } = server.state {
                let now = remaining.min(available);
                server.state = match remaining - now {
                    0 => ReplyState::Between,
                    remaining => ReplyState::Inside { remaining, deliver },
                };
                self.pass(node, now, deliver)?;
                moved = true;
                continue;
            }
            let header = Header::read(&server.input.bytes()[self.answered..], backend::name)
                .map_err(|error| End::server_lost(node, &error.to_string()))?;
            let Some(header) = header else { break };
            match self.answer(node, header, available)? {
                Next::Continue => moved = true,
                Next::Incomplete => {
                    self.send_answers(node)?;
                    if let Some(server) = self.group.get_mut(node) {
                        server.input.make_room(header.total);
                    }
                    break;
                }
            }
        }
        self.send_answers(node)?;
        Ok(moved)
    }

    /// The fast way for rows: complete DataRow messages for the client need nothing but their length.
    #[inline]
    fn pass_rows(&mut self, node: usize) {
        let Some(server) = self.group.get(node) else { return };
        if server.state != ReplyState::Between
            || !matches!(server.replies.head(), Some(Awaited::Query | Awaited::Execute))
            || !server.replies.delivers()
        {
            return;
        }
        let bytes = server.input.bytes();
        while let Some([b'D', a, b, c, d]) = bytes.get(self.answered..self.answered + HEADER_LENGTH) {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if length < 4 || length >= bytes.len() - self.answered {
                break;
            }
            self.answered += length + 1;
        }
    }

    /// One message of which `available` bytes are here.
    fn answer(&mut self, node: usize, header: Header, available: usize) -> Result<Next, End> {
        let Some(server) = self.group.get_mut(node) else { return Ok(Next::Incomplete) };
        let must_read = matches!(header.kind, b'E' | b'N' | b'S' | b'Z' | b'C' | b'A');
        if must_read && available < header.total && header.total <= MAX_READ {
            return Ok(Next::Incomplete);
        }
        let deliver = match header.kind {
            b'N' | b'A' => server.replies.delivers(),
            b'S' => self.parameter_status(node, header)?,
            b'E' => self.error(node, header, available)?,
            b'Z' => self.ready(node, header)?,
            kind => {
                let step = server.replies.received(kind).map_err(|_| End::server_confused(node, kind))?;
                if step.finished == Some(Awaited::Parse) {
                    self.parsing.pop_front();
                }
                step.deliver
            }
        };
        let now = header.total.min(available);
        if now < header.total
            && let Some(server) = self.group.get_mut(node)
        {
            server.state = ReplyState::Inside { remaining: header.total - now, deliver };
        }
        self.pass(node, now, deliver)?;
        if self.fatal {
            self.send_answers(node)?;
            return Err(End::Told);
        }
        Ok(Next::Continue)
    }

    /// The next `count` bytes of `node` go to the client, or to nobody.
    fn pass(&mut self, node: usize, count: usize, deliver: bool) -> Result<(), End> {
        if deliver {
            self.answered += count;
            return Ok(());
        }
        // What comes before leaves first; then the hidden part is dropped.
        if let Some(server) = self.group.get_mut(node) {
            self.client.output.extend_from_slice(&server.input.bytes()[..self.answered]);
            server.input.consume(self.answered + count);
        }
        self.answered = 0;
        Ok(())
    }

    /// Sends what has been approved, straight from the receive buffer.
    fn send_answers(&mut self, node: usize) -> Result<(), End> {
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        if self.answered > 0 {
            self.client.send(&server.input.bytes()[..self.answered])?;
            server.input.consume(self.answered);
            self.answered = 0;
        }
        self.client.flush()?;
        Ok(())
    }

    fn reply_content(&self, node: usize, header: Header) -> &[u8] {
        let bytes = self.group.get(node).map_or(&[][..], |server| server.input.bytes());
        bytes.get(self.answered + HEADER_LENGTH..self.answered + header.total).unwrap_or_default()
    }

    fn parameter_status(&mut self, node: usize, header: Header) -> Result<bool, End> {
        let content = self.reply_content(node, header);
        if let Ok((name, value)) = backend::parameter_status(content) {
            let (name, value) = (name.to_vec(), value.to_vec());
            self.note_parameter(&name, &value);
            if let Some(server) = self.group.get_mut(node) {
                server.remember_parameter(&name, &value);
            }
        }
        Ok(self.group.get(node).is_some_and(|server| server.replies.delivers()))
    }

    fn error(&mut self, node: usize, header: Header, available: usize) -> Result<bool, End> {
        let content = if available >= header.total { self.reply_content(node, header) } else { &[] };
        let fields = backend::ErrorFields::new(content);
        let fatal = matches!(fields.severity(), b"FATAL" | b"PANIC");
        trace::server_error(self.context, node, &fields);
        self.fatal = fatal;
        self.effects.failed();
        let Some(server) = self.group.get_mut(node) else { return Ok(true) };
        let step = server.replies.received(b'E').map_err(|_| End::server_confused(node, b'E'))?;
        for _ in 0..step.failed_parses {
            if let Some(Some(name)) = self.parsing.pop_front() {
                self.statements.forget_on(&name, node);
            }
        }
        if !step.deliver {
            self.fatal = false;
            self.replay_failed(node);
        }
        Ok(step.deliver)
    }

    fn ready(&mut self, node: usize, header: Header) -> Result<bool, End> {
        let status = backend::ready_for_query(self.reply_content(node, header))
            .map_err(|error| End::server_lost(node, &error.to_string()))?;
        let Some(server) = self.group.get_mut(node) else { return Ok(true) };
        let step = server.replies.received(b'Z').map_err(|_| End::server_confused(node, b'Z'))?;
        server.status = status;
        if server.replies.is_empty() {
            trace::idle(self.context, status);
        }
        if step.deliver && node == self.home && self.effects.settle(status) {
            self.statements.clear();
        }
        Ok(step.deliver)
    }

    /// What a node says that owes nothing: notifications and notices for the client, or its end (protocol 14.2, 15.6).
    pub(super) fn hear_bystander(&mut self, node: usize) -> Result<(), End> {
        loop {
            let Some(server) = self.group.get_mut(node) else { return Ok(()) };
            let header = Header::read(server.input.bytes(), backend::name)
                .map_err(|error| End::server_lost(node, &error.to_string()))?;
            let Some(header) = header.filter(|header| header.total <= server.input.len()) else { return Ok(()) };
            let message = &server.input.bytes()[..header.total];
            match header.kind {
                b'A' => self.client.output.extend_from_slice(message),
                b'S' if node == self.home => {
                    self.client.output.extend_from_slice(message);
                    if let Ok((name, value)) = backend::parameter_status(&message[HEADER_LENGTH..]) {
                        let (name, value) = (name.to_vec(), value.to_vec());
                        server.remember_parameter(&name, &value);
                    }
                }
                b'N' | b'S' => {}
                b'E' if node == self.home => {
                    self.client.output.extend_from_slice(message);
                    self.client.flush()?;
                    return Err(End::Told);
                }
                b'E' => {
                    let cause = backend::ErrorFields::new(&message[HEADER_LENGTH..]).message();
                    self.leave_node(node, &cause);
                    return Ok(());
                }
                kind => return Err(End::server_confused(node, kind)),
            }
            if let Some(server) = self.group.get_mut(node) {
                server.input.consume(header.total);
            }
        }
    }
}
