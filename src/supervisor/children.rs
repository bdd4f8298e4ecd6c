//! The table of children: who they are, how they ended, when they are started again (process-model 9).
//!
//! Every child is replaced, however it ended; unlike the original, that includes one that was told to leave. One that
//! dies at once without having served anybody is replaced after a pause that doubles, so that a fault in every worker
//! cannot keep the machine busy.

use crate::net::Deadline;
use crate::sys::processor_time;
use crate::sys::signal::Signal;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A child that lived at least this long has not died at once.
const AT_ONCE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So many of those that are killed are named.
const TOLD: usize = 10;

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// The worker of this slot.
    Worker(usize),
    /// The finder.
    Finder,
    /// The replication check.
    ReplicationCheck,
    /// The health check of this node.
    Health(usize),
    /// The PCP main process.
    Pcp,
    /// The metrics process.
    Metrics,
    /// The doorman.
    Doorman,
    /// A search for the primary within a failover.
    Search(SearchNumber),
    /// A command of the user: no process of ours.
    Script(ScriptKind),
    /// The log collector, which ends when all others have.
    Collector,
    /// Passes cancel requests for sessions of a replaced pgpool on to servers.
    Cancel,
    /// Cancels what servers run for workers that were killed.
    Undertaker,
    /// A pgpool that is to replace this one.
    Successor,
}

/// Tells one search from another.
pub(super) type SearchNumber = u64;

/// Which command of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ScriptKind {
    /// The one that a failover or failback waits for.
    Failover,
    /// follow_primary_command.
    Follow,
    /// ssl_passphrase_command.
    PassPhrase,
}

impl Role {
    /// Whether it is a process of this pgpool, and no other program.
    fn is_ours(self) -> bool {
        !matches!(self, Self::Script(_) | Self::Successor)
    }

    /// Its name in log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker(_) => "child",
            Self::Finder => "node finder",
            Self::ReplicationCheck => "worker child",
            Self::Health(_) => "health check",
            Self::Pcp => "PCP child",
            Self::Metrics => "metrics",
            Self::Doorman => "doorman",
            Self::Search(_) => "primary search",
            Self::Script(_) => "command",
            Self::Collector => "pgpool log collector",
            Self::Cancel => "cancel",
            Self::Undertaker => "undertaker",
            Self::Successor => "new pgpool",
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this status.
    Exit(i32),
    /// Killed or crashed; whether a core file was written.
    Signal(Signal, bool),
}

impl End {
    /// Behind "it"; whether it was in order.
    pub fn told(self) -> (String, bool) {
        match self {
            Self::Exit(status) => (format!("has ended with exit status {status}"), status == 0),
            Self::Signal(signal, _) => (format!("was ended by {signal}"), false),
        }
    }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub role: Role,
    pub pid: Pid,
    pub end: End,
    pub lived: Duration,
    /// What it has used, its own children included.
    pub processor_time: Duration,
}

#[derive(Debug)]
struct Child {
    role: Role,
    started: Instant,
}

/// The children.
#[derive(Debug, Default)]
pub(super) struct Children {
    living: HashMap<Pid, Child>,
    /// To be started, and when.
    due: Vec<(Instant, Role)>,
    /// Pause before the next start of a child that dies at once.
    pauses: HashMap<Role, Duration>,
}

impl Children {
    /// A child has been forked.
    pub fn add(&mut self, pid: Pid, role: Role) {
        self.living.insert(pid, Child { role, started: Instant::now() });
    }

    /// Whether a child of this role lives or is to be started.
    pub fn has(&self, role: Role) -> bool {
        self.living.values().any(|child| child.role == role) || self.due.iter().any(|(_, due)| *due == role)
    }

    /// The slots whose worker lives or is to be started.
    pub fn workers(&self) -> impl Iterator<Item = usize> {
        let roles = self.living.values().map(|child| child.role).chain(self.due.iter().map(|(_, role)| *role));
        roles.filter_map(|role| if let Role::Worker(slot) = role { Some(slot) } else { None })
    }

    /// What the living child with this process id is.
    pub fn role_of(&self, pid: u32) -> Option<Role> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?);
        self.living.get(&pid).map(|child| child.role)
    }

    /// Whether no child is left but those that end after the parent: the log collector, and who passes cancel requests on.
    pub fn is_empty(&self) -> bool {
        self.living.values().all(|child| matches!(child.role, Role::Collector | Role::Cancel | Role::Successor))
    }

    /// Whether a child of this role lives.
    pub fn has_living(&self, role: Role) -> bool {
        self.living.values().any(|child| child.role == role)
    }

    /// Collects the dead.
    pub fn reap(&mut self) -> Vec<Dead> {
        let mut dead = Vec::new();
        let mut counted = processor_time::of_the_dead();
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, End::Exit(status)),
                Ok(WaitStatus::Signaled(pid, signal, core)) => (pid, End::Signal(signal, core)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return dead,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return dead,
            };
            let processor_time = processor_time::of_the_dead().saturating_sub(counted);
            counted += processor_time;
            if let Some(Child { role, started }) = self.living.remove(&pid) {
                dead.push(Dead { role, pid, end, lived: started.elapsed(), processor_time });
            }
        }
    }

    /// A child of this role is to be started, at once.
    pub fn start(&mut self, role: Role) {
        self.due.push((Instant::now(), role));
    }

    /// There were no resources to start it: in a while again.
    pub fn postpone(&mut self, role: Role) {
        self.due.push((Instant::now() + LONGEST_PAUSE, role));
    }

    /// The dead one is to be replaced. `was_useful`: it has served somebody.
    pub fn replace(&mut self, dead: &Dead, was_useful: bool) {
        if dead.lived >= AT_ONCE || was_useful {
            self.pauses.remove(&dead.role);
            return self.start(dead.role);
        }
        let pause = self.pauses.entry(dead.role).or_insert(FIRST_PAUSE);
        self.due.push((Instant::now() + *pause, dead.role));
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    /// When the next child is to be started.
    pub fn next_start(&self) -> Deadline {
        let first = self.due.iter().map(|(at, _)| at.saturating_duration_since(Instant::now())).min();
        first.map_or(Deadline::NEVER, Deadline::after)
    }

    /// The children whose time to be started has come, in order.
    pub fn take_due(&mut self) -> Vec<Role> {
        let now = Instant::now();
        self.due.extract_if(.., |(at, _)| *at <= now).map(|(_, role)| role).collect()
    }

    /// No child is started any more.
    pub fn start_none(&mut self) {
        self.due.clear();
    }

    /// Those that [`Children::kill_all`] kills, to be told.
    pub fn living(&self) -> String {
        let ours = self.living.iter().filter(|(_, child)| child.role.is_ours() && child.role != Role::Collector);
        let mut names = ours.map(|(pid, child)| format!("{} (pid {pid})", child.role.name())).collect::<Vec<_>>();
        let more = names.len().saturating_sub(TOLD);
        names.truncate(TOLD);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }

    /// Kills all processes of ours but the log collector.
    pub fn kill_all(&self) {
        self.signal(Signal::SIGKILL, |role| role.is_ours() && role != Role::Collector);
    }

    /// Sends `signal` to those whose role `is_meant`.
    pub fn signal(&self, signal: impl Into<Signal>, is_meant: impl Fn(Role) -> bool) {
        let signal = signal.into();
        for (pid, _) in self.living.iter().filter(|(_, child)| is_meant(child.role)) {
            let _ = kill(*pid, signal);
        }
    }

    /// Sends `signal` to all processes of ours.
    pub fn signal_all(&self, signal: Signal) {
        self.signal(signal, Role::is_ours);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(lived: Duration) -> Dead {
        Dead { role: Role::Worker(3), pid: Pid::this(), end: End::Exit(1), lived, processor_time: Duration::ZERO }
    }

    fn pause(children: &mut Children, lived: Duration, was_useful: bool) -> Duration {
        children.due.clear();
        children.replace(&dead(lived), was_useful);
        children.next_start().remaining().expect("a replacement is due")
    }

    #[test]
    fn who_dies_at_once_is_replaced_after_a_pause_that_doubles() {
        let mut children = Children::default();
        let zero = Duration::ZERO;
        let pauses: Vec<_> = (0..12).map(|_| pause(&mut children, zero, false)).collect();
        assert!(pauses[0] <= FIRST_PAUSE && pauses[4] > FIRST_PAUSE * 12 && pauses[11] <= LONGEST_PAUSE);
        assert!(pauses.is_sorted_by(|a, b| a <= b || *b > LONGEST_PAUSE - FIRST_PAUSE));
        assert!(children.take_due().is_empty());
        assert!(pause(&mut children, zero, true).is_zero());
        assert_eq!(children.take_due(), [Role::Worker(3)]);
        assert!(pause(&mut children, zero, false) <= FIRST_PAUSE);
        assert!(pause(&mut children, AT_ONCE, false).is_zero());
    }
}
