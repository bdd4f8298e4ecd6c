//! The doorman: watches who waits while no worker is free. It tells the log of a long queue, and sends away who has waited
//! longer than `client_wait_limit`, so that an application gets an error instead of no answer (process-model 7.3).
//!
//! It sleeps until a worker tells that none is free. It must never take a client who has not waited too long, and never
//! serve one. Of those that it sends away none waits for another.

use super::line::Line;
use super::{Exit, Start};
use crate::net::{Deadline, Stream, accept};
use crate::report::{self, Report};
use crate::session::{Context, Farewell};
use crate::sys::listen_queue;
use crate::sys::signal::{Signals, ToDoorman};
use crate::sys::title;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A long queue is told of once in so long at most.
const SILENCE: Duration = Duration::from_secs(60);
/// Who waits is counted so often at least.
const LOOK: Duration = Duration::from_millis(500);
/// A client that is sent away may take so long to say who it is, and how it wants to be told.
const FAREWELL: Duration = Duration::from_secs(2);
/// One that has said nothing while it waited gets no more than this: it takes a place of those who talk.
const MOMENT: Duration = Duration::from_millis(20);
/// So many are sent away at the same time at most.
const PLACES: usize = 256;

/// The life of the forked child. Returns its exit status.
pub fn run(start: Start) -> i32 {
    report::set_process("doorman", "DOORMAN");
    title::set("doorman");
    let Start { index, listeners, settings, rules, front, shared, former } = start;
    let signals = match Signals::install(ToDoorman::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => {
            Report::fatal("the doorman could not prepare itself")
                .detail(errno.desc())
                .hint("Raise the limits of open files and of memory of this user.")
                .log();
            return Exit::Restart as i32;
        }
    };
    let slot = shared.worker(index);
    let mut context = Context::new(settings, rules, front, shared, slot, signals);
    context.former = former;
    let queues = listeners.into_iter().map(|socket| (socket, Line::default())).collect();
    Doorman { context, queues, leaving: Vec::new(), told: None, longest: 0 }.live() as i32
}

struct Doorman {
    context: Context,
    queues: Vec<(OwnedFd, Line)>,
    leaving: Vec<Leaving>,
    /// When a long queue was told of.
    told: Option<Instant>,
    /// As many have waited since then.
    longest: u64,
}

/// A client that is sent away.
struct Leaving {
    farewell: Farewell,
    /// What it waits for.
    events: PollFlags,
    /// Until then.
    limit: Deadline,
}

impl Doorman {
    fn live(mut self) -> Exit {
        loop {
            if self.heed_signals() {
                self.leaving.iter_mut().for_each(|leaving| leaving.farewell.cut_off(&self.context));
                return Exit::Done;
            }
            let next = self.look();
            self.attend(next);
        }
    }

    /// Waits until `next`, a signal, or one of those that leave gets on, and goes on with these.
    fn attend(&mut self, next: Deadline) {
        let mut watched = vec![PollFd::new(self.context.signals.fd(), PollFlags::POLLIN)];
        let leaving = self.leaving.iter();
        watched.extend(leaving.map(|one| PollFd::new(one.farewell.stream().as_fd(), one.events)));
        let next = self.leaving.iter().fold(next, |next, leaving| next.min(leaving.limit));
        // Whatever ends the wait, everything is looked at again.
        let _ = poll(&mut watched, next.poll_timeout());
        let is_ready: Vec<bool> = watched[1..].iter().map(|one| one.any().unwrap_or(true)).collect();
        let (context, mut is_ready) = (&mut self.context, is_ready.into_iter());
        self.leaving.retain_mut(|leaving| {
            if is_ready.next() == Some(true) {
                let Some(events) = leaving.farewell.go_on(context) else { return false };
                leaving.events = events;
            }
            if leaving.limit.passed() {
                leaving.farewell.cut_off(context);
                return false;
            }
            true
        });
    }

    /// Whether this process ends.
    fn heed_signals(&mut self) -> bool {
        let taken = self.context.signals.take();
        if taken.has(ToDoorman::Reload) {
            self.context.reload();
        }
        taken.has_stop() || !is_wanted(&self.context.settings)
    }

    /// Looks at the queues, if there are any. Returns when to do so again.
    fn look(&mut self) -> Deadline {
        let shared = self.context.shared.clone();
        shared.set_doorman(0);
        if !shared.is_full() {
            shared.set_doorman(std::process::id());
            // Who has taken the last place before that has told nobody.
            if !shared.is_full() {
                self.queues.iter_mut().for_each(|(_, line)| *line = Line::default());
                self.tell_of_the_end();
                return Deadline::NEVER;
            }
            shared.set_doorman(0);
        }
        let length = self.count();
        self.longest = self.longest.max(length);
        self.tell_of(length);
        let Some(limit) = limit(self.context.settings.client_wait_limit) else { return Deadline::after(LOOK) };
        while let Some(client) = self.next_too_late(limit) {
            self.send_away(client);
        }
        Deadline::after((limit / 10).clamp(Duration::from_millis(10), LOOK))
    }

    /// How many wait at all sockets together.
    fn count(&mut self) -> u64 {
        let (now, mut sum) = (Instant::now(), 0);
        for (number, (socket, line)) in self.queues.iter_mut().enumerate() {
            let taken = self.context.shared.taken(number);
            let waiting = u64::from(listen_queue::waiting(&*socket).unwrap_or(0));
            sum += waiting;
            if let Some(taken) = taken {
                line.look(waiting, taken, now);
            }
        }
        sum
    }

    /// Takes a client that has waited too long out of its queue.
    fn next_too_late(&mut self, limit: Duration) -> Option<Stream> {
        let has_place = self.leaving.len() < PLACES;
        if !has_place || !self.context.signals.pending().is_empty() || !self.context.shared.is_full() {
            return None;
        }
        let is_late = |line: &Line| line.first_came().is_some_and(|came| came.elapsed() >= limit);
        let number = self.queues.iter().position(|(_, line)| is_late(line))?;
        let client = accept(&self.queues[number].0).ok().flatten();
        if client.is_some() {
            self.context.shared.count_taken(number);
        }
        self.count();
        client
    }

    fn send_away(&mut self, client: Stream) {
        let waited = self.context.settings.client_wait_limit;
        let detail = format!("No process was free for the client within client_wait_limit ({waited} ms).");
        let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        let is_silent = poll(&mut fds, PollTimeout::ZERO) == Ok(0);
        let limit = Deadline::after(if is_silent { MOMENT } else { FAREWELL });
        let mut farewell = Farewell::new(client, detail);
        if let Some(events) = farewell.go_on(&mut self.context) {
            self.leaving.push(Leaving { farewell, events, limit });
        }
    }

    fn tell_of(&mut self, length: u64) {
        let limit = u64::try_from(self.context.settings.client_wait_warning).unwrap_or(0);
        if limit == 0 || length <= limit || self.told.is_some_and(|told| told.elapsed() < SILENCE) {
            return;
        }
        self.told = Some(Instant::now());
        let rooms =
            self.queues.iter().filter_map(|(socket, _)| listen_queue::room(socket)).map(|room| room.to_string());
        let workers = self.context.shared.staff().workers;
        Report::warning(format!("{length} clients wait for a free process"))
            .detail(format!(
                "All {workers} processes have a client. The queues of the sockets have room for {}.",
                rooms.collect::<Vec<_>>().join(", ")
            ))
            .hint(
                "Raise num_init_children, or find out who keeps sessions without using them: SHOW POOL_PROCESSES, \
                 client_idle_limit.",
            )
            .log();
    }

    fn tell_of_the_end(&mut self) {
        let longest = std::mem::take(&mut self.longest);
        if self.told.take().is_some() {
            Report::log_line(format!("clients find a free process again; {longest} had to wait at the same time"))
                .log();
        }
    }
}

/// Whether there is anything to do for a doorman.
pub fn is_wanted(settings: &crate::config::Settings) -> bool {
    settings.client_wait_limit > 0 || settings.client_wait_warning > 0
}

fn limit(milliseconds: i32) -> Option<Duration> {
    u64::try_from(milliseconds).ok().filter(|limit| *limit > 0).map(Duration::from_millis)
}
