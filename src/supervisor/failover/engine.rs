//! The failover engine: requests and what became of commands and searches in, actions out (failover 6).
//!
//! It does no I/O and asks no clock; the node table it sees is a copy, and its changes are actions. One request is worked on
//! at a time, the others wait in their order. The model test beside it drives it through thousands of random histories.
//!
//! Invariants: every request is answered by a line of the log and ends; no two actions in force make two nodes writable:
//! the primary is changed only when its successor is known, and only to an attached node; the status file is written
//! after every change of the attached nodes that leaves one.

use super::action::{Action, Event, Follow, Times};
use super::command::{self, Subject};
use crate::config::{BackendClusteringMode, Settings};
use crate::report::Report;
use crate::state::{Cluster, NodeSet, NodeStatus, Progress, Request, RequestKind};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The engine.
#[derive(Debug, Default)]
pub(super) struct Engine {
    waiting: VecDeque<Request>,
    run: Option<Run>,
    /// The last primary there was, also when there is none now.
    last_primary: Option<usize>,
    /// Nodes that an administrator has detached: they never come back by themselves.
    by_operator: NodeSet,
}

/// A request being worked on.
#[derive(Debug)]
struct Run {
    request: Request,
    phase: Phase,
    old_primary: Option<usize>,
    /// All nodes were down when it began.
    all_were_down: bool,
    /// When the present phase began.
    since: Instant,
    command: Duration,
    search: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Command,
    Search,
}

impl Engine {
    /// What follows from `event`. `cluster` is the node table now.
    pub fn handle(&mut self, event: Event, cluster: &Cluster, settings: &Settings, now: Instant) -> Vec<Action> {
        let mut step = Step { cluster: cluster.clone(), settings, now, actions: Vec::new() };
        self.last_primary = cluster.primary.or(self.last_primary);
        let phase = self.run.as_ref().map(|run| run.phase);
        match (event, phase) {
            (Event::Asked(requests), _) => {
                self.waiting.extend(requests);
                if phase.is_none() {
                    self.next(&mut step);
                } else if phase == Some(Phase::Search) && self.nothing_to_find(&step) {
                    step.actions.push(Action::StopSearch);
                    self.searched(&mut step, None);
                }
            }
            (Event::CommandEnded, Some(Phase::Command)) => {
                if let Some(run) = &mut self.run {
                    run.command = now - run.since;
                }
                self.after_command(&mut step);
            }
            (Event::Searched(found), Some(Phase::Search)) => self.searched(&mut step, found),
            // Of something that nobody waits for any more.
            (Event::CommandEnded | Event::Searched(_), _) => {}
        }
        step.actions
    }

    /// Begins the waiting requests, until one of them has to wait for something.
    fn next(&mut self, step: &mut Step<'_>) {
        let was_busy = self.run.take().is_some();
        while let Some(request) = self.waiting.pop_front() {
            let begun = match request.kind {
                RequestKind::Down => self.begin_down(step, request),
                RequestKind::Up => self.begin_up(step, request),
            };
            if begun {
                // It comes back here when it is done.
                return;
            }
        }
        if was_busy {
            step.actions.push(Action::End);
        }
    }

    /// Failover 6.4. Returns whether it has begun.
    fn begin_down(&mut self, step: &mut Step<'_>, request: Request) -> bool {
        let node = request.node;
        let cluster = &step.cluster;
        if !cluster.attached().contains(node) {
            step.log("failover: no backends are degenerated");
            return false;
        }
        let old_primary = cluster.primary;
        let writes = cluster.write_node() == Some(node);
        self.set_by_operator(node, request.by_operator);
        step.actions.push(Action::Begin(if writes { Progress::Primary } else { Progress::Standby }));
        step.log(format!("=== Starting degeneration. shutdown host {} ===", step.place(node)));
        let subject = Subject { node, new_main: None, old_main: cluster_main(&step.cluster), old_primary };
        step.set_status(node, NodeStatus::Down, &request.cause);
        let new_main = step.attached_main();
        if new_main.is_none() {
            step.log("failover: no valid backend node found");
        }
        if step.is_streaming() && !writes {
            step.log(format!(
                "Do not restart children because we are switching over node id {node} {} and we are in streaming \
                 replication mode",
                step.host_and_port(node)
            ));
        } else {
            step.log("Restart all children");
        }
        step.actions.push(Action::TellWorkers);
        self.run = Some(Run::new(request, old_primary, false, step.now));
        self.run_command(step, &step.settings.failover_command, Subject { new_main, ..subject });
        true
    }

    /// Failover 6.3. Returns whether it has begun.
    fn begin_up(&mut self, step: &mut Step<'_>, request: Request) -> bool {
        let node = request.node;
        let Some(status) = step.cluster.nodes.get(node).map(|node| node.status) else { return false };
        if status.is_attached() {
            let status = status as u8;
            step.log(format!(
                "invalid failback request, status: [{status}] of node id : {node} is invalid for failback"
            ));
            return false;
        }
        if self.by_operator.contains(node) && !request.by_operator {
            step.log(format!("invalid failback request, node id : {node} was detached by an administrator"));
            return false;
        }
        let old_primary = step.cluster.primary;
        let old_main = cluster_main(&step.cluster);
        let first = step.attached_main();
        self.by_operator.remove(node);
        step.actions.push(Action::Begin(if first.is_none() { Progress::Primary } else { Progress::Standby }));
        step.log(format!("=== Starting fail back. reconnect host {} ===", step.place(node)));
        if let Some(first) = first {
            let status = step.cluster.nodes[first].status as u8;
            step.log(format!("Node {first} is not down (status: {status})"));
        }
        step.set_status(node, NodeStatus::Waiting, &request.cause);
        self.run = Some(Run::new(request, old_primary, first.is_none(), step.now));
        let primary = step.attached_primary().or(step.attached_main());
        let subject = Subject { node, new_main: step.attached_main(), old_main, old_primary: primary };
        self.run_command(step, &step.settings.failback_command, subject);
        true
    }

    fn run_command(&mut self, step: &mut Step<'_>, template: &str, subject: Subject) {
        if template.is_empty() {
            return self.after_command(step);
        }
        let text = command::expand(template, subject, &step.cluster, step.settings);
        step.log(format!("execute command: {text}"));
        step.actions.push(Action::Run(text));
    }

    /// Failover 6.2, step 9.
    fn after_command(&mut self, step: &mut Step<'_>) {
        let Some(run) = &mut self.run else { return };
        let node = run.request.node;
        let is_up = run.request.kind == RequestKind::Up;
        if is_up {
            let leaves_sessions_alone = step.is_streaming()
                && !run.all_were_down
                && step.attached_primary().is_some_and(|primary| primary != node);
            if leaves_sessions_alone {
                step.log(format!(
                    "Do not restart children because we are failing back node id {node} {} and we are in streaming \
                     replication mode and not all backends were down",
                    step.host_and_port(node)
                ));
            } else {
                step.log("Restart all children");
            }
        }
        if !step.has_primary() {
            return self.conclude(step, None);
        }
        if let Some(primary) = step.attached_primary().filter(|_| !is_up) {
            return self.conclude(step, Some(primary));
        }
        if step.cluster.attached().is_empty() {
            step.log("find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node");
            return self.conclude(step, None);
        }
        step.log("find_primary_node_repeatedly: waiting for finding a primary node");
        if self.nothing_to_find(step) {
            return self.conclude(step, None);
        }
        let Some(run) = &mut self.run else { return };
        (run.phase, run.since) = (Phase::Search, step.now);
        step.actions.push(Action::Search);
    }

    fn searched(&mut self, step: &mut Step<'_>, found: Option<usize>) {
        let Some(run) = &mut self.run else { return };
        run.search = step.now - run.since;
        // Between question and answer the node may have been detached; and one that is attached stays the primary as long
        // as no other one says that it is.
        let attached = step.cluster.attached();
        let found = found.filter(|node| attached.contains(*node)).or_else(|| step.attached_primary());
        self.conclude(step, found);
    }

    /// Every attached node is to be detached as well: the primary cannot be among them.
    fn nothing_to_find(&self, step: &Step<'_>) -> bool {
        let leaving = |request: &Request| (request.kind == RequestKind::Down).then_some(request.node);
        let leaving: NodeSet = self.waiting.iter().filter_map(leaving).collect();
        step.cluster.attached().iter().all(|node| leaving.contains(node))
    }

    /// Failover 6.2, steps 10 to 12.
    fn conclude(&mut self, step: &mut Step<'_>, primary: Option<usize>) {
        let Some(run) = self.run.take() else { return };
        let follow = self.follow(step, &run, primary);
        step.log(format!("failover: set new primary node: {}", number(primary)));
        step.set_primary(primary);
        self.last_primary = primary.or(self.last_primary);
        match step.attached_main() {
            Some(main) => step.log(format!("failover: set new main node: {main}")),
            None => self.let_return(step, &run),
        }
        step.actions.extend([Action::TellWorkers, Action::RestartHelpers]);
        let place = step.place(run.request.node);
        step.log(match run.request.kind {
            RequestKind::Down => format!("=== Failover done. shutdown host {place} ==="),
            RequestKind::Up => format!("=== Failback done. reconnect host {place} ==="),
        });
        let Request { kind, node, ref cause, asked_at, .. } = run.request;
        let (command, search) = (run.command, run.search);
        step.actions.push(Action::Times(Times { kind, node, cause: cause.clone(), asked_at, command, search }));
        step.actions.extend(follow.map(Action::Follow));
        self.run = Some(run);
        self.next(step);
    }

    /// After the primary has changed the other nodes are to follow the new one (failover 10.1).
    fn follow(&self, step: &mut Step<'_>, run: &Run, primary: Option<usize>) -> Option<Follow> {
        let node = run.request.node;
        let primary_is_lost = match run.old_primary {
            Some(old) => old == node || Some(old) != primary,
            None => primary.is_some(),
        };
        if run.request.kind != RequestKind::Down
            || !step.is_streaming()
            || step.settings.follow_primary_command.is_empty()
            || !primary_is_lost
        {
            return None;
        }
        let nodes: Vec<usize> = match primary {
            None => Vec::new(),
            Some(primary) => step.followers(primary),
        };
        let Some(new_primary) = primary.filter(|_| !nodes.is_empty()) else {
            step.log("failover: no follow backends are degenerated");
            return None;
        };
        for id in &nodes {
            step.log(format!("starting follow degeneration. shutdown host {}", step.place(*id)));
            step.set_status(*id, NodeStatus::Down, &format!("it is to follow the new primary, node {new_primary}"));
        }
        step.log(format!("failover: {} follow backends have been degenerated", nodes.len()));
        Some(Follow { nodes, new_primary, old_primary: run.old_primary.or(self.last_primary) })
    }

    /// No node is left: the last one, and the last primary, are used again as soon as they answer. No other node can have
    /// got writes since, so nothing is lost by that; the status file would make a restart do the same.
    fn let_return(&self, step: &mut Step<'_>, run: &Run) {
        let candidates: NodeSet = [Some(run.request.node), self.last_primary].into_iter().flatten().collect();
        for id in candidates.iter().filter(|id| !self.by_operator.contains(*id)) {
            let Some(node) = step.cluster.nodes.get(id).filter(|node| node.status == NodeStatus::Down) else {
                continue;
            };
            let reason = node.reason.clone();
            step.cluster.set_missing(id, &reason);
            step.actions.push(Action::SetMissing(id, reason));
            step.log(format!("all nodes are down: DB node {id} will be used as soon as it answers"));
        }
    }

    fn set_by_operator(&mut self, node: usize, by_operator: bool) {
        if by_operator {
            self.by_operator.insert(node);
        } else {
            self.by_operator.remove(node);
        }
    }
}

impl Run {
    fn new(request: Request, old_primary: Option<usize>, all_were_down: bool, now: Instant) -> Self {
        let (command, search) = (Duration::ZERO, Duration::ZERO);
        Self { request, phase: Phase::Command, old_primary, all_were_down, since: now, command, search }
    }
}

/// One step: the node table as it will be, and what is to be done.
struct Step<'a> {
    cluster: Cluster,
    settings: &'a Settings,
    now: Instant,
    actions: Vec<Action>,
}

impl Step<'_> {
    fn log(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Log(Report::log_line(text)));
    }

    fn set_status(&mut self, node: usize, status: NodeStatus, reason: &str) {
        self.cluster.set_status(node, status, reason);
        self.actions.push(Action::SetStatus(node, status, reason.to_owned()));
        self.actions.push(Action::WriteStatusFile);
    }

    fn set_primary(&mut self, primary: Option<usize>) {
        self.cluster.set_primary(primary);
        self.actions.push(Action::SetPrimary(primary));
    }

    /// HOST(PORT).
    fn place(&self, node: usize) -> String {
        self.cluster.nodes.get(node).map_or_else(String::new, |node| format!("{}({})", node.hostname, node.port))
    }

    fn host_and_port(&self, node: usize) -> String {
        self.cluster
            .nodes
            .get(node)
            .map_or_else(String::new, |node| format!("host: {} port: {}", node.hostname, node.port))
    }

    fn attached_main(&self) -> Option<usize> {
        self.cluster.attached().iter().next()
    }

    fn attached_primary(&self) -> Option<usize> {
        self.cluster.primary.filter(|node| self.cluster.attached().contains(*node))
    }

    /// The nodes that are to follow `primary`: all others that are configured and may be detached.
    fn followers(&self, primary: usize) -> Vec<usize> {
        let nodes = self.cluster.nodes.iter().enumerate();
        nodes
            .filter(|(id, node)| *id != primary && node.port != 0 && !node.disallow_to_failover)
            .map(|(id, _)| id)
            .collect()
    }

    fn is_streaming(&self) -> bool {
        self.settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication
    }

    fn has_primary(&self) -> bool {
        use BackendClusteringMode::{LogicalReplication, StreamingReplication};
        matches!(self.settings.backend_clustering_mode, StreamingReplication | LogicalReplication)
    }
}

fn cluster_main(cluster: &Cluster) -> Option<usize> {
    cluster.attached().iter().next().or(cluster.main)
}

fn number(node: Option<usize>) -> String {
    node.map_or_else(|| "-1".to_owned(), |node| node.to_string())
}
