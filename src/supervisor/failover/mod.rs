//! Failover: what the parent does when a node is lost or comes back (failover 6).
//!
//! # Design
//!
//! ```text
//! health checks, workers --request--> shared memory --SIGUSR1--> parent: Engine --> actions
//!                                                     ^                |
//!                                                     |                +-- node table, status file, log lines
//!                    end of a command, SIGCHLD -------+                +-- Script: failover_command and its like
//!                    answer of a search, SIGCHLD -----+                +-- search process
//!                                                                      +-- SIGUSR2: workers look at the node table
//! ```
//!
//! The [`engine`] decides and does nothing else: events in, actions out, no clock, no I/O. So it can be driven through
//! random histories (`model`). This file carries its actions out, in their order, within the parent's one event loop:
//! - A command of the user is a child process (`script`); its end is an event. Its output comes through a pipe to the log.
//! - The search for the primary is a child process as well, since the parent never speaks to servers.
//! - The node table is changed without waiting: if another process changes it at that moment, the parent tries again some
//!   milliseconds later and does its other work meanwhile.
//!
//! While an action waits, later events wait with it; so the engine always sees the table as its own actions left it.
//!
//! Sessions are not killed. They are told to look at the node table: those that do not use the lost node go on, those that
//! can do without it leave it, those that cannot end with an error that says why. New sessions wait while the primary is
//! being replaced.

mod action;
mod command;
mod engine;
#[cfg(test)]
mod flows;
mod following;
#[cfg(test)]
mod model;
mod run;
mod script;
mod step;

pub(super) use script::Output;

use super::Supervisor;
use super::children::{Dead, Role, ScriptKind, SearchNumber};
use super::nodes;
use crate::cluster::primary::{self, Found};
use crate::net::Deadline;
use crate::report::Report;
use crate::state::{Asker, Cluster, Phases, Request, uptime};
use crate::sys::signal::{ToHelper, ToWorker};
use action::{Action, Event, Times};
use engine::Engine;
use following::Following;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use script::Script;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Pause before the node table is tried again when another process changes it.
const RETRY: Duration = Duration::from_millis(5);
/// How long that may go on before it is worth a line.
const BUSY: Duration = Duration::from_secs(2);

/// How often a search is begun whose process dies.
const SEARCHES: u32 = 3;

/// The parent's part in failovers.
#[derive(Debug)]
pub(super) struct Failover {
    engine: Engine,
    /// Not handled yet, oldest first.
    events: VecDeque<Event>,
    /// Not carried out yet.
    actions: VecDeque<Action>,
    /// A reload has changed the nodes, which is not in the table yet.
    reloaded: bool,
    /// When the action in front is tried again.
    retry: Deadline,
    /// Since when it is tried; told once.
    busy: Option<(Instant, bool)>,
    /// When the failover in progress began, as [`uptime`] tells it.
    began: Duration,
    /// The command the engine waits for.
    script: Option<Script>,
    /// The search the engine waits for, and where its process writes the answer.
    search: Option<(SearchNumber, OwnedFd)>,
    /// How many searches there were.
    searches: SearchNumber,
    /// How often the present one was begun.
    attempts: u32,
    /// The detached node that it asks, too.
    pub returning: Option<usize>,
    /// The first one is at work, the others wait for it.
    following: VecDeque<Following>,
    /// What commands print.
    pub output: Output,
}

impl Failover {
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> nix::Result<Self> {
        Ok(Self {
            engine: Engine::default(),
            events: VecDeque::new(),
            actions: VecDeque::new(),
            reloaded: false,
            retry: Deadline::NEVER,
            busy: None,
            began: Duration::ZERO,
            script: None,
            search: None,
            searches: 0,
            attempts: 0,
            returning: None,
            following: VecDeque::new(),
            output: Output::new()?,
        })
    }

    /// The settings of nodes have changed: they are to be taken over into the table.
    pub fn reload_nodes(&mut self) {
        self.reloaded = true;
    }

    /// Whether nothing is under way, and nothing waits.
    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.events.is_empty() && self.actions.is_empty();
        let nothing_runs = self.script.is_none() && self.search.is_none() && self.following.is_empty();
        nothing_waits && nothing_runs
    }

    fn scripts(&mut self) -> impl Iterator<Item = &mut Script> {
        let following = self.following.front_mut().and_then(|following| following.running.as_mut());
        self.script.iter_mut().chain(following.map(|(_, script)| script))
    }

    /// When something is to be done even if nothing happens.
    pub fn deadline(&mut self) -> Deadline {
        let retry = self.retry;
        self.scripts().fold(retry, |first, script| first.min(script.deadline()))
    }

    /// Ends commands that take too long.
    pub fn heed_time(&mut self) {
        self.scripts().for_each(Script::heed_time);
    }

    /// Ends commands because pgpool stops.
    pub fn end_commands(&mut self) {
        self.scripts().for_each(Script::end);
    }
}

impl Supervisor {
    /// SIGUSR1: somebody has asked for something, or the finder has changed the attached nodes (failover 5.9).
    pub(super) fn heed_requests(&mut self) {
        Report::log_line("Pgpool-II parent process received SIGUSR1").log();
        self.take_requests();
    }

    /// Takes up what has been asked for, if anything was.
    pub(super) fn take_requests(&mut self) {
        let requests: Vec<Request> = self.shared.failover().take();
        if requests.is_empty() {
            if self.shared.nodes().view().attached() != self.written {
                self.write_status();
            }
            // Also if nothing but the primary has changed.
            self.tell_workers();
            return;
        }
        self.put_off_upgrade("a failover is needed");
        if self.retired.is_some() {
            return self.pass_on(&requests);
        }
        self.take_up(requests);
    }

    /// Somebody has asked for this.
    pub(super) fn take_up(&mut self, requests: Vec<Request>) {
        Report::log_line("Pgpool-II parent process has received failover request").log();
        self.failover.events.push_back(Event::Asked(requests));
    }

    /// Carries out what can be done now.
    pub(super) fn proceed(&mut self) {
        self.failover.heed_time();
        self.failover.retry = Deadline::NEVER;
        if self.stopping.is_some() {
            return;
        }
        if self.failover.reloaded {
            if nodes::refresh(&self.shared, &self.settings).is_err() {
                return self.try_later();
            }
            (self.failover.reloaded, self.failover.busy) = (false, None);
            self.write_status();
        }
        loop {
            while let Some(action) = self.failover.actions.pop_front() {
                if let Err(action) = self.carry_out(action) {
                    self.failover.actions.push_front(action);
                    return self.try_later();
                }
                self.failover.busy = None;
            }
            let Some(event) = self.failover.events.pop_front() else { return };
            let cluster = self.shared.nodes().view();
            let actions = self.failover.engine.handle(event, &cluster, &self.settings, Instant::now());
            self.failover.actions.extend(actions);
        }
    }

    /// Another process changes the node table at this moment.
    fn try_later(&mut self) {
        self.failover.retry = Deadline::after(RETRY);
        let (since, told) = self.failover.busy.get_or_insert((Instant::now(), false));
        if !*told && since.elapsed() > BUSY {
            *told = true;
            Report::warning("nodes cannot be changed: another process does not let go of the node table")
                .hint("Look for a process of pgpool that is stopped (state T), and continue or kill it.")
                .log();
        }
    }

    /// `Err`: not now.
    fn carry_out(&mut self, action: Action) -> Result<(), Action> {
        match action {
            Action::Begin(progress) => {
                self.failover.began = uptime();
                self.shared.failover().begin(progress);
            }
            Action::Times(times) => {
                let began = self.failover.began;
                let (waited, whole) = (began.saturating_sub(times.asked_at), uptime().saturating_sub(began));
                times.report(waited, whole).log();
                self.remember(&times, waited, whole);
            }
            Action::Log(report) => report.log(),
            Action::SetStatus(node, status, ref reason) => {
                self.change(|cluster| cluster.set_status(node, status, reason)).map_err(|()| action)?;
                if status.is_attached() {
                    self.shared.health(node).attached();
                }
            }
            Action::SetMissing(node, ref reason) => {
                self.change(|cluster| cluster.set_missing(node, reason)).map_err(|()| action)?;
            }
            Action::KeepOut(node) => self.change(|cluster| cluster.keep_out(node)).map_err(|()| action)?,
            Action::Note(found) => self.change(|cluster| found.note(cluster)).map_err(|()| action)?,
            Action::SetPrimary(node) => {
                let before = self.shared.nodes().view().primary;
                self.change(|cluster| cluster.set_primary(node)).map_err(|()| action)?;
                if node != before {
                    // What the former primary said of tables and functions need not be so on this one.
                    self.shared.relcache().bump();
                    // It may lack what the former one had committed.
                    self.shared.doubt_answers();
                }
            }
            Action::WriteStatusFile => self.write_status(),
            Action::TellWorkers => self.tell_workers(),
            Action::RestartHelpers => {
                self.children.signal(ToHelper::Restart, |role| matches!(role, Role::Finder | Role::ReplicationCheck));
            }
            Action::Run(text) => {
                self.failover.script = self.start_script(ScriptKind::Failover, "failover command", &text);
                if self.failover.script.is_none() {
                    self.failover.events.push_front(Event::CommandEnded);
                }
            }
            Action::Search(returning) => {
                (self.failover.attempts, self.failover.returning) = (0, returning);
                self.start_search();
            }
            Action::StopSearch => {
                self.failover.search = None;
                self.children.signal(ToHelper::SmartStop, |role| matches!(role, Role::Search(_)));
            }
            Action::Follow(follow) => self.follow(follow),
            Action::Answer(number) => self.shared.failover().answer(number),
            Action::End => {
                self.shared.failover().end();
                // Those that were waiting for it.
                self.tell_workers();
            }
        }
        Ok(())
    }

    /// Keeps for metrics and the status page what has happened.
    fn remember(&self, times: &Times, waited: Duration, whole: Duration) {
        let asker = match self.children.role_of(times.pid) {
            _ if times.by_operator => Asker::Administrator,
            Some(Role::Health(_)) => Asker::HealthCheck,
            Some(Role::Worker(_)) => Asker::Session,
            _ => Asker::Other,
        };
        let Times { kind, node, command, search, .. } = *times;
        let phases = Phases { waited, command, search, own: whole.saturating_sub(command + search) };
        self.shared.past_failovers().add(kind, node, asker, phases, &times.cause);
    }

    fn change(&self, change: impl FnOnce(&mut Cluster)) -> Result<(), ()> {
        self.shared.nodes().try_update(change).map_err(drop)
    }

    /// Every worker looks at the node table: at once, whatever it waits for.
    pub(super) fn tell_workers(&self) {
        self.children.signal(ToWorker::LookAtNodes, |role| matches!(role, Role::Worker(_)));
    }

    fn start_script(&mut self, kind: ScriptKind, name: &'static str, text: &str) -> Option<Script> {
        match Script::start(name, text, self.settings.failover_command_timeout, &self.failover.output) {
            Ok(script) => {
                self.children.add(script.pid(), Role::Script(kind));
                Some(script)
            }
            Err(error) => {
                Report::warning("the command could not be run")
                    .detail(format!("{name}: {error}"))
                    .hint("Raise the limits of processes and open files of this user, or add memory; then run it by hand.")
                    .log();
                None
            }
        }
    }

    fn start_search(&mut self) {
        let Ok((reader, writer)) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) else {
            return self.failover.events.push_front(Event::Searched(None));
        };
        self.search_writer = Some(writer);
        self.failover.searches += 1;
        self.failover.attempts += 1;
        let number = self.failover.searches;
        match self.start_child(Role::Search(number)) {
            Ok(()) => self.failover.search = Some((number, reader)),
            Err(errno) => {
                Report::warning("the primary cannot be searched")
                    .detail(errno.desc())
                    .hint("Raise the limit of processes of this user, or add memory.")
                    .log();
                self.failover.events.push_front(Event::Searched(None));
            }
        }
        self.search_writer = None;
    }

    /// A command or a search has ended.
    pub(super) fn failover_child_ended(&mut self, dead: &Dead) {
        let (how, is_success) = dead.end.told();
        match dead.role {
            Role::Search(number) => {
                // Another one was given up before.
                let Some((_, reader)) = self.failover.search.take_if(|(waited, _)| *waited == number) else { return };
                let mut found = [0; primary::LENGTH];
                let length = read(&reader, &mut found).unwrap_or(0);
                let found = Found::from_bytes(&found[..length]);
                if found.is_none() && self.failover.attempts < SEARCHES && self.stopping.is_none() {
                    Report::warning(format!("the search for the primary {how}; it begins anew")).log();
                    return self.start_search();
                }
                self.failover.events.push_back(Event::Searched(found));
            }
            Role::Script(ScriptKind::Failover) => {
                if let Some(script) = self.failover.script.take() {
                    script.ended(&how, is_success, &mut self.failover.output);
                }
                self.failover.events.push_front(Event::CommandEnded);
            }
            Role::Script(ScriptKind::Follow) => self.follow_command_ended(&how, is_success),
            _ => {}
        }
    }
}
