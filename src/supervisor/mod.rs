//! The parent process: starts everything, keeps every process alive, stops everything (process-model 2, 6, 9, 13).
//!
//! It must never serve a client, and never wait for anything but its own events: signals, the finder's first word, and
//! the deadlines it has set itself. Whatever happens to a child, the others are not disturbed.

mod children;
mod listen;
pub mod pid_file;
mod start;
mod status_file;
mod stop;

pub use start::run;

use crate::config::{self, FileLocations, Settings};
use crate::net::Deadline;
use crate::report::{self, Report, version};
use crate::state::{NodeStatus, Role, Shared};
use crate::sys::signal::{Signal, Signals};
use children::Children;
use listen::Listeners;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use pid_file::PidFile;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use stop::Stopping;

const SIGNALS: Token = Token(0);
const FINDER_READY: Token = Token(1);

/// The running parent.
struct Supervisor {
    settings: Arc<Settings>,
    files: FileLocations,
    shared: Shared,
    listeners: Listeners,
    children: Children,
    signals: Signals,
    pid_file: Option<PidFile>,
    status_file: PathBuf,
    /// Where whoever started a daemon waits for the word that it serves.
    starter: Option<OwnedFd>,
    /// The finder's word that it has asked every node once.
    finder_ready: Option<OwnedFd>,
    /// The service was announced as complete.
    announced: bool,
    stopping: Option<Stopping>,
}

impl Supervisor {
    /// Runs until pgpool has stopped. Returns the exit status.
    fn live(mut self) -> std::io::Result<i32> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let signals = self.signals.fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&signals), SIGNALS, Interest::READABLE)?;
        let finder = self.finder_ready.as_ref().map(|pipe| pipe.as_fd().as_raw_fd());
        if let Some(finder) = finder {
            poll.registry().register(&mut SourceFd(&finder), FINDER_READY, Interest::READABLE)?;
        }
        let search_limit = Deadline::after_seconds(self.settings.search_primary_node_timeout);
        loop {
            let mut deadline = self.children.next_start().min(self.stop_deadline());
            if self.finder_ready.is_some() {
                deadline = deadline.min(search_limit);
            }
            match poll.poll(&mut events, deadline.remaining()) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let told = events.iter().any(|event| event.token() == FINDER_READY);
            if self.finder_ready.is_some() && (told || search_limit.passed()) {
                if let Some(finder) = finder {
                    let _ = poll.registry().deregister(&mut SourceFd(&finder));
                }
                self.finder_ready = None;
                self.announce();
            }
            self.heed_signals();
            if let Some(status) = self.finish_stop() {
                return Ok(status);
            }
            if self.stopping.is_none() {
                self.start_due();
            }
        }
    }

    /// The service is complete (process-model 2, step 18).
    fn announce(&mut self) {
        self.announced = true;
        let cluster = self.shared.nodes().view();
        Report::log_line(format!("pgpool-II successfully started. version {}", version::text())).log();
        for (id, node) in cluster.nodes.iter().enumerate() {
            let number = match (node.status, node.role) {
                (NodeStatus::Unused | NodeStatus::Down, _) => 0,
                (_, Role::Primary) => 1,
                (_, Role::Standby) => 2,
                _ => 0,
            };
            Report::log_line(format!("node status[{id}]: {number}")).log();
        }
        self.write_status();
        if let Some(starter) = self.starter.take() {
            let _ = nix::unistd::write(&starter, b"1");
        }
    }

    fn heed_signals(&mut self) {
        let taken = self.signals.take();
        if taken.has(Signal::SIGCHLD) {
            for slot in self.children.reap(self.stopping.is_some()) {
                self.shared.worker(slot).reclaim();
            }
        }
        if taken.has(Signal::SIGHUP) && self.stopping.is_none() {
            self.reload();
        }
        if taken.has(Signal::SIGUSR2) {
            self.children.signal_all(Signal::SIGUSR2);
        }
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            if taken.has(signal) {
                self.stop(signal);
            }
        }
    }

    /// SIGHUP: the file is read and checked once here, with all its problems in the log; then every child takes it over
    /// (config 6). A file with errors changes nothing.
    fn reload(&mut self) {
        Report::log_line("reload config files.").log();
        let loaded = match config::load(&self.files.config) {
            Ok(loaded) => loaded,
            Err(problems) => {
                problems.log(report::Severity::Warning);
                Report::warning("the configuration was not reloaded; the old one stays in force").log();
                return;
            }
        };
        let nodes = self.shared.nodes().view().nodes;
        let is_down = |id: usize| nodes.get(id).is_none_or(|node| !node.status.is_attached());
        match config::reload::reload(&self.settings, &loaded, is_down) {
            Ok(reloaded) => {
                reloaded.log.iter().for_each(Report::log);
                self.settings = Arc::new(reloaded.settings);
                report::configure(self.settings.log_settings());
                start::fill_nodes(&self.shared, &self.settings);
                self.write_status();
            }
            Err(problems) => {
                problems.log(report::Severity::Warning);
                return;
            }
        }
        self.children.signal_all(Signal::SIGHUP);
    }

    fn write_status(&self) {
        if let Err(report) = status_file::write(&self.status_file, &self.shared.nodes().view()) {
            report.log();
        }
    }
}
