//! Statements answered here: SHOW POOL_... (show-commands 2, 3) and PGPOOL EXPLAIN.

use super::Session;
use super::end::End;
use crate::admin::{self, Explained, Table};
use crate::report::{Report, SqlState};
use crate::route::Transaction;
use crate::sql::{Kind, PgpoolCommand, Statement};
use crate::wire::{TransactionStatus, write};

/// A statement that is ours to answer.
pub(super) enum Command {
    /// SHOW POOL_...
    Show(admin::Command),
    /// PGPOOL EXPLAIN of this text.
    Explain(Box<[u8]>),
}

impl Session<'_> {
    /// The command that is ours to answer, if this is one.
    pub(super) fn local_command(&self, facts: &Statement) -> Option<Command> {
        match &facts.kind {
            Kind::Pgpool(PgpoolCommand::Explain(text)) => Some(Command::Explain(text.clone())),
            // In an aborted transaction the server has the right answer: it refuses whatever it is.
            _ if facts.is_multi() || self.group.status(self.home) == TransactionStatus::Failed => None,
            _ => facts.show_pool().and_then(admin::Command::from_name).map(Command::Show),
        }
    }

    /// Answers it, with the session's true transaction status. Nothing is owed to the client.
    pub(super) fn answer_locally(&mut self, command: Command) -> Result<(), End> {
        let answer = match command {
            Command::Show(command) => Ok(admin::table(
                command,
                &admin::View {
                    settings: &self.context.settings,
                    shared: &self.context.shared,
                    load_balance_node: self.balance,
                },
            )),
            Command::Explain(text) => self.explain(&text)?,
        };
        let out = &mut self.client.output;
        match answer {
            Ok(table) => {
                write::row_description(out, table.columns);
                for row in &table.rows {
                    write::data_row(out, row);
                }
                write::command_complete(out, &format!("SELECT {}", table.rows.len()));
            }
            Err(report) => report.encode(out),
        }
        write::ready_for_query(out, self.group.status(self.home));
        self.client.flush()?;
        Ok(())
    }

    /// Where `text` would go if it were sent now. It is not; but what it names is looked up as if it were.
    fn explain(&mut self, text: &[u8]) -> Result<Result<Table, Report>, End> {
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
