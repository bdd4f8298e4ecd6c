//! The parent process: starts everything, keeps every process alive, stops everything (process-model 2, 6, 9, 13).
//!
//! It must never serve a client, and never wait for anything but its own events: signals, the finder's first word, and
//! the deadlines it has set itself. Whatever happens to a child, the others are not disturbed. While nothing happens it
//! sleeps without a timeout.
//!
//! Nodes that are lost or come back are the business of [`failover`].
//!
//! The start sequence is in [`start`], forking in [`fork`], the table of children in [`children`], the number of workers in
//! [`staff`]; what signals ask for is done by [`reload`], [`certificates`] and [`stop`].

mod certificates;
mod children;
mod failover;
mod fork;
mod listen;
mod log_pipe;
mod nodes;
mod orphans;
pub mod pid_file;
mod reasons_file;
mod reload;
mod service;
mod spare;
mod staff;
mod start;
mod status_file;
mod stop;
mod upgrade;

pub use nodes::at_start;
pub use start::run;
pub use upgrade::{Again, Outcome};

use crate::auth::hba::Rules;
use crate::config::{FileLocations, Settings};
use crate::net::Deadline;
use crate::net::tls::Front;
use crate::report::{Report, version};
use crate::state::{NodeSet, ServerKey, Shared};
use crate::sys::descriptor;
use crate::sys::signal::{STOPS, Signal, Signals, ToDoorman, ToParent};
use certificates::Renewal;
use children::{Children, Dead, End, Role, ScriptKind};
use failover::Failover;
use fork::ReadyPipe;
use listen::Listeners;
use log_pipe::LogPipe;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use pid_file::PidFile;
use service::Service;
use spare::Spare;
use start::EXIT_GAVE_UP;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stop::Stopping;
use upgrade::{Cancels, Predecessor, Retired, Successor};

/// How long clients wait at start for the finder to have asked every node once. It takes no longer than its slowest
/// question, so this only matters if the finder fails.
const SEARCH_LIMIT: Duration = Duration::from_secs(15);
const SIGNALS: Token = Token(0);
const READY: Token = Token(1);
const OUTPUT: Token = Token(2);
const LEASH: Token = Token(3);

/// The running parent.
struct Supervisor {
    settings: Arc<Settings>,
    files: FileLocations,
    /// The rules of pool_hba.conf in force.
    rules: Option<Arc<Rules>>,
    /// TLS towards clients.
    front: Front,
    /// New certificates that wait for the pass phrase of their key.
    renewal: Option<Renewal>,
    shared: Shared,
    listeners: Listeners,
    pcp_listeners: Listeners,
    metrics_listeners: Listeners,
    children: Children,
    /// Server connections of workers that were killed, by node: what runs there is to be cancelled.
    orphans: Vec<(usize, ServerKey)>,
    signals: Signals,
    service: Service,
    pid_file: Option<PidFile>,
    status_file: PathBuf,
    /// In a daemon that has not announced itself: where whoever started it waits for the word that it serves.
    starter: Option<OwnedFd>,
    /// The finder's word that it has asked every node once.
    ready: ReadyPipe,
    failover: Failover,
    /// In dynamic mode: how long there have been too many workers.
    spare: Spare,
    /// With `logging_collector`: where all processes write to.
    log_pipe: Option<LogPipe>,
    /// For the search process that is being forked: where it writes its answer.
    search_writer: Option<OwnedFd>,
    /// The attached nodes as the status file has them.
    written: NodeSet,
    /// The service was announced as complete.
    announced: bool,
    stopping: Option<Stopping>,
    /// How this pgpool was started.
    again: Again,
    /// The pgpool that this one replaces, while it lives.
    predecessor: Option<Predecessor>,
    /// A pgpool that is to replace this one, while it starts.
    successor: Option<Successor>,
    /// It has.
    retired: Option<Retired>,
    /// Where cancel requests come from then.
    cancels: Option<Cancels>,
    /// Where the loop's events come from.
    registry: Option<Registry>,
}

impl Supervisor {
    /// Runs until pgpool has stopped. Returns the exit status.
    fn live(&mut self) -> std::io::Result<i32> {
        if !self.is_before_its_time() {
            // Early, since it is needed most when the start hangs.
            self.receive_administrators();
        }
        self.start_due();
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let signals = self.signals.fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&signals), SIGNALS, Interest::READABLE)?;
        let ready = self.ready.reader().as_raw_fd();
        poll.registry().register(&mut SourceFd(&ready), READY, Interest::READABLE)?;
        let output = self.failover.output.reader().as_raw_fd();
        poll.registry().register(&mut SourceFd(&output), OUTPUT, Interest::READABLE)?;
        self.registry = Some(poll.registry().try_clone()?);
        if let Some(predecessor) = &self.predecessor {
            self.watch(predecessor.leash());
        }
        let search_limit = Deadline::after(SEARCH_LIMIT);
        let mut has_searched = false;
        loop {
            let mut deadline = self.children.next_start().min(self.stop_deadline()).min(self.failover.deadline());
            deadline = deadline.min(self.renewal_deadline()).min(self.spare.deadline());
            deadline = deadline.min(self.service.next_sign_of_life());
            deadline = deadline.min(self.upgrade_deadline()).min(self.next_tidings());
            if !has_searched {
                deadline = deadline.min(search_limit);
            }
            match poll.poll(&mut events, deadline.remaining()) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.service.give_sign_of_life();
            // The pipe is edge-triggered, so it is looked at whatever has woken us.
            self.failover.output.log();
            self.heed_signals();
            self.heed_predecessor();
            self.heed_successor();
            self.proceed();
            self.tell_of_nodes();
            self.end_late_renewal();
            if let Some(status) = self.finish_stop() {
                return Ok(status);
            }
            has_searched |= search_limit.passed() || events.iter().any(|event| event.token() == READY);
            if has_searched && !self.announced && self.stopping.is_none() {
                if !self.is_before_its_time() {
                    self.complete_start();
                } else if let Err(report) = self.offer_to_take_over() {
                    report.log();
                    self.give_up();
                    return Ok(EXIT_GAVE_UP);
                }
            }
            if self.announced && self.stopping.is_none() {
                self.mind_staff();
                self.mind_the_door();
            }
            self.start_due();
        }
    }

    /// The loop wakes up when this has something to say.
    fn watch(&self, leash: &impl AsFd) {
        let descriptor = leash.as_fd().as_raw_fd();
        let watched = self
            .registry
            .as_ref()
            .map(|registry| registry.register(&mut SourceFd(&descriptor), LEASH, Interest::READABLE));
        if let Some(Err(error)) = watched {
            Report::warning("an upgrade cannot be watched").detail(error.to_string()).log();
        }
    }

    /// One health check for every configured node that has none (failover 4.1).
    fn start_health_checks(&mut self) {
        for (id, _) in self.settings.used_nodes() {
            if !self.children.has(Role::Health(id)) {
                self.children.start(Role::Health(id));
            }
        }
    }

    /// Every node has been asked once.
    fn complete_start(&mut self) {
        self.children.start(Role::ReplicationCheck);
        if self.children.workers().next().is_none() {
            self.hire_first();
        }
        self.start_health_checks();
        self.start_due();
        self.announce();
    }

    /// Starts PCP and metrics. Who is to replace another pgpool leaves them to that one until it serves.
    fn receive_administrators(&mut self) {
        if !self.pcp_listeners.is_empty() {
            self.children.start(Role::Pcp);
        }
        if !self.metrics_listeners.is_empty() {
            self.children.start(Role::Metrics);
        }
    }

    /// The service is complete (process-model 2, step 18).
    fn announce(&mut self) {
        self.announced = true;
        self.write_status();
        Report::log_line(format!("pgpool-II successfully started. version {}", version::text())).log();
        nodes::tell(&self.shared.nodes().view(), self.settings.backend_clustering_mode);
        match &self.predecessor {
            // The service manager has heard it from the one whom it knows.
            Some(predecessor) => predecessor.leash().say_serves(),
            None => self.service.tell_ready(&self.in_one_line()),
        }
        if let Some(starter) = self.starter.take() {
            // From here on a daemon has no terminal.
            if let Err(error) = self.leave_terminal() {
                Report::warning("/dev/null cannot be opened").detail(error.to_string()).log();
            }
            let _ = nix::unistd::write(&starter, b"1");
        }
    }

    /// Gives up standard input, output and error, as far as they are not the collector's.
    fn leave_terminal(&mut self) -> std::io::Result<()> {
        self.log_pipe.as_mut().map_or_else(descriptor::stdio_to_null, LogPipe::leave_terminal)
    }

    fn heed_signals(&mut self) {
        let taken = self.signals.take();
        for signal in STOPS {
            if taken.has(signal) {
                self.stop_successor(signal);
                self.stop(signal);
            }
        }
        if taken.has(ToParent::ChildEnded) {
            for dead in self.children.reap() {
                self.bury(&dead);
            }
            self.cancel_orphans();
        }
        if taken.has(ToParent::Reload) && self.stopping.is_none() {
            self.reload();
            self.let_successor_reload();
        }
        if taken.has(ToParent::Upgrade) {
            self.upgrade();
        }
        if taken.has(ToParent::Requests) {
            if self.retired.is_some() {
                self.pass_orders_on();
            } else if self.stopping.is_none() && !self.is_before_its_time() {
                self.heed_requests();
            }
        }
        if taken.has(ToParent::TellWorkers) {
            self.heed_hold();
            self.tell_workers();
        }
    }

    /// A child has ended: nothing of it stays behind, and somebody takes its place.
    fn bury(&mut self, dead: &Dead) {
        match dead.role {
            Role::Script(ScriptKind::PassPhrase) => return self.pass_phrase_ended(dead),
            Role::Search(_) | Role::Script(_) => return self.failover_child_ended(dead),
            _ => {}
        }
        if dead.role == Role::Successor {
            return self.successor_ended(dead);
        }
        if dead.role == Role::Undertaker {
            return tell_of(dead, "", self.stopping.is_some());
        }
        let (mut client, mut was_useful, mut is_done) = (String::new(), false, false);
        if dead.role == Role::Collector {
            self.shared.publish_collector(0);
        }
        if let Role::Worker(index) = dead.role {
            let slot = self.shared.worker(index);
            client = slot.client().host;
            was_useful = !client.is_empty() || slot.finished_sessions() > 0;
            slot.count_processor_time(dead.processor_time);
            let dismissed = slot.is_dismissed();
            self.orphans.extend(slot.servers());
            slot.reclaim();
            is_done = self.is_done_with(dismissed);
            // It may have been the last one that was free.
            self.children.signal(ToDoorman::NobodyIsFree, |role| role == Role::Doorman);
            if !client.is_empty() {
                // Its last statement may have changed the catalog, or committed what nobody was told of.
                self.shared.relcache().bump();
                self.shared.doubt_answers();
                if let Some(cache) = self.shared.query_cache() {
                    cache.running().end(index);
                }
            }
        }
        if is_done && self.stopping.is_none() && dead.end == End::Exit(0) {
            let (name, pid) = (dead.role.name(), dead.pid);
            let text = format!("{name} process with pid: {pid} exited with success and will not be restarted");
            Report::log_line(text).log();
        } else {
            tell_of(dead, &client, self.stopping.is_some());
        }
        if dead.role == Role::Doorman {
            self.shared.set_doorman(0);
        }
        if is_done || (dead.role == Role::Doorman && dead.end == End::Exit(0)) {
            return;
        }
        if self.stopping.is_none() || dead.role == Role::Collector {
            self.children.replace(dead, was_useful);
        }
    }

    fn write_status(&mut self) {
        if self.is_before_its_time() {
            // It is still the other one's file.
            return;
        }
        let cluster = self.shared.nodes().view();
        self.written = cluster.attached();
        if status_file::is_worth_writing(&cluster)
            && let Err(report) = reasons_file::write(&self.status_file, &cluster)
        {
            report.log();
        }
        if let Err(report) = status_file::write(&self.status_file, &cluster) {
            report.log();
        }
        if self.announced && self.stopping.is_none() {
            self.service.tell_status(&self.in_one_line());
        }
    }
}

/// Says how a child ended (process-model 9). `client`: where its client came from, empty if it had none. `stopping`: by
/// pgpool itself, if it was killed.
fn tell_of(dead: &Dead, client: &str, stopping: bool) {
    let Dead { role, pid, end, .. } = dead;
    let name = role.name();
    match end {
        End::Exit(status) => Report::debug(format!("{name} process with pid: {pid} exits with status {status}")).log(),
        End::Signal(signal, core) => {
            let how = match signal {
                Signal::SIGKILL => "sigkill".to_owned(),
                Signal::SIGSEGV => "segmentation fault".to_owned(),
                other => format!("signal {} ({other})", *other as i32),
            };
            let mut detail = match client {
                "" if matches!(role, Role::Worker(_)) => "It had no client.".to_owned(),
                "" => "It serves no clients; no session is concerned.".to_owned(),
                host => format!("Its client from {host} has lost the session; no other session is concerned."),
            };
            if *core {
                detail.push_str(" A core file was written.");
            }
            let report =
                Report::warning(format!("{name} process with pid: {pid} was terminated by {how}")).detail(detail);
            match signal {
                Signal::SIGKILL if stopping => report,
                Signal::SIGKILL => {
                    report.hint("If nobody has killed it, the machine was out of memory: see the kernel's log.")
                }
                Signal::SIGABRT | Signal::SIGBUS => report
                    .hint("If the lines before tell of memory that was not to be had, raise its limit or add memory."),
                _ => report,
            }
            .log();
        }
    }
}
