//! Other nodes follow the primary: they are brought to the session's state, share the end of its transaction, and leave.
//!
//! What is sent here is for no client: its answers are awaited by nobody ([`Deliver::Silent`]).

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
            write::query(&mut server.output, text);
            server.replies.sent(Awaited::Query, Deliver::Silent);
        });
        self.statements.unnamed_lost(node);
    }

    /// A statement that the client has closed elsewhere must not be found on `node`.
    pub(super) fn close_before_use(&mut self, name: &[u8], node: usize) {
        if !self.statements.take_stale(name, node) {
            return;
        }
        let Some(server) = self.group.get_mut(node) else { return };
        write::close_statement(&mut server.output, name);
        server.replies.sent(Awaited::Close, Deliver::Silent);
        write::sync(&mut server.output);
        server.replies.sent(Awaited::Sync, Deliver::Silent);
    }

    /// The statement that EXECUTE names is prepared on `node` first if it is known on another one only (routing 10).
    pub(super) fn prepare_for_execute(&mut self, name: &[u8], node: usize) {
        let Some(prepared) = self.statements.get_mut(name).filter(|prepared| !prepared.nodes.contains(node)) else {
            return;
        };
        let Some(server) = self.group.get_mut(node) else { return };
        self.message_log.sent(server, if prepared.is_parse() { "Parse: " } else { "" }, prepared.text());
        server.output.extend_from_slice(&prepared.message);
        if prepared.is_parse() {
            self.message_log.sent(server, "", b"Sync");
            server.replies.sent(Awaited::Parse, Deliver::Silent);
            write::sync(&mut server.output);
            server.replies.sent(Awaited::Sync, Deliver::Silent);
        } else {
            server.replies.sent(Awaited::Query, Deliver::Silent);
        }
        prepared.nodes.insert(node);
    }

    /// The client ends its transaction block: nodes that have only read in it are let go before the primary answers. With
    /// `synchronous_commit = remote_apply` its COMMIT may be waiting for just them, whose cursor keeps a standby from
    /// replaying. A node in the batch has to wait for its Sync.
    pub(super) fn release_readers(&mut self, facts: &Statement) {
        if facts.is_multi() || !matches!(facts.kind, Kind::Commit { chain: false } | Kind::Rollback { chain: false }) {
            return;
        }
        let in_batch = self.batch.map_or(NodeSet::EMPTY, |batch| batch.nodes);
        let (group, log) = (&mut self.group, &self.message_log);
        self.journal.release(in_batch, |node| {
            if let Some(server) = group.get_mut(node) {
                log.sent(server, "", b"ROLLBACK");
                write::query(&mut server.output, b"ROLLBACK");
                server.replies.sent(Awaited::Query, Deliver::Silent);
            }
        });
    }

    /// The transaction block has ended on the primary: so it does on every node where it was opened (routing 7.7).
    pub(super) fn end_block_elsewhere(&mut self) {
        let (group, log) = (&mut self.group, &self.message_log);
        self.journal.take_ending(|node, text| {
            if let Some(server) = group.get_mut(node) {
                log.sent(server, "", text);
                write::query(&mut server.output, text);
                server.replies.sent(Awaited::Query, Deliver::Silent);
            }
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
        if self.balance == node {
            self.balance = self.home;
        }
        if self.active == node {
            self.active = self.home;
            self.answered = 0;
        }
    }
}
