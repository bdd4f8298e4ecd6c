//! From the client to the servers: each message is given a node and forwarded unchanged.
//!
//! Whole batches are contiguous in the receive buffer and leave in one send ([`Direct`]). Only one node at a time owes
//! answers to the client: when the next message belongs to another node, it waits until the first one is done, so that
//! answers arrive in the order of the questions.

use super::changes::Change;
use super::client::Client;
use super::end::End;
use super::judge::named_statement;
use super::{Session, trace};
use crate::backend::{Awaited, Deliver, ReplyState};
use crate::report::{Report, SqlState};
use crate::route::Transaction;
use crate::sql::{Kind, Statement};
use crate::wire::frontend::{self, Object};
use crate::wire::{Cursor, HEADER_LENGTH, Header, Malformed, write};
use std::rc::Rc;

/// Messages that must be read as a whole are read up to this length, in bytes; longer ones go to the primary unread.
pub(super) const MAX_READ: usize = 1 << 20;
/// The names at the beginning of a longer message, in bytes at most.
const MAX_NAMES: usize = 4096;
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
pub(super) enum Taken {
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
        self.blocked = self.kept.retrying.is_some();
        self.congested = false;
        while !self.blocked {
            let available = self.client.input.len() - self.direct.length;
            if available == 0 {
                break;
            }
            if self.is_congested() {
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
            let taken = if self.message_log.requests {
                self.take_request_told(header, available)?
            } else {
                self.take_request(header, available)?
            };
            match taken {
                Taken::Forward { node, now } => {
                    self.kept_is_taken(header.total);
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
            server.replies.flush_sent();
        }
        Ok(moved)
    }

    /// Whether the active server does not take what is sent, or the client what it is told.
    pub(super) fn is_congested(&self) -> bool {
        let to_client = self.client.output.len() + self.message_log.notices.len();
        self.group.get(self.active).map_or(0, |server| server.output.len()).max(to_client) > MAX_BACKLOG
    }

    /// Looks at the message at the front of which `available` bytes are here.
    pub(super) fn take_request(&mut self, header: Header, available: usize) -> Result<Taken, End> {
        let whole = available >= header.total;
        let copying_in = self.group.get(self.active).is_some_and(|server| server.replies.is_copying_in());
        match header.kind {
            // A client that leaves in the middle of a COPY takes it back.
            b'X' if copying_in => Err(End::ClientGone),
            // Whatever else comes now is the server's to refuse.
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' if copying_in => {
                Ok(Taken::Forward { node: self.active, now: header.total.min(available) })
            }
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
            kind => Err(End::protocol_violation(&Malformed::UnknownType(kind))),
        }
    }

    /// The content of the whole message at the front.
    fn content(&self, header: Header) -> &[u8] {
        front(&self.client, self.direct, header, header.total)
    }

    /// A text or value too long to be read here: it goes to the primary, which needs nothing from us to deal with it.
    fn take_long(&mut self, header: Header, available: usize) -> Result<Taken, End> {
        let node = self.home;
        let names = {
            let mut cursor = Cursor::new(front(&self.client, self.direct, header, available));
            match header.kind {
                b'P' => cursor.text().map(|name| (name.to_vec(), Vec::new())),
                b'B' => {
                    cursor.text().zip(cursor.text()).map(|(portal, statement)| (portal.to_vec(), statement.to_vec()))
                }
                _ => Some((Vec::new(), Vec::new())),
            }
        };
        let Some((name, statement)) = names else {
            return if available < MAX_NAMES {
                Ok(Taken::Incomplete)
            } else {
                Err(End::protocol_violation(&Malformed::Content(frontend::name(header.kind))))
            };
        };
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        let awaited = match header.kind {
            b'Q' => Awaited::Query,
            b'F' => Awaited::FunctionCall,
            b'P' => Awaited::Parse,
            _ => Awaited::Bind,
        };
        match header.kind {
            // What it will be is not read.
            b'P' => self.statements.forget(&name),
            b'B' => {
                self.prepare_on(&statement, node)?;
                self.portals.bind(&name, &statement, node);
            }
            _ => {}
        }
        match header.kind {
            b'P' | b'B' => {
                self.join_batch(node);
                self.batch_has_begun(node);
            }
            _ => self.end_batch(node),
        }
        if self.expect(node, awaited, Deliver::Client) {
            if matches!(header.kind, b'Q' | b'F') {
                self.note_unknown();
            }
            if matches!(header.kind, b'Q' | b'P') {
                self.catalog.note_unknown();
            }
        }
        trace::busy(self.context, node);
        Ok(Taken::Forward { node, now: available })
    }

    fn take_query(&mut self, header: Header) -> Result<Taken, End> {
        // A text with a zero inside is the server's to refuse.
        let text = frontend::query(front(&self.client, self.direct, header, header.total)).unwrap_or(b"\0");
        let facts = self.context.facts.get(text, self.lexing);
        if let Some(command) = self.local_command(&facts) {
            if !self.is_quiet() {
                return Ok(Taken::Blocked);
            }
            self.answer_locally(command)?;
            return Ok(Taken::Answered);
        }
        let pattern_text = if self.context.settings.primary_routing_query_pattern_list.is_empty() {
            Vec::new()
        } else {
            text.to_vec()
        };
        let Some(node) = self.node_for(&facts, &pattern_text, header.total)? else { return Ok(Taken::Blocked) };
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        self.end_batch(node);
        self.at_home = false;
        self.prepare_to_drop(&facts);
        if !self.expect(node, Awaited::Query, Deliver::Client) {
            return Ok(Taken::Forward { node, now: header.total });
        }
        let number = self.last_number(node);
        let writes = (node == self.home).then(|| self.writes_of(&facts));
        let in_transaction = self.transaction() != Transaction::Idle;
        let content = front(&self.client, self.direct, header, header.total);
        let text = content.strip_suffix(b"\0").unwrap_or(content);
        self.message_log.reason = self.reason_for_log(&facts, text, node);
        trace::statement(self.context, &self.group, node, &facts, text);
        if let Some(writes) = writes {
            self.catalog.note(&facts, text, in_transaction);
            self.journal.sent(number, &facts, text, writes, false);
            self.release_readers(&facts);
        }
        if !facts.is_multi() && matches!(facts.kind, Kind::Prepare { .. } | Kind::Deallocate(Some(_))) {
            let message = self.client.input.bytes()[self.direct.length..self.direct.length + header.total].to_vec();
            self.record_sql(&facts, message, node, number);
        }
        Ok(Taken::Forward { node, now: header.total })
    }

    /// PREPARE or DEALLOCATE goes to `node` as its message `number`. `message`: the Query that prepares it.
    fn record_sql(&mut self, facts: &Rc<Statement>, message: Vec<u8>, node: usize, number: u64) {
        match &facts.kind {
            Kind::Prepare { name, .. } => self.record(name.as_bytes(), message, Rc::clone(facts), node, number),
            Kind::Deallocate(Some(name)) => {
                if let Some(prepared) = self.statements.close(name.as_bytes(), node) {
                    self.changes.sent(node, number, Change::Closed(name.as_bytes().into(), prepared));
                }
            }
            _ => {}
        }
    }

    /// `message`, which prepares `name`, goes to `node` as its message `number`.
    fn record(&mut self, name: &[u8], message: Vec<u8>, facts: Rc<Statement>, node: usize, number: u64) {
        let change = if self.statements.get(name).is_none() {
            self.statements.prepare(name, &message, facts, node);
            Change::New(name.into())
        } else {
            Change::Again(name.into(), message, facts)
        };
        self.changes.sent(node, number, change);
    }

    /// Number of the last message sent to `node`.
    fn last_number(&self, node: usize) -> u64 {
        self.group.get(node).map_or(0, |server| server.replies.last_number())
    }

    fn take_function_call(&mut self, header: Header) -> Result<Taken, End> {
        let node = self.home;
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        self.end_batch(node);
        trace::busy(self.context, node);
        if self.expect(node, Awaited::FunctionCall, Deliver::Client) {
            self.note_unknown();
        }
        Ok(Taken::Forward { node, now: header.total })
    }

    /// The last message sent to the primary may do anything.
    fn note_unknown(&mut self) {
        self.journal.sent_unknown(self.last_number(self.home));
    }

    /// One message of an extended batch.
    fn take_extended(&mut self, header: Header) -> Result<Taken, End> {
        if header.kind == b'S' {
            return self.take_sync(header);
        }
        // A name may be about to become free.
        if header.kind == b'P' && self.journal.will_discard() && !self.is_quiet() {
            return Ok(Taken::Blocked);
        }
        let Some(node) = self.node_for_extended(header)? else { return Ok(Taken::Blocked) };
        match header.kind {
            b'P' => self.take_parse(header, node)?,
            b'B' => self.take_bind(header, node)?,
            b'D' => {
                self.prepare_described(header, node)?;
                self.expect(node, Awaited::Describe, Deliver::Client);
            }
            b'E' => self.take_execute(header, node)?,
            b'C' => self.take_close(header, node),
            _ => {
                if let Some(server) = self.group.get_mut(node) {
                    server.replies.flush_sent();
                }
            }
        }
        self.batch_has_begun(node);
        Ok(Taken::Forward { node, now: header.total })
    }

    fn take_close(&mut self, header: Header, node: usize) {
        if !self.expect(node, Awaited::Close, Deliver::Client) {
            return;
        }
        let content = front(&self.client, self.direct, header, header.total);
        match frontend::object(content, "Close") {
            Ok(Object::Statement(name)) => {
                if let Some(prepared) = self.statements.close(name, node) {
                    let number = self.group.get(node).map_or(0, |server| server.replies.last_number());
                    self.changes.sent(node, number, Change::Closed(name.into(), prepared));
                }
            }
            Ok(Object::Portal(name)) => self.portals.close(name),
            Err(_) => {}
        }
    }

    fn batch_has_begun(&mut self, node: usize) {
        if let Some(batch) = &mut self.batch {
            batch.begun.insert(node);
        }
    }

    /// Sync goes to every node of the batch; the last one answers it.
    fn take_sync(&mut self, header: Header) -> Result<Taken, End> {
        let node = self.batch.map_or(self.home, |batch| batch.node);
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        self.end_batch(node);
        self.at_home = false;
        self.expect(node, Awaited::Sync, Deliver::Client);
        Ok(Taken::Forward { node, now: header.total })
    }

    /// The batch, if one is open, ends on `node`; its other nodes get a Sync of their own.
    fn end_batch(&mut self, node: usize) {
        let Some(batch) = self.batch.take() else { return };
        for other in batch.nodes.iter().filter(|other| *other != node) {
            if let Some(server) = self.group.get_mut(other) {
                self.message_log.sent(server, "", b"Sync");
                write::sync(&mut server.output);
                server.replies.sent(Awaited::Sync, Deliver::Silent);
            }
        }
    }

    fn take_parse(&mut self, header: Header, node: usize) -> Result<(), End> {
        let content = front(&self.client, self.direct, header, header.total);
        let parse = frontend::parse(content).map_err(|error| End::protocol_violation(&error))?;
        let facts = self.context.facts.get(parse.query, self.lexing);
        let name = parse.statement;
        let is_new = name.is_empty() || self.statements.get(name).is_none();
        if !name.is_empty() && (!is_new || self.statements.has_stale()) {
            let name = name.to_vec();
            self.prepare_on(&name, node)?;
            self.close_stale(&name, node)?;
        }
        if let Some(name) = named_statement(&facts.kind) {
            self.bring(name, node)?;
        }
        if !self.expect(node, Awaited::Parse, Deliver::Client) {
            return Ok(());
        }
        let number = self.last_number(node);
        let start = self.direct.length;
        let message = &self.client.input.bytes()[start..start + header.total];
        if let Ok(parse) = frontend::parse(&message[HEADER_LENGTH..]) {
            let name = parse.statement.into();
            let change = if is_new {
                self.statements.prepare(parse.statement, message, facts, node);
                Change::New(name)
            } else {
                Change::Again(name, message.to_vec(), facts)
            };
            self.changes.sent(node, number, change);
        }
        Ok(())
    }

    fn take_bind(&mut self, header: Header, node: usize) -> Result<(), End> {
        let bind = frontend::bind(self.content(header)).map_err(|error| End::protocol_violation(&error))?;
        if let Some(prepared) = self.statements.get(bind.statement)
            && named_statement(&prepared.facts.kind).is_some()
        {
            let (name, facts) = (bind.statement.to_vec(), Rc::clone(&prepared.facts));
            self.bring(named_statement(&facts.kind).unwrap_or_default(), node)?;
            self.prepare_on(&name, node)?;
        } else if self.must_be_prepared(bind.statement, node) {
            let name = bind.statement.to_vec();
            self.prepare_on(&name, node)?;
        }
        let content = front(&self.client, self.direct, header, header.total);
        let bind = frontend::bind(content).map_err(|error| End::protocol_violation(&error))?;
        self.portals.bind(bind.portal, bind.statement, node);
        self.expect(node, Awaited::Bind, Deliver::Client);
        Ok(())
    }

    fn prepare_described(&mut self, header: Header, node: usize) -> Result<(), End> {
        if let Ok(Object::Statement(name)) = frontend::object(self.content(header), "Describe")
            && self.must_be_prepared(name, node)
        {
            let name = name.to_vec();
            self.prepare_on(&name, node)?;
        }
        Ok(())
    }

    fn take_execute(&mut self, header: Header, node: usize) -> Result<(), End> {
        if !self.expect(node, Awaited::Execute, Deliver::Client) {
            return Ok(());
        }
        let content = front(&self.client, self.direct, header, header.total);
        let portal = frontend::execute(content).map_err(|error| End::protocol_violation(&error))?;
        let Some(prepared) = self.portals.statement(portal).and_then(|name| self.statements.get(name)) else {
            trace::busy(self.context, node);
            if node == self.home {
                self.note_unknown();
            }
            return Ok(());
        };
        self.message_log.reason = self.reason_for_log(&prepared.facts, prepared.text(), node);
        trace::statement(self.context, &self.group, node, &prepared.facts, prepared.text());
        let number = self.last_number(node);
        if node == self.home {
            let writes = self.writes_of(&prepared.facts);
            let in_transaction = self.transaction() != Transaction::Idle;
            self.catalog.note(&prepared.facts, prepared.text(), in_transaction);
            let is_joined = self.batch.is_some_and(|batch| batch.executed);
            self.journal.sent(number, &prepared.facts, prepared.text(), writes, is_joined);
            if let Some(batch) = &mut self.batch {
                batch.executed = true;
            }
        }
        match prepared.facts.kind {
            Kind::Commit { .. } | Kind::Rollback { .. } if node == self.home => {
                let facts = Rc::clone(&prepared.facts);
                self.release_readers(&facts);
            }
            Kind::Prepare { .. } | Kind::Deallocate(Some(_)) => {
                let facts = Rc::clone(&prepared.facts);
                let mut message = Vec::new();
                write::query(&mut message, prepared.text());
                self.record_sql(&facts, message, node, number);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether something is to be done before `name` can be used on `node`.
    #[inline]
    fn must_be_prepared(&self, name: &[u8], node: usize) -> bool {
        self.statements.has_stale() || self.statements.get(name).is_some_and(|prepared| !prepared.nodes.contains(node))
    }

    /// Prepares the statement `name` on `node` if it is not: the original message, its answer for nobody. One that the
    /// client has closed elsewhere is closed.
    fn prepare_on(&mut self, name: &[u8], node: usize) -> Result<(), End> {
        let known = self.statements.get(name);
        if known.is_some_and(|prepared| prepared.nodes.contains(node)) {
            return Ok(());
        }
        let can_be_parsed = known.is_some_and(|prepared| prepared.is_parse());
        self.close_stale(name, node)?;
        if !can_be_parsed {
            return Ok(());
        }
        self.send_direct()?;
        if let Some(prepared) = self.statements.get_mut(name)
            && let Some(server) = self.group.get_mut(node)
            && server.replies.sent(Awaited::Parse, Deliver::Nobody)
        {
            self.message_log.sent(server, "Parse: ", prepared.text());
            server.output.extend_from_slice(&prepared.message);
            prepared.nodes.insert(node);
            self.changes.sent(node, server.replies.last_number(), Change::New(name.into()));
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
            self.message_log.sent(server, "", b"C message");
            write::close_statement(&mut server.output, name);
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
    pub(super) fn activate(&mut self, node: usize) -> bool {
        if node != self.active && !self.is_quiet() {
            return false;
        }
        self.active = node;
        true
    }

    /// Whether no node owes the client anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.group
            .get(self.active)
            .is_none_or(|server| !server.replies.owes_client() && server.state == ReplyState::Between)
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
        let Some(server) = self.group.get_mut(node) else {
            return if length == 0 { Ok(()) } else { Err(End::server_lost(node, "the connection was closed before")) };
        };
        let bytes = &self.client.input.bytes()[..length];
        if !server.output.is_empty() {
            server.output.extend_from_slice(bytes);
        } else if length > 0 {
            match server.stream.send(bytes) {
                Ok(sent) => server.output.extend_from_slice(&bytes[sent..]),
                Err(error) if node == self.home => return Err(End::server_lost(node, &error.to_string())),
                // The receive will tell what has become of it.
                Err(_) => {}
            }
        }
        self.client.input.consume(length);
        self.direct.length = 0;
        self.flush_server(node)
    }

    /// Sends what waits for `node`. Another node than the primary that does not take it is dealt with by the receive.
    pub(super) fn flush_server(&mut self, node: usize) -> Result<(), End> {
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        match server.flush() {
            Ok(_) => Ok(()),
            Err(error) => {
                server.output.clear();
                self.connection_failed(node, &error.to_string());
                if node == self.home { Err(End::server_lost(node, &error.to_string())) } else { Ok(()) }
            }
        }
    }
}

/// The first `available` bytes, at most, of the message behind the direct part of the client's buffer, without its header.
pub(super) fn front(client: &Client, direct: Direct, header: Header, available: usize) -> &[u8] {
    &client.input.bytes()[direct.length + HEADER_LENGTH..direct.length + header.total.min(available)]
}
