//! Connections that have not logged in yet. The PCP main process keeps them itself: whoever does not know a password
//! costs a descriptor for a while, and never a process.
//!
//! Invariants:
//! - There are at most [`PLACES`]. Whoever comes when all are taken gets the place of the one that has waited longest, so
//!   that any number of silent connections does not keep an administrator out.
//! - Nothing waits for a client: what he does not send or take at once waits for him, until his time is over.
//! - After a wrong password the answer takes [`PENALTY`], and the place is taken as long, also if the client leaves.

use super::frame::{BadLength, Frame, MAX_REQUEST, cut};
use super::login::Challenge;
use super::reply;
use super::request::{Malformed, Request};
use crate::net::{Deadline, Peer, Received, Stream};
use crate::report::Report;
use std::path::Path;
use std::time::Duration;

/// Connections at most.
const PLACES: usize = 64;
/// How long the answer to a wrong password takes.
const PENALTY: Duration = Duration::from_secs(1);

/// A client that has logged in.
pub(super) struct Admitted {
    pub stream: Stream,
    /// What he has sent after the login.
    pub received: Vec<u8>,
}

/// The connections, oldest first.
#[derive(Default)]
pub(super) struct Reception {
    guests: Vec<Guest>,
}

struct Guest {
    stream: Stream,
    received: Vec<u8>,
    challenge: Challenge,
    /// When he has to leave.
    limit: Deadline,
    /// Why his password was wrong; he hears of it at the limit.
    refused: Option<Report>,
}

/// What becomes of a guest.
enum Step {
    Stay,
    Leave,
    Admit,
}

impl Reception {
    /// Whether another connection may come: not while all places are taken by wrong passwords.
    pub fn has_room(&self) -> bool {
        self.guests.len() < PLACES || self.guests.iter().any(|guest| guest.refused.is_none())
    }

    /// A connection has come; it may stay until `limit`.
    pub fn welcome(&mut self, stream: Stream, limit: Deadline) {
        if self.guests.len() >= PLACES
            && let Some(oldest) = self.guests.iter().position(|guest| guest.refused.is_none())
        {
            self.guests.remove(oldest);
        }
        self.guests.push(Guest { stream, received: Vec::new(), challenge: Challenge::default(), limit, refused: None });
    }

    /// Those of whom something is expected.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.guests.iter().filter(|guest| guest.refused.is_none()).map(|guest| &guest.stream)
    }

    /// When somebody's time is over.
    pub fn next_limit(&self) -> Deadline {
        self.guests.iter().fold(Deadline::NEVER, |first, guest| first.min(guest.limit))
    }

    /// Does what there is to do, and returns those who have logged in. `users`: pcp.conf.
    pub fn attend(&mut self, users: &Path) -> Vec<Admitted> {
        let mut admitted = Vec::new();
        let mut staying = Vec::with_capacity(self.guests.len());
        for mut guest in self.guests.drain(..) {
            match guest.attend(users) {
                Step::Stay => staying.push(guest),
                Step::Leave => {}
                Step::Admit => admitted.push(Admitted { stream: guest.stream, received: guest.received }),
            }
        }
        self.guests = staying;
        admitted
    }
}

impl Guest {
    fn attend(&mut self, users: &Path) -> Step {
        if self.limit.passed() {
            let late = || Report::fatal("authentication failed for new PCP connection").detail("it took too long");
            let report = self.refused.take().unwrap_or_else(late);
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
            let (step, taken) = match cut(&self.received) {
                Ok(None) => return Step::Stay,
                Ok(Some((frame, taken))) => (handle(frame, &mut self.challenge, users), taken),
                Err(error) => (Err(Refusal::AtOnce(bad_length(error))), 0),
            };
            self.received.drain(..taken);
            match step {
                Ok(Answer { bytes, logged_in }) => {
                    if !matches!(self.stream.send(&bytes), Ok(sent) if sent == bytes.len()) {
                        // He asks and asks, and does not take the answers.
                        return Step::Leave;
                    }
                    if logged_in {
                        return Step::Admit;
                    }
                }
                Err(Refusal::Later(report)) => {
                    report.clone().context(from(&self.stream)).log();
                    self.limit = Deadline::after(PENALTY);
                    self.refused = Some(report);
                    return Step::Stay;
                }
                Err(Refusal::AtOnce(report)) => {
                    report.clone().context(from(&self.stream)).log();
                    say_goodbye(&self.stream, &report);
                    return Step::Leave;
                }
            }
        }
    }
}

struct Answer {
    bytes: Vec<u8>,
    logged_in: bool,
}

enum Refusal {
    AtOnce(Report),
    Later(Report),
}

/// Only salt and login are for those who have not logged in (pcp 2.1).
fn handle(frame: Frame<'_>, challenge: &mut Challenge, users: &Path) -> Result<Answer, Refusal> {
    let mut bytes = Vec::new();
    match (frame.kind, Request::parse(frame)) {
        (_, Ok(Request::Salt)) => {
            reply::salt(&mut bytes, challenge.renew().map_err(Refusal::AtOnce)?);
            Ok(Answer { bytes, logged_in: false })
        }
        (_, Ok(Request::Login { user, answer })) => {
            challenge.check(&user, &answer, users).map_err(Refusal::Later)?;
            reply::authenticated(&mut bytes);
            Ok(Answer { bytes, logged_in: true })
        }
        (b'R', Err(Malformed::Payload)) => Err(Refusal::AtOnce(
            Report::fatal("failed to authenticate PCP user").detail("error while reading authentication packet"),
        )),
        _ => Err(Refusal::AtOnce(
            Report::fatal("authentication failed for new PCP connection").detail("connection not authorized"),
        )),
    }
}

/// The end of a connection whose bytes are no requests.
pub(super) fn bad_length(error: BadLength) -> Report {
    Report::fatal("invalid PCP packet").detail(error.to_string())
}

/// Where a connection comes from, for the log.
pub(super) fn from(stream: &Stream) -> String {
    match stream.peer() {
        Peer::Tcp(address, port) => format!("PCP connection from {address}({port})"),
        Peer::Local => "PCP connection from [local]".to_owned(),
    }
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
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn connect(reception: &mut Reception, limit: Deadline) -> UnixStream {
        let (client, server) = UnixStream::pair().expect("sockets");
        reception.welcome(Stream::new(server.into(), Peer::Local), limit);
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        client
    }

    fn attend(reception: &mut Reception) -> usize {
        reception.attend(Path::new("/nowhere/pcp.conf")).len()
    }

    fn rest(client: &mut UnixStream) -> String {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).expect("the end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn the_silent_make_room() {
        let mut reception = Reception::default();
        let silent: Vec<_> = (0..1000).map(|_| connect(&mut reception, Deadline::NEVER)).collect();
        let mut client = connect(&mut reception, Deadline::NEVER);
        assert_eq!((reception.guests.len(), silent.len()), (PLACES, 1000));
        client.write_all(b"M\0\0\0\x04").expect("write");
        assert_eq!(attend(&mut reception), 0);
        let mut salt = [0; 9];
        client.read_exact(&mut salt).expect("salt");
        assert_eq!(salt[..5], *b"m\0\0\0\x08");
    }

    #[test]
    fn half_a_request_waits_and_its_time_ends() {
        let mut reception = Reception::default();
        let mut client = connect(&mut reception, Deadline::after(Duration::from_millis(20)));
        client.write_all(b"M\0\0").expect("write");
        attend(&mut reception);
        assert_eq!(reception.streams().count(), 1);
        while !reception.next_limit().passed() {
            std::thread::yield_now();
        }
        attend(&mut reception);
        assert!(reception.guests.is_empty() && rest(&mut client).contains("it took too long"));
    }

    #[test]
    fn who_asks_without_a_login_is_sent_away() {
        for (bytes, why) in [
            (&b"L\0\0\0\x04"[..], "connection not authorized"),
            (b"I\0\0\0\x04", "connection not authorized"),
            (b"R\0\0\0\x05x", "error while reading authentication packet"),
            (b"M\0\0\x04\0", "incorrect packet length (1024)"),
        ] {
            let mut reception = Reception::default();
            let mut client = connect(&mut reception, Deadline::NEVER);
            client.write_all(bytes).expect("write");
            client.write_all(&[b'x'; 1000]).expect("write");
            attend(&mut reception);
            assert!(reception.guests.is_empty());
            assert!(rest(&mut client).contains(why), "{why}");
        }
    }

    #[test]
    fn a_wrong_password_takes_its_time_and_its_place() {
        let mut reception = Reception::default();
        let mut client = connect(&mut reception, Deadline::NEVER);
        client.write_all(b"R\0\0\0\x0aann\0x\0").expect("write");
        attend(&mut reception);
        assert!(reception.next_limit().remaining().is_some_and(|left| left > PENALTY / 2));
        drop(client);
        attend(&mut reception);
        assert_eq!((reception.guests.len(), reception.streams().count()), (1, 0));
        let others: Vec<_> = (1..PLACES)
            .map(|_| {
                let mut client = connect(&mut reception, Deadline::NEVER);
                client.write_all(b"R\0\0\0\x0aann\0x\0").expect("write");
                client
            })
            .collect();
        assert!(reception.has_room());
        attend(&mut reception);
        assert!(!reception.has_room());
        drop(others);
    }
}
