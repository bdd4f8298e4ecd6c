//! The PCP main process: accepts, lets clients log in, and forks a worker for each that has (pcp 6.2).
//!
//! It has no second thread, so that it may fork, and waits for nothing but events.

use super::origin::from;
use super::reception::{Admitted, Door, Reception, say_goodbye};
use super::worker;
use crate::backend;
use crate::config::Settings;
use crate::net::{Deadline, accept, is_shut_down};
use crate::report::{self, Report};
use crate::state::Shared;
use crate::sys::signal::{Signal, Signals, ToPcp};
use crate::sys::{Fork, die_with_parent, fork, title};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const EXIT_DONE: i32 = 0;
/// Another is to take this process's place.
const EXIT_RESTART: i32 = 1;
/// How long a login may take if `authentication_timeout` sets no limit.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// Connections accepted of one socket before others have their turn.
const AT_ONCE: usize = 16;
/// How long nobody is accepted after this process had run out of something.
const BREATHER: Duration = Duration::from_secs(1);

/// What the process starts with.
pub struct Start {
    /// Listening sockets, non-blocking.
    pub listeners: Vec<OwnedFd>,
    /// pcp.conf.
    pub users: PathBuf,
    /// The parameters in force.
    pub settings: Arc<Settings>,
    /// Shared memory.
    pub shared: Shared,
}

/// The life of the forked process. Returns its exit status.
pub fn run(start: Start) -> i32 {
    report::set_process("pcp_main", "PCP CHILD");
    title::set("PCP: wait for connection request");
    let signals = match Signals::install(ToPcp::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => {
            Report::fatal("the PCP process cannot handle signals").detail(errno.desc()).log();
            return EXIT_RESTART;
        }
    };
    Report::log_line(format!("PCP process: {} started", std::process::id())).log();
    let Start { listeners, users, settings, shared } = start;
    let (reception, workers) = (Reception::default(), HashSet::new());
    MainProcess {
        listeners,
        users,
        settings,
        shared,
        signals,
        reception,
        workers,
        accepts_from: Deadline::NEVER,
        leaves: false,
    }
    .live()
}

struct MainProcess {
    listeners: Vec<OwnedFd>,
    users: PathBuf,
    settings: Arc<Settings>,
    shared: Shared,
    signals: Signals,
    reception: Reception,
    workers: HashSet<Pid>,
    /// While this process has run out of something: when it accepts again.
    accepts_from: Deadline,
    /// A smart stop: it ends with the last worker.
    leaves: bool,
}

impl MainProcess {
    fn live(mut self) -> i32 {
        loop {
            if let Some(status) = self.heed_signals() {
                return status;
            }
            if self.leaves && self.workers.is_empty() {
                return EXIT_DONE;
            }
            if let Err(errno) = self.wait() {
                Report::error("waiting for PCP connections failed").detail(errno.desc()).log();
                return EXIT_RESTART;
            }
            self.accept();
            let most = usize::try_from(self.settings.pcp_max_connections).unwrap_or(1);
            let room = most.saturating_sub(self.workers.len());
            let door = Door { users: &self.users, most, room, shared: &self.shared };
            for admitted in self.reception.attend(&door) {
                self.serve(admitted);
            }
        }
    }

    /// Sleeps until somebody comes, says something, has run out of time, or a signal arrives.
    fn wait(&self) -> nix::Result<()> {
        let mut watched = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
        if self.accepts() {
            watched.extend(self.listeners.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        }
        watched.extend(self.reception.streams().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
        let until = self.reception.next_limit().min(self.accepts_from);
        match poll(&mut watched, until.poll_timeout()) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn accepts(&self) -> bool {
        self.accepts_from == Deadline::NEVER
    }

    /// Takes some connections of each socket, and not all there may be, so that those inside have their turn.
    fn accept(&mut self) {
        if self.accepts_from.passed() {
            self.accepts_from = Deadline::NEVER;
        }
        if !self.accepts() {
            return;
        }
        let limit = Deadline::after_seconds(self.settings.authentication_timeout).min(Deadline::after(LOGIN_LIMIT));
        let (reception, accepts_from) = (&mut self.reception, &mut self.accepts_from);
        self.listeners.retain(|socket| {
            for _ in 0..AT_ONCE {
                match accept(socket) {
                    Ok(Some(stream)) => reception.welcome(stream, limit),
                    Ok(None) => break,
                    Err(error) if is_shut_down(&error) => return false,
                    Err(error) => {
                        Report::error("failed to accept PCP connection")
                            .detail(error.to_string())
                            .hint("Check the limits of open files and of memory.")
                            .log();
                        *accepts_from = Deadline::after(BREATHER);
                        break;
                    }
                }
            }
            true
        });
    }

    /// `Some`: this process ends.
    fn heed_signals(&mut self) -> Option<i32> {
        let taken = self.signals.take();
        for signal in [ToPcp::FastStop, ToPcp::ImmediateStop] {
            if taken.has(signal) {
                self.signal_workers(signal);
                return Some(EXIT_DONE);
            }
        }
        if taken.has(ToPcp::SmartStop) {
            self.leaves = true;
            self.listeners.clear();
            self.reception = Reception::default();
            self.signal_workers(ToPcp::SmartStop);
        }
        if taken.has(ToPcp::Reload)
            && let Some(settings) = Settings::from_snapshot(&self.shared.published_settings())
        {
            self.settings = Arc::new(settings);
            report::configure(self.settings.log_settings());
            backend::reload_tls(&self.settings);
        }
        if taken.has(ToPcp::ChildEnded) {
            self.reap();
        }
        None
    }

    fn signal_workers(&self, signal: ToPcp) {
        for pid in &self.workers {
            let _ = kill(*pid, signal);
        }
    }

    fn reap(&mut self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let Some(pid) = status.pid() else { return };
            self.workers.remove(&pid);
            match status {
                WaitStatus::Exited(_, 0) if self.settings.log_pcp_processes => {
                    Report::log_line(format!("PCP process with pid: {pid} exit with SUCCESS.")).log();
                }
                WaitStatus::Exited(_, 0) => {}
                // The number is that of wait(2), as ever.
                WaitStatus::Exited(_, code) => {
                    Report::log_line(format!("PCP process with pid: {pid} exits with status {}", code << 8)).log();
                }
                WaitStatus::Signaled(_, Signal::SIGSEGV, _) => {
                    Report::warning(format!("PCP process with pid: {pid} was terminated by segmentation fault")).log();
                }
                WaitStatus::Signaled(_, signal, _) => {
                    Report::warning(format!("PCP process with pid: {pid} was terminated by signal {}", signal as i32))
                        .log();
                }
                _ => {}
            }
        }
    }

    /// A client has logged in: gives him a process of his own.
    fn serve(&mut self, admitted: Admitted) {
        let parent = Pid::this();
        match fork() {
            Ok(Fork::Child) => {
                let is_orphan = !die_with_parent(parent, ToPcp::FastStop.into());
                // What belongs to others is not kept open here.
                self.listeners.clear();
                self.reception = Reception::default();
                // Whatever happens, it must not come back into the main process's code.
                let life = report::guarded(|| if is_orphan { EXIT_DONE } else { self.be_worker(admitted) });
                std::process::exit(life.unwrap_or_else(|report| {
                    report.log();
                    EXIT_RESTART
                }));
            }
            Ok(Fork::Parent(pid)) => {
                self.workers.insert(pid);
                if self.settings.log_pcp_processes {
                    let socket = admitted.stream.as_fd().as_raw_fd();
                    Report::log_line(format!("forked new pcp worker, pid={pid} socket={socket}"))
                        .detail(format!("user \"{}\", {}", admitted.user, from(&admitted.stream)))
                        .log();
                }
            }
            Err(errno) => {
                let report = Report::fatal("could not fork a PCP worker process")
                    .detail(errno.desc())
                    .hint("Raise the limit of processes of this user, or add memory.");
                report.clone().context(from(&admitted.stream)).log();
                say_goodbye(&admitted.stream, &report);
            }
        }
    }

    fn be_worker(&self, admitted: Admitted) -> i32 {
        worker::run(worker::Start {
            admitted,
            users: self.users.clone(),
            settings: Arc::clone(&self.settings),
            shared: self.shared.clone(),
        })
    }
}
