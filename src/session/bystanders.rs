//! What servers say that owe the client nothing: answers to messages of our own, notifications and notices, their end.
//!
//! Nothing of it may come between the parts of a message that is on its way to the client.

use super::end::End;
use super::failover::is_shutdown;
use super::{Session, trace};
use crate::backend::ReplyState;
use crate::wire::{HEADER_LENGTH, Header, backend};

impl Session<'_> {
    /// What other nodes than the active one have said, as far as it is here: answers nobody waits for, notifications and
    /// notices, or their end. `Ok(true)`: something was done.
    pub(super) fn hear_bystanders(&mut self) -> Result<bool, End> {
        let active = self.active;
        let is_between =
            self.answered == 0 && self.group.get(active).is_none_or(|server| server.state == ReplyState::Between);
        let mut heard = false;
        for node in 0..self.group.connections.len() {
            if node != active && self.group.get(node).is_some_and(|server| !server.input.is_empty()) {
                heard |= self.absorb(node, is_between)?;
                // Nothing may come between the parts of a message.
                if is_between {
                    heard |= self.hear_bystander(node)?;
                }
            }
        }
        Ok(heard)
    }

    /// Drops the answers that nobody waits for. `is_between`: the client may be sent a message now.
    fn absorb(&mut self, node: usize, is_between: bool) -> Result<bool, End> {
        let mut heard = false;
        loop {
            let Some(server) = self.group.get_mut(node) else { return Ok(true) };
            if let ReplyState::Inside { remaining, deliver } = server.state {
                let now = remaining.min(server.input.len());
                server.input.consume(now);
                if now < remaining {
                    server.state = ReplyState::Inside { remaining: remaining - now, deliver };
                    return Ok(heard);
                }
                server.state = ReplyState::Between;
            }
            if server.replies.is_empty() {
                return Ok(heard);
            }
            let header = Header::read(server.input.bytes(), backend::name)
                .map_err(|error| End::server_lost(node, &error.to_string()))?;
            let Some(header) = header.filter(|header| header.total <= server.input.len()) else { return Ok(heard) };
            if self.message_log.answers {
                self.message_log.received(node, header.kind);
            }
            if matches!(header.kind, b'A' | b'S' | b'N') {
                if !is_between {
                    return Ok(heard);
                }
                self.hear_beside(node, header.total);
                heard = true;
                continue;
            }
            let content = &server.input.bytes()[HEADER_LENGTH..header.total];
            let status = backend::ready_for_query(content).ok().filter(|_| header.kind == b'Z');
            let cause = (header.kind == b'E').then(|| backend::ErrorFields::new(content).message());
            let step = server.replies.received(header.kind).map_err(|_| End::server_confused(node, header.kind))?;
            if let Some(cause) = cause {
                self.changes.failed(node, step.number, step.failed, &mut self.statements);
                if node != self.home {
                    if self.needs(node) {
                        return Err(End::server_lost(node, &cause));
                    }
                    self.exclude_node(node, &cause);
                    return Ok(true);
                }
            } else if step.finished.is_some() {
                self.changes.done(node, step.number, &mut self.statements);
            }
            let Some(server) = self.group.get_mut(node) else { return Ok(true) };
            server.input.consume(header.total);
            heard = true;
            if let Some(status) = status {
                let settled = server.replies.is_empty();
                if settled {
                    server.status = status;
                }
                if node == self.home {
                    self.home_is_ready(status, settled);
                }
            }
        }
    }

    /// What `node` says beside its answers, the message of `length` bytes at its front: the client gets notifications, and
    /// the parameter values of the primary.
    fn hear_beside(&mut self, node: usize, length: usize) {
        let Some(server) = self.group.get_mut(node) else { return };
        let message = server.input.bytes()[..length].to_vec();
        server.input.consume(length);
        if let Ok((name, value)) = backend::parameter_status(&message[HEADER_LENGTH..])
            && message[0] == b'S'
        {
            server.remember_parameter(name, value);
        }
        self.tell_beside(node, &message);
    }

    /// The same for what came while a query of our own was at work there. No message to the client is in progress.
    pub(super) fn hear_aside(&mut self, node: usize) {
        let aside = self.group.get_mut(node).map(|server| std::mem::take(&mut server.aside)).unwrap_or_default();
        let mut rest = aside.as_slice();
        while let Ok(Some(header)) = Header::read(rest, backend::name) {
            let Some((message, behind)) = rest.split_at_checked(header.total) else { return };
            self.tell_beside(node, message);
            rest = behind;
        }
    }

    fn tell_beside(&mut self, node: usize, message: &[u8]) {
        if let Some(caching) = self.caching.as_mut().filter(|_| message[0] == b'S') {
            if node == self.home {
                caching.identity.forget();
            } else {
                caching.identity.changed_on(node);
            }
        }
        match message[0] {
            b'A' => self.client.output.extend_from_slice(message),
            b'S' if node == self.home => {
                self.client.output.extend_from_slice(message);
                if let Ok((name, value)) = backend::parameter_status(&message[HEADER_LENGTH..]) {
                    self.note_parameter(name, value);
                }
            }
            b'N' => self.heed_warning(node, &message[HEADER_LENGTH..]),
            _ => {}
        }
    }

    /// What a node says that owes nothing: notifications for the client, or its end (protocol 14.2, 15.6). `Ok(true)`:
    /// something was heard.
    pub(super) fn hear_bystander(&mut self, node: usize) -> Result<bool, End> {
        let mut heard = false;
        loop {
            let Some(server) = self.group.get_mut(node) else { return Ok(true) };
            if !server.replies.is_empty() {
                return Ok(heard);
            }
            let header = Header::read(server.input.bytes(), backend::name)
                .map_err(|error| End::server_lost(node, &error.to_string()))?;
            let Some(header) = header.filter(|header| header.total <= server.input.len()) else { return Ok(heard) };
            heard = true;
            if self.message_log.answers {
                self.message_log.received(node, header.kind);
            }
            if matches!(header.kind, b'A' | b'S' | b'N') {
                self.hear_beside(node, header.total);
                continue;
            }
            let message = &server.input.bytes()[..header.total];
            let fields = backend::ErrorFields::new(&message[HEADER_LENGTH..]);
            let is_shutdown = header.kind == b'E' && is_shutdown(&fields);
            if header.kind == b'E' {
                trace::server_error(self.context, node, &fields);
            }
            match header.kind {
                b'E' if node == self.home => {
                    let cause = backend::ErrorFields::new(&message[HEADER_LENGTH..]).message();
                    let message = message.to_vec();
                    if is_shutdown && self.home_shuts_down(&cause) {
                        return Ok(true);
                    }
                    self.client.output.extend_from_slice(&message);
                    self.client.flush()?;
                    return Err(End::Told);
                }
                b'E' => {
                    let cause = backend::ErrorFields::new(&message[HEADER_LENGTH..]).message();
                    if is_shutdown {
                        self.heed_farewell(node);
                    }
                    if self.needs(node) {
                        return Err(End::server_lost(node, &cause));
                    }
                    self.leave_node(node, &cause);
                    self.redraw = true;
                    return Ok(true);
                }
                kind => return Err(End::server_confused(node, kind)),
            }
        }
    }
}
