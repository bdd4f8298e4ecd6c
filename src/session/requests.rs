//! From the client to the servers: each message is given a node and forwarded unchanged.
//!
//! Whole batches are contiguous in the receive buffer and leave in one send ([`Direct`]). Only one node at a time owes
//! answers to the client: when the next message belongs to another node, it waits until the first one is done, so that
//! answers arrive in the order of the questions.

use super::client::Client;
use super::end::End;
use super::{Session, message_log, trace};
use crate::backend::{Awaited, Deliver, ReplyState};
use crate::report::{Report, SqlState};
use crate::route::Transaction;
use crate::sql::Kind;
use crate::wire::frontend;
use crate::wire::{Cursor, HEADER_LENGTH, Header, Malformed, write};

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
    /// Its first part was answered here, and the rest has taken its place.
    Shortened,
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
            if self.lost_home.is_some() && !self.is_home_again()? {
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
            self.check_length(header)?;
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
                Taken::Shortened => {}
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
            b'X' if !self.is_quiet() || !self.client.output.is_empty() => {
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
    pub(super) fn content(&self, header: Header) -> &[u8] {
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
                self.portals.bind(&name, self.statements.definition(&statement), node);
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
        trace::unread(self.context, node, header.kind == b'Q');
        Ok(Taken::Forward { node, now: available })
    }

    fn take_query(&mut self, header: Header) -> Result<Taken, End> {
        if self.is_skipping() {
            return Ok(Taken::Forward { node: self.active, now: header.total });
        }
        // A text with a zero inside is the server's to refuse.
        let text = frontend::query(front(&self.client, self.direct, header, header.total)).unwrap_or(b"\0");
        let facts = self.context.facts.get(text, self.lexing);
        if let Some(command) = self.own_query(&facts) {
            return self.take_own_query(header, &command, &facts);
        }
        if self.caching.is_some() && self.answer_from_cache(header, &facts)? {
            return Ok(Taken::Answered);
        }
        if self.caching.is_some() && !self.learn_hidden_calls(&facts)? {
            return Ok(Taken::Blocked);
        }
        let text = frontend::query(self.content(header)).unwrap_or(b"\0");
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
        self.forget_unnamed();
        self.prepare_to_drop(&facts);
        if self.caching.is_some() {
            self.note_for_cache(header, &facts, None)?;
        }
        if !self.expect(node, Awaited::Query, Deliver::Client) {
            return Ok(Taken::Forward { node, now: header.total });
        }
        let number = self.last_number(node);
        self.begin_fill(facts.kind == Kind::Select, node, number);
        let writes = (node == self.home).then(|| self.writes_of(&facts));
        let in_transaction = self.transaction() != Transaction::Idle;
        let content = front(&self.client, self.direct, header, header.total);
        let text = content.strip_suffix(b"\0").unwrap_or(content);
        self.message_log.reason = self.reason_for_log(&facts, text, node);
        message_log::unparsable(self.context, &facts, text);
        trace::statement(self.context, &self.group, node, &facts, text);
        self.context.slot.count_reason(self.reason);
        if let Some(writes) = writes {
            self.catalog.note(&facts, text, in_transaction);
            self.journal.sent(number, &facts, text, writes, false);
            self.release_readers(&facts);
        }
        if !facts.is_multi() && matches!(facts.kind, Kind::Prepare { .. } | Kind::Deallocate(Some(_))) {
            let message = self.client.input.bytes()[self.direct.length..self.direct.length + header.total].to_vec();
            self.record_sql(&facts, message, node, number);
        } else if facts.is_multi() {
            self.forget_named(&facts, node, number);
        }
        Ok(Taken::Forward { node, now: header.total })
    }

    /// A simple query ends what is unnamed, on whatever node it is.
    pub(super) fn forget_unnamed(&mut self) {
        self.statements.forget(b"");
        self.portals.close(b"");
        self.local.simple_query();
    }

    /// Number of the last message sent to `node`.
    pub(super) fn last_number(&self, node: usize) -> u64 {
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
    pub(super) fn note_unknown(&mut self) {
        self.note_unknown_for_cache();
        self.journal.sent_unknown(self.last_number(self.home));
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
                Err(error) => server.broken = Some(error.to_string()),
            }
        }
        self.client.input.consume(length);
        self.direct.length = 0;
        self.flush_server(node)
    }

    /// Sends what waits for `node`. One that does not take it is dealt with by the receive: its last words may be there.
    pub(super) fn flush_server(&mut self, node: usize) -> Result<(), End> {
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        if let Err(error) = server.flush() {
            server.output.clear();
            server.broken = Some(error.to_string());
        }
        Ok(())
    }
}

/// The first `available` bytes, at most, of the message behind the direct part of the client's buffer, without its header.
pub(super) fn front(client: &Client, direct: Direct, header: Header, available: usize) -> &[u8] {
    &client.input.bytes()[direct.length + HEADER_LENGTH..direct.length + header.total.min(available)]
}
