//! One worker process: accepts a client, serves it to its end, accepts the next (process-model 7).
//!
//! While no client is there it sleeps in one epoll on the listening sockets, its signals and its pooled server connections,
//! with a timeout only when something is due. Everything a client needs is made when the first one comes.
//!
//! It must never decide about the cluster, wait without a reason that can wake it, or go on after a fault of ours: a panic
//! in a session ends the process, and the parent replaces it.

pub mod doorman;
mod idle;
mod line;

use crate::auth::hba::Rules;
use crate::config::Settings;
use crate::net::tls::Front;
use crate::net::{Deadline, Peer, Stream, names};
use crate::report::{self, Report};
use crate::session::{self, Context};
use crate::state::{ClientInfo, Shared};
use crate::sys::signal::{Signals, ToDoorman, ToParent, ToWorker, told_to_stop};
use crate::sys::title;
use idle::{Idle, Wake};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the name service may keep a client waiting for its name to be known.
const NAME_LIMIT: Duration = Duration::from_secs(1);
/// Title while no client is there.
const WAITING: &str = "wait for connection request";

/// What a worker starts with.
pub struct Start {
    /// Number of its slot.
    pub index: usize,
    /// Listening sockets, non-blocking, in the order in which they are served: Unix sockets first.
    pub listeners: Vec<OwnedFd>,
    /// The parameters in force.
    pub settings: Arc<Settings>,
    /// The rules of pool_hba.conf in force.
    pub rules: Option<Arc<Rules>>,
    /// TLS towards clients.
    pub front: Front,
    /// Shared memory.
    pub shared: Shared,
    /// Where unknown cancel requests go.
    pub former: Option<UnixDatagram>,
}

/// How a worker ends: the exit statuses that the parent understands (process-model 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Exit {
    /// It was told to leave.
    Done = 0,
    /// It makes room for a fresh process.
    Restart = 1,
}

/// The life of the forked child. Returns its exit status. A fault of ours panics; whoever forked guards against that.
pub fn run(start: Start) -> i32 {
    live(start) as i32
}

fn live(start: Start) -> Exit {
    report::set_process("child", "CHILD");
    title::set(WAITING);
    let Start { index, listeners, settings, rules, front, shared, former } = start;
    let listeners = Rc::<[_]>::from(listeners);
    let prepared = Signals::install(ToWorker::HANDLED)
        .and_then(|signals| Ok((Idle::new(Rc::clone(&listeners), &signals)?, signals)));
    let (idle, signals) = match prepared {
        Ok(prepared) => prepared,
        Err(errno) => {
            Report::fatal("a worker process could not prepare itself")
                .detail(errno.desc())
                .hint("Raise the limits of open files and of memory of this user.")
                .log();
            return Exit::Restart;
        }
    };
    let slot = shared.worker(index);
    let mut context = Context::new(settings, rules, front, shared, slot, signals);
    context.former = former;
    context.tell_of_the_dead();
    context.listeners = listeners;
    Worker { context, sessions: 0, last_client: None }.live(idle)
}

struct Worker {
    context: Context,
    /// Sessions served.
    sessions: i32,
    /// When the last client left; `None` before the first.
    last_client: Option<Instant>,
}

impl Worker {
    fn live(mut self, mut idle: Idle) -> Exit {
        let exit = loop {
            if let Some(exit) = self.heed_signals().or_else(|| self.heed_time()) {
                break exit;
            }
            match self.wait(&mut idle) {
                Ok(Wake::Client(socket, client)) => {
                    self.context.shared.count_taken(socket);
                    self.serve(client);
                }
                Ok(Wake::Nobody) => {
                    Report::log_line("Exit flag set").detail("Exiting myself").log();
                    break Exit::Done;
                }
                Ok(Wake::Server) => self.context.close_pooled(|pool| pool.close_broken()),
                Ok(Wake::Other) => {}
                Err(error) => {
                    Report::error("failed to accept user connection")
                        .detail(error.to_string())
                        .hint("Check the limits of open files and of memory.")
                        .log();
                    break Exit::Restart;
                }
            }
        };
        if exit == Exit::Done {
            self.serve_the_last(&mut idle);
        }
        self.context.close_pooled(|pool| pool.close_all());
        self.context.close_asker();
        exit
    }

    /// A client may have woken this worker and nobody else: if the worker is not replaced, nobody else looks for it.
    fn serve_the_last(&mut self, idle: &mut Idle) {
        if !self.context.slot.is_dismissed() || told_to_stop() {
            return;
        }
        if let Ok(Some((socket, client))) = idle.last_client() {
            self.context.shared.count_taken(socket);
            self.serve(client);
        }
    }

    /// Waits for the next client, unless this worker is dismissed (process-model 8.2) and nobody is there.
    fn wait(&self, idle: &mut Idle) -> io::Result<Wake> {
        // While an administrator's request waits for the clients to leave, no new ones come in (failover 13.2).
        let hold = self.context.shared.hold();
        let held = hold.left();
        if self.context.slot.is_dismissed() {
            let last = if held.is_none() { idle.last_client()? } else { None };
            return Ok(last.map_or(Wake::Nobody, |(socket, client)| Wake::Client(socket, client)));
        }
        idle.accept_clients(held.is_none())?;
        let deadline = self.next_limit().min(held.map_or(Deadline::NEVER, Deadline::after));
        idle.wait(&self.context.pool, deadline, || hold.left().is_some())
    }

    /// Does what signals and the parent ask for. `Some`: this process ends.
    fn heed_signals(&mut self) -> Option<Exit> {
        let taken = self.context.signals.take().with(std::mem::take(&mut self.context.deferred));
        if taken.has_stop() {
            return Some(Exit::Done);
        }
        if self.context.slot.restart_wished() {
            Report::log_line("failover or failback event detected").detail("restarting myself").log();
            return Some(Exit::Restart);
        }
        if taken.has(ToWorker::Reload) {
            self.context.reload();
        }
        if taken.has(ToWorker::ClosePool) {
            self.context.close_pooled(|pool| pool.close_all());
            self.context.close_asker();
        }
        if taken.has(ToWorker::LookAtNodes) {
            self.context.discard_detached();
        }
        None
    }

    /// Does what is due by time and by number of clients (process-model 7.2, 7.8). `Some`: this process ends.
    fn heed_time(&mut self) -> Option<Exit> {
        let Settings { child_max_connections, child_life_time, .. } = *self.context.settings;
        if child_max_connections > 0 && self.sessions >= child_max_connections {
            Report::log_line(format!("child exiting, {child_max_connections} connections reached")).log();
            return Some(Exit::Restart);
        }
        if self.life_left().is_some_and(|left| left.is_zero()) {
            Report::debug(format!("child life {child_life_time} seconds expired")).log();
            return Some(Exit::Restart);
        }
        if self.context.pool.next_expiry().is_some_and(|left| left.is_zero()) {
            self.context.close_pooled(|pool| pool.expire());
        }
        if self.context.asker_left().is_some_and(|left| left.is_zero()) {
            self.context.close_asker();
        }
        None
    }

    /// Time until child_life_time ends this process; it counts once a client has been served.
    fn life_left(&self) -> Option<Duration> {
        let limit = u64::try_from(self.context.settings.child_life_time).ok().filter(|limit| *limit > 0)?;
        self.last_client.map(|since| Duration::from_secs(limit).saturating_sub(since.elapsed()))
    }

    /// When something is due even if nothing happens.
    fn next_limit(&self) -> Deadline {
        let context = &self.context;
        let limits = [self.life_left(), context.pool.next_expiry(), context.asker_left()];
        let first = limits.into_iter().flatten().min();
        first.map_or(Deadline::NEVER, Deadline::after)
    }

    fn serve(&mut self, client: Stream) {
        self.admit(&client);
        let was_session = session::serve(client, &mut self.context);
        report::clear_session();
        self.context.slot.end_client(was_session);
        self.mind_staff(self.context.shared.workers().connected());
        title::set(WAITING);
        self.last_client = Some(Instant::now());
        self.sessions += i32::from(was_session);
    }

    /// Lets the parent know when too few or too many workers have no client (process-model 8), and the doorman when none is
    /// free.
    fn mind_staff(&self, connected: usize) {
        let shared = &self.context.shared;
        if shared.staff().is_wrong_for(connected) {
            let _ = kill(Pid::from_raw(shared.parent() as i32), ToParent::Staff);
        }
        if let Some(doorman) = shared.doorman().filter(|_| shared.is_full()) {
            let _ = kill(Pid::from_raw(doorman as i32), ToDoorman::NobodyIsFree);
        }
    }

    /// The client as log and monitoring show it (`log_hostname`).
    fn describe(&self, peer: &Peer) -> ClientInfo {
        match peer {
            Peer::Tcp(address, port) => {
                let is_asked = self.context.settings.log_hostname;
                let name = is_asked.then(|| names::name(*address, Deadline::after(NAME_LIMIT))).flatten();
                ClientInfo { host: name.unwrap_or_else(|| address.to_string()), port: *port }
            }
            Peer::Local => ClientInfo { host: "[local]".to_owned(), port: 0 },
        }
    }

    /// A client is here: makes it visible and decides whether there is room for it (process-model 7.4).
    fn admit(&mut self, client: &Stream) {
        let info = self.describe(client.peer());
        let connected = self.context.slot.begin_client(&info);
        self.mind_staff(connected);
        title::set("accept connection");
        let settings = &self.context.settings;
        self.context.refuse_sessions = settings.is_crowded_by(connected);
        self.context.client = info.clone();
        if self.context.settings.log_connections {
            let port = if info.port == 0 { String::new() } else { format!(" port={}", info.port) };
            Report::log_line("new connection received").detail(format!("connecting host={}{port}", info.host)).log();
        }
    }
}
