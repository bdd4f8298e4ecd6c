//! Connections that have not logged in yet. The PCP main process keeps them itself: whoever does not know a password
//! costs a descriptor for a while, and never a process.
//!
//! Invariants:
//! - An [`Origin`] has at most [`PLACES_OF_ONE`], and the rest of the world at most [`PLACES`]; none of these are for those
//!   who come from this machine, so that an administrator gets in here whatever goes on outside.
//! - Whoever comes when all are taken gets the place of the one that has waited longest, of the origin that has most. So any
//!   number of silent connections, from however many addresses, does not keep an administrator out.
//! - Nothing waits for a client: what he does not send or take at once waits for him, until his time is over.
//! - Who is refused hears of it after [`PENALTY`] and has his place as long, also if he leaves; he makes room only for an
//!   origin that has fewer. So guesses and lines of the log are few.
//! - Who is sent away for want of a place is told so, and the log once a minute.

use super::frame::{BadLength, Frame, MAX_REQUEST, cut};
use super::login::Challenge;
use super::origin::{Origin, from};
use super::reply;
use super::request::{Malformed, Request};
use crate::net::{Deadline, Received, Stream};
use crate::report::{Report, Result};
use crate::state::{Refusal, Shared};
use std::path::Path;
use std::time::Duration;

/// Connections from other machines at most.
const PLACES: usize = 64;
/// Connections of one origin at most.
const PLACES_OF_ONE: usize = 16;
/// How often the log tells that connections are sent away.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// How long the answer takes to a login that is refused. Longer in this room's own tests, for busy machines.
pub(super) const PENALTY: Duration = Duration::from_secs(if cfg!(test) { 8 } else { 1 });

/// A client that has logged in.
pub(super) struct Admitted {
    pub stream: Stream,
    pub user: String,
    /// What he has sent after the login.
    pub received: Vec<u8>,
}

/// The connections, oldest first.
pub(super) struct Reception {
    guests: Vec<Guest>,
    /// Sent away for want of a place since the log was told.
    sent_away: u64,
    /// When the log may be told again.
    tell_from: Deadline,
}

impl Default for Reception {
    fn default() -> Self {
        Self { guests: Vec::new(), sent_away: 0, tell_from: Deadline::after(Duration::ZERO) }
    }
}

/// Who may go in.
#[derive(Clone, Copy)]
pub(super) struct Door<'a> {
    /// pcp.conf.
    pub users: &'a Path,
    /// `pcp_max_connections`.
    pub most: usize,
    /// For how many more there is room.
    pub room: usize,
    pub shared: &'a Shared,
}

struct Guest {
    stream: Stream,
    origin: Origin,
    received: Vec<u8>,
    challenge: Challenge,
    /// When he has to leave.
    limit: Deadline,
    /// Why he is refused; he hears of it at the limit.
    refused: Option<Report>,
}

/// What becomes of a guest.
enum Step {
    Stay,
    Leave,
    /// With this name.
    Admit(String),
}

impl Reception {
    /// A connection has come; it may stay until `limit`. It is sent away at once if there is no place.
    pub fn welcome(&mut self, stream: Stream, limit: Deadline) {
        let origin = Origin::of(&stream);
        let newcomer =
            Guest { stream, origin, received: Vec::new(), challenge: Challenge::default(), limit, refused: None };
        if !self.is_full_for(origin) {
            return self.guests.push(newcomer);
        }
        match self.who_makes_room_for(origin) {
            Some(guest) => {
                let guest = self.guests.remove(guest);
                self.guests.push(newcomer);
                self.send_away(&guest);
            }
            None => self.send_away(&newcomer),
        }
    }

    fn places_of(&self, origin: Origin) -> usize {
        self.guests.iter().filter(|guest| guest.origin == origin).count()
    }

    fn is_full_for(&self, origin: Origin) -> bool {
        let from_outside = || self.guests.iter().filter(|guest| !guest.origin.is_here()).count();
        self.places_of(origin) >= PLACES_OF_ONE || (!origin.is_here() && from_outside() >= PLACES)
    }

    /// When it is full for `origin`.
    fn who_makes_room_for(&self, origin: Origin) -> Option<usize> {
        let own = self.places_of(origin);
        let oldest = |of: &dyn Fn(&Guest) -> bool| self.guests.iter().position(of);
        let silent = |of: &dyn Fn(&Guest) -> bool| oldest(&|guest| guest.refused.is_none() && of(guest));
        if own >= PLACES_OF_ONE {
            return silent(&|guest| guest.origin == origin);
        }
        let others = self.guests.iter().map(|guest| guest.origin).filter(|other| !other.is_here());
        let greediest = others.max_by_key(|other| self.places_of(*other))?;
        // Who is refused makes room only for an origin that has fewer places afterwards, too: else those who guess would take
        // them from each other, and guess as often as they like.
        if self.places_of(greediest) > own + 1 {
            let is_greediest = |guest: &Guest| guest.origin == greediest;
            return silent(&is_greediest).or_else(|| oldest(&is_greediest));
        }
        silent(&|guest| !guest.origin.is_here() && (guest.origin == origin || self.places_of(guest.origin) > own))
    }

    /// Tells a guest that there is no place for him.
    fn send_away(&mut self, guest: &Guest) {
        let report = Report::fatal("too many PCP connections")
            .detail("All places for connections that have not logged in are taken.")
            .hint("Try again in a moment.");
        say_goodbye(&guest.stream, &report);
        self.sent_away += 1;
        if self.tell_from.passed() {
            Report::warning("PCP connections are sent away: too many have not logged in")
                .detail(format!("{} since this was told last; now {}", self.sent_away, from(&guest.stream)))
                .log();
            self.sent_away = 0;
            self.tell_from = Deadline::after(TOLD_EVERY);
        }
    }

    /// Those of whom something is expected.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.guests.iter().filter(|guest| guest.refused.is_none()).map(|guest| &guest.stream)
    }

    /// When somebody's time is over.
    pub fn next_limit(&self) -> Deadline {
        self.guests.iter().fold(Deadline::NEVER, |first, guest| first.min(guest.limit))
    }

    /// Does what there is to do, and returns those who have logged in.
    pub fn attend(&mut self, door: &Door<'_>) -> Vec<Admitted> {
        let mut admitted: Vec<Admitted> = Vec::new();
        let mut staying = Vec::with_capacity(self.guests.len());
        for mut guest in self.guests.drain(..) {
            let door = Door { room: door.room.saturating_sub(admitted.len()), ..*door };
            match guest.attend(&door) {
                Step::Stay => staying.push(guest),
                Step::Leave => {}
                Step::Admit(user) => {
                    admitted.push(Admitted { stream: guest.stream, user, received: guest.received });
                }
            }
        }
        self.guests = staying;
        admitted
    }
}

impl Guest {
    fn attend(&mut self, door: &Door<'_>) -> Step {
        if self.limit.passed() {
            let report = self.refused.take().unwrap_or_else(|| {
                let late = Report::fatal("authentication failed for new PCP connection").detail("it took too long");
                late.clone().context(from(&self.stream)).log();
                late
            });
            say_goodbye(&self.stream, &report);
            return Step::Leave;
        }
        if self.refused.is_some() {
            return Step::Stay;
        }
        let mut bytes = [0; MAX_REQUEST];
        match self.stream.receive(&mut bytes, false) {
            Ok(Received::Bytes(count)) => self.received.extend_from_slice(&bytes[..count]),
            Ok(Received::Nothing | Received::Interrupted) => return Step::Stay,
            Ok(Received::Closed) | Err(_) => return Step::Leave,
        }
        loop {
            let (answer, taken) = match cut(&self.received) {
                Ok(None) => return Step::Stay,
                Ok(Some((frame, taken))) => (answer(frame, &mut self.challenge, door), taken),
                Err(error) => (Err(bad_length(error)), 0),
            };
            self.received.drain(..taken);
            match answer {
                // He asks and asks, and does not take the answers.
                Ok((bytes, _)) if !self.stream.send(&bytes).is_ok_and(|sent| sent == bytes.len()) => {
                    return Step::Leave;
                }
                Ok((_, Some(user))) => return Step::Admit(user),
                Ok((_, None)) => {}
                Err(report) => {
                    report.clone().context(from(&self.stream)).log();
                    door.shared.refusals().count(Refusal::ByPcp);
                    self.limit = Deadline::after(PENALTY);
                    self.refused = Some(report);
                    return Step::Stay;
                }
            }
        }
    }
}

/// Answers salt and login, which is all there is for those who have not logged in (pcp 2.1); with the name of the user
/// who has.
fn answer(frame: Frame<'_>, challenge: &mut Challenge, door: &Door<'_>) -> Result<(Vec<u8>, Option<String>)> {
    let mut bytes = Vec::new();
    match (frame.kind, Request::parse(frame)) {
        (_, Ok(Request::Salt)) => {
            reply::salt(&mut bytes, challenge.renew()?);
            Ok((bytes, None))
        }
        (_, Ok(Request::Login { user, answer })) => {
            challenge.check(&user, &answer, door.users)?;
            if door.room == 0 {
                return Err(Report::fatal("too many PCP connections")
                    .detail(format!("All {} are in use (pcp_max_connections).", door.most))
                    .hint("Try again later."));
            }
            reply::authenticated(&mut bytes);
            Ok((bytes, Some(String::from_utf8_lossy(&user).into_owned())))
        }
        (b'R', Err(Malformed::Payload)) => {
            Err(Report::fatal("failed to authenticate PCP user").detail("error while reading authentication packet"))
        }
        _ => Err(Report::fatal("authentication failed for new PCP connection").detail("connection not authorized")),
    }
}

/// The end of a connection whose bytes are no requests.
pub(super) fn bad_length(error: BadLength) -> Report {
    Report::fatal("invalid PCP packet").detail(error.to_string())
}

/// Tells the last word. It arrives even if the client has sent what nobody has read, as far as that is here already.
pub(super) fn say_goodbye(stream: &Stream, report: &Report) {
    let mut bytes = Vec::new();
    reply::report(&mut bytes, report);
    let _ = stream.send(&bytes);
    stream.shutdown_sending();
    // A socket that is closed with unread bytes takes its last words back.
    let mut unread = [0; 4096];
    for _ in 0..16 {
        if !matches!(stream.receive(&mut unread, false), Ok(Received::Bytes(_))) {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
