//! One worker process: accepts a client, serves it to its end, accepts the next (process-model 7).
//!
//! It must never decide about the cluster, wait without a reason that can wake it, or take the parent with it. While no
//! client is there it sleeps in one epoll on the listening sockets, its signals and its pooled server connections, with a
//! timeout only when something is due.

mod accept;
mod idle;

use crate::config::{self, FileLocations, Settings};
use crate::net::Stream;
use crate::report::{self, Report, Severity};
use crate::session::{self, Context};
use crate::state::Shared;
use crate::sys::signal::{Signal, SignalSet, Signals};
use crate::sys::title;
use idle::{Idle, Wake};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Exit statuses that the parent understands (process-model 9).
const EXIT_DONE: i32 = 0;
const EXIT_RESTART: i32 = 1;
const EXIT_FAILED: i32 = 2;

/// What a worker starts with.
pub struct Start {
    /// Number of its slot.
    pub index: usize,
    /// Listening sockets, Unix ones first, non-blocking.
    pub listeners: Vec<OwnedFd>,
    /// The parameters in force.
    pub settings: Arc<Settings>,
    /// Where to read them again.
    pub files: FileLocations,
    /// Shared memory.
    pub shared: Shared,
}

/// The life of the forked child. Returns its exit status.
pub fn run(start: Start) -> i32 {
    report::set_process("child", "CHILD");
    title::set("wait for connection request");
    let handled = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
    let signals = match Signals::install(&handled) {
        Ok(signals) => signals,
        Err(errno) => return fail(&format!("signals cannot be handled: {errno}")),
    };
    let slot = start.shared.worker(start.index);
    let context = Context::new(start.settings, start.shared, slot, signals);
    let mut worker = Worker { context, files: start.files, sessions: 0, last_client: None };
    match Idle::new(start.listeners) {
        Ok(idle) => worker.live(idle),
        Err(errno) => fail(&format!("listening sockets cannot be watched: {errno}")),
    }
}

fn fail(message: &str) -> i32 {
    Report::fatal(message).log();
    EXIT_RESTART
}

struct Worker {
    context: Context,
    files: FileLocations,
    /// Sessions served.
    sessions: i32,
    /// When the last client left; `None` before the first.
    last_client: Option<Instant>,
}

impl Worker {
    fn live(&mut self, idle: Idle) -> i32 {
        loop {
            if let Some(status) = self.heed_signals() {
                return self.leave(status);
            }
            match idle.wait(&self.context, self.child_life_left()) {
                Ok(Wake::Client(client)) => {
                    if let Some(status) = self.serve(client) {
                        return self.leave(status);
                    }
                }
                Ok(Wake::Other) => self.tidy_pool(),
                Err(errno) => return fail(&format!("waiting for clients failed: {errno}")),
            }
            if self.child_life_left().is_some_and(|left| left.is_zero()) {
                Report::debug(format!("child life {} seconds expired", self.context.settings.child_life_time)).log();
                return self.leave(EXIT_RESTART);
            }
        }
    }

    /// Time until child_life_time ends this process; it counts only once a client has been served.
    fn child_life_left(&self) -> Option<std::time::Duration> {
        let limit = u64::try_from(self.context.settings.child_life_time).ok().filter(|limit| *limit > 0)?;
        self.last_client.map(|since| std::time::Duration::from_secs(limit).saturating_sub(since.elapsed()))
    }

    fn tidy_pool(&mut self) {
        let mut closed = self.context.pool.close_broken();
        closed.extend(self.context.pool.expire());
        for slot in closed {
            self.context.slot.pool(slot).clear();
        }
    }

    /// Serves one client. `Some`: this process ends with that status.
    fn serve(&mut self, client: OwnedFd) -> Option<i32> {
        let stream = match accept::prepare(client) {
            Ok(stream) => stream,
            Err(error) => {
                Report::log_line("failed to accept user connection").detail(error.to_string()).log();
                return None;
            }
        };
        self.admit(&stream);
        let context = &mut self.context;
        let outcome = catch_unwind(AssertUnwindSafe(|| session::serve(stream, context)));
        report::clear_session();
        let was_session = *outcome.as_ref().unwrap_or(&true);
        self.context.slot.end_client(was_session);
        title::set("wait for connection request");
        if outcome.is_err() {
            Report::new(Severity::Error, "a session ended by an internal error; its worker is replaced")
                .detail("The panic message is in the log just before this line.")
                .hint("Please report it as a bug, with that message.")
                .log();
            return Some(EXIT_FAILED);
        }
        self.last_client = Some(Instant::now());
        self.sessions += i32::from(was_session);
        let limit = self.context.settings.child_max_connections;
        if limit > 0 && self.sessions >= limit {
            Report::log_line(format!("child exiting, {limit} connections reached")).log();
            return Some(EXIT_RESTART);
        }
        None
    }

    /// A client is here: makes it visible and decides whether there is room for it (process-model 7.4).
    fn admit(&mut self, stream: &Stream) {
        let client = accept::describe(stream);
        let connected = self.context.slot.begin_client(&client);
        title::set("accept connection");
        let settings = &self.context.settings;
        let room = settings.num_init_children.saturating_sub(settings.reserved_connections);
        self.context.refuse_sessions =
            settings.reserved_connections > 0 && connected > usize::try_from(room).unwrap_or(0);
        if settings.log_connections {
            let port = if client.port == 0 { String::new() } else { format!(" port={}", client.port) };
            let detail = format!("connecting host={}{port}", client.host);
            Report::log_line("new connection received").detail(detail).log();
        }
    }

    /// Does what signals ask for. `Some`: this process ends with that status.
    fn heed_signals(&mut self) -> Option<i32> {
        let taken = self.context.signals.take().with(std::mem::take(&mut self.context.deferred));
        if taken.is_empty() {
            return if self.context.slot.restart_wished() { Some(EXIT_RESTART) } else { None };
        }
        if [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().any(|signal| taken.has(signal)) {
            return Some(EXIT_DONE);
        }
        self.heed_minor(taken);
        None
    }

    fn heed_minor(&mut self, taken: SignalSet) {
        if taken.has(Signal::SIGHUP) {
            self.reload();
        }
        if taken.has(Signal::SIGUSR1) {
            for slot in self.context.pool.close_all() {
                self.context.slot.pool(slot).clear();
            }
        }
    }

    /// Reads the configuration again. The parent has told about its problems already.
    fn reload(&mut self) {
        let Ok(loaded) = config::load(&self.files.config) else { return };
        let old = Arc::clone(&self.context.settings);
        if let Ok(reloaded) = config::reload::reload(&old, &loaded, |_| false) {
            self.context.settings = Arc::new(reloaded.settings);
            self.context.pool.set_life_time(self.context.settings.connection_life_time);
            report::configure(self.context.settings.log_settings());
        }
    }

    fn leave(&mut self, status: i32) -> i32 {
        self.context.pool.close_all();
        status
    }
}
