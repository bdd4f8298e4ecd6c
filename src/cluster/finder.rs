//! The finder: asks every node at start what it is, and goes on asking while something is missing (failover 7).
//!
//! It writes what it learns to the node table. While nothing is missing it sleeps until a signal comes. It has threads
//! while it asks, so it must never fork.

use super::ask::{Question, ask_all};
use super::search::{self, Answer, Outcome};
use super::tell;
use super::verdict::{Outdated, Verdict};
use crate::backend;
use crate::config::Settings;
use crate::failover;
use crate::net::Deadline;
use crate::report::{self, Report};
use crate::state::{Cluster, NodeTableBusy, Progress, Shared};
use crate::sys::signal::{SignalSet, Signals, ToHelper};
use crate::sys::title;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a missing node is looked for when `sr_check_period` does not say.
const DEFAULT_PERIOD: Duration = Duration::from_secs(10);
/// How often a missing primary is looked for within `search_primary_node_timeout` (failover 7.3).
const SEARCH_PERIOD: Duration = Duration::from_secs(1);

/// Exit status of one that is to be replaced (process-model 9).
const EXIT_RESTART: i32 = 1;

/// The life of the forked helper. `at_start`: pgpool is being started; later it takes another one's place. A byte is written
/// to `ready` when every node has been asked once. Returns the exit status (process-model 9).
pub fn run(settings: Arc<Settings>, shared: Shared, ready: OwnedFd, at_start: bool) -> i32 {
    report::set_process("node_finder", "WORKER");
    title::set("node finder process");
    let signals = match Signals::install(ToHelper::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => {
            Report::fatal("the finder cannot handle signals").detail(errno.desc()).log();
            return 1;
        }
    };
    let search = at_start.then(Instant::now);
    let begun = shared.failover().begun();
    let (noted, answers, invalid) = (SignalSet::default(), Vec::new(), Vec::new());
    let finder = Finder { settings, shared, signals, noted, answers, invalid, search, at_start, begun };
    let Leave(status) = finder.live(ready);
    status
}

/// The finder was told to leave, with this exit status.
struct Leave(i32);

struct Finder {
    settings: Arc<Settings>,
    shared: Shared,
    signals: Signals,
    /// Signals that arrived while nodes were asked.
    noted: SignalSet,
    /// What is known of each node; empty before the first round.
    answers: Vec<Answer>,
    /// The false primaries among them (failover 8).
    invalid: Vec<usize>,
    /// Since when a primary is looked for; `None` when that was given up or is done.
    search: Option<Instant>,
    /// The first round of a pgpool that is being started is still to come.
    at_start: bool,
    /// How many failovers had begun when this process started: after another one nothing it knows counts.
    begun: u64,
}

/// What a round has changed.
struct Change {
    /// There are nodes to look for.
    missing: bool,
    /// No node is attached.
    all_down: bool,
    /// Other nodes are attached, or another one is the primary.
    is_news: bool,
    /// Former primaries that are not used.
    refused: Vec<Outdated>,
}

impl Finder {
    fn live(mut self, ready: OwnedFd) -> Leave {
        let mut ready = Some(ready);
        let was_start = self.at_start;
        if self.at_start && search::has_primary(&self.settings) {
            Report::log_line("find_primary_node_repeatedly: waiting for finding a primary node").log();
        }
        loop {
            let Ok(complete) = self.round() else { return Leave(0) };
            if let Some(ready) = ready.take() {
                let _ = nix::unistd::write(&ready, b"1");
                if was_start {
                    self.detach_invalid();
                }
            }
            let next = if complete { Deadline::NEVER } else { Deadline::after(self.pause()) };
            if let Err(leave) = self.sleep(next) {
                return leave;
            }
        }
    }

    /// Asks whoever has something to tell. Returns whether nothing is missing now.
    fn round(&mut self) -> Result<bool, Leave> {
        let at_start = std::mem::take(&mut self.at_start);
        // What one that takes another's place finds out first has been told already.
        let is_new = at_start || !self.answers.is_empty();
        let cluster = self.shared.nodes().view();
        let asked = search::to_ask(&self.settings, &cluster, &self.answers);
        let questions: Vec<_> =
            asked.into_iter().map(|id| Question::new(&self.settings, id, &cluster.nodes[id])).collect();
        let told = if questions.is_empty() { Vec::new() } else { self.ask(questions)? };
        search::forget_detached(&cluster, &mut self.answers);
        let mut news = Vec::new();
        for (id, answer) in told {
            if is_new && !answer.is_like(&self.answers[id]) {
                news.push((id, answer.clone()));
            }
            let known = std::mem::take(&mut self.answers[id]);
            self.answers[id] = search::merge(&cluster.nodes[id], known, answer);
        }
        let Outcome { verdict, invalid, findings } = search::survey_answers(&self.settings, &cluster, &self.answers);
        findings.iter().filter(|_| !news.is_empty()).for_each(Report::log);
        news.iter().for_each(|(id, answer)| self.tell(&cluster, *id, answer, invalid.contains(id), at_start));
        match self.take_over(&cluster, &verdict, at_start) {
            Ok(Change { missing, all_down, is_news, refused }) => {
                if is_news && !at_start {
                    // For the status file, and for sessions.
                    failover::wake_parent(&self.shared);
                }
                let table = self.shared.nodes().view();
                let tell = |outdated| tell::outdated(outdated, &table, "It is not used.").log();
                refused.iter().for_each(tell);
                self.invalid = invalid;
                let found = verdict.primary.is_some() || !search::has_primary(&self.settings);
                self.conclude(found, all_down);
                Ok(found && !missing)
            }
            Err(error) => {
                Report::warning("the node table could not be updated")
                    .detail(error.to_string())
                    .hint("Look for a process of pgpool that is stopped (state T), and continue or kill it.")
                    .log();
                Ok(false)
            }
        }
    }

    /// Takes over into the node table what follows from the answers, unless that is another one than `cluster` by now.
    fn take_over(&self, cluster: &Cluster, verdict: &Verdict, at_start: bool) -> Result<Change, NodeTableBusy> {
        let requests = self.shared.failover();
        let (change, is_other_primary) = self.shared.nodes().update(|table| {
            let place = |table: &Cluster| (table.attached(), table.primary);
            let before = place(table);
            let is_disturbed =
                requests.begun() != self.begun || requests.progress() != Progress::Idle || before != place(cluster);
            let refused = if is_disturbed {
                Vec::new()
            } else {
                search::apply(&self.settings, table, &self.answers, verdict, at_start)
            };
            let missing = is_disturbed || table.nodes.iter().any(|node| node.missing);
            let (all_down, is_news) = (table.attached().is_empty(), place(table) != before);
            (Change { missing, all_down, is_news, refused }, !at_start && table.primary != before.1)
        })?;
        if is_other_primary {
            // What another node has said of tables and functions need not be so on this one, and it may lack rows.
            self.shared.relcache().bump();
            self.shared.doubt_answers();
        }
        Ok(change)
    }

    fn ask(&mut self, questions: Vec<Question>) -> Result<Vec<(usize, Answer)>, Leave> {
        let (signals, noted) = (&self.signals, &mut self.noted);
        ask_all(questions, signals.fd(), || {
            *noted = noted.with(signals.take());
            noted.has_stop()
        })
        .ok_or(Leave(0))
    }

    /// The log lines of one node (failover 7.4), when what it says is new.
    fn tell(&self, cluster: &Cluster, id: usize, answer: &Answer, is_invalid: bool, at_start: bool) {
        match answer {
            Answer::Tells(_) if !search::has_primary(&self.settings) => {}
            Answer::Closed(cause) => {
                Report::warning(format!("DB node {id} does not tell whether it is the primary"))
                    .detail(cause)
                    .hint(
                        "Check sr_check_user, sr_check_password, sr_check_database and the server's pg_hba.conf. An entry \
                         of pool_passwd must be a password (pg_enc -m): a SCRAM verifier opens no server.",
                    )
                    .log();
            }
            answer => tell::heard(id, answer, is_invalid).iter().for_each(Report::log),
        }
        if at_start && matches!(answer, Answer::Unreachable(_)) {
            let node = &cluster.nodes[id];
            Report::warning(format!("DB node {id} ({}:{}) is not used", node.hostname, node.port))
                .hint("It will be used as soon as it answers.")
                .log();
        }
    }

    /// The parent is asked to detach the false primaries that the start has found (failover 7.5).
    fn detach_invalid(&mut self) {
        for id in std::mem::take(&mut self.invalid) {
            Report::log_line(format!("pgpool_main: invalid node found {id}")).log();
            failover::detach(&self.shared, id, tell::FALSE_PRIMARY);
        }
    }

    /// Says once how the search for the primary went (failover 7.3); missing nodes are looked for in any case.
    fn conclude(&mut self, found: bool, all_down: bool) {
        let Some(since) = self.search else { return };
        let limit = u64::try_from(self.settings.search_primary_node_timeout).unwrap_or(0);
        if found {
            self.search = None;
        } else if all_down {
            let text = "all of the backends are down. Giving up finding primary node";
            Report::log_line(format!("find_primary_node_repeatedly: {text}"))
                .detail("Those that could not be reached are looked for all the same.")
                .log();
            self.search = None;
        } else if limit > 0 && since.elapsed().as_secs() >= limit {
            Report::log_line("failed to find primary node")
                .detail(format!("find_primary_node_repeatedly: expired after {limit} seconds"))
                .hint("Promote a server, or see which lines before tell why one that takes writes is not found.")
                .log();
            self.search = None;
        }
    }

    /// Time until the next round. A node that is up but keeps silent about its role will not change its mind by itself.
    fn pause(&self) -> Duration {
        let period = match u64::try_from(self.settings.sr_check_period) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => DEFAULT_PERIOD,
        };
        let is_hopeful =
            self.search.is_some() && !self.answers.iter().any(|answer| matches!(answer, Answer::Closed(_)));
        // An upgrade waits for the nodes.
        if is_hopeful || self.shared.hold().is_shut() { period.min(SEARCH_PERIOD) } else { period }
    }

    /// Sleeps until `next`, or until the configuration has changed.
    fn sleep(&mut self, next: Deadline) -> Result<(), Leave> {
        loop {
            let taken = std::mem::take(&mut self.noted).with(self.signals.take());
            if taken.has_stop() {
                return Err(Leave(0));
            }
            if taken.has(ToHelper::Restart) {
                Report::debug("the node finder starts anew").log();
                return Err(Leave(EXIT_RESTART));
            }
            if taken.has(ToHelper::Reload) {
                self.reload();
                return Ok(());
            }
            if next.passed() {
                return Ok(());
            }
            let _ = poll(&mut [PollFd::new(self.signals.fd(), PollFlags::POLLIN)], next.poll_timeout());
        }
    }

    /// Takes over what the parent has put into force (config 6). Whoever kept silent is asked once more: that may be what
    /// has changed.
    fn reload(&mut self) {
        Report::log_line("reloading config file").log();
        let Some(settings) = Settings::from_snapshot(&self.shared.published_settings()) else { return };
        self.settings = Arc::new(settings);
        report::configure(self.settings.log_settings());
        backend::reload_tls(&self.settings);
        self.answers.iter_mut().filter(|answer| matches!(answer, Answer::Closed(_))).for_each(|answer| {
            *answer = Answer::NotAsked;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::sight::Sight;
    use crate::state::{Limits, Node, NodeStatus, Role};

    #[test]
    fn facts_of_the_catalog_are_learnt_anew_from_another_primary() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let attach = |table: &mut Cluster| {
            table.nodes = vec![Node { port: 5432, ..Node::default() }; 2];
            (0..2).for_each(|id| table.set_status(id, NodeStatus::Up, "started"));
        };
        shared.nodes().update(attach).expect("update");
        let finder = Finder {
            settings: Arc::default(),
            shared: shared.clone(),
            signals: Signals::none(),
            noted: SignalSet::default(),
            answers: [Role::Standby, Role::Primary].map(|role| Answer::Tells(Sight::of(role))).to_vec(),
            invalid: Vec::new(),
            search: None,
            at_start: false,
            begun: 0,
        };
        let generation = || shared.relcache().generation();
        let round = || {
            let (before, seen) = (generation(), shared.nodes().view());
            let verdict = search::survey_answers(&finder.settings, &seen, &finder.answers).verdict;
            let change = finder.take_over(&seen, &verdict, false).expect("update");
            (change.is_news, generation() != before)
        };
        assert_eq!(round(), (true, true));
        assert_eq!(shared.nodes().view().primary, Some(1));
        assert_eq!(round(), (false, false));
    }
}
