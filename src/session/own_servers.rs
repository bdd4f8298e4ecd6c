//! Statements that concern pgpool's own server connections: pg_terminate_backend() and DROP DATABASE (routing 11, 12).

use super::Session;
use super::context::Context;
use crate::report::Report;
use crate::sql::{Kind, Statement};
use crate::sys::signal::ToWorker;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long DROP DATABASE waits for pooled connections to be closed.
const CLOSING: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

impl Session<'_> {
    /// The node that must get the statement because it ends a server process there; `None`: any other statement. Logged.
    pub(super) fn node_to_terminate(&self, facts: &Statement) -> Option<usize> {
        let pid = u32::try_from(facts.terminates?).ok()?;
        let node = self.context.shared.node_of_server(pid);
        if let Some(node) = node {
            // Its death is nobody's failure.
            self.context.shared.failover().note_terminated(node, pid);
        }
        let request = format!("found the pg_terminate_backend request for backend pid:{pid}");
        match node {
            Some(node) => Report::log_line(format!("{request} on backend node:{node}"))
                .detail("The statement goes to that node and to no other."),
            None => Report::log_line(format!("{request}, but the backend connection does not belong to pgpool-II"))
                .detail("The statement goes to the primary."),
        }
        .log();
        node
    }

    /// DROP DATABASE fails while anybody is connected: asks all workers to close what waits in their pools, and waits until
    /// they have.
    pub(super) fn prepare_to_drop(&mut self, facts: &Statement) {
        let Kind::DropDatabase(database) = &facts.kind else { return };
        self.context.close_pooled(|pool| pool.close_all());
        let own = std::process::id();
        for worker in self.context.shared.workers().iter().map(|slot| slot.pid()).filter(|pid| *pid != 0 && *pid != own)
        {
            // A worker that has just ended has closed everything.
            let _ = kill(Pid::from_raw(worker as i32), ToWorker::ClosePool);
        }
        let begin = Instant::now();
        while self.context.shared.is_pooled(database) && begin.elapsed() < CLOSING && !self.context.is_stopping() {
            sleep(LOOK);
        }
    }
}

impl Context {
    /// Closes pooled connections; what monitoring shows of them goes with them.
    pub fn close_pooled(&mut self, close: impl FnOnce(&mut crate::backend::Pool) -> Vec<usize>) {
        for slot in close(&mut self.pool) {
            self.slot.pool(slot).clear();
        }
    }

    /// Does so if a signal taken during the session asks for it: another session is about to drop a database.
    pub(super) fn close_pooled_if_asked(&mut self) {
        if self.deferred.has(ToWorker::ClosePool) {
            self.deferred = self.deferred.without(ToWorker::ClosePool);
            self.close_pooled(|pool| pool.close_all());
        }
    }
}
