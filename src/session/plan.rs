//! Which node gets the next statement: asks `route`, and brings that node into the session when it is first needed.

use super::end::End;
use super::requests::Sighted;
use super::{Session, trace};
use crate::backend::{Awaited, Deliver, LoginError, open};
use crate::catalog;
use crate::net::Address;
use crate::report::{Report, SqlState};
use crate::route::{self, Reason, SessionView, Target, Transaction};
use crate::sql::Statement;
use crate::wire::{HEADER_LENGTH, Header, TransactionStatus, write};

impl Session<'_> {
    /// The node for the simple query at the front; `None`: it has to wait.
    pub(super) fn node_for(&mut self, facts: &Statement, header: Header) -> Result<Option<usize>, End> {
        if let Some(node) = self.batch {
            return Ok(Some(node));
        }
        if !self.may_balance() {
            return Ok(Some(self.home));
        }
        let text = if self.context.settings.primary_routing_query_pattern_list.is_empty() {
            Vec::new()
        } else {
            let start = self.direct.length + HEADER_LENGTH;
            self.client.input.bytes()[start..self.direct.length + header.total - 1].to_vec()
        };
        let balance = self.balances(facts, &text)?;
        Ok(self.place(balance))
    }

    /// The node for the extended batch at the front; `None`: it has to wait. A batch whose end is not in sight goes to the
    /// primary, since a statement still to come may need it.
    pub(super) fn node_for_batch(&mut self) -> Result<Option<usize>, End> {
        if !self.may_balance() {
            return Ok(Some(self.home));
        }
        let mut statements = std::mem::take(&mut self.sighted);
        statements.clear();
        let complete = self.batch_in_sight(&mut statements)?;
        let mut balance = complete && !statements.is_empty();
        for Sighted { facts, text } in &statements {
            balance = balance && self.balances(facts, text)?;
        }
        self.sighted = statements;
        Ok(self.place(balance))
    }

    /// Whether a read could go elsewhere at all.
    fn may_balance(&self) -> bool {
        self.balance != self.home && !self.effects.tied() && self.group.status(self.home) == TransactionStatus::Idle
    }

    /// Whether the statement goes to the load balance node.
    fn balances(&mut self, facts: &Statement, text: &[u8]) -> Result<bool, End> {
        self.catalog.begin_statement();
        let mut route = self.decide(facts, text);
        if route.reason == Reason::FactsMissing && self.learn(facts)? {
            route = self.decide(facts, text);
        }
        Ok(route.target == Target::Balance)
    }

    /// Asks the primary for the facts of the catalog that are missing, if it is free to answer. Until they are known they
    /// count against the statement.
    pub(super) fn learn(&mut self, facts: &Statement) -> Result<bool, End> {
        let home = self.home;
        let Some(server) = self.group.get_mut(home).filter(|server| server.is_clean()) else { return Ok(false) };
        if let Err(report) = catalog::look_up(&mut self.catalog, facts, &self.context.settings, server) {
            if report.code == SqlState::CONNECTION_FAILURE {
                return Err(End::server_lost(home, report.detail.as_deref().unwrap_or(&report.message)));
            }
            report.log();
        }
        Ok(true)
    }

    pub(super) fn decide(&self, facts: &Statement, text: &[u8]) -> route::Route {
        route::decide(facts, text, self.view(), &self.catalog)
    }

    /// The session as routing sees it.
    pub(super) fn view(&self) -> SessionView<'_> {
        let transaction = match self.group.status(self.home) {
            TransactionStatus::Idle => Transaction::Idle,
            TransactionStatus::Open => Transaction::Open { isolation: None, on_primary_only: false },
            TransactionStatus::Failed => Transaction::Failed,
        };
        SessionView {
            has_balance_node: self.balance != self.home,
            tied: self.effects.tied(),
            transaction,
            delay: self.context.cluster.nodes.get(self.balance).map(|node| node.delay).unwrap_or_default(),
            ..SessionView::new(&self.context.settings)
        }
    }

    /// The balance node if it is wanted and can be had, else the primary; `None`: wait for outstanding answers first.
    fn place(&mut self, balance: bool) -> Option<usize> {
        if !balance || self.balance == self.home {
            return Some(self.home);
        }
        let node = self.balance;
        if self.group.get(node).is_none() && !self.join(node) {
            return Some(self.home);
        }
        if self.effects.is_current(node) {
            return Some(node);
        }
        if self.is_quiet() {
            self.replay(node);
        }
        None
    }

    /// Connects this session to `node`. On failure the session does without it.
    fn join(&mut self, node: usize) -> bool {
        let deadline = self.context.connect_deadline(node);
        let address = self.context.address(node);
        match open(node, &address, &self.group.key.startup, deadline) {
            Ok(server) => {
                trace::joined(self.context, &self.group, &server);
                self.group.connections[node] = Some(server);
                true
            }
            Err(error) => {
                if matches!(error, LoginError::Unreachable(_)) {
                    self.context.avoid(node);
                }
                self.leave_node(node, &error.into_report(node).to_string());
                false
            }
        }
    }

    /// Sends `node` the settings made since it was last used. The statement follows when they are in force.
    fn replay(&mut self, node: usize) {
        let Some(server) = self.group.get_mut(node) else { return };
        for text in self.effects.replay_for(node) {
            write::query(&mut server.output, text);
            server.replies.sent(Awaited::Query, Deliver::Silent);
        }
        self.active = node;
        // Names may mean something else now.
        self.catalog.forget();
        self.keep_catalog = false;
    }

    /// A replayed setting failed on `node`: its state is not the session's.
    pub(super) fn replay_failed(&mut self, node: usize) {
        self.leave_node(node, "it could not take over the session's settings");
    }

    /// The session goes on without `node`; its reads go to the primary.
    pub(super) fn leave_node(&mut self, node: usize, cause: &str) {
        Report::log_line(format!("DB node id: {node} is no longer used by this session: {cause}"))
            .detail("Reads of this session go to the primary from now on.")
            .log();
        if let Some(server) = self.group.connections.get_mut(node).and_then(Option::take) {
            trace::left(self.context, &self.group, node);
            server.close();
        }
        self.balance = self.home;
        if self.active == node {
            self.active = self.home;
            self.answered = 0;
        }
    }
}

/// Address of a node in the form `net` wants.
pub(super) fn address_of(hostname: &str, port: u16) -> Address {
    let host = if hostname.is_empty() { "/tmp" } else { hostname };
    Address { host: host.to_owned(), port }
}
