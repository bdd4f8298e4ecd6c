//! Stopping: smart waits for the sessions, fast and immediate end them (process-model 13). A stronger request overrides a
//! weaker one at any time.

use super::Supervisor;
use crate::net::Deadline;
use crate::report::Report;
use crate::sys::signal::Signal;
use std::time::Duration;

/// How long children may take to leave after a fast stop before they are killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stop in progress.
#[derive(Debug)]
pub(super) struct Stopping {
    signal: Signal,
    /// When those still there are killed.
    kill_at: Deadline,
}

fn strength(signal: Signal) -> u8 {
    match signal {
        Signal::SIGTERM => 1,
        Signal::SIGINT => 2,
        _ => 3,
    }
}

impl Supervisor {
    /// SIGTERM, SIGINT or SIGQUIT has arrived.
    pub(super) fn stop(&mut self, signal: Signal) {
        Report::log_line(format!("exit handler called (signal: {})", signal as i32)).log();
        if self.stopping.as_ref().is_some_and(|stopping| strength(stopping.signal) >= strength(signal)) {
            return;
        }
        Report::log_line(format!("shutting down by signal {}", signal as i32)).log();
        Report::log_line("terminating all child processes").log();
        // New clients are refused from now on, also by workers that still have a session.
        self.listeners.refuse();
        self.children.signal_all(signal);
        let kill_at = if signal == Signal::SIGTERM { Deadline::NEVER } else { Deadline::after(PATIENCE) };
        self.stopping = Some(Stopping { signal, kill_at });
    }

    pub(super) fn stop_deadline(&self) -> Deadline {
        self.stopping.as_ref().map_or(Deadline::NEVER, |stopping| stopping.kill_at)
    }

    /// Goes on with a stop. `Some`: everything has ended; the exit status.
    pub(super) fn finish_stop(&mut self) -> Option<i32> {
        let stopping = self.stopping.as_mut()?;
        if stopping.kill_at.passed() {
            stopping.kill_at = Deadline::NEVER;
            Report::warning("some child processes did not end in time and are killed").log();
            self.children.signal_all(Signal::SIGKILL);
        }
        if !self.children.is_empty() {
            return None;
        }
        self.write_status();
        self.listeners.remove();
        if let Some(pid_file) = self.pid_file.take() {
            pid_file.remove();
        }
        Report::log_line("Pgpool-II system is shutdown").log();
        Some(0)
    }
}
