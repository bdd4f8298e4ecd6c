//! Stopping: smart waits for the sessions, fast and immediate end them (process-model 13). A stronger request overrides a
//! weaker one at any time.

use super::children::Role;
use super::{Supervisor, pid_file, upgrade};
use crate::net::Deadline;
use crate::report::Report;
use crate::sys::signal::{Signal, ToHelper};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

/// How long children may take to leave after a fast stop before they are killed, and commands before they are told to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A stop in progress.
#[derive(Debug)]
pub(super) struct Stopping {
    signal: Signal,
    /// When those still there are killed.
    kill_at: Deadline,
    /// Until when the end of a pgpool that this one has replaced is waited for.
    wait_for_predecessor: Deadline,
}

/// The order of the modes.
fn strength(signal: Signal) -> u8 {
    match signal {
        Signal::SIGTERM => 1,
        Signal::SIGINT => 2,
        _ => 3,
    }
}

impl Stopping {
    /// Clients go elsewhere, and those that are here may stay.
    pub fn with_the_last_session() -> Self {
        Self { signal: Signal::SIGTERM, kill_at: Deadline::NEVER, wait_for_predecessor: Deadline::NEVER }
    }

    /// Whether those clients that are here may stay.
    pub fn is_smart(&self) -> bool {
        self.signal == Signal::SIGTERM
    }
}

impl Supervisor {
    /// SIGTERM, SIGINT or SIGQUIT has arrived.
    pub(super) fn stop(&mut self, signal: Signal) {
        let number = signal as i32;
        Report::log_line(format!("exit handler called (signal: {number})")).log();
        self.stop_predecessor(signal);
        let before = self.stopping.as_ref();
        if before.is_some_and(|stopping| strength(stopping.signal) >= strength(signal)) {
            return;
        }
        Report::log_line(format!("shutting down by signal {number}")).log();
        Report::log_line("terminating all child processes").log();
        self.begin_stop(signal);
    }

    /// A stop that was asked for before another pgpool left its business to this one is one for both.
    pub(super) fn stop_all_the_same(&mut self) {
        if let Some(Stopping { signal, .. }) = self.stopping {
            self.stop_predecessor(signal);
            self.begin_stop(signal);
        }
    }

    fn begin_stop(&mut self, signal: Signal) {
        let killed_before = self.stopping.as_ref().map_or(Deadline::NEVER, |stopping| stopping.kill_at);
        let kill_at = if signal == Signal::SIGTERM { Deadline::NEVER } else { Deadline::after(PATIENCE) };
        // It kills what does not end in time, too.
        let wait_for_predecessor =
            if signal == Signal::SIGTERM { Deadline::NEVER } else { Deadline::after(2 * PATIENCE) };
        self.stopping = Some(Stopping { signal, kill_at: kill_at.min(killed_before), wait_for_predecessor });
        self.abandon_upgrade();
        self.service.tell_stopping(signal);
        self.children.start_none();
        self.end_renewal();
        self.spare.forget();
        // Idle workers must know of the stop before they see that their sockets are dead.
        self.children.signal_all(signal);
        // Nobody needs to know any more how a node is: a check does not go on until it ends by itself.
        self.children.signal(ToHelper::FastStop, |role| matches!(role, Role::Health(_)));
        // New clients are refused from now on, also by workers that still have a session.
        self.listeners.refuse();
        self.pcp_listeners.refuse();
        self.metrics_listeners.refuse();
    }

    pub(super) fn stop_deadline(&self) -> Deadline {
        self.stopping.as_ref().map_or(Deadline::NEVER, |stopping| stopping.kill_at.min(stopping.wait_for_predecessor))
    }

    /// Goes on with a stop. `Some`: everything has ended; the exit status.
    pub(super) fn finish_stop(&mut self) -> Option<i32> {
        let stopping = self.stopping.as_mut()?;
        if stopping.kill_at.passed() {
            stopping.kill_at = Deadline::NEVER;
            Report::warning("some child processes did not end in time and are killed")
                .detail(self.children.living())
                .log();
            self.children.kill_all();
            // They may clean up, and have as long again for it.
            self.failover.end_commands();
        }
        if stopping.wait_for_predecessor.passed() {
            stopping.wait_for_predecessor = Deadline::NEVER;
            self.predecessor = None;
        }
        if !self.children.is_empty() || self.is_waiting_for_predecessor() || self.is_waiting_for_successor() {
            return None;
        }
        if self.retired.is_some() {
            Report::log_line("upgrade: the last session of this process has ended").log();
            // Under this name the new one has replaced it, unless it has another name now.
            pid_file::delete(Path::new(&self.settings.pid_file_name), Pid::this());
            return Some(0);
        }
        self.leave_nothing_behind();
        Report::log_line("Pgpool-II system is shutdown").log();
        Some(0)
    }

    /// The parent cannot go on: children end as in a fast stop, by this signal and by the death of their parent.
    pub(super) fn give_up(&mut self) {
        Report::log_line("shutting down").log();
        self.children.signal_all(Signal::SIGINT);
        self.listeners.refuse();
        self.pcp_listeners.refuse();
        self.metrics_listeners.refuse();
        self.leave_nothing_behind();
    }

    fn leave_nothing_behind(&mut self) {
        self.write_status();
        if !self.is_before_its_time() {
            upgrade::forget(Path::new(&self.settings.pid_file_name));
        }
        self.listeners.remove();
        self.pcp_listeners.remove();
        self.metrics_listeners.remove();
        if let Some(pid_file) = self.pid_file.take() {
            pid_file.remove();
        }
    }
}
