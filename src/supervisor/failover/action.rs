//! What the engine is told, and what it wants done.

use crate::cluster::primary::Found;
use crate::report::Report;
use crate::state::{NodeStatus, Progress, Request, RequestKind};
use std::time::Duration;

/// What has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// These requests have come.
    Asked(Vec<Request>),
    /// The command that was to be run has ended, in whatever way.
    CommandEnded,
    /// The search for the primary has ended; `None`: without a result.
    Searched(Option<Found>),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Others are to know that this begins.
    Begin(Progress),
    /// A line for the log.
    Log(Report),
    /// Change the status of a node.
    SetStatus(usize, NodeStatus, String),
    /// The node is down, but is to be used again as soon as it answers.
    SetMissing(usize, String),
    /// An administrator detaches the node: it does not come back by itself.
    KeepOut(usize),
    /// Take over what the search has found, all but who the primary is.
    Note(Found),
    /// Make this node the primary; `None`: there is none.
    SetPrimary(Option<usize>),
    /// The attached nodes have changed: write the status file.
    WriteStatusFile,
    /// Let every session look at the node table.
    TellWorkers,
    /// The finder and the replication check are to start anew: what they know of roles does not count any more.
    RestartHelpers,
    /// Run this command; its end is an event.
    Run(String),
    /// Search for the primary; the result is an event. This detached node is asked, too: it may be the primary again.
    Search(Option<usize>),
    /// Nobody waits for the result of the search any more.
    StopSearch,
    /// Tell where the time went.
    Times(Times),
    /// Run follow_primary_command for those of these nodes that are down by then, one after the other.
    Follow(Follow),
    /// The request with this number is dealt with, whether it was carried out or refused.
    Answer(u64),
    /// Everything asked for is done.
    End,
}

/// What a failover or failback has spent its time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub kind: RequestKind,
    pub node: usize,
    pub cause: String,
    pub by_operator: bool,
    /// Process id of who has asked.
    pub pid: u32,
    /// When it was asked for, as `state::uptime` tells it.
    pub asked_at: Duration,
    pub command: Duration,
    pub search: Duration,
}

/// The nodes that are to follow a new primary (failover 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Follow {
    pub nodes: Vec<usize>,
    pub new_primary: usize,
    pub old_primary: Option<usize>,
}

impl Times {
    /// The line of the log, when it all took `whole`, having waited for its turn before.
    pub fn report(&self, waited: Duration, whole: Duration) -> Report {
        let verb = match self.kind {
            RequestKind::Down | RequestKind::Switchover => "failover",
            RequestKind::Up => "failback",
            RequestKind::Promote | RequestKind::Takeover => "promotion",
        };
        let own = whole.saturating_sub(self.command + self.search);
        Report::log_line(format!("{verb} of DB node {} took {} ms", self.node, whole.as_millis())).detail(format!(
            "waited for its turn: {} ms, command: {} ms, search for the primary: {} ms, everything else: {} ms; cause: {}",
            waited.as_millis(),
            self.command.as_millis(),
            self.search.as_millis(),
            own.as_millis(),
            self.cause
        ))
    }
}
