//! From the client to the servers: each message is given a node and forwarded unchanged.
//!
//! Whole batches are contiguous in the receive buffer and leave in one send ([`Direct`]). Only one node at a time owes
//! answers to the client: when the next message belongs to another node, it waits until the first one is done, so that
//! answers arrive in the order of the questions.

use super::client::Client;
use super::end::End;
use super::{Session, trace};
use crate::backend::{Awaited, Deliver};
use crate::report::{Report, SqlState};
use crate::sql::Statement;
use crate::wire::frontend::{self, Object};
use crate::wire::{HEADER_LENGTH, Header, write};
use std::rc::Rc;

/// Messages that must be read as a whole are read up to this length, in bytes; longer ones go to the primary unread.
const MAX_READ: usize = 1 << 20;
/// A server that does not take so many bytes keeps the client waiting.
const MAX_BACKLOG: usize = 256 * 1024;

/// The beginning of the client's receive buffer that goes to one node and has not been sent yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Direct {
    pub node: usize,
    pub length: usize,
}

/// Where forwarding stands in a message longer than what has been received of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestState {
    /// At the start of a message.
    Between,
    /// So many bytes of the message are still to come and go to this node.
    Inside { remaining: usize, node: usize },
}

/// What became of the message at the front.
enum Taken {
    /// So many bytes of it belong to this node.
    Forward { node: usize, now: usize },
    /// It was answered here.
    Answered,
    /// It has to wait for answers to earlier ones.
    Blocked,
    /// More of it must be received first.
    Incomplete,
}

impl Session<'_> {
    /// Forwards what the client has sent. `Ok(true)`: something was done.
    pub(super) fn relay_requests(&mut self) -> Result<bool, End> {
        let mut moved = false;
        self.blocked = false;
        self.congested = false;
        loop {
            let available = self.client.input.len() - self.direct.length;
            if available == 0 {
                break;
            }
            if self.backlog() > MAX_BACKLOG {
                self.congested = true;
                break;
            }
            if let RequestState::Inside { remaining, node } = self.request_state {
                let now = remaining.min(available);
                self.append_direct(node, now)?;
                self.request_state = match remaining - now {
                    0 => RequestState::Between,
                    remaining => RequestState::Inside { remaining, node },
                };
                moved = true;
                continue;
            }
            let start = self.direct.length;
            let header = Header::read(&self.client.input.bytes()[start..], frontend::name);
            let Some(header) = header.map_err(|error| End::protocol_violation(&error))? else { break };
            match self.take_request(header, available)? {
                Taken::Forward { node, now } => {
                    self.append_direct(node, now)?;
                    if now < header.total {
                        self.request_state = RequestState::Inside { remaining: header.total - now, node };
                    }
                }
                Taken::Answered => {
                    self.send_direct()?;
                    self.client.input.consume(header.total);
                }
                Taken::Blocked => {
                    self.blocked = true;
                    self.nudge();
                    break;
                }
                Taken::Incomplete => {
                    self.send_direct()?;
                    self.client.input.make_room(header.total);
                    break;
                }
            }
            moved = true;
        }
        self.send_direct()?;
        if std::mem::take(&mut self.flush_next)
            && let Some(server) = self.group.get_mut(self.active)
        {
            write::flush(&mut server.output);
        }
        Ok(moved)
    }

    fn backlog(&self) -> usize {
        self.group.get(self.active).map_or(0, |server| server.output.len())
    }

    /// Looks at the message at the front of which `available` bytes are here.
    fn take_request(&mut self, header: Header, available: usize) -> Result<Taken, End> {
        let whole = available >= header.total;
        match header.kind {
            b'd' => Ok(Taken::Forward { node: self.active, now: header.total.min(available) }),
            // What was asked before is still done, as by a server.
            b'X' if !self.is_quiet() => {
                self.terminating = true;
                Ok(Taken::Blocked)
            }
            b'X' => Err(End::Terminated),
            b'B' | b'F' if !whole && header.total > MAX_READ => self.take_long(header, available),
            b'Q' | b'P' if !whole && header.total > MAX_READ => self.take_long(header, available),
            _ if !whole && header.total > MAX_READ => Err(End::from(
                Report::fatal(format!("{} message of {} bytes is too long", frontend::name(header.kind), header.total))
                    .code(SqlState::PROGRAM_LIMIT_EXCEEDED),
            )),
            _ if !whole => Ok(Taken::Incomplete),
            b'Q' => self.take_query(header),
            b'F' => self.take_function_call(header),
            b'P' | b'B' | b'D' | b'E' | b'C' | b'S' | b'H' => self.take_extended(header),
            b'c' | b'f' => {
                if let Some(server) = self.group.get_mut(self.active) {
                    server.replies.copy_in_ended();
                }
                Ok(Taken::Forward { node: self.active, now: header.total })
            }
            kind => Err(End::protocol_violation(&crate::wire::Malformed::UnknownType(kind))),
        }
    }

    /// The content of the whole message at the front.
    fn content(&self, header: Header) -> &[u8] {
        front(&self.client, self.direct, header)
    }

    /// A text or value too long to be read here: it goes to the primary, which needs nothing from us to deal with it.
    fn take_long(&mut self, header: Header, available: usize) -> Result<Taken, End> {
        let node = self.batch.unwrap_or(self.home);
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        let awaited = match header.kind {
            b'Q' => Awaited::Query,
            b'F' => Awaited::FunctionCall,
            b'P' => Awaited::Parse,
            _ => Awaited::Bind,
        };
        if matches!(header.kind, b'Q' | b'P') {
            // What it does is unknown, so is what it leaves behind.
            self.effects.note_unknown();
        }
        if matches!(header.kind, b'P' | b'B') {
            self.batch = Some(node);
        }
        if self.expect(node, awaited, Deliver::Client) && awaited == Awaited::Parse {
            self.parsing.push_back(None);
        }
        trace::busy(self.context, node);
        Ok(Taken::Forward { node, now: available })
    }

    fn take_query(&mut self, header: Header) -> Result<Taken, End> {
        // A text with a zero inside is the server's to refuse.
        let text = frontend::query(front(&self.client, self.direct, header)).unwrap_or(b"\0");
        let facts = self.context.facts.get(text, self.lexing);
        if let Some(command) = self.local_command(&facts) {
            if !self.is_quiet() {
                return Ok(Taken::Blocked);
            }
            self.answer_locally(command)?;
            return Ok(Taken::Answered);
        }
        let Some(node) = self.node_for(&facts, header)? else { return Ok(Taken::Blocked) };
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        // A simple query ends an extended batch that was left without Sync.
        self.batch = None;
        let content = front(&self.client, self.direct, header);
        let text = content.strip_suffix(b"\0").unwrap_or(content);
        self.effects.note(&facts, text, self.group.status(self.home));
        if facts.changes_catalog() {
            self.catalog.forget();
        }
        trace::statement(self.context, &self.group, node, &facts, "", text);
        self.expect(node, Awaited::Query, Deliver::Client);
        Ok(Taken::Forward { node, now: header.total })
    }

    fn take_function_call(&mut self, header: Header) -> Result<Taken, End> {
        let node = self.batch.take().unwrap_or(self.home);
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        // The function may do anything.
        self.effects.note_unknown();
        trace::busy(self.context, node);
        self.expect(node, Awaited::FunctionCall, Deliver::Client);
        Ok(Taken::Forward { node, now: header.total })
    }

    /// One message of an extended batch. The first one decides the node of all up to Sync.
    fn take_extended(&mut self, header: Header) -> Result<Taken, End> {
        let node = match self.batch {
            Some(node) => node,
            None => {
                let Some(node) = self.node_for_batch()? else { return Ok(Taken::Blocked) };
                if !self.activate(node) {
                    return Ok(Taken::Blocked);
                }
                self.batch = Some(node);
                node
            }
        };
        match header.kind {
            b'P' => self.take_parse(header, node)?,
            b'B' => self.take_bind(header, node)?,
            b'D' => {
                self.prepare_described(header, node)?;
                self.expect(node, Awaited::Describe, Deliver::Client);
            }
            b'E' => self.take_execute(node),
            b'C' => {
                if let Ok(Object::Statement(name)) = frontend::object(self.content(header), "Close") {
                    let name = name.to_vec();
                    self.statements.close(&name, node);
                }
                self.expect(node, Awaited::Close, Deliver::Client);
            }
            b'S' => {
                self.batch = None;
                self.expect(node, Awaited::Sync, Deliver::Client);
            }
            _ => {}
        }
        Ok(Taken::Forward { node, now: header.total })
    }

    fn take_parse(&mut self, header: Header, node: usize) -> Result<(), End> {
        let parse = frontend::parse(front(&self.client, self.direct, header))
            .map_err(|error| End::protocol_violation(&error))?;
        let facts = self.context.facts.get(parse.query, self.lexing);
        let name = parse.statement;
        let is_new = name.is_empty() || self.statements.get(name).is_none();
        if !name.is_empty() && (!is_new || self.statements.has_stale()) {
            let name = name.to_vec();
            self.prepare_on(&name, node)?;
            self.close_stale(&name, node)?;
        }
        if !self.expect(node, Awaited::Parse, Deliver::Client) {
            return Ok(());
        }
        let start = self.direct.length;
        let message = &self.client.input.bytes()[start..start + header.total];
        if let Ok(parse) = frontend::parse(&message[HEADER_LENGTH..]) {
            self.parsing.push_back(is_new.then(|| parse.statement.into()));
            self.statements.prepare(parse.statement, message, facts, node);
        }
        Ok(())
    }

    fn take_bind(&mut self, header: Header, node: usize) -> Result<(), End> {
        let bind = frontend::bind(self.content(header)).map_err(|error| End::protocol_violation(&error))?;
        match self.statements.get(bind.statement) {
            Some(prepared) if !prepared.nodes.contains(node) => {
                let name = bind.statement.to_vec();
                self.prepare_on(&name, node)?;
            }
            _ => {}
        }
        let bind = frontend::bind(front(&self.client, self.direct, header))
            .map_err(|error| End::protocol_violation(&error))?;
        self.bound.clear();
        self.bound.extend_from_slice(bind.statement);
        self.expect(node, Awaited::Bind, Deliver::Client);
        Ok(())
    }

    fn prepare_described(&mut self, header: Header, node: usize) -> Result<(), End> {
        if let Ok(Object::Statement(name)) = frontend::object(self.content(header), "Describe")
            && self.statements.get(name).is_some_and(|prepared| !prepared.nodes.contains(node))
        {
            let name = name.to_vec();
            self.prepare_on(&name, node)?;
        }
        Ok(())
    }

    /// The portal runs the statement bound last: drivers bind and execute in one breath. A portal kept for later is only
    /// counted under a wrong statement.
    fn take_execute(&mut self, node: usize) {
        if self.expect(node, Awaited::Execute, Deliver::Client)
            && let Some(prepared) = self.statements.get(&self.bound)
        {
            self.effects.note(&prepared.facts, prepared.text(), self.group.status(self.home));
            if prepared.facts.changes_catalog() {
                self.catalog.forget();
            }
            trace::statement(self.context, &self.group, node, &prepared.facts, "Execute: ", prepared.text());
        }
    }

    /// Prepares the statement `name` on `node` if it is not: the original Parse, its answer for nobody.
    fn prepare_on(&mut self, name: &[u8], node: usize) -> Result<(), End> {
        if self.statements.get(name).is_none_or(|prepared| prepared.nodes.contains(node)) {
            return Ok(());
        }
        self.close_stale(name, node)?;
        self.send_direct()?;
        if let Some(prepared) = self.statements.get_mut(name)
            && let Some(server) = self.group.get_mut(node)
            && server.replies.sent(Awaited::Parse, Deliver::Nobody)
        {
            server.output.extend_from_slice(&prepared.message);
            prepared.nodes.insert(node);
            self.parsing.push_back(Some(name.into()));
        }
        Ok(())
    }

    /// Closes a statement that the client closed elsewhere and that would be in the way on `node`.
    fn close_stale(&mut self, name: &[u8], node: usize) -> Result<(), End> {
        if !self.statements.take_stale(name, node) {
            return Ok(());
        }
        self.send_direct()?;
        if let Some(server) = self.group.get_mut(node)
            && server.replies.sent(Awaited::Close, Deliver::Nobody)
        {
            write::message(&mut server.output, b'C', |out| {
                out.push(b'S');
                out.extend_from_slice(name);
                out.push(0);
            });
        }
        Ok(())
    }

    /// A message that `node` will answer is about to go there. `false`: the server ignores it, being past an error.
    pub(super) fn expect(&mut self, node: usize, awaited: Awaited, deliver: Deliver) -> bool {
        self.group.get_mut(node).is_some_and(|server| server.replies.sent(awaited, deliver))
    }

    /// The client waits for answers that may rest in a server's buffer until they are asked for: ask.
    fn nudge(&mut self) {
        if let Some(server) = self.group.get_mut(self.active)
            && !server.replies.is_empty()
            && !server.replies.will_answer()
        {
            self.flush_next = true;
        }
    }

    /// Makes `node` the one that owes answers, if no other one does.
    fn activate(&mut self, node: usize) -> bool {
        if node != self.active && !self.is_quiet() {
            return false;
        }
        self.active = node;
        true
    }

    /// Whether no node owes the client anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.group.get(self.active).is_none_or(|server| server.replies.is_empty())
    }

    /// The next `length` bytes of the client's receive buffer go to `node`.
    fn append_direct(&mut self, node: usize, length: usize) -> Result<(), End> {
        if node != self.direct.node {
            self.send_direct()?;
        }
        self.direct.node = node;
        self.direct.length += length;
        Ok(())
    }

    /// Sends the direct part, behind what waits already for that node.
    pub(super) fn send_direct(&mut self) -> Result<(), End> {
        let Direct { node, length } = self.direct;
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        let bytes = &self.client.input.bytes()[..length];
        if server.output.is_empty() {
            if length > 0 {
                let sent = server.stream.send(bytes).map_err(|error| End::server_lost(node, &error.to_string()))?;
                server.output.extend_from_slice(&bytes[sent..]);
            }
        } else {
            server.output.extend_from_slice(bytes);
            server.flush().map_err(|error| End::server_lost(node, &error.to_string()))?;
        }
        self.client.input.consume(length);
        self.direct.length = 0;
        Ok(())
    }

    /// Collects into `statements` the facts of what the batch at the front prepares, describes or binds. `Ok(true)`: the
    /// whole batch up to its Sync is here and understood.
    pub(super) fn batch_in_sight(&mut self, statements: &mut Vec<Sighted>) -> Result<bool, End> {
        let with_text = !self.context.settings.primary_routing_query_pattern_list.is_empty();
        let text_of = |text: &[u8]| if with_text { text.to_vec() } else { Vec::new() };
        let mut at = self.direct.length;
        loop {
            let bytes = &self.client.input.bytes()[at..];
            let header = Header::read(bytes, frontend::name).map_err(|error| End::protocol_violation(&error))?;
            let Some(header) = header.filter(|header| bytes.len() >= header.total) else { return Ok(false) };
            let content = &bytes[HEADER_LENGTH..header.total];
            let name = match header.kind {
                b'P' => match frontend::parse(content) {
                    Ok(parse) => {
                        let facts = self.context.facts.get(parse.query, self.lexing);
                        statements.push(Sighted { facts, text: text_of(parse.query) });
                        None
                    }
                    Err(_) => return Ok(false),
                },
                b'B' => frontend::bind(content).ok().map(|bind| bind.statement),
                b'D' => match frontend::object(content, "Describe") {
                    Ok(Object::Statement(name)) => Some(name),
                    _ => None,
                },
                b'E' | b'C' => None,
                b'S' => return Ok(true),
                _ => return Ok(false),
            };
            if let Some(name) = name {
                match self.statements.get(name) {
                    Some(prepared) => {
                        statements.push(Sighted { facts: Rc::clone(&prepared.facts), text: text_of(prepared.text()) });
                    }
                    // Prepared in this very batch, or unknown everywhere: then the primary tells.
                    None if statements.is_empty() => return Ok(false),
                    None => {}
                }
            }
            at += header.total;
        }
    }
}

/// A statement of a batch that has not been placed yet.
pub(super) struct Sighted {
    pub facts: Rc<Statement>,
    /// Its text, only where a parameter asks for texts.
    pub text: Vec<u8>,
}

/// Content of the whole message behind the direct part of the client's buffer.
fn front(client: &Client, direct: Direct, header: Header) -> &[u8] {
    &client.input.bytes()[direct.length + HEADER_LENGTH..direct.length + header.total]
}
