//! A request that the engine works on: how far it is, and where its time has gone.

use crate::state::Request;
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
}
