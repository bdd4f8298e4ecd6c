//! The start sequence and the forking of children (process-model 2).

use super::children::{Children, Role};
use super::listen::Listeners;
use super::pid_file::PidFile;
use super::{Supervisor, status_file};
use crate::cluster::finder;
use crate::config::{FileLocations, Settings};
use crate::report::{Report, Result};
use crate::state::{Limits, NodeStatus, Shared};
use crate::sys::signal::{Signal, Signals};
use crate::sys::{Fork, die_with_parent, fork, signal};
use crate::worker;
use nix::fcntl::OFlag;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// Exit status of a start that failed (process-model 9).
const EXIT_FATAL: i32 = 3;

/// Starts pgpool and runs it to its end. Returns the exit status. `starter` gets one byte when the service is complete.
pub fn run(settings: Settings, files: FileLocations, discard_status: bool, starter: Option<OwnedFd>) -> i32 {
    let supervisor = match prepare(settings, files, discard_status, starter) {
        Ok(supervisor) => supervisor,
        Err(report) => {
            report.log();
            return EXIT_FATAL;
        }
    };
    match supervisor.live() {
        Ok(status) => status,
        Err(error) => {
            Report::fatal("the parent process cannot go on").detail(error.to_string()).log();
            1
        }
    }
}

fn prepare(
    settings: Settings,
    files: FileLocations,
    discard_status: bool,
    starter: Option<OwnedFd>,
) -> Result<Supervisor> {
    let system = |what: &str, error: &dyn std::fmt::Display| Report::fatal(what.to_owned()).detail(error.to_string());
    signal::ignore(&[Signal::SIGPIPE]).map_err(|errno| system("SIGPIPE cannot be ignored", &errno))?;
    let handled = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ];
    let signals = Signals::install(&handled).map_err(|errno| system("signals cannot be handled", &errno))?;
    let limit = |value: i32| usize::try_from(value).unwrap_or(1).max(1);
    let limits = Limits { workers: limit(settings.num_init_children), pool_slots: limit(settings.max_pool) };
    let shared = Shared::create(limits).map_err(|error| {
        system("could not create shared memory", &error).hint("Reduce num_init_children or max_pool, or free memory.")
    })?;
    Report::log_line(format!("allocating shared memory segment of size: {} ", shared.size())).log();
    fill_nodes(&shared, &settings);
    let status_file = status_file::path(&settings.work_dir);
    take_over_status(&shared, &status_file, discard_status);
    let mut listeners = Listeners::open(&settings)?;
    let pid_file = match PidFile::write(Path::new(&settings.pid_file_name)) {
        Ok(pid_file) => pid_file,
        Err(report) => {
            listeners.remove();
            return Err(report);
        }
    };
    let mut supervisor = Supervisor {
        settings: Arc::new(settings),
        files,
        shared,
        listeners,
        children: Children::default(),
        signals,
        pid_file: Some(pid_file),
        status_file,
        starter,
        finder_ready: None,
        announced: false,
        stopping: None,
    };
    for slot in 0..limits.workers {
        supervisor.start_child(Role::Worker(slot));
    }
    supervisor.start_child(Role::Finder);
    Ok(supervisor)
}

/// Takes the nodes of the configuration into the node table; nodes that are there keep their state.
pub(super) fn fill_nodes(shared: &Shared, settings: &Settings) {
    let outcome = shared.nodes().update(|cluster| {
        let count = settings.used_nodes().map(|(id, _)| id + 1).max().unwrap_or(0);
        let known = cluster.nodes.len();
        cluster.nodes.resize_with(count.max(known), Default::default);
        for (id, configured) in settings.used_nodes() {
            let node = &mut cluster.nodes[id];
            let is_new = node.status == NodeStatus::Unused;
            node.weight = configured.weight;
            node.application_name.clone_from(&configured.application_name);
            node.disallow_to_failover = configured.flags.disallow_to_failover;
            node.always_primary = configured.flags.always_primary;
            if is_new {
                node.hostname.clone_from(&configured.hostname);
                node.port = configured.port;
                // A node added by a reload is attached by an administrator (config 6.3).
                let status = if known == 0 { NodeStatus::Waiting } else { NodeStatus::Down };
                cluster.set_status(id, status, "configured");
            }
        }
    });
    if let Err(error) = outcome {
        Report::warning("the node table could not be updated").detail(error.to_string()).log();
    }
}

/// Nodes that were detached when pgpool ended stay detached (process-model 12.1).
fn take_over_status(shared: &Shared, path: &Path, discard: bool) {
    if discard {
        let _ = fs::remove_file(path);
        Report::log_line(format!("Backend status file {} discarded", path.display())).log();
        return;
    }
    let states = status_file::read(path);
    let outcome = shared.nodes().update(|cluster| {
        for (id, status) in states.iter().enumerate().take(cluster.nodes.len()) {
            if *status == Some(NodeStatus::Down) {
                cluster.set_status(id, NodeStatus::Down, "down in the status file; attach it with pcp_attach_node");
            }
        }
    });
    if let Err(error) = outcome {
        Report::warning("the status file could not be taken over").detail(error.to_string()).log();
    }
}

impl Supervisor {
    /// Starts the children that are due.
    pub(super) fn start_due(&mut self) {
        for role in self.children.take_due() {
            self.start_child(role);
        }
    }

    fn start_child(&mut self, role: Role) {
        let parent = Pid::this();
        let pipe = match role {
            Role::Finder => nix::unistd::pipe2(OFlag::O_CLOEXEC).ok(),
            Role::Worker(_) => None,
        };
        match fork() {
            Ok(Fork::Child) => {
                // A fast stop is what the death of the parent means to its children.
                let status = if die_with_parent(parent, Signal::SIGINT) { self.be_child(role, pipe) } else { 0 };
                std::process::exit(status);
            }
            Ok(Fork::Parent(pid)) => {
                self.children.add(pid, role);
                match role {
                    Role::Worker(slot) => self.shared.worker(slot).occupy(pid.as_raw().unsigned_abs()),
                    Role::Finder if !self.announced => {
                        self.finder_ready = pipe.map(|(reader, _)| reader);
                    }
                    Role::Finder => {}
                }
            }
            Err(errno) => {
                Report::warning("fork failed")
                    .detail(errno.desc())
                    .hint("Raise the limit of processes or memory.")
                    .log();
                self.children.postpone(role);
            }
        }
    }

    fn be_child(&mut self, role: Role, pipe: Option<(OwnedFd, OwnedFd)>) -> i32 {
        let (settings, files, shared) = (Arc::clone(&self.settings), self.files.clone(), self.shared.clone());
        self.starter = None;
        match (role, pipe) {
            (Role::Worker(index), _) => {
                let listeners = self.listeners.take();
                worker::run(worker::Start { index, listeners, settings, files, shared })
            }
            (Role::Finder, Some((reader, writer))) => {
                drop(reader);
                self.listeners.close();
                finder::run(settings, files, shared, writer)
            }
            (Role::Finder, None) => 1,
        }
    }
}
