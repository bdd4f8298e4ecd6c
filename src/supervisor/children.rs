//! The table of children: who they are, how they ended, when they are started again (process-model 9).
//!
//! Every child is replaced, however it ended; unlike the original, that includes one that was told to leave. A worker that
//! dies at once is replaced after a pause that doubles, so that a fault in every worker cannot keep the machine busy.

use crate::net::Deadline;
use crate::report::Report;
use crate::sys::signal::Signal;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A child that lived longer than this has not died at once.
const AT_ONCE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// The worker of this slot.
    Worker(usize),
    /// The finder.
    Finder,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Worker(_) => "child",
            Self::Finder => "worker child",
        }
    }
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

    /// A child could not be forked: try again later.
    pub fn postpone(&mut self, role: Role) {
        self.due.push((Instant::now() + LONGEST_PAUSE, role));
    }

    /// Whether no child is left.
    pub fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// Collects the dead. Returns the slots of dead workers, whose shared state is to be reclaimed.
    pub fn reap(&mut self, stopping: bool) -> Vec<usize> {
        let mut slots = Vec::new();
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status @ WaitStatus::Exited(pid, _)) => (pid, status),
                Ok(status @ WaitStatus::Signaled(pid, ..)) => (pid, status),
                Err(Errno::EINTR) => continue,
                _ => return slots,
            };
            let Some(child) = self.living.remove(&pid) else { continue };
            if let Role::Worker(slot) = child.role {
                slots.push(slot);
            }
            tell(child.role, pid, status, stopping);
            if !stopping {
                self.schedule(&child);
            }
        }
    }

    fn schedule(&mut self, child: &Child) {
        let now = Instant::now();
        if child.started.elapsed() >= AT_ONCE {
            self.pauses.remove(&child.role);
            self.due.push((now, child.role));
            return;
        }
        let pause = self.pauses.entry(child.role).or_insert(FIRST_PAUSE);
        self.due.push((now + *pause, child.role));
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    /// When the next child is to be started.
    pub fn next_start(&self) -> Deadline {
        let first = self.due.iter().map(|(at, _)| at.saturating_duration_since(Instant::now())).min();
        first.map_or(Deadline::NEVER, Deadline::after)
    }

    /// The children whose time to be started has come.
    pub fn take_due(&mut self) -> Vec<Role> {
        let now = Instant::now();
        let mut taken = Vec::new();
        self.due.retain(|(at, role)| {
            let is_due = *at <= now;
            if is_due {
                taken.push(*role);
            }
            !is_due
        });
        taken
    }

    /// Sends `signal` to all.
    pub fn signal_all(&self, signal: Signal) {
        for pid in self.living.keys() {
            let _ = kill(*pid, signal);
        }
    }
}

fn tell(role: Role, pid: Pid, status: WaitStatus, stopping: bool) {
    let name = role.name();
    match status {
        WaitStatus::Signaled(_, signal, core) if !stopping => {
            let how = match signal {
                Signal::SIGKILL => "sigkill".to_owned(),
                Signal::SIGSEGV => "segmentation fault".to_owned(),
                other => format!("signal {} ({})", other as i32, other.as_str()),
            };
            let detail = if core { "A core file was written. " } else { "" };
            Report::warning(format!("{name} process with pid: {pid} was terminated by {how}"))
                .detail(format!(
                    "{detail}Its client, if it had one, has lost its session; a new process takes its place."
                ))
                .log();
        }
        WaitStatus::Exited(_, code) => {
            Report::debug(format!("{name} process with pid: {pid} exits with status {code}")).log();
        }
        _ => {}
    }
}
