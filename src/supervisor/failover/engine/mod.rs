//! The failover engine: requests and what became of commands and searches in, actions out (failover 6).
//!
//! It does no I/O and asks no clock; the node table it sees is a copy, and its changes are actions. One request is worked on
//! at a time, the others wait in their order. The model test beside it drives it through thousands of random histories.
//!
//! Invariants: every request is answered by a line of the log and ends; no two actions in force make two nodes writable:
//! the primary is changed only when its successor is known, and only to an attached node, what was seen before a failover
//! counts no more after it, and who was seen to take writes without being the primary is barred before; the status file is
//! written after every change of the attached nodes that leaves one.

mod begin;

use super::action::{Action, Event, Follow, Times};
use super::command::{self, Subject};
use super::run::{Phase, Run};
use super::step::Step;
use crate::cluster::primary::Found;
use crate::config::Settings;
use crate::state::{Cluster, Node, NodeSet, NodeStatus, Progress, Request, RequestKind};
use std::collections::VecDeque;
use std::time::Instant;

/// The engine.
#[derive(Debug, Default)]
pub(super) struct Engine {
    waiting: VecDeque<Request>,
    run: Option<Run>,
    /// The last primary there was, also when there is none now.
    last_primary: Option<usize>,
    /// How many requests have begun.
    begun: u64,
    /// Nodes that are attached before their turn, so that the search sees them.
    early: NodeSet,
    /// The node that was last found to be the primary again, and the last request that was waiting then.
    returned: Option<(usize, u64)>,
}

impl Engine {
    /// What follows from `event`. `cluster` is the node table now.
    pub fn handle(&mut self, event: Event, cluster: &Cluster, settings: &Settings, now: Instant) -> Vec<Action> {
        let mut step = Step::new(cluster, settings, now);
        self.last_primary = cluster.primary.or(self.last_primary);
        let phase = self.run.as_ref().map(|run| run.phase);
        match (event, phase) {
            (Event::Asked(requests), _) => {
                self.waiting.extend(requests);
                if phase.is_none() {
                    self.next(&mut step);
                } else if phase == Some(Phase::Search) {
                    self.help_search(&mut step);
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
            let number = request.number;
            let begun = match request.kind {
                RequestKind::Down => self.begin_down(step, request),
                RequestKind::Up => self.begin_up(step, request),
                RequestKind::Promote | RequestKind::Takeover => self.begin_promote(step, request),
                RequestKind::Switchover => self.begin_switchover(step, request),
            };
            if begun {
                // It comes back here when it is done.
                return;
            }
            step.actions.push(Action::Answer(number));
        }
        if was_busy {
            step.actions.push(Action::End);
        }
    }

    fn begin(&mut self, step: &mut Step<'_>, progress: Progress) {
        self.begun += 1;
        step.actions.push(Action::Begin(progress));
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
        let node = run.node;
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
        step.actions.push(Action::Search(run.returning(step)));
    }

    fn searched(&mut self, step: &mut Step<'_>, found: Option<Found>) {
        let Some(run) = &mut self.run else { return };
        run.search = step.now - run.since;
        let returned = run.returning(step).filter(|node| found.is_some_and(|found| found.primary == Some(*node)));
        // Before anybody may write to the main node in want of a primary.
        if let Some(found) = found {
            step.note(found);
        }
        if let Some(node) = returned {
            step.log(format!("failover: DB node {node} answers as the primary again"));
            step.set_status(node, NodeStatus::Waiting, "it answers as the primary again");
            self.returned = self.waiting.back().map(|last| (node, last.number));
        }
        // Between question and answer the node may have been detached; and one that is attached stays the primary as long
        // as no other one says that it is.
        let attached = step.cluster.attached();
        let primary = found.and_then(|found| found.primary).filter(|node| attached.contains(*node));
        let primary = primary.or_else(|| step.attached_primary());
        self.conclude(step, primary);
    }

    /// What waits may end the search, or make it find something: an administrator does not wait for one that is in vain.
    fn help_search(&mut self, step: &mut Step<'_>) {
        let asks = |request: &Request, kind, node| request.kind == kind && request.node == node;
        let is_leaving = |node| self.waiting.iter().any(|request| asks(request, RequestKind::Down, node));
        let is_last_word = |up: &Request| !self.after(up).any(|request| asks(request, RequestKind::Down, up.node));
        let by_operator = || self.waiting.iter().filter(|request| request.by_operator);
        let is_down = |node: &usize| step.cluster.nodes.get(*node).is_some_and(|node| node.status == NodeStatus::Down);
        let attached = by_operator().filter(|request| request.kind == RequestKind::Up && is_last_word(request));
        let early: NodeSet = attached.map(|request| request.node).filter(is_down).collect();
        let attached = step.cluster.attached();
        let is_promoted = by_operator().any(|request| {
            request.kind == RequestKind::Promote && attached.contains(request.node) && !is_leaving(request.node)
        });
        for node in early.iter() {
            step.log(format!("failover: DB node {node} is attached while the primary is searched"));
            // The one that was lost is the primary again only if it says so.
            if step.cluster.primary == Some(node) {
                step.set_primary(None);
            }
            step.set_status(node, NodeStatus::Waiting, "an administrator has attached it");
        }
        self.early = self.early.union(early);
        if is_promoted || self.nothing_to_find(step) {
            step.actions.push(Action::StopSearch);
            self.searched(step, None);
        }
    }

    /// What waits behind a request.
    fn after(&self, request: &Request) -> impl Iterator<Item = &Request> {
        let number = request.number;
        self.waiting.iter().skip_while(move |waiting| waiting.number != number).skip(1)
    }

    /// Every attached node is to be detached as well: the primary cannot be among them.
    fn nothing_to_find(&self, step: &Step<'_>) -> bool {
        let is_up = |waiting: &Request, node| waiting.kind == RequestKind::Up && waiting.node == node;
        // Before an early node's turn it is not detached any more.
        let counts =
            |down: &Request| !self.early.contains(down.node) || !self.after(down).any(|up| is_up(up, down.node));
        let leaving = self.waiting.iter().filter(|request| request.kind == RequestKind::Down && counts(request));
        let leaving: NodeSet = leaving.map(|request| request.node).collect();
        step.cluster.attached().iter().all(|node| leaving.contains(node))
    }

    /// Failover 6.2, steps 10 to 12.
    fn conclude(&mut self, step: &mut Step<'_>, primary: Option<usize>) {
        let Some(run) = self.run.take() else { return };
        let follow = self.follow(step, &run, primary);
        step.log(format!("failover: set new primary node: {}", number(primary)));
        step.set_primary(primary);
        self.last_primary = primary.or(self.last_primary);
        if run.request.kind == RequestKind::Switchover && primary != Some(run.request.node) {
            step.actions.push(Action::Log(run.not_promoted(primary)));
        }
        if let Some(main) = step.attached_main() {
            step.log(format!("failover: set new main node: {main}"));
        }
        if step.cluster.write_node().is_none() {
            self.let_return(step, &run);
        }
        step.actions.extend([Action::TellWorkers, Action::RestartHelpers]);
        let place = step.place(run.node);
        step.log(match run.request.kind {
            RequestKind::Down | RequestKind::Switchover => format!("=== Failover done. shutdown host {place} ==="),
            RequestKind::Up => format!("=== Failback done. reconnect host {place} ==="),
            RequestKind::Promote | RequestKind::Takeover => {
                format!("=== Promotion done. promoted host {place} ===")
            }
        });
        let Request { kind, ref cause, by_operator, pid, asked_at, number, .. } = run.request;
        let Run { node, command, search, .. } = run;
        let cause = cause.clone();
        step.actions.push(Action::Times(Times { kind, node, cause, by_operator, pid, asked_at, command, search }));
        step.actions.push(Action::Answer(number));
        step.actions.extend(follow.map(Action::Follow));
        self.run = Some(run);
        self.next(step);
    }

    /// After the primary has changed the other nodes are to follow the new one (failover 10.1).
    fn follow(&self, step: &mut Step<'_>, run: &Run, primary: Option<usize>) -> Option<Follow> {
        let has_command = !step.settings.follow_primary_command.is_empty();
        let is_due = match (run.request.kind, run.old_primary) {
            (RequestKind::Up | RequestKind::Takeover, _) => false,
            // Those that do not follow the new primary must not be read from.
            (RequestKind::Promote, _) => true,
            (_, Some(old)) => has_command && Some(old) != primary,
            (_, None) => has_command && primary.is_some(),
        };
        if !is_due || !step.is_streaming() {
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
        let old_primary = run.old_primary.or(self.last_primary);
        has_command.then_some(Follow { nodes, new_primary, old_primary })
    }

    /// No node is left, or none that gets writes: the last one, and the last primary, are used again as soon as they answer.
    /// No other node can have got writes since, so nothing is lost by that; the status file makes a restart do the same.
    fn let_return(&self, step: &mut Step<'_>, run: &Run) {
        let candidates: NodeSet = [Some(run.node), self.last_primary].into_iter().flatten().collect();
        for id in candidates.iter() {
            let returns = |node: &&Node| node.status == NodeStatus::Down && !node.kept_out;
            let Some(node) = step.cluster.nodes.get(id).filter(returns) else { continue };
            let reason = node.reason.clone();
            step.cluster.set_missing(id, &reason);
            step.actions.push(Action::SetMissing(id, reason));
            let (is_empty, cause) = match step.attached_main() {
                None => (true, "all nodes are down"),
                Some(_) => (false, "no node is left that gets writes"),
            };
            step.log(format!("{cause}: DB node {id} will be used as soon as it answers"));
            if !is_empty {
                step.actions.push(Action::WriteStatusFile);
            }
        }
    }
}

fn cluster_main(cluster: &Cluster) -> Option<usize> {
    cluster.attached().iter().next().or(cluster.main)
}

fn number(node: Option<usize>) -> String {
    node.map_or_else(|| "-1".to_owned(), |node| node.to_string())
}
