//! Connections that have not logged in yet. The PCP main process keeps them itself: whoever does not know a password
//! costs a descriptor for a while, and never a process.
//!
//! Invariants:
//! - There are at most [`PLACES`], and [`PLACES_OF_ONE`] for one address; the Unix sockets count as one. Whoever comes when
//!   all are taken gets the place of the one that has waited longest, so that any number of silent connections does not
//!   keep an administrator out.
//! - Nothing waits for a client: what he does not send or take at once waits for him, until his time is over.
//! - Who is refused hears of it after [`PENALTY`] and has his place as long, also if he leaves. So guesses and lines of the
//!   log are few, and who guesses at one address takes nobody's place at another.

use super::frame::{BadLength, Frame, MAX_REQUEST, cut};
use super::login::Challenge;
use super::reply;
use super::request::{Malformed, Request};
use crate::net::{Deadline, Peer, Received, Stream};
use crate::report::{Report, Result};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Connections at most.
const PLACES: usize = 64;
/// Connections of one address at most.
const PLACES_OF_ONE: usize = 16;
/// How long the answer takes to a login that is refused.
const PENALTY: Duration = Duration::from_secs(1);

/// A client that has logged in.
pub(super) struct Admitted {
    pub stream: Stream,
    pub user: String,
    /// What he has sent after the login.
    pub received: Vec<u8>,
}

/// The connections, oldest first.
#[derive(Default)]
pub(super) struct Reception {
    guests: Vec<Guest>,
    /// How many were refused.
    refused: u64,
}

struct Guest {
    stream: Stream,
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
    /// A connection has come; it may stay until `limit`. It is closed at once if there is no place.
    pub fn welcome(&mut self, stream: Stream, limit: Deadline) {
        let is_same = |guest: &Guest| origin(&guest.stream) == origin(&stream);
        let crowded = self.guests.iter().filter(|guest| is_same(guest)).count() >= PLACES_OF_ONE;
        if crowded || self.guests.len() >= PLACES {
            let may_go = |guest: &Guest| guest.refused.is_none() && (!crowded || is_same(guest));
            let Some(oldest) = self.guests.iter().position(may_go) else { return };
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

    /// How many were refused since this was asked last.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Does what there is to do, and returns those who have logged in. `users`: pcp.conf.
    pub fn attend(&mut self, users: &Path) -> Vec<Admitted> {
        let mut admitted = Vec::new();
        let mut staying = Vec::with_capacity(self.guests.len());
        for mut guest in self.guests.drain(..) {
            let was_refused = guest.refused.is_some();
            let step = guest.attend(users);
            self.refused += u64::from(guest.refused.is_some() && !was_refused);
            match step {
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
            let (answer, taken) = match cut(&self.received) {
                Ok(None) => return Step::Stay,
                Ok(Some((frame, taken))) => (answer(frame, &mut self.challenge, users), taken),
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
fn answer(frame: Frame<'_>, challenge: &mut Challenge, users: &Path) -> Result<(Vec<u8>, Option<String>)> {
    let mut bytes = Vec::new();
    match (frame.kind, Request::parse(frame)) {
        (_, Ok(Request::Salt)) => {
            reply::salt(&mut bytes, challenge.renew()?);
            Ok((bytes, None))
        }
        (_, Ok(Request::Login { user, answer })) => {
            challenge.check(&user, &answer, users)?;
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

/// The address of a connection; none for a Unix socket.
fn origin(stream: &Stream) -> Option<IpAddr> {
    match stream.peer() {
        Peer::Tcp(address, _) => Some(*address),
        Peer::Local => None,
    }
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

    fn connect_from(reception: &mut Reception, peer: Peer, limit: Deadline) -> UnixStream {
        let (client, server) = UnixStream::pair().expect("sockets");
        reception.welcome(Stream::new(server.into(), peer), limit);
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        client
    }

    fn connect(reception: &mut Reception) -> UnixStream {
        connect_from(reception, Peer::Local, Deadline::NEVER)
    }

    fn attend(reception: &mut Reception) -> usize {
        reception.attend(Path::new("/nowhere/pcp.conf")).len()
    }

    /// Lets the time of those inside pass.
    fn pass_limit(reception: &mut Reception) {
        while !reception.next_limit().passed() {
            std::thread::sleep(reception.next_limit().remaining().expect("a limit"));
        }
        attend(reception);
    }

    fn rest(client: &mut UnixStream) -> String {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).expect("the end");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn the_silent_make_room() {
        let mut reception = Reception::default();
        let silent: Vec<_> = (0..1000).map(|_| connect(&mut reception)).collect();
        let mut client = connect(&mut reception);
        assert_eq!((reception.guests.len(), silent.len()), (PLACES_OF_ONE, 1000));
        client.write_all(b"M\0\0\0\x04").expect("write");
        assert_eq!(attend(&mut reception), 0);
        let mut salt = [0; 9];
        client.read_exact(&mut salt).expect("salt");
        assert_eq!(salt[..5], *b"m\0\0\0\x08");
        // From however many addresses they come.
        let crowd = (1..=200).map(|number| Peer::Tcp([10, 0, 0, number].into(), 5000));
        let crowd: Vec<_> = crowd.map(|peer| connect_from(&mut reception, peer, Deadline::NEVER)).collect();
        assert_eq!((reception.guests.len(), crowd.len()), (PLACES, 200));
    }

    #[test]
    fn half_a_request_waits_and_its_time_ends() {
        let mut reception = Reception::default();
        let mut client = connect_from(&mut reception, Peer::Local, Deadline::after(Duration::from_millis(20)));
        client.write_all(b"M\0\0").expect("write");
        attend(&mut reception);
        assert_eq!(reception.streams().count(), 1);
        pass_limit(&mut reception);
        assert!(reception.guests.is_empty() && rest(&mut client).contains("it took too long"));
    }

    #[test]
    fn who_is_refused_hears_of_it_later() {
        let cases = [
            (&b"L\0\0\0\x04"[..], "connection not authorized"),
            (b"I\0\0\0\x04", "connection not authorized"),
            (b"R\0\0\0\x05x", "error while reading authentication packet"),
            (b"M\0\0\x04\0", "incorrect packet length (1024)"),
            (b"R\0\0\0\x0aann\0x\0", "username and/or password does not match"),
        ];
        let mut reception = Reception::default();
        let mut clients = cases.map(|(bytes, why)| {
            let mut client = connect(&mut reception);
            client.write_all(bytes).expect("write");
            client.write_all(&[b'x'; 1000]).expect("write");
            (client, why)
        });
        attend(&mut reception);
        assert_eq!((reception.guests.len(), reception.streams().count()), (cases.len(), 0));
        pass_limit(&mut reception);
        while !reception.guests.is_empty() {
            pass_limit(&mut reception);
        }
        clients.iter_mut().for_each(|(client, why)| assert!(rest(client).contains(*why), "{why}"));
    }

    #[test]
    fn who_guesses_has_his_places_and_no_more() {
        let mut reception = Reception::default();
        let guess = |reception: &mut Reception| {
            let mut client = connect(reception);
            let _ = client.write_all(b"R\0\0\0\x0aann\0x\0");
            attend(reception);
        };
        // He does not wait for the answer.
        (0..100).for_each(|_| guess(&mut reception));
        assert_eq!((reception.guests.len(), reception.streams().count()), (PLACES_OF_ONE, 0));
        let _other = connect_from(&mut reception, Peer::Tcp([10, 0, 0, 1].into(), 5000), Deadline::NEVER);
        assert_eq!(reception.streams().count(), 1);
    }
}
