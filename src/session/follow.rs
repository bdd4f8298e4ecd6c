//! Other nodes follow the primary: they are brought to the session's state, share the end of its transaction, and leave.
//!
//! What is sent here is for no client: its answers are awaited by nobody ([`Deliver::Silent`]).

use super::changes::Change;
use super::end::End;
use super::judge::{may_name_any, named_statement};
use super::{Session, trace};
use crate::backend::{Awaited, Deliver};
use crate::report::Report;
use crate::sql::{Kind, Statement};
use crate::state::NodeSet;
use crate::wire::{TransactionStatus, write};

/// What no server understands (routing 14.3).
const ABORT_TEXT: &[u8] = b"send invalid query from pgpool to abort transaction";

impl Session<'_> {
    /// Sends `node` what the session has done since that node was last used.
    pub(super) fn replay(&mut self, node: usize) {
        let Some(server) = self.group.get_mut(node) else { return };
        self.journal.replay(node, |text| {
            self.message_log.sent(server, "", text);
            trace::replayed(self.context, node);
            write::query(&mut server.output, text);
            server.replies.sent(Awaited::Query, Deliver::Silent);
        });
        self.statements.unnamed_lost(node);
    }

    /// Lets the names of prepared statements in a statement in SQL mean on `node` what they mean in the session.
    pub(super) fn bring_what_it_names(&mut self, facts: &Statement, node: usize) -> Result<(), End> {
        if let Some(name) = named_statement(&facts.kind) {
            self.bring(name, node)?;
        }
        if may_name_any(facts) {
            for name in self.statements.missing_on(node) {
                self.bring(&name, node)?;
            }
        }
        Ok(())
    }

    /// Lets `name` mean on `node` what it means in the session, before a statement in SQL uses it there: one that the client
    /// has closed elsewhere is closed, one that is known on other nodes only is prepared (routing 10).
    pub(super) fn bring(&mut self, name: &[u8], node: usize) -> Result<(), End> {
        let is_stale = self.statements.is_stale(name, node);
        let is_missing = self.statements.get(name).is_some_and(|prepared| !prepared.nodes.contains(node));
        if !is_stale && !is_missing {
            return Ok(());
        }
        self.send_direct()?;
        // In the middle of a batch a Sync of ours would end its implicit transaction.
        let in_batch = self.batch.is_some_and(|batch| batch.begun.contains(node));
        let in_block = self.group.status(self.home) == TransactionStatus::Open;
        let meaning = self.meaning();
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        let mut to_sync = false;
        if is_stale && self.statements.take_stale(name, node) {
            self.message_log.sent(server, "", b"C message");
            write::close_statement(&mut server.output, name);
            to_sync |= server.replies.sent(Awaited::Close, Deliver::Silent);
        }
        let prepared = self.statements.get_mut(name).filter(|prepared| !prepared.nodes.contains(node));
        if let Some(prepared) = prepared.filter(|prepared| prepared.is_parse() || !in_batch || in_block) {
            let is_parse = prepared.is_parse();
            let (label, awaited) = if is_parse { ("Parse: ", Awaited::Parse) } else { ("", Awaited::Query) };
            self.message_log.sent(server, label, prepared.text());
            if server.replies.sent(awaited, Deliver::Silent) {
                server.output.extend_from_slice(&prepared.message);
                prepared.prepared_again(meaning);
                prepared.nodes.insert(node);
                self.changes.sent(node, server.replies.last_number(), Change::Brought(name.into()));
                to_sync |= is_parse;
            }
            if !is_parse {
                self.statements.unnamed_lost(node);
            }
        }
        if to_sync && !in_batch {
            self.message_log.sent(server, "", b"Sync");
            write::sync(&mut server.output);
            server.replies.sent(Awaited::Sync, Deliver::Silent);
        }
        Ok(())
    }

    /// The client ends its transaction block: nodes that have only read in it are let go before the primary answers. With
    /// `synchronous_commit = remote_apply` its COMMIT may be waiting for just them, whose cursor keeps a standby from
    /// replaying. A node in the batch has to wait for its Sync.
    pub(super) fn release_readers(&mut self, facts: &Statement) {
        if facts.is_multi() || !matches!(facts.kind, Kind::Commit { chain: false } | Kind::Rollback { chain: false }) {
            return;
        }
        self.release_but(self.batch.map_or(NodeSet::EMPTY, |batch| batch.nodes));
    }

    /// The transaction block has ended on the primary: so it does on every node where it is still open (routing 7.7).
    pub(super) fn end_block_elsewhere(&mut self) {
        self.release_but(NodeSet::EMPTY);
    }

    /// Ends the block on all nodes that have it open, `but` those.
    fn release_but(&mut self, but: NodeSet) {
        let (group, log, statements) = (&mut self.group, &self.message_log, &mut self.statements);
        let context = &*self.context;
        self.journal.release(but, |node| {
            if let Some(server) = group.get_mut(node) {
                log.sent(server, "", b"ROLLBACK");
                trace::replayed(context, node);
                write::query(&mut server.output, b"ROLLBACK");
                server.replies.sent(Awaited::Query, Deliver::Silent);
            }
            statements.unnamed_lost(node);
        });
    }

    /// A read inside the transaction block has failed on another node. On one server the whole transaction would have: the
    /// primary's is made to fail too, so that COMMIT becomes ROLLBACK, and ROLLBACK TO mends it (routing 7.5).
    pub(super) fn fail_block_at_home(&mut self) {
        let home = self.home;
        let Some(server) = self.group.get_mut(home) else { return };
        self.message_log.sent(server, "", ABORT_TEXT);
        write::query(&mut server.output, ABORT_TEXT);
        server.replies.sent(Awaited::Query, Deliver::Silent);
        server.status = TransactionStatus::Failed;
        self.statements.unnamed_lost(home);
    }

    /// `node` cannot take the session's state: it is left for as long as that lasts.
    pub(super) fn exclude_node(&mut self, node: usize, cause: &str) {
        self.excluded.insert(node);
        self.leave_node(node, &format!("it cannot follow the session: {cause}"));
    }

    /// The session goes on without `node`; its reads go to the primary.
    pub(super) fn leave_node(&mut self, node: usize, cause: &str) {
        Report::log_line(format!("DB node id: {node} is no longer used by this session: {cause}"))
            .detail("Its reads go to the primary, or to another node if one is there.")
            .log();
        if let Some(server) = self.group.connections.get_mut(node).and_then(Option::take) {
            trace::left(self.context, &self.group, node);
            server.close();
        }
        self.journal.forget_node(node);
        self.statements.forget_node(node);
        self.changes.forget_node(node);
        if self.balance == node {
            self.balance = self.home;
        }
        if self.active == node {
            self.active = self.home;
            self.answered = 0;
        }
    }
}
