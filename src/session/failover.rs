//! What a failover means to a session (failover 6.5, 6.6).
//!
//! The parent tells by SIGUSR2 that the node table has changed. A session that has no connection to a lost node goes on; one
//! that can do without the node leaves it; one that cannot ends and tells the client why. Nothing is sent to a node that
//! writes no more: a session whose primary is not the one that writes ends, too.

use super::end::End;
use super::{Context, Session};
use crate::net::Deadline;
use crate::report::{Report, SqlState};
use crate::state::Progress;
use crate::sys::signal::Signal;
use nix::poll::{PollFd, PollFlags, poll};
use std::time::Duration;

/// How long a new session waits for the primary to be replaced (failover 6.6).
const PATIENCE: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// Looks at the node table if the parent has said so.
    pub(super) fn heed_failover(&mut self) -> Result<(), End> {
        if !self.context.deferred.has(Signal::SIGUSR2) {
            return Ok(());
        }
        self.context.deferred = self.context.deferred.without(Signal::SIGUSR2);
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
        let cluster = &self.context.cluster;
        if !cluster.attached().contains(self.home) {
            return Err(detached(self.home, &self.context.why_detached(self.home)));
        }
        if let Some(node) = cluster.write_node().filter(|node| *node != self.home) {
            return Err(End::from(
                Report::fatal(format!("terminating connection because DB node {node} has become the one that writes"))
                    .hint("Connect again.")
                    .code(SqlState::ADMIN_SHUTDOWN),
            ));
        }
        Ok(())
    }
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

    /// Waits while the primary is being replaced, so that a new session finds its successor.
    pub(super) fn wait_for_primary(&mut self) {
        let deadline = Deadline::after(PATIENCE);
        while self.shared.failover().progress() == Progress::Primary && !deadline.passed() {
            let _ = poll(&mut [PollFd::new(self.signals.fd(), PollFlags::POLLIN)], deadline.poll_timeout());
            if self.must_stop() {
                break;
            }
        }
        self.refresh_cluster();
    }
}
