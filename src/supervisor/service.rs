//! What the service manager is told, and when: that pgpool serves, reads its files again, ends, how it is, and that the
//! parent's loop runs.

use super::Supervisor;
use crate::net::Deadline;
use crate::sys::service_manager::ServiceManager;
use crate::sys::signal::Signal;
use std::ffi::OsString;

/// The service manager, and when it next needs a sign of life.
#[derive(Debug, Default)]
pub(super) struct Service {
    manager: ServiceManager,
    next: Deadline,
    /// Who will be told when this process is the main one.
    later: Option<ServiceManager>,
}

impl Service {
    /// `is_main`: this process is the one that the manager knows, and does not replace it yet.
    pub fn new(manager: ServiceManager, is_main: bool) -> Self {
        if !is_main {
            return Self { later: Some(manager), ..Self::default() };
        }
        let next = if manager.watchdog().is_some() { Deadline::after_milliseconds(1) } else { Deadline::NEVER };
        Self { manager, next, later: None }
    }

    /// This process is the main one from now on.
    pub fn begin(&mut self) {
        if let Some(manager) = self.later.take() {
            *self = Self::new(manager, true);
        }
    }

    /// When [`give_sign_of_life`](Self::give_sign_of_life) is due.
    pub fn next_sign_of_life(&self) -> Deadline {
        self.next
    }

    /// Twice as often as the manager insists on.
    pub fn give_sign_of_life(&mut self) {
        if !self.next.passed() {
            return;
        }
        self.manager.alive();
        self.next = self.manager.watchdog().map_or(Deadline::NEVER, |length| Deadline::after(length / 2));
    }

    pub fn tell_ready(&self, status: &str) {
        self.manager.ready(status);
    }

    pub fn tell_status(&self, status: &str) {
        self.manager.status(status);
    }

    pub fn tell_reloading(&self) {
        self.manager.reloading();
    }

    /// Another process takes this one's place.
    pub fn main_process_is(self, pid: u32, status: &str) {
        self.manager.main_process_is(pid, status);
    }

    /// What that process needs to know of the manager.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        self.manager.environment()
    }

    pub fn tell_stopping(&self, signal: Signal) {
        let waits = if signal == Signal::SIGTERM { "waiting for sessions to end" } else { "ending all sessions" };
        self.manager.stopping(waits);
    }
}

impl Supervisor {
    /// How it is, as `systemctl status` shows it.
    pub(super) fn in_one_line(&self) -> String {
        let cluster = self.shared.nodes().view();
        let configured = self.settings.used_nodes().count();
        let attached = cluster.nodes.iter().filter(|node| node.status.is_attached()).count();
        let writes =
            cluster.write_node().map_or_else(|| "none takes writes".to_owned(), |id| format!("node {id} takes writes"));
        format!("{attached} of {configured} nodes attached, {writes}")
    }
}
