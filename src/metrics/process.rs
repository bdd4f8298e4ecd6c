//! The process: its life, its events, its signals.

use super::measure::Queue;
use super::site::Site;
use super::visitors::{PLACES, Visitors};
use crate::config::Settings;
use crate::net::{Deadline, accept, is_shut_down};
use crate::report::{self, Report};
use crate::state::Shared;
use crate::sys::signal::{Signals, ToMetrics};
use crate::sys::title;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const EXIT_DONE: i32 = 0;
/// Another is to take this process's place.
const EXIT_RESTART: i32 = 1;
/// Connections accepted of one socket before those inside have their turn.
const AT_ONCE: usize = 64;
/// How long nobody is accepted after this process had run out of something.
const BREATHER: Duration = Duration::from_secs(1);

/// Marks the signals; visitors are marked by their places, everything above is a listening socket.
const SIGNALLED: Token = Token(usize::MAX);

/// What the process starts with.
pub struct Start {
    /// Listening sockets of its own, non-blocking.
    pub listeners: Vec<OwnedFd>,
    /// The listening sockets of the clients: it accepts nobody from them, but looks who waits.
    pub watched: Vec<OwnedFd>,
    /// pcp.conf.
    pub users: PathBuf,
    /// The parameters in force.
    pub settings: Arc<Settings>,
    /// Shared memory.
    pub shared: Shared,
}

/// The life of the forked process. Returns its exit status.
pub fn run(start: Start) -> i32 {
    report::set_process("metrics", "METRICS");
    title::set("metrics");
    let Start { listeners, watched, users, settings, shared } = start;
    let queues = watched.into_iter().map(Queue::new).collect();
    let prepared = Signals::install(ToMetrics::HANDLED).map_err(io::Error::from).and_then(|signals| {
        let poll = Poll::new()?;
        let fd = signals.fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), SIGNALLED, Interest::READABLE)?;
        for (number, listener) in listeners.iter().enumerate() {
            let token = Token(PLACES + number);
            poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)?;
        }
        Ok((signals, poll))
    });
    let lived = prepared.and_then(|(signals, poll)| {
        let site = Site::new(settings, shared, users, queues);
        let visitors = Visitors::default();
        Process { listeners, signals, poll, visitors, site, accepts_from: Deadline::NEVER }.live()
    });
    match lived {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            Report::error("the metrics process cannot go on").detail(error.to_string()).log();
            EXIT_RESTART
        }
    }
}

struct Process {
    listeners: Vec<OwnedFd>,
    signals: Signals,
    poll: Poll,
    visitors: Visitors,
    site: Site,
    /// While this process has run out of something: when it accepts again.
    accepts_from: Deadline,
}

impl Process {
    /// Runs until it is told to leave.
    fn live(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(PLACES);
        let mut more = false;
        loop {
            let until = self.visitors.next_limit().min(self.accepts_from);
            let timeout = if more { Some(Duration::ZERO) } else { until.remaining().map(rounded_up) };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if self.heed_signals() {
                return Ok(());
            }
            for event in events.iter().filter(|event| event.token().0 < PLACES) {
                self.visitors.attend(event.token().0, &mut self.site);
            }
            self.visitors.heed_time();
            more = self.accept()?;
        }
    }

    /// Lets in who has come. Returns whether there may be more. Sockets tell only once of those who wait, so all are
    /// asked each time.
    fn accept(&mut self) -> io::Result<bool> {
        if self.accepts_from.passed() {
            self.accepts_from = Deadline::NEVER;
        }
        if self.accepts_from != Deadline::NEVER {
            return Ok(false);
        }
        let mut more = false;
        for listener in &self.listeners {
            for round in 0..=AT_ONCE {
                if round == AT_ONCE {
                    more = true;
                    break;
                }
                match accept(listener) {
                    Ok(Some(stream)) => {
                        let place = self.visitors.welcome(stream, self.poll.registry())?;
                        self.visitors.attend(place, &mut self.site);
                    }
                    Ok(None) => break,
                    // pgpool stops: the signal comes as well.
                    Err(error) if is_shut_down(&error) => break,
                    Err(error) => {
                        Report::error("failed to accept a connection for metrics")
                            .detail(error.to_string())
                            .hint("Check the limits of open files and of memory.")
                            .log();
                        self.accepts_from = Deadline::after(BREATHER);
                        return Ok(false);
                    }
                }
            }
        }
        Ok(more)
    }

    /// Returns whether this process ends.
    fn heed_signals(&mut self) -> bool {
        let taken = self.signals.take();
        if taken.has(ToMetrics::Reload) {
            self.site.reload();
        }
        taken.has_stop()
    }
}

/// A wait must not end just before its deadline.
fn rounded_up(time: Duration) -> Duration {
    time + Duration::from_millis(1)
}
