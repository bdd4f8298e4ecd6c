//! Our statements in the extended protocol (show-commands 2.4): drivers that never use another one can run them, in
//! pipelines with statements for servers too.
//!
//! A message is ours if it prepares a text of ours, or names a statement or portal of ours. It waits until servers have
//! answered everything in front of it. Sync is a server's business as soon as a server has got a message of the batch.
//!
//! A refusal ends the batch: a message that must fail is sent to the primary, unseen by the client. The primary then
//! ignores the rest up to Sync, and ends the transaction, as if it had refused the statement itself. While there is no
//! primary there is no transaction either, and the rest is ignored here.

use super::objects::{Portal, Prepared, Progress};
use super::{Objects, Outcome, Session, already_exists, command_of, in_failed_block, refuse};
use crate::backend::{Awaited, Deliver};
use crate::report::{Report, Result, SqlState};
use crate::session::end::End;
use crate::session::requests::{Taken, front};
use crate::sql::{FactsCache, Kind, Lexing, Statement, may_be_ours};
use crate::wire::frontend::{self, Object};
use crate::wire::{Header, TransactionStatus, write};
use std::rc::Rc;

/// Names no prepared statement. A server's log shows it when a batch is made to fail there.
const NO_STATEMENT: &[u8] = b"pgpool has refused an earlier message of this batch";

/// Whether a message of an extended batch, Sync and Flush aside, is for us.
pub(in crate::session) fn is_ours(
    objects: &Objects,
    facts: &mut FactsCache,
    lexing: Lexing,
    kind: u8,
    content: &[u8],
) -> bool {
    match kind {
        b'B' | b'D' | b'C' | b'E' if objects.is_idle() => false,
        b'P' => frontend::parse(content).is_ok_and(|parse| {
            let is_taken = !parse.statement.is_empty() && objects.has_statement(parse.statement);
            let may_be = || may_be_ours(parse.query) || !objects.is_idle();
            is_taken || (may_be() && command_of(objects, &facts.get(parse.query, lexing)).is_some())
        }),
        b'B' => frontend::bind(content).is_ok_and(|bind| {
            let is_taken = !bind.portal.is_empty() && objects.has_portal(bind.portal);
            is_taken || objects.has_statement(bind.statement)
        }),
        b'D' | b'C' => match frontend::object(content, "") {
            Ok(Object::Statement(name)) => objects.has_statement(name),
            Ok(Object::Portal(name)) => objects.has_portal(name),
            Err(_) => false,
        },
        b'E' => frontend::execute(content).is_ok_and(|portal| objects.has_portal(portal)),
        _ => false,
    }
}

/// Whether a message of an extended batch can be taken while there is no primary.
pub(super) fn needs_no_server(
    objects: &Objects,
    facts: &mut FactsCache,
    lexing: Lexing,
    kind: u8,
    content: &[u8],
) -> bool {
    if objects.failed || (objects.begun && matches!(kind, b'S' | b'H')) {
        return true;
    }
    let looks_up = |name| objects.portal(name).is_some_and(|portal| portal.prepared.command.looks_up());
    is_ours(objects, facts, lexing, kind, content) && !(kind == b'E' && frontend::execute(content).is_ok_and(looks_up))
}

impl Session<'_> {
    /// The message at the front, which is whole, if it is ours.
    #[inline]
    pub(in crate::session) fn take_own(&mut self, header: Header) -> std::result::Result<Option<Taken>, End> {
        if self.local.is_idle() {
            let content = front(&self.client, self.direct, header, header.total);
            if header.kind != b'P' || !frontend::parse(content).is_ok_and(|parse| may_be_ours(parse.query)) {
                return Ok(None);
            }
        }
        self.sort_own(header)
    }

    fn sort_own(&mut self, header: Header) -> std::result::Result<Option<Taken>, End> {
        if self.local.failed {
            if header.kind == b'S' {
                self.local.failed = false;
                self.take_ours(header)?;
            }
            return Ok(Some(Taken::Answered));
        }
        let alone = self.local.begun && self.batch.is_none() && !self.is_skipping();
        let content = front(&self.client, self.direct, header, header.total);
        let is_own = is_ours(&self.local, &mut self.context.facts, self.lexing, header.kind, content)
            || (alone && matches!(header.kind, b'S' | b'H'));
        let replaces = !is_own && self.replaces_unnamed(header);
        if (is_own || replaces) && !self.has_heard_all() {
            return Ok(Some(Taken::Blocked));
        }
        // Past an error everything up to Sync is ignored.
        if is_own && self.is_skipping() {
            return Ok(Some(Taken::Answered));
        }
        if !is_own {
            if replaces && !self.is_skipping() {
                self.give_way(header);
            }
            self.local.begun &= header.kind != b'S';
            return Ok(None);
        }
        self.take_ours(header)?;
        Ok(Some(Taken::Answered))
    }

    /// Whether a message for a server takes the place of something unnamed here.
    fn replaces_unnamed(&self, header: Header) -> bool {
        // The first name of both is that of what they make.
        let makes_unnamed = self.content(header).first() == Some(&0);
        match header.kind {
            b'P' => makes_unnamed && self.local.has_statement(b""),
            b'B' => makes_unnamed && self.local.has_portal(b""),
            _ => false,
        }
    }

    fn give_way(&mut self, header: Header) {
        match header.kind {
            b'P' => self.local.close_statement(b""),
            _ => self.local.close_portal(b""),
        }
    }

    fn take_ours(&mut self, header: Header) -> std::result::Result<(), End> {
        let content = self.content(header).to_vec();
        let malformed = |error| End::protocol_violation(&error);
        let result = match header.kind {
            b'S' => {
                // The end of a batch that no server has seen.
                self.local.begun = false;
                self.tell_ready();
                return Ok(());
            }
            b'P' => self.parse_own(frontend::parse(&content).map_err(malformed)?),
            b'B' => {
                let values = frontend::bind_values(&content).map_err(malformed)?;
                self.bind_own(frontend::bind(&content).map_err(malformed)?, values)
            }
            b'D' => self.describe_own(frontend::object(&content, "Describe").map_err(malformed)?),
            b'E' => {
                let (portal, limit) = frontend::execute_limit(&content).map_err(malformed)?;
                self.execute_own(portal, limit)?
            }
            b'C' => {
                match frontend::object(&content, "Close").map_err(malformed)? {
                    Object::Statement(name) => self.local.close_statement(name),
                    Object::Portal(name) => self.local.close_portal(name),
                }
                write::close_complete(&mut self.client.output);
                Ok(())
            }
            _ => Ok(()),
        };
        self.local.begun = true;
        match result {
            Ok(()) => Ok(()),
            Err(report) => self.fail_batch(&report),
        }
    }

    fn parse_own(&mut self, parse: frontend::Parse<'_>) -> Result<()> {
        let name = parse.statement;
        let facts = self.context.facts.get(parse.query, self.lexing);
        let command = self.local_command(&facts);
        let is_refused = match &command {
            Some(command) => self.is_refused_now(command),
            None => self.has_failed() && !ends_block(&facts),
        };
        if is_refused {
            return Err(in_failed_block(parse.query));
        }
        if !name.is_empty() && (self.local.has_statement(name) || self.statements.get(name).is_some()) {
            return Err(already_exists(name));
        }
        let Some(command) = command else { return Ok(()) };
        let columns = command.columns()?;
        if name.is_empty() {
            self.statements.forget(b"");
        }
        self.local.prepare(name, Prepared { command, text: parse.query.into(), columns });
        write::parse_complete(&mut self.client.output);
        Ok(())
    }

    fn bind_own(&mut self, bind: frontend::Bind<'_>, values: frontend::BindValues) -> Result<()> {
        // The tests in PostgreSQL's order.
        let (portal, statement) = (bind.portal, bind.statement);
        let frontend::BindValues { parameters, formats } = values;
        let prepared = self.local.statement(statement).map(Rc::clone);
        let is_refused = match (&prepared, self.statements.get(statement)) {
            (Some(_), _) if parameters != 0 => {
                return Err(Report::error(format!(
                    "bind message supplies {parameters} parameters, but prepared statement \"{}\" requires 0",
                    text(statement)
                ))
                .code(SqlState::PROTOCOL_VIOLATION));
            }
            (Some(prepared), _) => self.is_refused_now(&prepared.command),
            (None, Some(prepared)) => self.has_failed() && !ends_block(&prepared.facts),
            (None, None) => {
                return Err(Report::error(format!("prepared statement \"{}\" does not exist", text(statement)))
                    .code(SqlState::INVALID_STATEMENT_NAME));
            }
        };
        if is_refused {
            return Err(in_failed_block(prepared.as_ref().map_or(b"", |prepared| &prepared.text)));
        }
        if !portal.is_empty() && (self.local.has_portal(portal) || self.portals.node(portal).is_some()) {
            return Err(
                Report::error(format!("cursor \"{}\" already exists", text(portal))).code(SqlState::DUPLICATE_CURSOR)
            );
        }
        let Some(prepared) = prepared else { return Ok(()) };
        if let Some(columns) = &prepared.columns {
            check_formats(&formats, columns.len())?;
        }
        if portal.is_empty() {
            self.portals.close(b"");
        }
        self.local.bind(portal, Portal { prepared, formats, progress: Progress::Bound });
        write::bind_complete(&mut self.client.output);
        Ok(())
    }

    fn describe_own(&mut self, object: Object<'_>) -> Result<()> {
        let (prepared, portal) = match object {
            Object::Statement(name) => (self.local.statement(name), None),
            Object::Portal(name) => {
                let portal = self.local.portal(name);
                (portal.map(|portal| &portal.prepared), portal)
            }
        };
        let Some(prepared) = prepared else { return Ok(()) };
        if self.is_refused_now(&prepared.command) {
            return Err(in_failed_block(&prepared.text));
        }
        let out = &mut self.client.output;
        if portal.is_none() {
            write::no_parameters(out);
        }
        match &prepared.columns {
            Some(columns) => {
                write::row_description_in(out, columns, |column| portal.map_or(0, |portal| portal.format(column)));
            }
            None => write::no_data(out),
        }
        Ok(())
    }

    /// Sends at most `limit` rows of the portal, all if that is 0. As with PostgreSQL a portal that has sent exactly so many
    /// as it had does not know yet that there are no more.
    fn execute_own(&mut self, name: &[u8], limit: usize) -> std::result::Result<Result<()>, End> {
        let Some(portal) = self.local.portal(name) else { return Ok(Ok(())) };
        let prepared = Rc::clone(&portal.prepared);
        match portal.progress {
            Progress::Bound => {
                if self.context.settings.log_statement {
                    Report::log_line(format!("statement: {}", text(&prepared.text))).log();
                }
                let progress = match self.carry_out(&prepared.command, &prepared.text)? {
                    Ok(Outcome::Rows(table)) => Progress::Rows(table.rows.into_iter()),
                    Ok(Outcome::Done(tag)) => {
                        write::command_complete(&mut self.client.output, tag);
                        Progress::Done
                    }
                    Err(report) => return Ok(Err(report)),
                };
                if let Some(portal) = self.local.portal_mut(name) {
                    portal.progress = progress;
                }
            }
            Progress::Rows(_) if self.is_refused_now(&prepared.command) => {
                return Ok(Err(in_failed_block(&prepared.text)));
            }
            Progress::Rows(_) => {}
            Progress::Done => {
                let report = Report::error(format!("portal \"{}\" cannot be run", text(name)));
                return Ok(Err(report.code(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)));
            }
        }
        if let Some(Portal { progress: Progress::Rows(rows), .. }) = self.local.portal_mut(name) {
            let out = &mut self.client.output;
            let wanted = if limit == 0 { usize::MAX } else { limit };
            let mut sent = 0;
            for row in rows.take(wanted) {
                write::data_row(out, &row);
                sent += 1;
            }
            if sent == wanted {
                write::portal_suspended(out);
            } else {
                write::command_complete(out, &format!("SELECT {sent}"));
            }
        }
        Ok(Ok(()))
    }

    /// Whether the transaction has failed and so refuses it.
    pub(super) fn is_refused_now(&self, command: &super::Command) -> bool {
        command.needs_transaction() && self.has_failed()
    }

    fn has_failed(&self) -> bool {
        self.group.status(self.home) == TransactionStatus::Failed
    }

    /// The client is told, and the primary, if there is one, fails the batch in its own books.
    fn fail_batch(&mut self, report: &Report) -> std::result::Result<(), End> {
        refuse(&mut self.client.output, report);
        if self.is_homeless() {
            self.local.failed = true;
            return Ok(());
        }
        let home = self.home;
        self.send_direct()?;
        if !self.activate(home) {
            return Ok(());
        }
        self.join_batch(home);
        let Some(server) = self.group.get_mut(home) else { return Ok(()) };
        if server.replies.sent(Awaited::Describe, Deliver::Silent) {
            write::describe_statement(&mut server.output, NO_STATEMENT);
        }
        self.batch_has_begun(home);
        Ok(())
    }
}

/// Text is the same in both formats, so either will do.
fn check_formats(formats: &[u16], columns: usize) -> Result<()> {
    if formats.len() > 1 && formats.len() != columns {
        return Err(Report::error(format!(
            "bind message has {} result formats but query has {columns} columns",
            formats.len()
        ))
        .code(SqlState::PROTOCOL_VIOLATION));
    }
    match formats.iter().find(|code| **code > 1) {
        Some(code) => {
            Err(Report::error(format!("unsupported format code: {code}")).code(SqlState::INVALID_PARAMETER_VALUE))
        }
        None => Ok(()),
    }
}

/// Whether a failed transaction accepts it.
fn ends_block(facts: &Statement) -> bool {
    matches!(facts.kind, Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_) | Kind::PrepareTransaction)
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
