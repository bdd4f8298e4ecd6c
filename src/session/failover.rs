//! What a failover means to a session (failover 6.5, 6.6).
//!
//! The parent tells by SIGUSR2 that the node table has changed. A session that has no connection to a lost node goes on; one
//! that can do without the node leaves it; one that cannot ends and tells the client why. Nothing is sent to a node that
//! writes no more: a session whose primary is not the one that writes ends, too.
//!
//! The other way round, a session that has trouble with a server tells so (failover 5.3 to 5.5): an error of the connection
//! asks for failover with `failover_on_backend_error`, unless the server lets other sessions in; in all other cases the health check of the node looks at once.

use super::end::End;
use super::writer::is_passing;
use super::{Context, Session};
use crate::backend::{Login, LoginError};
use crate::config::BackendClusteringMode;
use crate::failover;
use crate::net::{ConnectError, Deadline};
use crate::report::{Report, SqlState};
use crate::sys::signal::ToWorker;
use crate::wire::Header;
use crate::wire::backend::ErrorFields;
use std::time::Duration;

/// How long a server that has ended a session may take to show that it lets others in.
const PATIENCE: Duration = Duration::from_secs(3);

impl Session<'_> {
    /// Looks at the node table if the parent has said so.
    pub(super) fn heed_failover(&mut self) -> Result<(), End> {
        if !self.context.deferred.has(ToWorker::LookAtNodes) {
            return Ok(());
        }
        self.context.deferred = self.context.deferred.without(ToWorker::LookAtNodes);
        self.context.discard_detached();
        let home = self.home;
        let lost: Vec<usize> = self
            .group
            .connections
            .iter()
            .flatten()
            .map(|server| server.node)
            .filter(|node| *node != home && !self.context.cluster.attached().contains(*node))
            .collect();
        for node in lost {
            let cause = self.context.why_detached(node);
            self.server_gone(node, &cause).map_err(|_| detached(node, &cause))?;
        }
        if self.lost_home.is_some() {
            return Ok(());
        }
        let cluster = &self.context.cluster;
        if !cluster.attached().contains(self.home) {
            let cause = self.context.why_detached(self.home);
            return if self.leave_home(&cause) { Ok(()) } else { Err(detached(self.home, &cause)) };
        }
        let cause = match cluster.write_node() {
            Some(node) if node == self.home => return Ok(()),
            Some(node) => format!("DB node {node} has become the one that writes"),
            // It takes writes without being the primary: nothing of ours may be written there.
            None => format!("DB node {} is not the primary any more", self.home),
        };
        if self.leave_home(&cause) {
            return Ok(());
        }
        Err(Report::fatal(format!("terminating connection because {cause}"))
            .hint("Connect again.")
            .code(SqlState::ADMIN_SHUTDOWN)
            .into())
    }
}

/// Trouble with servers.
impl Session<'_> {
    /// The connection to `node` has failed: not that the server has closed it in good order.
    pub(super) fn connection_failed(&self, node: usize, cause: &str) {
        if self.was_terminated(node) {
            Report::log_line(format!("unable to read data from DB node {node}"))
                .detail("pg_terminate_backend was called on the backend")
                .log();
            return;
        }
        self.heed_crash(node);
        if self.context.settings.failover_on_backend_error && self.lets_sessions_in(node, cause) {
            failover::suspect(&self.context.shared, node);
        } else {
            self.context.node_failed(node, cause);
        }
    }

    /// Whether the server of `node`, which this session has lost, lets other sessions in: then it was about this one alone.
    /// A process that is terminated there, or runs out of memory, leaves an error on its connection like that of a server
    /// that is gone.
    fn lets_sessions_in(&self, node: usize, cause: &str) -> bool {
        let deadline = self.context.connect_deadline(node).min(Deadline::after(PATIENCE));
        let address = self.context.address(node);
        let is_well = match Login::begin(node, &address, &self.group.key.startup, deadline, deadline) {
            Ok(_) => true,
            Err(error) => !is_passing(&error),
        };
        if is_well {
            Report::log_line(format!("the connection to DB node {node} has failed, but its server lets sessions in"))
                .detail(cause)
                .hint("The server's log tells why it has ended that session. No failover is asked for.")
                .log();
        }
        is_well
    }

    /// The server of `node` has closed the connection.
    pub(super) fn connection_closed(&self, node: usize) {
        if self.group.get(node).is_some_and(|server| server.warned) {
            self.heed_shutdown(node);
        } else {
            self.heed_crash(node);
            failover::suspect(&self.context.shared, node);
        }
    }

    /// The notice at the front of what `node` has answered.
    pub(super) fn heed_notice(&mut self, node: usize, header: Header) {
        let content = self.reply_content(node, header).to_vec();
        self.heed_warning(node, &content);
    }

    /// A server that crashes, or is shut down at once, warns of its end. A statement can make such a notice as well: it
    /// counts only if the end follows at once.
    pub(super) fn heed_warning(&mut self, node: usize, content: &[u8]) {
        let fields = ErrorFields::new(content);
        if let Some(server) = self.group.get_mut(node) {
            server.warned |= fields.severity() == b"WARNING" && is_end_of_server(fields.code());
        }
    }

    /// The server of `node` has told that it ends the session, because it is shut down, or because somebody has ended its
    /// process: then it lets others in.
    pub(super) fn heed_farewell(&self, node: usize) {
        let detaches = self.context.settings.failover_on_backend_shutdown && !self.was_terminated(node);
        if detaches && self.lets_sessions_in(node, "the server has ended the session by an administrator's command") {
            failover::suspect(&self.context.shared, node);
        } else {
            self.heed_shutdown(node);
        }
    }

    /// The server of `node` is shut down, or has crashed.
    fn heed_shutdown(&self, node: usize) {
        if self.was_terminated(node) {
            Report::log_line(format!(
                "connection to postmaster on DB node {node} was lost due to pg_terminate_backend"
            ))
            .detail("pg_terminate_backend was called on the backend")
            .log();
            return;
        }
        self.heed_crash(node);
        let cause = format!("postmaster on DB node {node} was shutdown by administrative command");
        Report::log_line("reading and processing packets")
            .detail(cause.clone())
            .hint("Or one of its processes was ended there: see the server's log.")
            .log();
        let concerns_us = node == self.home || node == self.balance;
        if self.context.settings.failover_on_backend_shutdown && concerns_us && self.mode_has_primary() {
            failover::detach(&self.context.shared, node, &cause);
        } else {
            failover::suspect(&self.context.shared, node);
        }
    }

    /// A primary that has crashed may have lost what it had committed, and with it what answers were made of.
    fn heed_crash(&self, node: usize) {
        if node == self.home {
            self.context.shared.doubt_answers();
        }
    }

    pub(super) fn was_terminated(&self, node: usize) -> bool {
        self.group.get(node).is_some_and(|server| self.context.shared.failover().was_terminated(node, server.pid))
    }

    fn mode_has_primary(&self) -> bool {
        use BackendClusteringMode::{LogicalReplication, StreamingReplication};
        matches!(self.context.settings.backend_clustering_mode, StreamingReplication | LogicalReplication)
    }
}

impl Context {
    /// `node` could not be reached, or its connection has failed.
    pub(super) fn node_failed(&self, node: usize, cause: &str) {
        if self.settings.failover_on_backend_error {
            failover::detach(&self.shared, node, cause);
        } else {
            failover::suspect(&self.shared, node);
        }
    }

    /// A session could not be opened on `node`.
    pub(super) fn login_failed(&self, node: usize, error: &LoginError) {
        match error {
            // The name service is at fault, not the node.
            LoginError::NotConnected(_, cause) if matches!(**cause, ConnectError::Resolve { .. }) => {
                failover::suspect(&self.shared, node);
            }
            LoginError::NotConnected(report, _) => self.node_failed(node, &report.to_string()),
            LoginError::Unreachable(_) => failover::suspect(&self.shared, node),
            // The server is well, or nothing is known of it.
            LoginError::Refused(_) | LoginError::Unsupported(_) | LoginError::Ours(_) => {}
        }
    }
}

/// Whether a server says that it ends the session because it is shut down, or was told to end it (failover 5.5).
pub(super) fn is_shutdown(fields: &ErrorFields<'_>) -> bool {
    fields.severity() == b"FATAL" && is_end_of_server(fields.code())
}

/// `admin_shutdown` and `crash_shutdown`.
pub(super) fn is_end_of_server(code: &[u8]) -> bool {
    matches!(code, b"57P01" | b"57P02")
}

fn detached(node: usize, cause: &str) -> End {
    Report::fatal(format!("terminating connection because DB node {node} was detached"))
        .detail(cause)
        .hint("A transaction that was open has not been completed. Connect again.")
        .code(SqlState::ADMIN_SHUTDOWN)
        .into()
}

impl Context {
    /// The node table has changed: connections to nodes that are detached are of no use any more (failover 6.7).
    pub fn discard_detached(&mut self) {
        self.refresh_cluster();
        let attached = self.cluster.attached();
        let pooled = self.pool.len();
        self.close_pooled(|pool| pool.close_lost(|node| !attached.contains(node)));
        if self.pool.len() < pooled {
            Report::log_line("selecting backend connection")
                .detail("failover or failback event detected, discarding existing connections")
                .log();
        }
    }

    fn why_detached(&self, node: usize) -> String {
        self.cluster.nodes.get(node).map_or_else(String::new, |node| node.reason.clone())
    }
}
