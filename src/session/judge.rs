//! Where a statement should go: asks `route`, with what the session and the catalog know.
//!
//! Facts of the catalog that nobody knows yet are asked for here, when a server is free to answer between the client's
//! statements. Nothing here sends a statement of the client.

use super::Session;
use super::end::End;
use super::journal::Writes;
use super::statements::Prepared;
use crate::backend::ReplyState;
use crate::catalog;
use crate::config::{BackendClusteringMode, DisableLoadBalanceOnWrite as OnWrite, RelcacheQueryTarget};
use crate::report::SqlState;
use crate::route::{self, Known, Reason, Route, SessionView, SharedWrites, Target, Transaction};
use crate::sql::{Isolation, Kind, Statement};
use crate::state::{Delay, uptime};
use crate::wire::TransactionStatus;
use std::rc::Rc;

impl Session<'_> {
    /// The transaction as the next statement will meet it.
    pub(super) fn transaction(&self) -> Transaction {
        let status = self.group.status(self.home);
        if status == TransactionStatus::Idle && self.journal.is_at_rest() {
            return Transaction::Idle;
        }
        self.journal.transaction(status, self.default_isolation())
    }

    /// The isolation level that a plain BEGIN brings, if it is known.
    pub(super) fn default_isolation(&self) -> Option<Isolation> {
        match self.catalog.default_isolation() {
            Known::Yes(isolation) => Some(isolation),
            Known::NotYet => None,
        }
    }

    /// Decides about a statement. Facts of the catalog that nobody knows are asked for when a server is free to answer; until
    /// then they count against the load balance node.
    pub(super) fn route(&mut self, facts: &Statement, text: &[u8], transaction: Transaction) -> Result<Route, End> {
        self.catalog.begin_statement(transaction != Transaction::Idle);
        let route = self.decide(facts, text, transaction);
        if !matches!(route.reason, Reason::FactsMissing | Reason::IsolationUnknown) {
            self.reason = route.reason.index();
            return Ok(route);
        }
        self.learn(facts)?;
        let transaction = match transaction {
            Transaction::Open { isolation: None, on_primary_only } => {
                Transaction::Open { isolation: self.default_isolation(), on_primary_only }
            }
            transaction => transaction,
        };
        let route = self.decide(facts, text, transaction);
        self.reason = route.reason.index();
        Ok(route)
    }

    /// Notes why what comes next goes to the primary, where that needs no decision.
    pub(super) fn note_reason_to_stay(&mut self) {
        let settings = &self.context.settings;
        let reason = match settings.backend_clustering_mode {
            BackendClusteringMode::Raw => Reason::Raw,
            BackendClusteringMode::NativeReplication | BackendClusteringMode::SnapshotIsolation => {
                Reason::ModeWithoutBalance
            }
            _ if !settings.load_balance_mode => Reason::BalanceOff,
            _ if !self.follows => Reason::OnlyHome,
            _ if self.journal.tied() => Reason::Tied,
            _ => Reason::Companions,
        };
        self.reason = reason.index();
    }

    /// Learns the facts of the catalog that are missing: from other workers, else from a server that is free to answer.
    pub(super) fn learn(&mut self, facts: &Statement) -> Result<(), End> {
        let runs = self.executed(facts).map(|prepared| Rc::clone(&prepared.facts));
        for facts in std::iter::once(facts).chain(runs.as_deref()) {
            self.catalog.recall(facts, &self.context.settings);
            for node in [self.informed_standby(), Some(self.home)].into_iter().flatten() {
                let lacks = self.catalog.lacks(facts, &self.context.settings)
                    || (node == self.home && self.default_isolation().is_none());
                if lacks && self.is_free(node) {
                    self.ask(node, facts)?;
                }
            }
        }
        Ok(())
    }

    /// The prepared statement that EXECUTE names, also behind EXPLAIN. Among several statements it may be another one.
    pub(super) fn executed(&self, facts: &Statement) -> Option<&Prepared> {
        let name = executed_name(&facts.kind).filter(|_| !facts.is_multi());
        name.and_then(|name| self.statements.get(name))
    }

    /// The load balance node if facts of the catalog are to be asked there (`relcache_query_target`) and it can know them.
    fn informed_standby(&self) -> Option<usize> {
        let wanted = self.context.settings.relcache_query_target == RelcacheQueryTarget::LoadBalanceNode;
        let informed =
            || self.balance != self.home && self.journal.is_current(self.balance) && self.catalog.may_ask_standby();
        (wanted && informed()).then_some(self.balance)
    }

    /// Asks `node`, which is free to answer, for the facts that are missing.
    fn ask(&mut self, node: usize, facts: &Statement) -> Result<(), End> {
        let is_primary = node == self.home;
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        let looked_up = catalog::look_up(&mut self.catalog, facts, &self.context.settings, server, is_primary);
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        let Err(report) = looked_up else { return Ok(()) };
        let cause = report.detail.as_deref().unwrap_or(&report.message);
        match report.code {
            // The statement waits, nothing of it has been sent.
            SqlState::CONNECTION_FAILURE if is_primary && self.leave_home(cause) => {}
            SqlState::CONNECTION_FAILURE if is_primary => return Err(End::server_lost(node, cause)),
            SqlState::CONNECTION_FAILURE => self.leave_node(node, cause),
            _ => report.log(),
        }
        Ok(())
    }

    /// Decides by what is known. A statement that a standby has refused as a write goes to the primary, whatever the rules
    /// say.
    pub(super) fn decide(&self, facts: &Statement, text: &[u8], transaction: Transaction) -> Route {
        let mut view = self.view(facts, transaction);
        let recent = self.recent_writes();
        view.recent = recent.as_ref().map(|recent| recent as _);
        let route = route::decide(facts, text, view, &self.catalog);
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
        let executed = self.executed(facts);
        let is_elsewhere = |prepared: &Prepared| prepared.nodes.iter().any(|node| node != self.home);
        let prepared = executed.map(|prepared| if is_elsewhere(prepared) { Target::Balance } else { Target::Primary });
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
            runs: executed.map(|prepared| &*prepared.facts),
            delay: if self.balance == self.home { Delay::default() } else { self.delay_of(self.balance) },
            ..SessionView::new(&self.context.settings)
        }
    }

    pub(super) fn delay_of(&self, node: usize) -> Delay {
        self.context.shared.delays().of(node)
    }

    /// What a statement that goes to the primary may write, as far as later reads must know.
    pub(super) fn writes_of(&self, facts: &Statement) -> Writes {
        if !self.follows {
            return Writes::default();
        }
        let view = self.view(facts, self.transaction());
        Writes {
            flag: route::sets_writing_flag(facts, &view, &self.catalog),
            touched: route::relations_touched(facts, &view),
            for_all: route::relations_written(facts, &view),
        }
    }

    /// What all sessions have written lately, if the mode asks for it (routing 16).
    fn recent_writes(&self) -> Option<SharedWrites<'_>> {
        let settings = &self.context.settings;
        let wanted = settings.disable_load_balance_on_write == OnWrite::DmlAdaptiveGlobal;
        wanted.then(|| SharedWrites {
            table: self.context.shared.mutations(),
            database: &self.database,
            now: uptime(),
            cold_until: self.context.cold_until(),
        })
    }

    /// Lets all sessions know what has just been committed, before the client does.
    pub(super) fn publish_writes(&mut self) {
        let committed = self.journal.take_committed();
        if let Some(recent) = self.recent_writes().filter(|_| !committed.is_empty()) {
            recent.record(&committed, &self.context.settings);
        }
    }

    /// Whether `node` can answer a question of our own between the client's statements.
    pub(super) fn is_free(&self, node: usize) -> bool {
        !self.batch.is_some_and(|batch| batch.nodes.contains(node))
            && self.group.get(node).is_some_and(|server| {
                server.replies.is_settled()
                    && server.output.is_empty()
                    && server.input.is_empty()
                    && server.state == ReplyState::Between
                    && server.status != TransactionStatus::Failed
            })
    }
}

/// The name that the statement gives to a prepared statement, or by which it means one.
pub(super) fn named_statement(kind: &Kind) -> Option<&[u8]> {
    match kind {
        Kind::Prepare { name, .. } => Some(name.as_bytes()),
        kind => executed_name(kind),
    }
}

/// Whether prepared statements may be meant by names that the facts do not hold: among several statements, in CREATE TABLE
/// AS EXECUTE, in a procedure's text.
pub(super) fn may_name_any(facts: &Statement) -> bool {
    let may = |kind: &Kind| match kind {
        Kind::Explain { inner, .. } => matches!(**inner, Kind::CreateTableAs { .. }),
        Kind::Execute(_) | Kind::Deallocate(Some(_)) => facts.is_multi(),
        kind => matches!(kind, Kind::CreateTableAs { .. } | Kind::Do | Kind::Unparsable(_)),
    };
    facts.kinds().any(may)
}

/// The name that EXECUTE or DEALLOCATE gives.
fn executed_name(kind: &Kind) -> Option<&[u8]> {
    match kind {
        Kind::Execute(name) | Kind::Deallocate(Some(name)) => Some(name.as_bytes()),
        Kind::Explain { inner, .. } => executed_name(inner),
        _ => None,
    }
}
