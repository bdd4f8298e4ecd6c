//! The replication check: every `sr_check_period` it asks the nodes how far each standby is behind the primary (failover 14).
//!
//! A process of its own, which the parent keeps alive. All nodes are asked at once ([`watch`], [`ask`]), what their answers
//! mean is decided without I/O ([`figures`]), and the result goes to the shared state: delays to
//! [`Delays`](crate::state::Delays), states to the node table. An external command ([`command`], [`values`]) may take the
//! place of asking. Sessions, SHOW POOL_NODES and the time to live of written tables go by what stands there. What the nodes
//! say of their roles goes to the [`survey`], which notices that the primary has changed.
//!
//! Invariants:
//! - A node that does not answer takes nothing but its own figure from a check. Asking takes no longer than a period, a
//!   command no longer than its own limit.
//! - What is wrong is told once as long as it lasts ([`tell`]).
//! - While the check is off the process sleeps, without connections and without a figure left behind.
//! - It must never fork; the external command is spawned.

mod ask;
mod command;
mod figures;
mod lsn;
mod survey;
mod tell;
mod values;
mod watch;

use super::ask::Question;
use crate::backend;
use crate::config::{BackendClusteringMode, Settings};
use crate::net::Deadline;
use crate::report::{self, Report};
use crate::state::{Cluster, Delay, Node, Progress, Shared, uptime};
use crate::sys::signal::{SignalSet, Signals, ToHelper};
use crate::sys::title;
use ask::Told;
use command::Failure;
use figures::{Figures, Sighting};
use nix::poll::{PollFd, PollFlags, poll};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tell::{Subject, Troubles};
use watch::Watch;

/// The shortest time from one check to the next: while the primary does not say that it is one.
const SOON: Duration = Duration::from_secs(1);
const EXIT_DONE: i32 = 0;
/// Another is to take this process's place.
const EXIT_RESTART: i32 = 1;

/// The life of the forked process. Returns its exit status (process-model 6, 9).
pub fn run(settings: Arc<Settings>, shared: Shared) -> i32 {
    report::set_process("sr_check_worker", "WORKER");
    title::set("worker process");
    let failed = |what: &str, errno: nix::Error| {
        Report::fatal(format!("the replication check cannot {what}")).detail(errno.desc()).log();
        EXIT_RESTART
    };
    let signals = match Signals::install(ToHelper::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => return failed("handle signals", errno),
    };
    let watch = match Watch::new() {
        Ok(watch) => watch,
        Err(errno) => return failed("wait for answers", errno),
    };
    Report::log_line("process started").log();
    let (noted, troubles) = (SignalSet::default(), Troubles::default());
    let Leave(status) = Check { settings, shared, signals, noted, watch, troubles, sighting: None }.live();
    status
}

/// The process was told to leave, with this exit status.
struct Leave(i32);

struct Check {
    settings: Arc<Settings>,
    shared: Shared,
    signals: Signals,
    /// Signals that arrived during a check.
    noted: SignalSet,
    watch: Watch,
    troubles: Troubles,
    /// Where the primary was when it last answered.
    sighting: Option<Sighting>,
}

impl Check {
    fn live(mut self) -> Leave {
        loop {
            let began = Instant::now();
            let checked = match period(&self.settings) {
                Some(period) => self.check(period),
                None => self.rest(),
            };
            if let Err(leave) = checked.and_then(|next| self.sleep(next, began + SOON)) {
                return leave;
            }
        }
    }

    /// Leaves nothing behind that nobody keeps up to date. Returns when to look again: when the configuration changes.
    fn rest(&mut self) -> Result<Deadline, Leave> {
        self.watch.dismiss();
        self.sighting = None;
        (0..self.shared.nodes().view().nodes.len()).for_each(|id| self.shared.delays().set(id, Delay::Unmeasured));
        self.set_states(|_| Some(Default::default()));
        Ok(Deadline::NEVER)
    }

    /// One check. Returns when the next one is due.
    fn check(&mut self, period: Duration) -> Result<Deadline, Leave> {
        let next = Deadline::after(period);
        if self.shared.failover().progress() != Progress::Idle {
            // Who is primary and who is standby is being decided; this process starts anew when that is done.
            return Ok(next);
        }
        let begun = self.shared.failover().begun();
        let cluster = self.shared.nodes().view();
        let primary = cluster.primary.filter(|id| cluster.attached().contains(*id));
        match primary {
            // The finder looks for one.
            None => self.set_states(|_| Some(Default::default())),
            Some(primary) if self.settings.replication_delay_source_cmd.is_empty() => {
                return self.ask(&cluster, primary, begun, next);
            }
            Some(primary) => {
                if survey::is_wanted(&self.settings) {
                    self.ask(&cluster, primary, begun, next)?;
                } else {
                    self.watch.dismiss();
                }
                self.run_command(&cluster, primary, begun)?;
                // However long it takes, it is left alone for a period.
                return Ok(Deadline::after(period));
            }
        }
        Ok(next)
    }

    /// Asks the attached nodes themselves, until `end` at most. The answers count if no failover has begun since `begun`.
    /// Returns when to ask again: `end`, but soon while the primary does not say that it is one.
    fn ask(&mut self, cluster: &Cluster, primary: usize, begun: u64, end: Deadline) -> Result<Deadline, Leave> {
        let question = |id: usize| Question::new(&self.settings, id, &cluster.nodes[id]);
        let questions: Vec<_> = cluster.attached().iter().map(question).collect();
        let longest = questions.iter().map(|question| question.limit).max().unwrap_or_default();
        let deadline = Deadline::after(longest).min(end);
        let asked = uptime();
        let (signals, noted) = (&self.signals, &mut self.noted);
        let answers = self.watch.ask(questions, deadline, signals.fd(), || {
            *noted = noted.with(signals.take());
            wanted_exit(*noted).is_some()
        });
        let Some(answers) = answers else {
            self.heed()?;
            return Ok(end);
        };
        if self.shared.failover().begun() != begun {
            return Ok(end);
        }
        let now = Instant::now();
        let mut told: Vec<Option<Told>> = vec![None; cluster.nodes.len()];
        for (node, answer) in answers {
            match answer {
                Ok(answer) => {
                    self.troubles.node_answers(node);
                    told[node] = Some(answer);
                }
                Err(trouble) => self.troubles.node(node, &trouble),
            }
        }
        let is_in_charge = told[primary].as_ref().is_some_and(|source| !source.in_recovery);
        self.survey(cluster, begun, &told);
        let next =
            if is_in_charge || !survey::is_wanted(&self.settings) { end } else { end.min(Deadline::after(SOON)) };
        if !self.settings.replication_delay_source_cmd.is_empty() {
            return Ok(next);
        }
        let figures = figures::figures(&self.settings, cluster, primary, &told, self.sighting, now);
        if let Some(source) = told[primary].as_ref().filter(|source| !source.in_recovery) {
            self.tell_of_receivers(cluster, primary, source, &figures);
            let Told { position, made, timeline, .. } = *source;
            let source = Sighting { node: primary, position, made, timeline, at: now, asked };
            for (id, told) in told.iter().enumerate() {
                let standby = told.as_ref().filter(|told| told.in_recovery);
                let moment = standby.and_then(|told| figures::caught_up(told, source, self.sighting));
                self.shared.delays().set_caught_up(id, moment.unwrap_or_default());
            }
            self.sighting = Some(source);
        }
        self.publish(primary, &figures);
        Ok(next)
    }

    fn tell_of_receivers(&mut self, cluster: &Cluster, primary: usize, source: &Told, figures: &[Figures]) {
        let hidden = source.receivers.iter().any(|receiver| receiver.state.is_none());
        let user = &self.settings.sr_check_user;
        self.troubles.privilege(primary, if user.is_empty() { "postgres" } else { user }, hidden);
        let names: Vec<_> = source.receivers.iter().map(|receiver| &*receiver.application_name).collect();
        for (id, figures) in figures.iter().enumerate() {
            let wanted = &cluster.nodes[id].application_name;
            // Who may not see names cannot compare them.
            self.troubles.matching(id, primary, wanted, &names, figures.unmatched && !hidden);
        }
    }

    fn publish(&self, primary: usize, figures: &[Figures]) {
        let delays = self.shared.delays();
        delays.set(primary, Delay::Unmeasured);
        for (id, delay) in figures.iter().enumerate().filter_map(|(id, figures)| Some((id, figures.delay?))) {
            delays.set(id, delay);
            if let Some(line) = tell::delay_line(&self.settings, id, primary, delay) {
                line.log();
            }
        }
        self.set_states(|id| figures.get(id).and_then(|figures| figures.states.clone()));
        let time = |figures: &Figures| if let Some(Delay::Time(time)) = figures.delay { Some(time) } else { None };
        self.set_ttl(figures.iter().filter_map(time).max());
    }

    /// Lets the external command say it. That counts if no failover has begun since `begun`.
    fn run_command(&mut self, cluster: &Cluster, primary: usize, begun: u64) -> Result<(), Leave> {
        let command = self.settings.replication_delay_source_cmd.clone();
        // Ids that are not configured have their place, too: values are told apart by nothing but their order.
        let standbys: Vec<_> = (0..cluster.nodes.len()).filter(|id| *id != primary).collect();
        let addresses: Vec<_> = standbys.iter().map(|id| address(*id, &cluster.nodes[*id])).collect();
        let seconds = u64::try_from(self.settings.replication_delay_source_timeout).unwrap_or(1);
        let (signals, noted) = (&self.signals, &mut self.noted);
        let output = command::run(&command, &addresses, seconds, signals.fd(), || {
            *noted = noted.with(signals.take());
            wanted_exit(*noted).is_some()
        });
        let output = match output {
            Ok(output) => output,
            Err(Failure::Interrupted) => return self.heed(),
            Err(Failure::Told(report)) => {
                if self.troubles.begin(Subject::Command, &report.message) {
                    report.log();
                }
                return Ok(());
            }
        };
        if self.shared.failover().begun() != begun {
            return Ok(());
        }
        let mut values = values::read(&output.text, &standbys);
        if output.cut {
            values.remarks.insert(0, Report::warning("replication delay command output may have been truncated"));
        }
        let remarks: Vec<_> = values.remarks.iter().map(|report| report.message.as_str()).collect();
        if remarks.is_empty() {
            self.troubles.end(Subject::Command);
        } else if self.troubles.begin(Subject::Command, &remarks.join("\n")) {
            values.remarks.iter().for_each(Report::log);
        }
        self.shared.delays().set(primary, Delay::Unmeasured);
        for (id, delay) in &values.delays {
            self.shared.delays().set(*id, Delay::Time(*delay));
            if let Some(line) = tell::command_line(&self.settings, *id, primary, *delay) {
                line.log();
            }
        }
        self.set_ttl(values.delays.iter().map(|(_, delay)| *delay).max());
        Ok(())
    }

    /// Sets the two states of each node where `states` has some.
    fn set_states(&self, states: impl Fn(usize) -> Option<[String; 2]>) {
        self.change_nodes(|cluster| {
            for (id, node) in cluster.nodes.iter_mut().enumerate() {
                if let Some(states) = states(id) {
                    [node.replication_state, node.sync_state] = states;
                }
            }
        });
    }

    fn change_nodes(&self, change: impl FnOnce(&mut Cluster)) {
        if let Err(error) = self.shared.nodes().update(change) {
            Report::warning("the node table could not be updated")
                .detail(error.to_string())
                .hint("Look for a process of pgpool that is stopped (state T), and continue or kill it.")
                .log();
        }
    }

    /// Written tables are read from the primary for as long as the slowest standby may need (routing 16.5).
    fn set_ttl(&self, slowest: Option<Duration>) {
        if let Some(delay) = slowest.filter(|delay| !delay.is_zero()) {
            let seconds = delay.as_secs_f64() * self.settings.track_table_mutation_ttl_factor;
            self.shared.mutations().set_ttl(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        }
    }

    /// Does what signals ask for.
    fn heed(&mut self) -> Result<(), Leave> {
        let taken = std::mem::take(&mut self.noted).with(self.signals.take());
        if let Some(status) = wanted_exit(taken) {
            if status == EXIT_RESTART {
                Report::log_line("worker process received restart request").log();
            }
            return Err(Leave(status));
        }
        if taken.has(ToHelper::Reload) {
            Report::log_line("reloading config file").log();
            if let Some(settings) = Settings::from_snapshot(&self.shared.published_settings()) {
                self.settings = Arc::new(settings);
                report::configure(self.settings.log_settings());
                backend::reload_tls(&self.settings);
                self.troubles.forget();
            }
        }
        Ok(())
    }

    /// Sleeps until `next`, until the configuration has changed, or until the primary goes away, but then not before
    /// `earliest`.
    fn sleep(&mut self, mut next: Deadline, earliest: Instant) -> Result<(), Leave> {
        let mut primary = self.shared.nodes().view().primary.filter(|_| survey::is_wanted(&self.settings));
        loop {
            let before = Arc::clone(&self.settings);
            self.heed()?;
            if next.passed() || !Arc::ptr_eq(&before, &self.settings) {
                return Ok(());
            }
            let gone = primary.and_then(|primary| self.watch.gone(primary));
            let fds = [Some(self.signals.fd()), gone].into_iter().flatten();
            let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            let _ = poll(&mut fds, next.poll_timeout());
            if fds.get(1).is_some_and(|fd| fd.any() == Some(true)) {
                next = next.min(Deadline::after(earliest.saturating_duration_since(Instant::now())));
                primary = None;
            }
        }
    }
}

/// Time from one check to the next; `None`: there is nothing to check.
fn period(settings: &Settings) -> Option<Duration> {
    let is_streaming = settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication;
    let period = u64::try_from(settings.sr_check_period).ok().filter(|seconds| *seconds > 0);
    period.filter(|_| is_streaming && settings.used_nodes().nth(1).is_some()).map(Duration::from_secs)
}

/// The exit status that signals ask for.
fn wanted_exit(signals: SignalSet) -> Option<i32> {
    let restart = signals.has(ToHelper::Restart).then_some(EXIT_RESTART);
    if signals.has_stop() { Some(EXIT_DONE) } else { restart }
}

/// A node as the external command gets it.
fn address(id: usize, node: &Node) -> String {
    let Node { hostname, port, .. } = node;
    if hostname.is_empty() || *port == 0 { format!("unknown_node_{id}") } else { format!("{hostname}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeSettings;

    #[test]
    fn only_several_nodes_of_streaming_replication_are_checked() {
        let node = NodeSettings { port: 5432, ..NodeSettings::default() };
        let nodes = |count| Settings { nodes: vec![node.clone(); count], sr_check_period: 7, ..Settings::default() };
        assert_eq!(period(&nodes(2)), Some(Duration::from_secs(7)));
        assert_eq!(period(&nodes(1)), None);
        assert_eq!(period(&Settings { sr_check_period: 0, ..nodes(2) }), None);
        let backend_clustering_mode = BackendClusteringMode::LogicalReplication;
        assert_eq!(period(&Settings { backend_clustering_mode, ..nodes(2) }), None);
    }

    #[test]
    fn nodes_as_the_command_gets_them() {
        let node = |hostname: &str, port| Node { hostname: hostname.to_owned(), port, ..Node::default() };
        assert_eq!(address(1, &node("db1", 5432)), "db1:5432");
        assert_eq!(address(2, &node("", 5432)), "unknown_node_2");
        assert_eq!(address(3, &node("db1", 0)), "unknown_node_3");
    }
}
