//! Forking the children.
//!
//! A fork takes well under a millisecond: nothing is read, parsed or allocated in size before the child runs. Children end
//! when their parent does, however that ends.

use super::Supervisor;
use super::children::Role;
use super::listen::Listeners;
use super::orphans;
use super::upgrade::Predecessor;
use crate::cluster::{finder, health, primary, replication};
use crate::report::{self, Report};
use crate::sys::signal::Signal;
use crate::sys::{Fork, die_with_parent, fork, oom_score};
use crate::{metrics, pcp, worker};
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Exit status of a child that could not do its work (process-model 9).
const EXIT_RESTART: i32 = 1;

/// A pipe on which the finder tells that its first search is finished. A finder that takes another's place uses it again.
#[derive(Debug)]
pub(super) struct ReadyPipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl ReadyPipe {
    pub fn new() -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { reader, writer })
    }

    /// Readable once a finder has told.
    pub fn reader(&self) -> &OwnedFd {
        &self.reader
    }

    fn writer(&self) -> io::Result<OwnedFd> {
        self.writer.try_clone()
    }
}

impl Supervisor {
    /// Starts the children that are due, and tells whether all were. Without resources for one the rest has to wait as well.
    pub(super) fn start_due(&mut self) -> bool {
        let mut due = self.children.take_due().into_iter();
        while let Some(role) = due.next() {
            let Err(errno) = self.start_child(role) else { continue };
            let late: Vec<Role> = std::iter::once(role).chain(due).collect();
            Report::warning(format!("could not fork: {} child processes have to wait", late.len()))
                .detail(errno.desc())
                .hint("Raise the limit of processes of this user, add memory, or reduce num_init_children.")
                .log();
            late.into_iter().for_each(|role| self.children.postpone(role));
            return false;
        }
        true
    }

    pub(super) fn start_child(&mut self, role: Role) -> nix::Result<()> {
        let parent = Pid::this();
        match fork()? {
            Fork::Child => {
                oom_score::unprotect(Pid::this());
                // To its children the death of the parent means a fast stop; the log collector goes on to the last word.
                let is_orphan = role != Role::Collector && !die_with_parent(parent, Signal::SIGINT);
                // Whatever happens in a child, it must not come back into the parent's code.
                let life = report::guarded(|| if is_orphan { 0 } else { self.be(role) });
                let status = life.unwrap_or_else(|report| {
                    report.log();
                    EXIT_RESTART
                });
                report::finish();
                std::process::exit(status);
            }
            Fork::Parent(pid) => {
                Report::debug(format!("fork a new {} process with pid: {pid}", role.name())).log();
                self.children.add(pid, role);
                if let (Role::Collector, Some(pipe)) = (role, &mut self.log_pipe) {
                    pipe.collector_started();
                }
                if let Role::Worker(index) = role {
                    self.shared.worker(index).occupy(pid.as_raw().unsigned_abs());
                }
                Ok(())
            }
        }
    }

    /// The life of a child. Returns its exit status.
    fn be(&mut self, role: Role) -> i32 {
        if self.starter.take().is_some() {
            // Whoever starts a daemon sees what its parent has to say, and no descriptor of his stays open.
            let _ = self.leave_terminal();
        }
        // Who reads the pipe is the collector alone.
        let log_pipe = self.log_pipe.take().filter(|_| role == Role::Collector);
        // Other pgpools see the end of the parent, not that of its children.
        let former = self.predecessor.take().filter(|_| matches!(role, Role::Worker(_) | Role::Doorman | Role::Cancel));
        let former = former.and_then(Predecessor::into_cancels);
        let cancels = self.cancels.take();
        (self.successor, self.retired) = (None, None);
        let (settings, shared) = (Arc::clone(&self.settings), self.shared.clone());
        let (listeners, pcp_listeners, metrics_listeners) = self.take_listeners(role);
        match role {
            Role::Worker(index) => {
                let (rules, front) = (self.rules.clone(), self.front.clone());
                worker::run(worker::Start { index, listeners, settings, rules, front, shared, former })
            }
            Role::Doorman => {
                let (rules, front, index) = (self.rules.clone(), self.front.clone(), shared.limits().workers);
                worker::doorman::run(worker::Start { index, listeners, settings, rules, front, shared, former })
            }
            Role::Health(id) => health::run(settings, shared, id),
            Role::Search(_) => {
                let returning = self.failover.returning;
                let search = |found| primary::run(&settings, &shared, returning, found);
                self.search_writer.as_ref().map_or(EXIT_RESTART, search)
            }
            Role::Cancel => cancels.map_or(EXIT_RESTART, |cancels| cancels.serve(&shared, former.as_ref())),
            Role::Undertaker => orphans::cancel(&shared, &self.orphans),
            Role::Collector => log_pipe.map_or(EXIT_RESTART, |pipe| pipe.collect(self)),
            // Those are other programs.
            Role::Script(_) | Role::Successor => EXIT_RESTART,
            Role::ReplicationCheck => replication::run(settings, shared),
            Role::Pcp => {
                pcp::run(pcp::Start { listeners: pcp_listeners, users: self.files.pcp.clone(), settings, shared })
            }
            Role::Metrics => {
                let (users, watched) = (self.files.pcp.clone(), listeners);
                metrics::run(metrics::Start { listeners: metrics_listeners, watched, users, settings, shared })
            }
            Role::Finder => match self.ready.writer() {
                Ok(ready) => finder::run(settings, shared, ready, !self.announced),
                Err(error) => {
                    Report::fatal("nodes cannot be searched").detail(error.to_string()).log();
                    EXIT_RESTART
                }
            },
        }
    }

    /// The sockets of a child of this role: for clients, for PCP and for metrics. All others are closed: a child that
    /// outlives the parent must not keep its ports.
    fn take_listeners(&mut self, role: Role) -> (Vec<OwnedFd>, Vec<OwnedFd>, Vec<OwnedFd>) {
        let only_if = |is_its: bool, listeners: &mut Listeners| {
            let sockets = listeners.take();
            if is_its { sockets } else { Vec::new() }
        };
        (
            // The metrics process and the doorman look who waits for a worker.
            only_if(matches!(role, Role::Worker(_) | Role::Metrics | Role::Doorman), &mut self.listeners),
            only_if(role == Role::Pcp, &mut self.pcp_listeners),
            only_if(role == Role::Metrics, &mut self.metrics_listeners),
        )
    }
}
