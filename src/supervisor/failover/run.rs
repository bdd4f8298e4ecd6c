//! A request that the engine works on: how far it is, and where its time has gone.

use super::step::Step;
use crate::report::Report;
use crate::state::{NodeStatus, Request, RequestKind};
use std::time::{Duration, Instant};

/// A request being worked on.
#[derive(Debug)]
pub(super) struct Run {
    pub request: Request,
    /// The node that goes down, comes up or is promoted.
    pub node: usize,
    pub phase: Phase,
    pub old_primary: Option<usize>,
    /// All nodes were down when it began.
    pub all_were_down: bool,
    /// When the present phase began.
    pub since: Instant,
    pub command: Duration,
    pub search: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Command,
    Search,
}

impl Run {
    pub fn new(request: Request, node: usize, old_primary: Option<usize>, all_were_down: bool, now: Instant) -> Self {
        let (command, search) = (Duration::ZERO, Duration::ZERO);
        Self { request, node, phase: Phase::Command, old_primary, all_were_down, since: now, command, search }
    }

    /// The lost primary, if it is the primary again when it answers as such: it has merely restarted. Not if somebody has
    /// been told to put another one in its place, or if an administrator has detached it.
    pub fn returning(&self, step: &Step<'_>) -> Option<usize> {
        let nobody_promotes = step.settings.failover_command.is_empty() && self.request.kind == RequestKind::Down;
        let is_looked_at = step.is_streaming() && step.settings.search_primary_continuously;
        let node = step.cluster.nodes.get(self.node).filter(|_| self.old_primary == Some(self.node))?;
        let may_return = node.status == NodeStatus::Down && !node.kept_out && !node.always_primary;
        (nobody_promotes && is_looked_at && may_return).then_some(self.node)
    }

    /// A switchover has not led to what was asked for.
    pub fn not_promoted(&self, primary: Option<usize>) -> Report {
        let (target, former) = (self.request.node, self.node);
        let detail = match primary {
            Some(primary) => format!("DB node {primary} is the primary now."),
            None => format!("No node says that it is the primary. DB node {former} was detached for the switchover."),
        };
        Report::warning(format!("DB node {target} was to be promoted and is not the primary"))
            .detail(detail)
            .hint("failover_command must promote the node that it gets as %m. See what it has printed.")
    }
}
