//! Statements answered here: SHOW POOL_... (show-commands 2, 3).

use super::Session;
use super::end::End;
use crate::admin::{self, Command};
use crate::sql::Statement;
use crate::wire::{TransactionStatus, write};

impl Session<'_> {
    /// The command that is ours to answer, if this is one.
    pub(super) fn local_command(&self, facts: &Statement) -> Option<Command> {
        // In an aborted transaction the server has the right answer: it refuses whatever it is.
        if facts.is_multi() || self.group.status(self.home) == TransactionStatus::Failed {
            return None;
        }
        facts.show_pool().and_then(Command::from_name)
    }

    /// Answers it, with the session's true transaction status.
    pub(super) fn answer_locally(&mut self, command: Command) -> Result<(), End> {
        let view = admin::View {
            settings: &self.context.settings,
            shared: &self.context.shared,
            load_balance_node: self.balance,
        };
        let table = admin::table(command, &view);
        let out = &mut self.client.output;
        write::row_description(out, table.columns);
        for row in &table.rows {
            write::data_row(out, row);
        }
        write::command_complete(out, &format!("SELECT {}", table.rows.len()));
        write::ready_for_query(out, self.group.status(self.home));
        self.client.flush()?;
        Ok(())
    }
}
