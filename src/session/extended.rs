//! The messages of the extended protocol, one by one: what each does to prepared statements and portals on record, and what
//! must be sent in front of it so that its names mean on that node what they mean in the session (routing 10, 13).

use super::Session;
use super::changes::Change;
use super::end::End;
use super::judge::named_statement;
use super::requests::{Taken, front};
use super::{message_log, trace};
use crate::backend::{Awaited, Deliver};
use crate::route::Transaction;
use crate::sql::{Kind, Statement};
use crate::wire::frontend::{self, Object};
use crate::wire::{HEADER_LENGTH, Header, write};
use std::rc::Rc;

impl Session<'_> {
    /// One message of an extended batch.
    pub(super) fn take_extended(&mut self, header: Header) -> Result<Taken, End> {
        if let Some(taken) = self.take_own(header)? {
            return Ok(taken);
        }
        if header.kind == b'S' {
            return self.take_sync(header);
        }
        if self.caching.is_some() && self.batch.is_none() && self.answer_batch_from_cache()? {
            return Ok(Taken::Shortened);
        }
        if self.caching.is_some() && self.batch.is_none() && !self.prepare_to_judge_batch()? {
            return Ok(Taken::Blocked);
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

    pub(super) fn batch_has_begun(&mut self, node: usize) {
        if let Some(batch) = &mut self.batch {
            batch.begun.insert(node);
        }
    }

    /// Sync goes to every node of the batch; the last one answers it.
    fn take_sync(&mut self, header: Header) -> Result<Taken, End> {
        let without_batch = if self.is_skipping() { self.active } else { self.home };
        let node = self.batch.map_or(without_batch, |batch| batch.node);
        if !self.activate(node) {
            return Ok(Taken::Blocked);
        }
        self.end_batch(node);
        self.at_home = false;
        if self.expect(node, Awaited::Sync, Deliver::Client) {
            self.begin_fill(false, node, self.last_number(node));
        }
        Ok(Taken::Forward { node, now: header.total })
    }

    /// Whether the server that was asked last ignores everything up to Sync, as far as its answers are here.
    pub(super) fn is_skipping(&self) -> bool {
        self.group.get(self.active).is_some_and(|server| server.replies.is_skipping())
    }

    /// The batch, if one is open, ends on `node`; its other nodes get a Sync of their own.
    pub(super) fn end_batch(&mut self, node: usize) {
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
        message_log::unparsable(self.context, &facts, parse.query);
        let name = parse.statement;
        let is_new = name.is_empty() || self.statements.get(name).is_none();
        if !name.is_empty() && (!is_new || self.statements.has_stale()) {
            let name = name.to_vec();
            self.prepare_on(&name, node)?;
            self.close_stale(&name, node)?;
        }
        self.bring_what_it_names(&facts, node)?;
        if !self.expect(node, Awaited::Parse, Deliver::Client) {
            return Ok(());
        }
        let number = self.last_number(node);
        let meaning = self.meaning();
        let start = self.direct.length;
        let message = &self.client.input.bytes()[start..start + header.total];
        if let Ok(parse) = frontend::parse(&message[HEADER_LENGTH..]) {
            let name = parse.statement.into();
            let change = if is_new {
                self.statements.prepare(parse.statement, message, facts, node);
                self.statements.means(parse.statement, meaning);
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
        let definition = self.statements.definition(bind.statement);
        if let Some(definition) = &definition {
            definition.used(self.meaning());
        }
        self.portals.bind(bind.portal, definition, node);
        self.expect(node, Awaited::Bind, Deliver::Client);
        Ok(())
    }

    fn prepare_described(&mut self, header: Header, node: usize) -> Result<(), End> {
        let Ok(Object::Statement(name)) = frontend::object(self.content(header), "Describe") else { return Ok(()) };
        if let Some(prepared) = self.statements.get(name) {
            prepared.used(self.meaning());
        }
        if self.must_be_prepared(name, node) {
            let name = name.to_vec();
            self.prepare_on(&name, node)?;
        }
        Ok(())
    }

    fn take_execute(&mut self, header: Header, node: usize) -> Result<(), End> {
        if !self.expect(node, Awaited::Execute, Deliver::Client) {
            return Ok(());
        }
        if self.caching.is_some() {
            self.note_executed_for_cache(header)?;
        }
        let content = front(&self.client, self.direct, header, header.total);
        let portal = frontend::execute(content).map_err(|error| End::protocol_violation(&error))?;
        let Some(prepared) = self.portals.definition(portal).map(Rc::clone) else {
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
                self.release_readers(&prepared.facts);
                self.local.clear_portals();
            }
            Kind::Prepare { .. } | Kind::Deallocate(Some(_)) => {
                let mut message = Vec::new();
                write::query(&mut message, prepared.text());
                self.record_sql(&prepared.facts, message, node, number);
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
    pub(super) fn prepare_on(&mut self, name: &[u8], node: usize) -> Result<(), End> {
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
        let meaning = self.meaning();
        if let Some(prepared) = self.statements.get_mut(name)
            && let Some(server) = self.group.get_mut(node)
            && server.replies.sent(Awaited::Parse, Deliver::Nobody)
        {
            self.message_log.sent(server, "Parse: ", prepared.text());
            server.output.extend_from_slice(&prepared.message);
            prepared.prepared_again(meaning);
            prepared.nodes.insert(node);
            self.changes.sent(node, server.replies.last_number(), Change::Brought(name.into()));
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

    /// PREPARE or DEALLOCATE goes to `node` as its message `number`. `message`: the Query that prepares it.
    pub(super) fn record_sql(&mut self, facts: &Rc<Statement>, message: Vec<u8>, node: usize, number: u64) {
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

    /// A text of several statements goes to `node` as its message `number`: what the names are that it prepares and
    /// deallocates is not known any more, wherever it fails.
    pub(super) fn forget_named(&mut self, facts: &Statement, node: usize, number: u64) {
        for kind in facts.kinds() {
            let (Kind::Prepare { name, .. } | Kind::Deallocate(Some(name))) = kind else { continue };
            self.statements.close(name.as_bytes(), node);
            self.changes.sent(node, number, Change::Unknown(name.as_bytes().into()));
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
}
