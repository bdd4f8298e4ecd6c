//! The health check: one process per node logs in to it every now and then (failover 4).
//!
//! A round is up to `health_check_max_retries` + 1 attempts ([`probe`]), each bounded as a whole by `health_check_timeout`.
//! A round that fails asks the parent to detach the node; the node table is never changed here. Between rounds the process
//! sleeps until the next is due, its settings change, or a session suspects the node. A node that is not in use is left
//! alone, unless `auto_failback` lets it come back.
//!
//! A suspicion is often raised by a server that recovers from the crash of one process. One that says it is on its way up, or
//! down, is therefore looked at again until it has arrived, or the next regular round is due: only that takes it for dead.
//!
//! A node that cannot be asked, because pgpool's machine has no port, descriptor or memory left, is neither well nor not: the
//! round goes on until it can.
//!
//! It must never fork (its attempts resolve names in threads), and never wait for a server without the limits configured.

mod probe;

use crate::backend;
use crate::config::{BackendClusteringMode, NodeSettings, Settings};
use crate::failover;
use crate::net::Deadline;
use crate::report::{self, Report};
use crate::state::{Node, NodeHealth, NodeStatus, Progress, RoundEnd, Shared};
use crate::sys::signal::{Signals, ToHelper};
use crate::sys::title;
use nix::poll::{PollFd, PollFlags, poll};
use probe::{Failure, Kind, probe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause before a suspected server that is not ready is looked at again.
const NOT_READY: Duration = Duration::from_millis(100);
/// Pause before a node that could not be asked is tried again.
const UNASKED: Duration = Duration::from_secs(1);
/// Exit status of one that is to be replaced (process-model 9).
const EXIT_RESTART: i32 = 1;

/// The life of the forked process for node `id`. Returns the exit status.
pub fn run(settings: Arc<Settings>, shared: Shared, id: usize) -> i32 {
    // The name lives as long as the process.
    report::set_process(format!("health_check{id}").leak(), "");
    title::set(&format!("health check process({id})"));
    let signals = match Signals::install(ToHelper::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => {
            Report::fatal("the health check cannot handle signals").detail(errno.desc()).log();
            return EXIT_RESTART;
        }
    };
    Report::log_line("process started").log();
    shared.health(id).attend(std::process::id());
    let due = Deadline::after(Duration::ZERO);
    let Leave(status) = Checker { id, settings, shared, signals, due, resume: None, refused: String::new() }.live();
    status
}

/// The process is to end with this status.
struct Leave(i32);

struct Checker {
    /// The node.
    id: usize,
    settings: Arc<Settings>,
    shared: Shared,
    signals: Signals,
    /// When the next regular round begins.
    due: Deadline,
    /// Before that moment the node is not attached by itself again (`auto_failback_interval`).
    resume: Option<Instant>,
    /// The last word of a server that is alive but refuses us; told once.
    refused: String,
}

impl Checker {
    fn live(mut self) -> Leave {
        loop {
            self.due = match u64::try_from(self.node().health_check_period) {
                Ok(period) if period > 0 => match self.round() {
                    Ok(()) => Deadline::after(Duration::from_secs(period)),
                    Err(leave) => return leave,
                },
                _ => {
                    self.health().turned_off();
                    Deadline::NEVER
                }
            };
            if let Err(leave) = self.sleep(self.due, true) {
                return leave;
            }
        }
    }

    fn node(&self) -> NodeSettings {
        self.settings.nodes.get(self.id).cloned().unwrap_or_default()
    }

    fn health(&self) -> &NodeHealth {
        self.shared.health(self.id)
    }

    /// One round of checks.
    fn round(&mut self) -> Result<(), Leave> {
        let state = self.shared.nodes().view().nodes.get(self.id).cloned().unwrap_or_default();
        self.health().begin();
        let in_use = state.status.is_attached() || state.quarantined;
        if !in_use {
            let retries = if self.may_return(&state) { self.try_return()? } else { 0 };
            self.health().end(RoundEnd::Skipped, retries, Duration::ZERO);
            return Ok(());
        }
        let begun = Instant::now();
        let (outcome, retries) = self.attempts()?;
        let end = match outcome {
            Ok(()) => RoundEnd::Success,
            Err(failure) => self.failed(&state, &failure),
        };
        self.health().end(end, retries, begun.elapsed());
        Ok(())
    }

    /// Tries until one attempt succeeds or no retry is left. Returns the outcome and how many retries it took.
    fn attempts(&mut self) -> Result<(Result<(), Failure>, u64), Leave> {
        let (id, node) = (self.id, self.node());
        let most = u64::try_from(node.health_check_max_retries).unwrap_or(0);
        let (mut retries, mut told, mut unasked) = (0, false, false);
        loop {
            let mut outcome = probe(&self.settings, id, &node);
            if outcome.is_ok() && self.settings.health_check_test {
                outcome = probe::pretended(id, &self.settings.work_dir);
            }
            let failure = match outcome {
                Ok(()) => {
                    if retries > 0 {
                        Report::log_line(format!("health check retrying on DB node: {id} succeeded")).log();
                    }
                    return Ok((Ok(()), retries));
                }
                Err(failure) => failure,
            };
            // A stop ends an attempt, which is not the server's failure.
            self.heed_signals()?;
            if failure.kind == Kind::Unasked {
                // Neither well nor not: what was found before stands, and no retry is used up.
                if !std::mem::replace(&mut unasked, true) {
                    failure.report(id, &node).log();
                }
                self.sleep(Deadline::after(UNASKED), false)?;
                continue;
            }
            if !probe::counts(&self.settings, &failure) {
                self.tell_refusal(&failure);
                return Ok((Ok(()), retries));
            }
            if self.shared.nodes().view().primary == Some(id) {
                // It may have crashed, and lost what answers of the query cache were made of.
                self.shared.doubt_answers();
            }
            let waits = failure.kind == Kind::Starting && !self.due.passed();
            if !waits || !std::mem::replace(&mut told, true) {
                failure.report(id, &node).log();
            }
            if waits {
                self.health().suspect();
                self.sleep(Deadline::after(NOT_READY).min(self.due), false)?;
                continue;
            }
            if retries == most {
                return Ok((Err(failure), retries));
            }
            self.health().suspect();
            retries += 1;
            Report::log_line(format!("health check retrying on DB node: {id} (round:{retries})"))
                .detail(&failure.cause)
                .log();
            let delay = u64::try_from(node.health_check_retry_delay).unwrap_or(0);
            self.sleep(Deadline::after(Duration::from_secs(delay)), false)?;
        }
    }

    /// A round has failed (failover 4.5).
    fn failed(&self, state: &Node, failure: &Failure) -> RoundEnd {
        let id = self.id;
        if state.disallow_to_failover {
            Report::log_line(format!("health check failed on node {id} but failover is disallowed for the node"))
                .detail(&failure.cause)
                .log();
            return RoundEnd::Failure { counted: false };
        }
        let timeout = u8::from(failure.kind == Kind::TimedOut);
        Report::log_line(format!("health check failed on node {id} (timeout:{timeout})")).detail(&failure.cause).log();
        if state.quarantined {
            Report::log_line(format!("health check failed on quarantine node {id} (timeout:{timeout})"))
                .detail("ignoring..")
                .log();
        } else {
            failover::detach(&self.shared, id, &format!("health check failed: {}", failure.cause));
        }
        RoundEnd::Failure { counted: true }
    }

    /// Tells an administrator once why his health checks do not get in.
    fn tell_refusal(&mut self, failure: &Failure) {
        if failure.cause != self.refused {
            failure.cause.clone_into(&mut self.refused);
            Report::warning(format!("health check: DB node {} is alive but refuses the login", self.id))
                .detail(&failure.cause)
                .hint("Check health_check_user, health_check_password and health_check_database of the node.")
                .log();
        }
    }

    /// Whether a detached node is to come back by itself as soon as it is well (failover 12).
    fn may_return(&self, state: &Node) -> bool {
        self.settings.auto_failback
            && self.settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication
            && state.status == NodeStatus::Down
            && !state.missing
            && !state.kept_out
            && self.shared.failover().progress() == Progress::Idle
            && self.resume.is_none_or(|at| at <= Instant::now())
            && state.replication_state == "streaming"
    }

    /// Asks for the node to be attached if it lets us in. Returns the retries that took.
    fn try_return(&mut self) -> Result<u64, Leave> {
        let (outcome, retries) = self.attempts()?;
        if outcome.is_ok() && self.shared.failover().progress() == Progress::Idle {
            let interval = u64::try_from(self.settings.auto_failback_interval).unwrap_or(0);
            self.resume = Instant::now().checked_add(Duration::from_secs(interval));
            Report::log_line(format!("request auto failback, node id:{}", self.id)).log();
            failover::attach(&self.shared, self.id, "auto_failback: it is streaming again");
        }
        Ok(retries)
    }

    /// Sleeps until `next`, until the configuration has changed, or, if `heeds_wishes`, until somebody suspects the node.
    fn sleep(&mut self, next: Deadline, heeds_wishes: bool) -> Result<(), Leave> {
        loop {
            let is_wanted = heeds_wishes && self.node().health_check_period > 0 && self.health().is_wanted();
            if self.heed_signals()? || next.passed() || is_wanted {
                return Ok(());
            }
            let _ = poll(&mut [PollFd::new(self.signals.fd(), PollFlags::POLLIN)], next.poll_timeout());
        }
    }

    /// Returns whether the configuration has changed.
    fn heed_signals(&mut self) -> Result<bool, Leave> {
        let taken = self.signals.take();
        if taken.has_stop() {
            return Err(Leave(0));
        }
        if taken.has(ToHelper::Restart) {
            Report::log_line("health check process received restart request").log();
            return Err(Leave(EXIT_RESTART));
        }
        if !taken.has(ToHelper::Reload) {
            return Ok(false);
        }
        Report::log_line("reloading config file").log();
        if let Some(settings) = Settings::from_snapshot(&self.shared.published_settings()) {
            self.settings = Arc::new(settings);
            report::configure(self.settings.log_settings());
            backend::reload_tls(&self.settings);
            self.refused.clear();
        }
        Ok(true)
    }
}
