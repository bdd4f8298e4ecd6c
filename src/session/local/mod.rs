//! Statements answered here: SHOW POOL_... (show-commands 2, 3), PGPOOL SHOW, SET, RESET (config 7, 8), PGPOOL EXPLAIN.
//!
//! A [`Command`] is recognised by its facts and carried out by [`Session::carry_out`], whichever protocol it came by: as a
//! Query it is answered at once ([`Session::take_own_query`]), in the extended protocol it becomes a prepared statement
//! and a portal of ours ([`extended`], [`objects`]).
//!
//! Invariants: nothing is sent to a server for it; its answer comes behind everything the client has asked before; the
//! transaction goes on as it was, and ReadyForQuery tells its true state.

mod extended;
mod objects;
mod parameters;

pub(super) use extended::is_ours;
pub(super) use objects::Objects;

use super::Session;
use super::end::End;
use super::requests::Taken;
use super::trace;
use crate::admin::{self, Explained, ParameterList, Table};
use crate::report::{Report, Result, Severity, SqlState};
use crate::route::Transaction;
use crate::sql::{Kind, PgpoolCommand, Statement, behind_show, may_be_ours};
use crate::wire::{HEADER_LENGTH, Header, TransactionStatus, frontend, write};

/// Bytes of answers to one Query that are collected before they are sent.
const AT_ONCE: usize = 1 << 20;

/// A statement that is ours to answer.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// SHOW POOL_...
    Show(admin::Command),
    /// `PGPOOL ...`
    Pgpool(PgpoolCommand),
    /// DEALLOCATE of a statement prepared here.
    Deallocate(Box<str>),
    /// PREPARE of a name that a statement prepared here has.
    Prepare(Box<str>),
}

/// What a command has brought about.
enum Outcome {
    Rows(Table),
    /// Done; what CommandComplete says.
    Done(&'static str),
}

impl Command {
    /// The columns of its rows; `None` if it has no rows.
    fn columns(&self) -> Result<Option<Vec<String>>> {
        Ok(match self {
            Self::Show(command) => Some(command.columns()),
            Self::Pgpool(PgpoolCommand::Explain(_)) => Some(admin::explain_columns()),
            Self::Pgpool(PgpoolCommand::Show(name)) => Some(ParameterList::named(name)?.columns()),
            Self::Pgpool(_) | Self::Deallocate(_) | Self::Prepare(_) => None,
        })
    }

    /// Whether a failed transaction refuses it (show-commands 2.3).
    fn needs_transaction(&self) -> bool {
        !matches!(self, Self::Pgpool(_))
    }

    /// Whether the servers may have to be asked what it names.
    fn looks_up(&self) -> bool {
        matches!(self, Self::Pgpool(PgpoolCommand::Explain(_)))
    }
}

/// The command that is ours to answer, if this is one.
fn command_of(objects: &Objects, facts: &Statement) -> Option<Command> {
    match &facts.kind {
        Kind::Pgpool(command) => Some(Command::Pgpool(command.clone())),
        _ if facts.is_multi() => None,
        Kind::Deallocate(Some(name)) if objects.has_statement(name.as_bytes()) => {
            Some(Command::Deallocate(name.clone()))
        }
        Kind::Prepare { name, .. } if objects.has_statement(name.as_bytes()) => Some(Command::Prepare(name.clone())),
        // What it names is carried out.
        Kind::Execute(name) => objects.statement(name.as_bytes()).map(|prepared| prepared.command.clone()),
        kind => show_pool(kind),
    }
}

/// SHOW POOL_...
fn show_pool(kind: &Kind) -> Option<Command> {
    match kind {
        Kind::Show(name) => admin::Command::from_name(name).map(Command::Show),
        _ => None,
    }
}

impl Session<'_> {
    /// The command that is ours to answer, if this is one.
    pub(super) fn local_command(&self, facts: &Statement) -> Option<Command> {
        command_of(&self.local, facts)
    }

    /// Whether the message at the front asks pgpool about itself: somebody who looks at a cluster without a primary is not
    /// to wait for one.
    pub(super) fn needs_no_server(&mut self) -> bool {
        let bytes = &self.client.input.bytes()[self.direct.length..];
        let Ok(Some(header)) = Header::read(bytes, frontend::name) else { return false };
        let Some(content) = bytes.get(HEADER_LENGTH..header.total) else { return false };
        if header.kind != b'Q' {
            return extended::needs_no_server(&self.local, &mut self.context.facts, self.lexing, header.kind, content);
        }
        let Ok(text) = frontend::query(content) else { return false };
        (may_be_ours(text) || !self.local.is_idle())
            && command_of(&self.local, &self.context.facts.get(text, self.lexing)).is_some_and(|own| !own.looks_up())
    }

    /// The command that a Query with these `facts` is, or begins with if that is SHOW POOL_...
    pub(super) fn own_query(&self, facts: &Statement) -> Option<Command> {
        self.local_command(facts).or_else(|| show_pool(&facts.kind))
    }

    /// Answers the Query at the front, which is or begins with `command`. What stands behind that is taken as if it came by
    /// itself.
    pub(super) fn take_own_query(
        &mut self,
        header: Header,
        command: &Command,
        facts: &Statement,
    ) -> std::result::Result<Taken, End> {
        if !self.has_heard_all() {
            return Ok(Taken::Blocked);
        }
        // It ends a batch left without Sync, as any Query does; how the transaction is then has to be heard.
        if self.batch.is_some() {
            self.send_direct()?;
            self.end_batch(usize::MAX);
            return Ok(Taken::Blocked);
        }
        self.forget_unnamed();
        let text = frontend::query(self.content(header)).unwrap_or_default().to_vec();
        let mut done = self.answer_query(command, &text)?;
        let mut further = facts.kinds().skip(1).peekable();
        let mut rest = further.peek().and_then(|_| behind_show(&text));
        // Those that follow at once are taken together: what is left is read anew, as a whole.
        while done
            && self.client.output.len() < AT_ONCE
            && let Some(command) = further.peek().and_then(|kind| show_pool(kind))
            && let Some(text) = rest
        {
            further.next();
            done = self.answer_query(&command, text)?;
            rest = further.peek().and_then(|_| behind_show(text));
        }
        self.send_direct()?;
        if let Some(rest) = rest.filter(|_| done) {
            let mut message = Vec::with_capacity(header.total);
            write::query(&mut message, rest);
            self.client.input.consume(header.total);
            self.client.input.put_back(&message);
            return Ok(Taken::Shortened);
        }
        self.tell_ready();
        self.client.flush()?;
        Ok(Taken::Answered)
    }

    /// Whether the answers to everything that stands in front of a message of ours are here, to hidden messages too.
    pub(super) fn has_heard_all(&self) -> bool {
        let owes = |node: usize| self.group.get(node).is_some_and(|server| !server.replies.is_empty());
        self.is_quiet() && !owes(self.home) && !self.batch.is_some_and(|batch| owes(batch.node))
    }

    /// ReadyForQuery from us: all that servers have been asked is answered.
    fn tell_ready(&mut self) {
        let status = self.group.status(self.home);
        if status == TransactionStatus::Idle {
            self.local.clear_portals();
        }
        write::ready_for_query(&mut self.client.output, status);
        trace::idle(self.context, status);
    }

    /// Answers a statement of a Query, ReadyForQuery aside. `Ok(false)`: it was refused.
    fn answer_query(&mut self, command: &Command, text: &[u8]) -> std::result::Result<bool, End> {
        let outcome = self.carry_out(command, text)?;
        let out = &mut self.client.output;
        let done = outcome.is_ok();
        match outcome {
            Ok(Outcome::Rows(table)) => {
                write::row_description(out, &table.columns);
                for row in &table.rows {
                    write::data_row(out, row);
                }
                write::command_complete(out, &format!("SELECT {}", table.rows.len()));
            }
            Ok(Outcome::Done(tag)) => write::command_complete(out, tag),
            Err(report) => refuse(out, &report),
        }
        Ok(done)
    }

    /// Carries the command out. `Ok(Err(_))`: it is refused, and the session goes on.
    fn carry_out(&mut self, command: &Command, text: &[u8]) -> std::result::Result<Result<Outcome>, End> {
        trace::local(self.context, &self.group, text);
        Ok(match command {
            command if self.is_refused_now(command) => Err(in_failed_block(text)),
            Command::Show(command) => Ok(Outcome::Rows(admin::table(*command, &self.admin_view()))),
            Command::Pgpool(PgpoolCommand::Explain(text)) => self.explain(text)?.map(Outcome::Rows),
            Command::Pgpool(PgpoolCommand::Show(name)) => {
                ParameterList::named(name).map(|list| Outcome::Rows(list.table(&self.context.settings)))
            }
            Command::Pgpool(PgpoolCommand::Set { name, value }) => self.set_parameter(name, value.as_deref()),
            Command::Pgpool(PgpoolCommand::Reset(name)) => self.reset_parameter(name),
            Command::Pgpool(PgpoolCommand::DeleteCached(query)) => {
                let found = self.delete_cached(query.as_bytes())?;
                let what = if found { "query cache deleted. query" } else { "query cache does not exist for query" };
                self.note(&Report::notice(format!("{what}: \"{query}\"")));
                Ok(Outcome::Done("SET"))
            }
            Command::Deallocate(name) => {
                self.local.close_statement(name.as_bytes());
                Ok(Outcome::Done("DEALLOCATE"))
            }
            Command::Prepare(name) => Err(already_exists(name.as_bytes())),
        })
    }

    fn admin_view(&self) -> admin::View<'_> {
        admin::View {
            settings: &self.context.settings,
            shared: &self.context.shared,
            load_balance_node: self.balance,
            listeners: &self.context.listeners,
        }
    }

    /// Tells the client, in front of the answer, if it wants to hear of such things.
    fn note(&mut self, report: &Report) {
        if report.severity.reaches_client(self.context.settings.client_min_messages.severity()) {
            report.encode(&mut self.client.output);
        }
    }

    /// Where `text` would go if it were sent now. It is not; but what it names is looked up as if it were.
    fn explain(&mut self, text: &[u8]) -> std::result::Result<Result<Table>, End> {
        let facts = self.context.facts.get(text, self.lexing);
        if facts.kind == Kind::Empty {
            let report = Report::error("PGPOOL EXPLAIN needs a statement behind it");
            return Ok(Err(report
                .hint("For example: PGPOOL EXPLAIN SELECT * FROM orders")
                .code(SqlState::SYNTAX_ERROR)));
        }
        self.begin_statement(self.transaction());
        self.catalog.begin_statement(self.transaction() != Transaction::Idle);
        self.learn(&facts)?;
        let route = match self.local_command(&facts) {
            Some(_) => None,
            None => Some(self.decide(&facts, text, self.transaction())),
        };
        Ok(Ok(admin::explain(&Explained {
            statement: &facts,
            text,
            route: route.as_ref(),
            session: self.view(&facts, self.transaction()),
            catalog: &self.catalog,
            cluster: &self.context.cluster,
            home: self.home,
            balance: &[self.balance],
        })))
    }
}

/// A prepared statement of this name is there.
fn already_exists(name: &[u8]) -> Report {
    Report::error(format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(name)))
        .code(SqlState::DUPLICATE_PREPARED_STATEMENT)
}

/// Refused by pgpool as a server would refuse it (show-commands 2.3).
fn in_failed_block(text: &[u8]) -> Report {
    Report::error("current transaction is aborted, commands ignored until end of transaction block")
        .detail(format!("statement: {}", String::from_utf8_lossy(text)))
        .code(SqlState::IN_FAILED_TRANSACTION)
}

/// A mistake of a client is told to him; for the log it is an event like others (config 8.3).
fn refuse(out: &mut Vec<u8>, report: &Report) {
    Report { severity: Severity::Log, ..report.clone() }.log();
    report.encode(out);
}
