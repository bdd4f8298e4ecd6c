//! A PCP worker process: one client that has logged in, request after request (pcp 6.3).
//!
//! It has a copy of nothing that changes: every request is answered with the settings in force then.

use super::frame::{Frame, MAX_REQUEST, cut};
use super::login::Challenge;
use super::origin::from;
use super::reception::{Admitted, PENALTY, bad_length, say_goodbye};
use super::request::{Malformed, Request};
use super::{answers, orders, reply};
use crate::backend;
use crate::config::Settings;
use crate::failover::operator::{GivenUp, Pause};
use crate::net::{Deadline, Received, Stream};
use crate::report::{self, Report, Result, Severity};
use crate::state::{Refusal, Shared};
use crate::sys::signal::{Signals, ToParent, ToPcp};
use crate::sys::title;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The client has said goodbye, or was told to leave.
const EXIT_DONE: i32 = 0;
/// The session has ended with an error.
const EXIT_FATAL: i32 = 1;
/// How long a request may take to arrive once it has begun.
const HALF_REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// In a smart stop: how long the client has for a goodbye.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// The peer has closed its side.
const HANG_UP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// What the process starts with.
pub(super) struct Start {
    pub admitted: Admitted,
    pub users: PathBuf,
    pub settings: Arc<Settings>,
    pub shared: Shared,
}

/// The life of the forked process. Returns its exit status.
pub(super) fn run(start: Start) -> i32 {
    report::set_process("pcp_child", "PCP WORKER");
    let signals = match Signals::install(ToPcp::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => {
            Report::fatal("a PCP worker process cannot handle signals").detail(errno.desc()).log();
            return EXIT_FATAL;
        }
    };
    let Start { admitted: Admitted { stream, user, received }, users, settings, shared } = start;
    let min_messages = settings.client_min_messages.severity();
    let (known, challenge) = (shared.published_settings(), Challenge::default());
    let line = Line { stream, received, signals, leaves: false };
    match (Worker { line, user, users, settings, known, shared, challenge, min_messages }).live() {
        End::Done => EXIT_DONE,
        End::Lost(report) => {
            report.log();
            EXIT_FATAL
        }
    }
}

/// How the session ends.
enum End {
    /// As it should, or by order.
    Done,
    /// The client is told nothing more.
    Lost(Report),
}

struct Worker {
    line: Line,
    /// Who has logged in.
    user: String,
    users: PathBuf,
    settings: Arc<Settings>,
    /// The settings as they were last published.
    known: Vec<u8>,
    shared: Shared,
    challenge: Challenge,
    /// The client hears of messages from this severity on.
    min_messages: Severity,
}

/// The connection.
struct Line {
    stream: Stream,
    received: Vec<u8>,
    signals: Signals,
    /// A smart stop is under way.
    leaves: bool,
}

/// What is to be done once the reply is on its way.
pub(super) enum Then {
    GoOn,
    /// The parent gets this signal.
    SignalParent(ToParent),
}

impl Worker {
    fn live(mut self) -> End {
        loop {
            title::set("PCP: wait for request");
            let idle = Deadline::after_seconds(self.settings.pcp_idle_limit);
            let (request, taken) = match self.line.next(idle) {
                Ok(Some((frame, taken))) => (Request::parse(frame).map_err(|error| refuse(frame, error)), taken),
                Ok(None) => return End::Done,
                Err(report) => return self.end_with(&report),
            };
            self.line.received.drain(..taken);
            self.heed_reload();
            let mut out = Vec::new();
            let then = match request {
                Ok(Request::Disconnect) => return End::Done,
                Ok(request) => {
                    title::set(request.title());
                    self.answer(&request, &mut out)
                }
                Err(report) => Err(report),
            };
            match then {
                Ok(then) => {
                    if let Err(end) = self.line.send(&out) {
                        return end;
                    }
                    if let Then::SignalParent(signal) = then {
                        let _ = kill(Pid::from_raw(self.shared.parent().cast_signed()), signal);
                    }
                }
                Err(report) if report.severity >= Severity::Fatal => return self.end_with(&report),
                Err(report) => {
                    report.clone().context(from(&self.line.stream)).log();
                    reply::report(&mut out, &report);
                    if let Err(end) = self.line.send(&out) {
                        return end;
                    }
                }
            }
        }
    }

    /// The last word of a session that cannot go on.
    fn end_with(&self, report: &Report) -> End {
        say_goodbye(&self.line.stream, report);
        End::Lost(report.clone().context(from(&self.line.stream)))
    }

    fn heed_reload(&mut self) {
        let published = self.shared.published_settings();
        if published != self.known {
            if let Some(settings) = Settings::from_snapshot(&published) {
                self.settings = Arc::new(settings);
                report::configure(self.settings.log_settings());
                backend::reload_tls(&self.settings);
            }
            self.known = published;
        }
    }

    /// Writes the reply.
    fn answer(&mut self, request: &Request, out: &mut Vec<u8>) -> Result<Then> {
        let (settings, shared) = (Arc::clone(&self.settings), self.shared.clone());
        let context = answers::Context { settings: &settings, shared: &shared };
        if let Some(order) = request.order() {
            Report::log_line(format!("PCP user \"{}\" orders: {order}", self.user))
                .context(from(&self.line.stream))
                .log();
        }
        match request {
            Request::Disconnect => {}
            Request::Salt => reply::salt(out, self.challenge.renew()?),
            Request::Login { user, answer } => {
                if let Err(report) = self.challenge.check(user, answer, &self.users) {
                    shared.refusals().count(Refusal::ByPcp);
                    // Who has a password does not guess others sooner. If he leaves meanwhile, he is told nothing.
                    let _ = self.line.pause(PENALTY);
                    return Err(report);
                }
                self.user = String::from_utf8_lossy(user).into_owned();
                reply::authenticated(out);
            }
            Request::NodeCount => answers::node_count(&context, out),
            Request::NodeInfo(node) => answers::node_info(&context, node, out)?,
            Request::ProcessCount => answers::process_count(&context, out),
            Request::ProcessInfo(pid) => answers::process_info(&context, pid, out)?,
            Request::PoolStatus => answers::pool_status(&context, out),
            Request::HealthCheckStats(node) => answers::health_check_stats(&context, node, out)?,
            Request::WatchdogInfo => return Err(answers::watchdog_info()),
            Request::InvalidateCache => orders::invalidate_cache(&context, out)?,
            Request::RotateLog => orders::rotate_log(&context, out)?,
            Request::SetParameter { name, value } => self.set(name, value, out)?,
            Request::Reload => {
                reply::complete::<&str>(out, b'z', &[]);
                return Ok(Then::SignalParent(ToParent::Reload));
            }
            Request::Stop { mode, cluster } => {
                let signal = orders::stop(&shared, *mode, *cluster)?;
                reply::complete::<&str>(out, b't', &[]);
                return Ok(Then::SignalParent(signal));
            }
            Request::Attach(node) => orders::attach(&context, node, out)?,
            Request::Detach { node, gracefully } => {
                let pause: Pause<'_> = &mut |time| self.line.pause(time);
                orders::detach(&context, node, gracefully.then_some(pause), out)?;
            }
            Request::Promote { node, gracefully, switchover } => {
                let pause: Pause<'_> = &mut |time| self.line.pause(time);
                orders::promote(&context, node, *switchover, gracefully.then_some(pause), out)?;
            }
            Request::Recover(node) => return Err(orders::recover(&context, node)),
            Request::StopRecovery => {
                return Err(Report::error("process recovery request failed").detail("no recovery can be stopped"));
            }
        }
        Ok(Then::GoOn)
    }

    /// The one parameter there is, for this session (pcp 5.16).
    fn set(&mut self, name: &str, value: &str, out: &mut Vec<u8>) -> Result<()> {
        self.min_messages = answers::min_messages(name, value)?;
        Report::log_line(format!("set configuration parameter, \"{name} TO {value}\"")).log();
        let notice = Report::debug(format!("PCP setting parameter \"{name}\" to \"{value}\""));
        if notice.severity.reaches_client(self.min_messages) {
            reply::report(out, &notice);
        }
        reply::complete::<&str>(out, b'a', &[]);
        Ok(())
    }
}

/// What is wrong with a frame that is no request.
fn refuse(frame: Frame<'_>, error: Malformed) -> Report {
    match error {
        Malformed::Kind(kind) => Report::fatal("PCP processing request")
            .detail(format!("unknown PCP packet type \"{}\"", char::from(kind).escape_default())),
        Malformed::Payload if frame.kind == b'A' => {
            Report::error("set configuration parameter failed").detail("invalid pcp packet received from client")
        }
        Malformed::Payload => Report::error("invalid pcp packet received from client")
            .detail(format!("the payload of packet type \"{}\" is missing or incomplete", char::from(frame.kind))),
    }
}

impl Line {
    /// The next request, and how many bytes it takes. `None`: the client has left, or has to.
    ///
    /// # Errors
    /// FATAL: the connection is of no further use, why.
    fn next(&mut self, idle: Deadline) -> Result<Option<(Frame<'_>, usize)>> {
        let mut limit = idle;
        let mut begun = false;
        let mut bytes = [0; MAX_REQUEST];
        while cut(&self.received).map_err(bad_length)?.is_none() {
            // Its beginning may have come with the request before, or with the login.
            if !begun && !self.received.is_empty() {
                begun = true;
                limit = limit.min(Deadline::after(HALF_REQUEST_LIMIT));
            }
            if self.told_to_leave() {
                return Ok(None);
            }
            if self.leaves {
                limit = limit.min(Deadline::after(STOP_LIMIT));
            }
            if limit.passed() {
                return if self.leaves { Ok(None) } else { Err(too_late(begun)) };
            }
            self.wait(PollFlags::POLLIN, limit);
            match self.stream.receive(&mut bytes, false) {
                Ok(Received::Bytes(count)) => self.received.extend_from_slice(&bytes[..count]),
                Ok(Received::Nothing | Received::Interrupted) => {}
                Ok(Received::Closed) if self.received.is_empty() => return Ok(None),
                Ok(Received::Closed) => return Err(lost("the client has left in the middle of a request")),
                Err(error) => return Err(lost(&error.to_string())),
            }
        }
        // The borrow checker wants the frame cut where it is returned.
        cut(&self.received).map_err(bad_length)
    }

    /// Sends all, as long as the client goes on taking it.
    fn send(&mut self, mut bytes: &[u8]) -> std::result::Result<(), End> {
        let mut limit = Deadline::after(SEND_LIMIT);
        loop {
            match self.stream.send(bytes) {
                Ok(0) => {}
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    limit = Deadline::after(SEND_LIMIT);
                }
                Err(error) => return Err(End::Lost(lost(&error.to_string()))),
            }
            if bytes.is_empty() {
                return Ok(());
            }
            if limit.passed() {
                return Err(End::Lost(lost("the client does not take the answer")));
            }
            if self.told_to_leave() {
                return Err(End::Done);
            }
            self.wait(PollFlags::POLLOUT, limit);
        }
    }

    /// Lets some time pass, unless the client has left or this process has to.
    fn pause(&mut self, time: Duration) -> std::result::Result<(), GivenUp> {
        let until = Deadline::after(time);
        while !until.passed() {
            if self.told_to_leave() || self.leaves {
                return Err(GivenUp::Stopped);
            }
            // Of whoever sends more than one request nothing is read, but his end is seen all the same.
            let is_full = self.received.len() >= MAX_REQUEST;
            let seen = self.wait(if is_full { HANG_UP } else { PollFlags::POLLIN }, until);
            if is_full {
                if seen.intersects(HANG_UP | PollFlags::POLLHUP | PollFlags::POLLERR) {
                    return Err(GivenUp::Left);
                }
                continue;
            }
            let mut bytes = [0; MAX_REQUEST];
            match self.stream.receive(&mut bytes, false) {
                Ok(Received::Bytes(count)) => self.received.extend_from_slice(&bytes[..count]),
                Ok(Received::Nothing | Received::Interrupted) => {}
                Ok(Received::Closed) | Err(_) => return Err(GivenUp::Left),
            }
        }
        Ok(())
    }

    /// Waits for `events` on the connection, or a signal. Returns what has happened there.
    fn wait(&self, events: PollFlags, limit: Deadline) -> PollFlags {
        let mut watched = [PollFd::new(self.signals.fd(), PollFlags::POLLIN), PollFd::new(self.stream.as_fd(), events)];
        match poll(&mut watched, limit.poll_timeout()) {
            // `None`: flags that the library has no name for.
            Ok(_) => watched[1].revents().unwrap_or(HANG_UP),
            Err(Errno::EINTR) => PollFlags::empty(),
            // Out of memory: the loops around it look at their limits.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(10));
                PollFlags::empty()
            }
        }
    }

    /// Whether this process is to end at once.
    fn told_to_leave(&mut self) -> bool {
        let taken = self.signals.take();
        self.leaves |= taken.has(ToPcp::SmartStop);
        taken.has(ToPcp::FastStop) || taken.has(ToPcp::ImmediateStop)
    }
}

fn too_late(begun: bool) -> Report {
    let detail = if begun {
        "a request has begun and did not arrive as a whole in time"
    } else {
        "no request came for a long time (pcp_idle_limit)"
    };
    Report::fatal("terminating PCP connection").detail(detail)
}

fn lost(cause: &str) -> Report {
    Report::fatal("unable to read from client").detail(format!("pcp_read failed with error : \"{cause}\""))
}
