//! Which node gets the next statement: asks `route`, and brings that node into the session when it is first needed.

use super::end::End;
use super::{Session, open, trace};
use crate::backend::{Awaited, Deliver, LoginError, ReplyState};
use crate::catalog;
use crate::net::Address;
use crate::report::{Report, SqlState};
use crate::route::{self, Reason, Route, SessionView, Target, Transaction};
use crate::sql::{Isolation, Kind, Statement};
use crate::state::Delay;
use crate::wire::{TransactionStatus, write};
use std::rc::Rc;

impl Session<'_> {
    /// The node for the simple query at the front, which is `length` bytes long; `None`: it has to wait.
    pub(super) fn node_for(&mut self, facts: &Rc<Statement>, text: &[u8], length: usize) -> Result<Option<usize>, End> {
        if let Some(batch) = self.batch {
            return Ok(Some(batch.node));
        }
        let mut wanted = self.home;
        if self.may_balance() {
            let transaction = self.transaction();
            if self.route(facts, text, transaction)?.target == Target::Balance {
                wanted = self.draw_balance();
            }
        }
        if wanted != self.home {
            if !self.activate(wanted) {
                return Ok(None);
            }
            self.keep(wanted, length, Rc::clone(facts));
        }
        let Some(node) = self.place(wanted) else { return Ok(None) };
        if let Kind::Execute(name) | Kind::Deallocate(Some(name)) | Kind::Prepare { name, .. } = &facts.kind {
            if !self.activate(node) {
                return Ok(None);
            }
            self.close_before_use(name.as_bytes(), node);
            if matches!(facts.kind, Kind::Execute(_)) {
                self.prepare_for_execute(name.as_bytes(), node);
            }
        }
        Ok(Some(node))
    }

    /// Whether a read could go elsewhere at all.
    #[inline]
    pub(super) fn may_balance(&self) -> bool {
        self.follows && !self.at_home && !self.journal.tied()
    }

    /// The transaction as the next statement will meet it.
    pub(super) fn transaction(&self) -> Transaction {
        self.journal.transaction(self.group.status(self.home), self.default_isolation())
    }

    /// The isolation level that a plain BEGIN brings, if it is known.
    pub(super) fn default_isolation(&self) -> Option<Isolation> {
        Some(Isolation::ReadCommitted)
    }

    /// Decides about a statement. Facts of the catalog are asked for when the primary is free to answer; until then they
    /// count against the load balance node.
    pub(super) fn route(&mut self, facts: &Statement, text: &[u8], transaction: Transaction) -> Result<Route, End> {
        self.heed_cluster(transaction);
        self.catalog.begin_statement();
        let route = self.decide(facts, text, transaction);
        if route.reason == Reason::FactsMissing && self.learn(facts)? {
            return Ok(self.decide(facts, text, transaction));
        }
        Ok(route)
    }

    /// Asks the primary for the facts of the catalog that are missing, if it is free to answer. Until they are known they
    /// count against the statement. `Ok(true)`: it was asked.
    pub(super) fn learn(&mut self, facts: &Statement) -> Result<bool, End> {
        if !self.primary_is_free() {
            return Ok(false);
        }
        let home = self.home;
        let Some(server) = self.group.get_mut(home) else { return Ok(false) };
        let looked_up = catalog::look_up(&mut self.catalog, facts, &self.context.settings, server);
        self.statements.unnamed_lost(home);
        if let Err(report) = looked_up {
            if report.code == SqlState::CONNECTION_FAILURE {
                return Err(End::server_lost(home, report.detail.as_deref().unwrap_or(&report.message)));
            }
            report.log();
        }
        Ok(true)
    }

    /// Decides by what is known. A statement that a standby has refused as a write goes to the primary, whatever the rules
    /// say.
    pub(super) fn decide(&self, facts: &Statement, text: &[u8], transaction: Transaction) -> Route {
        let route = route::decide(facts, text, self.view(facts, transaction), &self.catalog);
        if route.target == Target::Balance && self.context.is_misjudged(facts) {
            return Route { target: Target::Primary, reason: Reason::Writes };
        }
        route
    }

    /// Why a statement goes to `node`, in words, if the log is to tell (`log_routing_reason`).
    #[inline]
    pub(super) fn reason_for_log(&self, facts: &Statement, text: &[u8], node: usize) -> Option<String> {
        if !self.message_log.reasons {
            return None;
        }
        let route = self.decide(facts, text, self.transaction());
        let elsewhere = route.target == Target::Balance && node == self.home && self.balance != self.home;
        Some(if elsewhere { Reason::Companions.to_string() } else { route.reason.to_string() })
    }

    /// The session as routing sees it.
    pub(super) fn view(&self, facts: &Statement, transaction: Transaction) -> SessionView<'_> {
        let prepared = match &facts.kind {
            Kind::Execute(name) | Kind::Deallocate(Some(name)) => {
                let prepared = self.statements.get(name.as_bytes());
                prepared.map(|prepared| match prepared.nodes.iter().any(|node| node != self.home) {
                    true => Target::Balance,
                    false => Target::Primary,
                })
            }
            _ => None,
        };
        let statement_level = self.context.settings.statement_level_load_balance;
        SessionView {
            has_balance_node: self.follows && (statement_level || self.balance != self.home || self.redraw),
            tied: self.journal.tied(),
            transaction,
            balance_in_transaction: true,
            writing: self.journal.writing(),
            written: self.journal.written(),
            follows_prepared: true,
            prepared,
            delay: if self.balance == self.home { Delay::default() } else { self.delay_of(self.balance) },
            ..SessionView::new(&self.context.settings)
        }
    }

    fn delay_of(&self, node: usize) -> Delay {
        self.context.cluster.nodes.get(node).map(|node| node.delay).unwrap_or_default()
    }

    /// What a statement that goes to the primary may write, as far as later reads must know: whether it sets the writing
    /// flag, and for dml_adaptive the relations with all that depends on them.
    pub(super) fn writes_of(&self, facts: &Statement) -> (bool, Vec<Box<str>>) {
        if !self.follows {
            return (false, Vec::new());
        }
        let view = self.view(facts, self.transaction());
        (route::sets_writing_flag(facts, &view, &self.catalog), route::relations_touched(facts, &view))
    }

    /// Looks whether the nodes have changed. A load balance node that is not attached any more, or too far behind with
    /// `prefer_lower_delay_standby`, is replaced while no transaction is open (routing 2.1, 2.5).
    fn heed_cluster(&mut self, transaction: Transaction) {
        self.context.refresh_cluster();
        if transaction != Transaction::Idle || (self.balance == self.home && !self.redraw) {
            return;
        }
        let settings = &self.context.settings;
        let attached = self.context.cluster.attached();
        let is_late =
            || settings.prefer_lower_delay_standby && route::exceeds_limit(self.delay_of(self.balance), settings);
        if self.redraw || !attached.contains(self.balance) || is_late() {
            self.balance = open::balance_node(self.context, &self.group.key, &self.application_name, self.home);
            // As long as there is no choice, the next read asks again.
            let is_choice = |node: usize| node != self.home && !self.context.is_avoided(node);
            self.redraw = self.balance == self.home && !attached.iter().any(is_choice);
        }
    }

    /// The node for a read: drawn anew for each one if `statement_level_load_balance` is on (routing 2.1).
    pub(super) fn draw_balance(&mut self) -> usize {
        if self.context.settings.statement_level_load_balance {
            return open::balance_node(self.context, &self.group.key, &self.application_name, self.home);
        }
        self.balance
    }

    /// Whether the primary can answer a question of our own between the client's statements.
    fn primary_is_free(&self) -> bool {
        !self.batch.is_some_and(|batch| batch.nodes.contains(self.home))
            && self.group.get(self.home).is_some_and(|server| {
                server.replies.is_settled()
                    && server.output.is_empty()
                    && server.input.is_empty()
                    && server.state == ReplyState::Between
                    && server.status != TransactionStatus::Failed
            })
    }

    /// `node` if it can be had, else the primary, up to date with the session's state; `None`: wait first.
    pub(super) fn place(&mut self, node: usize) -> Option<usize> {
        if node == self.home {
            return Some(node);
        }
        if self.group.get(node).is_none() && !self.join(node) {
            return Some(self.home);
        }
        if self.journal.is_current(node) {
            return Some(node);
        }
        if !self.activate(node) {
            return None;
        }
        self.replay(node);
        // If the statement can be sent again elsewhere, it leaves in the same write.
        if self.is_kept(node) { Some(node) } else { None }
    }

    /// Connects this session to `node`. On failure the session does without it.
    fn join(&mut self, node: usize) -> bool {
        let deadline = self.context.connect_deadline(node);
        let address = self.context.address(node);
        match crate::backend::open(node, &address, &self.group.key.startup, deadline) {
            Ok(server) => {
                trace::joined(self.context, &self.group, &server);
                self.group.connections[node] = Some(server);
                true
            }
            Err(error) => {
                if matches!(error, LoginError::Unreachable(_)) {
                    self.context.avoid(node);
                    self.redraw = true;
                }
                self.leave_node(node, &error.into_report(node).to_string());
                false
            }
        }
    }

    /// Sends `node` what the session has done since that node was last used.
    fn replay(&mut self, node: usize) {
        let Some(server) = self.group.get_mut(node) else { return };
        self.journal.replay(node, |text| {
            self.message_log.sent(server, "", text);
            write::query(&mut server.output, text);
            server.replies.sent(Awaited::Query, Deliver::Silent);
        });
        self.statements.unnamed_lost(node);
    }

    /// A statement that the client has closed elsewhere must not be found on `node`.
    fn close_before_use(&mut self, name: &[u8], node: usize) {
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
    fn prepare_for_execute(&mut self, name: &[u8], node: usize) {
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

/// What no server understands (routing 14.3).
const ABORT_TEXT: &[u8] = b"send invalid query from pgpool to abort transaction";

/// Address of a node in the form `net` wants.
pub(super) fn address_of(hostname: &str, port: u16) -> Address {
    let host = if hostname.is_empty() { "/tmp" } else { hostname };
    Address { host: host.to_owned(), port }
}
