//! Which node gets the next statement: asks `route`, and brings that node into the session when it is first needed.

use super::end::End;
use super::judge::{may_name_any, named_statement};
use super::{Session, open, trace};
use crate::backend::LoginError;
use crate::report::{Report, SqlState};
use crate::route::{Reason, Target, Transaction};
use crate::sql::Statement;
use crate::sys::signal::ToWorker;
use crate::wire::TransactionStatus;
use std::rc::Rc;

impl Session<'_> {
    /// The node for the simple query at the front, which is `length` bytes long; `None`: it has to wait.
    pub(super) fn node_for(&mut self, facts: &Rc<Statement>, text: &[u8], length: usize) -> Result<Option<usize>, End> {
        self.note_reason_to_stay();
        // A batch left without Sync goes on with this statement, on the primary if it has been there.
        if self.batch.is_some_and(|batch| batch.nodes.contains(self.home)) && self.transaction() == Transaction::Idle {
            return Ok(Some(self.home));
        }
        if facts.terminates.is_some() && !self.is_quiet() {
            return Ok(None);
        }
        if let Some(node) = self.node_to_terminate(facts) {
            let placed = if self.activate(node) { self.place(node) } else { None };
            return match placed {
                // Never sent anywhere else: the process id means another process there.
                Some(other) if other != node => Err(Report::fatal(format!("DB node id: {node} cannot be reached"))
                    .detail("The server process to be terminated runs there.")
                    .code(SqlState::UNABLE_TO_ESTABLISH)
                    .into()),
                placed => Ok(placed),
            };
        }
        let mut wanted = self.home;
        let failed = self.group.status(self.home) == TransactionStatus::Failed;
        let bound_to =
            self.portals.node_of_cursor(facts).or_else(|| self.statements.node_to_deallocate(facts, self.home, failed));
        if let Some(node) = bound_to {
            wanted = node;
            self.reason = Reason::WherePrepared.index();
        } else if self.may_balance() {
            let transaction = self.transaction();
            self.begin_statement(transaction);
            if self.route(facts, text, transaction)?.target == Target::Balance {
                wanted = self.balance;
            }
            if self.is_homeless() {
                return Ok(None);
            }
        }
        if wanted != self.home {
            if !self.activate_for_read(wanted) {
                return Ok(None);
            }
            if bound_to.is_none() {
                self.keep(wanted, length, vec![Rc::clone(facts)]);
            }
        }
        let Some(node) = self.place(wanted) else { return Ok(None) };
        if self.nodes_have_changed() {
            return Ok(None);
        }
        if named_statement(&facts.kind).is_some() || may_name_any(facts) {
            if !self.activate(node) {
                return Ok(None);
            }
            self.bring_what_it_names(facts, node)?;
        }
        Ok(Some(node))
    }

    /// Whether the parent has said so, perhaps while something was waited for: the statement is looked at once more behind
    /// what that means to the session.
    #[inline]
    pub(super) fn nodes_have_changed(&self) -> bool {
        self.context.signals.pending().has(ToWorker::LookAtNodes)
    }

    /// Whether a read could go elsewhere at all.
    #[inline]
    pub(super) fn may_balance(&self) -> bool {
        self.follows && !self.at_home && !self.journal.tied()
    }

    /// As [`Session::activate`], for a statement that may displace what is kept: not while that may still have to be sent
    /// again, since `node` has not confirmed the session's state.
    pub(super) fn activate_for_read(&mut self, node: usize) -> bool {
        !(self.is_confirming(node) && self.is_kept(node)) && self.activate(node)
    }

    /// Looks whether the nodes have changed, and draws the load balance node anew where that is due: for each statement with
    /// `statement_level_load_balance`; outside of transactions when it was lost, is not attached any more, or too far behind
    /// with `prefer_lower_delay_standby` (routing 2.1, 2.5).
    pub(super) fn begin_statement(&mut self, transaction: Transaction) {
        self.context.refresh_cluster();
        let settings = &self.context.settings;
        if settings.statement_level_load_balance {
            self.balance = open::balance_node(self.context, &self.group.key, &self.application_name, self.home);
            return;
        }
        if transaction != Transaction::Idle || (self.balance == self.home && !self.redraw) {
            return;
        }
        let attached = self.context.cluster.attached();
        if self.redraw || self.context.is_shunned(self.balance) || !attached.contains(self.balance) {
            self.balance = open::balance_node(self.context, &self.group.key, &self.application_name, self.home);
            // As long as there is no choice, the next read asks again.
            let is_choice = |node: usize| node != self.home && !self.context.is_avoided(node);
            let lasting = attached.iter().any(is_choice) && !settings.prefer_lower_delay_standby;
            self.redraw = self.balance == self.home && !lasting;
        }
    }

    /// `node` if it can be had, else the primary, up to date with the session's state; `None`: wait first.
    pub(super) fn place(&mut self, node: usize) -> Option<usize> {
        if node == self.home {
            return Some(node);
        }
        if self.excluded.contains(node) || (self.group.get(node).is_none() && !self.join(node)) {
            return Some(self.home);
        }
        if !self.journal.is_current(node) {
            if !self.activate(node) {
                return None;
            }
            self.replay(node);
        }
        // If the statement can be sent again elsewhere, it leaves in the same write, without waiting for the node to confirm
        // the session's state.
        if self.is_kept(node) || !self.is_confirming(node) { Some(node) } else { None }
    }

    /// Whether `node` has still to answer something of ours.
    fn is_confirming(&self, node: usize) -> bool {
        self.group.get(node).is_some_and(|server| !server.replies.delivers())
    }

    /// Connects this session to `node`. On failure the session does without it.
    fn join(&mut self, node: usize) -> bool {
        let deadline = self.context.connect_deadline(node);
        let address = self.context.address(node);
        match crate::backend::open(node, &address, &self.group.key.startup, &self.credential, deadline) {
            Ok(server) => {
                self.context.connected(node);
                trace::joined(self.context, &self.group, &server);
                if self.group.connections.len() <= node {
                    self.group.connections.resize_with(node + 1, || None);
                }
                self.group.connections[node] = Some(server);
                true
            }
            Err(error) => {
                self.context.login_failed(node, &error);
                if matches!(error, LoginError::NotConnected(..) | LoginError::Unreachable(_)) {
                    self.context.avoid(node);
                    self.redraw = true;
                }
                self.leave_node(node, &error.into_report(node).to_string());
                false
            }
        }
    }
}
