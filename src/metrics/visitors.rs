//! The connections: who is inside, for how long, and what becomes of him. One request per connection.
//!
//! Invariants:
//! - There are at most [`PLACES`], and [`PLACES_OF_ONE`] for one address. Whoever comes when all are taken gets the place of
//!   one who waits for his penalty, else of the one that has been there longest without having asked, else of the one that
//!   has been there longest. So silent, slow or guessing ones, however many, keep nobody out.
//! - Nothing waits for a visitor. He has [`REQUEST_LIMIT`] to ask and [`ANSWER_LIMIT`] to take the answer.
//! - Who is refused for his password hears of it after a penalty, which counts on if he leaves or has to make room
//!   ([`super::penalties`]).

use super::request::{self, Head, MAX_HEAD};
use super::response::{Answer, Status};
use super::site::{Outcome, Site};
use crate::net::{Deadline, Peer, Received, Stream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Connections at most.
pub(super) const PLACES: usize = 256;
/// Connections of one address at most.
const PLACES_OF_ONE: usize = 32;
/// How long a request may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may take to be taken.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Those inside, by place.
#[derive(Default)]
pub(super) struct Visitors {
    places: Vec<Option<Visitor>>,
    /// How many there have been.
    count: u64,
}

struct Visitor {
    stream: Stream,
    /// Grows with every visitor.
    number: u64,
    limit: Deadline,
    state: State,
}

enum State {
    /// What he has sent so far.
    Asking(Vec<u8>),
    /// He gets this at the limit.
    Punished(Answer),
    /// He gets this, of which so much is sent.
    Answered { head: Vec<u8>, answer: Answer, sent: usize },
}

/// What becomes of a visitor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Stay,
    Leave,
}

impl Visitors {
    /// Gives him a place, somebody else's if there is no other, and watches him. Returns the place.
    ///
    /// # Errors
    /// Out of memory.
    pub fn welcome(&mut self, stream: Stream, registry: &Registry) -> io::Result<usize> {
        let origin = origin(&stream);
        let is_neighbour = |visitor: &Visitor| self::origin(&visitor.stream) == origin;
        let neighbours = self.inside().filter(|(_, visitor)| is_neighbour(visitor)).count();
        if neighbours >= PLACES_OF_ONE {
            self.make_room(is_neighbour);
        } else if self.inside().count() >= PLACES {
            self.make_room(|_| true);
        }
        let place = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&stream.as_fd().as_raw_fd()), Token(place), interest)?;
        self.count += 1;
        let state = State::Asking(Vec::new());
        let visitor = Visitor { stream, number: self.count, limit: Deadline::after(REQUEST_LIMIT), state };
        match self.places.get_mut(place) {
            Some(free) => *free = Some(visitor),
            None => self.places.push(Some(visitor)),
        }
        Ok(place)
    }

    /// One of those who are meant has to go.
    fn make_room(&mut self, is_meant: impl Fn(&Visitor) -> bool) {
        let candidates = self.inside().filter(|(_, visitor)| is_meant(visitor));
        let order = |visitor: &Visitor| (!visitor.is_punished(), !visitor.is_asking(), visitor.number);
        let first = candidates.min_by_key(|(_, visitor)| order(visitor)).map(|(place, _)| place);
        if let Some(place) = first {
            self.places[place] = None;
        }
    }

    fn inside(&self) -> impl Iterator<Item = (usize, &Visitor)> {
        self.places.iter().enumerate().filter_map(|(place, visitor)| Some((place, visitor.as_ref()?)))
    }

    /// When somebody's time is over.
    pub fn next_limit(&self) -> Deadline {
        self.inside().fold(Deadline::NEVER, |first, (_, visitor)| first.min(visitor.limit))
    }

    /// Goes on with the one at this place.
    pub fn attend(&mut self, place: usize, site: &mut Site) {
        let Some(entry) = self.places.get_mut(place) else { return };
        if entry.as_mut().is_some_and(|visitor| visitor.attend(site) == Step::Leave) {
            *entry = None;
        }
    }

    /// Deals with those whose time is over.
    pub fn heed_time(&mut self) {
        for entry in &mut self.places {
            if entry.as_mut().is_some_and(|visitor| visitor.limit.passed() && visitor.late() == Step::Leave) {
                *entry = None;
            }
        }
    }
}

impl Visitor {
    fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking(_))
    }

    fn is_punished(&self) -> bool {
        matches!(self.state, State::Punished(..))
    }

    fn attend(&mut self, site: &mut Site) -> Step {
        if self.is_asking() && self.listen(site) == Step::Leave {
            return Step::Leave;
        }
        self.send()
    }

    /// Receives what is there, until it is a request.
    fn listen(&mut self, site: &mut Site) -> Step {
        let State::Asking(received) = &mut self.state else { return Step::Stay };
        let mut bytes = [0; 2048];
        loop {
            let outcome = match request::parse(received) {
                Head::Incomplete => match self.stream.receive(&mut bytes, false) {
                    Ok(Received::Bytes(count)) => {
                        // Never more than a head and one piece.
                        received.extend_from_slice(&bytes[..count]);
                        debug_assert!(received.len() < MAX_HEAD + bytes.len());
                        continue;
                    }
                    Ok(Received::Interrupted) => continue,
                    Ok(Received::Nothing) => return Step::Stay,
                    Ok(Received::Closed) | Err(_) => return Step::Leave,
                },
                Head::Bad(status) => Outcome::Now(Answer::refusal(status)),
                Head::Request(request) => site.answer(&request, self.stream.peer()),
            };
            match outcome {
                Outcome::Now(answer) => self.answer(answer),
                Outcome::At(until, answer) => (self.limit, self.state) = (until, State::Punished(answer)),
            }
            return Step::Stay;
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.limit = Deadline::after(ANSWER_LIMIT);
        self.state = State::Answered { head: answer.head(), answer, sent: 0 };
    }

    /// Sends what he takes.
    fn send(&mut self) -> Step {
        let State::Answered { head, answer, sent } = &mut self.state else { return Step::Stay };
        loop {
            let rest = match head.get(*sent..).filter(|rest| !rest.is_empty()) {
                Some(rest) => rest,
                None => &answer.body()[*sent - head.len()..],
            };
            if rest.is_empty() {
                self.say_goodbye();
                return Step::Leave;
            }
            match self.stream.send(rest) {
                Ok(0) => return Step::Stay,
                Ok(count) => *sent += count,
                Err(_) => return Step::Leave,
            }
        }
    }

    /// His time is over.
    fn late(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Asking(Vec::new())) {
            State::Punished(answer) => {
                self.answer(answer);
                self.send()
            }
            State::Asking(received) if !received.is_empty() => {
                self.answer(Answer::refusal(Status::RequestTimeout));
                // It fits into any buffer that is not full; who does not take it has had his time.
                let _ = self.send();
                Step::Leave
            }
            State::Asking(_) | State::Answered { .. } => Step::Leave,
        }
    }

    /// The answer arrives even if he has sent more than was read, as far as that is here already.
    fn say_goodbye(&self) {
        self.stream.shutdown_sending();
        let mut unread = [0; 2048];
        for _ in 0..16 {
            if !matches!(self.stream.receive(&mut unread, false), Ok(Received::Bytes(_))) {
                break;
            }
        }
    }
}

/// The address of a connection.
fn origin(stream: &Stream) -> Option<IpAddr> {
    match stream.peer() {
        Peer::Tcp(address, _) => Some(*address),
        Peer::Local => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::metrics::penalties::AT_ONCE;
    use crate::state::{Limits, Shared};
    use mio::Poll;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::sync::Arc;

    struct House {
        poll: Poll,
        visitors: Visitors,
        site: Site,
    }

    fn house() -> House {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let site = Site::new(Arc::new(Settings::default()), shared, PathBuf::from("/nowhere/pcp.conf"), Vec::new());
        House { poll: Poll::new().expect("poll"), visitors: Visitors::default(), site }
    }

    impl House {
        fn connect_from(&mut self, peer: Peer) -> (UnixStream, usize) {
            let (client, server) = UnixStream::pair().expect("sockets");
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            let place = self.visitors.welcome(Stream::new(server.into(), peer), self.poll.registry()).expect("watch");
            (client, place)
        }

        /// The answer; its head tells how long the body is.
        fn ask(&mut self, peer: Peer, request: &[u8]) -> String {
            let (mut client, place) = self.connect_from(peer);
            client.write_all(request).expect("write");
            self.visitors.attend(place, &mut self.site);
            let mut text = String::new();
            client.read_to_string(&mut text).expect("the end");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            assert!(request.starts_with(b"HEAD") || length == body.len().to_string(), "{text}");
            text
        }
    }

    fn address(last: u8) -> Peer {
        Peer::Tcp([10, 0, 0, last].into(), 5000)
    }

    #[test]
    fn the_silent_make_room() {
        let mut house = house();
        let silent: Vec<_> = (0..1000).map(|_| house.connect_from(address(1))).collect();
        assert_eq!((house.visitors.inside().count(), silent.len()), (PLACES_OF_ONE, 1000));
        assert!(house.ask(address(1), LIVE).starts_with("HTTP/1.1 200 OK\r\n"));
        let crowd: Vec<_> = (0..=255).map(|number| house.connect_from(address(number))).collect();
        assert_eq!((house.visitors.inside().count(), crowd.len()), (PLACES, 256));
        assert!(house.ask(address(2), b"GET / HTTP/1.0\r\n\r\n").contains("<!doctype html>"));
    }

    const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\n\r\n";

    #[test]
    fn who_guesses_keeps_nobody_out_and_is_slow() {
        let mut house = house();
        let users = std::env::temp_dir().join(format!("pgpool-users-{}", std::process::id()));
        std::fs::write(&users, "ann:5ebe2294ecd0e0f08eab7690d2a6ee69\n").expect("pcp.conf");
        house.site = Site::new(
            Arc::new(Settings { metrics_require_login: true, ..Settings::default() }),
            Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared"),
            users.clone(),
            Vec::new(),
        )
        .punishing(Duration::from_secs(600));
        let right = b"GET / HTTP/1.1\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n\r\n";
        assert!(house.ask(address(1), right).starts_with("HTTP/1.1 200 "));
        // He does not wait for the answers.
        for _ in 0..100 {
            let (mut client, place) = house.connect_from(address(1));
            client.write_all(b"GET / HTTP/1.1\r\nAuthorization: Basic YW5uOng=\r\n\r\n").expect("write");
            house.visitors.attend(place, &mut house.site);
        }
        assert_eq!(house.site.guesses(), AT_ONCE as u64, "only so many were looked at");
        assert!(house.visitors.inside().count() <= PLACES_OF_ONE);
        assert!(house.ask(address(1), LIVE).starts_with("HTTP/1.1 200 OK\r\n"), "whoever shares his address");
        let early = house.ask(address(1), right);
        assert!(early.starts_with("HTTP/1.1 429 ") && early.contains("Retry-After: 1\r\n"), "{early}");
        assert!(house.ask(address(2), right).starts_with("HTTP/1.1 200 "), "whoever has another one");
        std::fs::remove_file(users).expect("remove");
    }

    #[test]
    fn a_request_may_come_in_pieces_and_its_time_ends() {
        let mut house = house();
        let (mut client, place) = house.connect_from(address(1));
        for piece in [&b"GET /hea"[..], b"lth/live HTTP/1.1\r\nHost: x\r", b"\n\r\n"] {
            client.write_all(piece).expect("write");
            house.visitors.attend(place, &mut house.site);
        }
        let mut text = String::new();
        client.read_to_string(&mut text).expect("the end");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("pgpool runs\n"), "{text}");

        let (mut client, place) = house.connect_from(address(1));
        client.write_all(b"GET /").expect("write");
        house.visitors.attend(place, &mut house.site);
        house.visitors.places[place].as_mut().expect("inside").limit = Deadline::after(Duration::ZERO);
        house.visitors.heed_time();
        let mut text = String::new();
        client.read_to_string(&mut text).expect("the end");
        assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
        assert_eq!(house.visitors.inside().count(), 0);
    }

    #[test]
    fn a_head_has_a_length() {
        let mut house = house();
        let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
        long.resize(MAX_HEAD * 2, b'x');
        assert!(house.ask(address(1), &long).starts_with("HTTP/1.1 431 "));
        assert!(house.ask(address(1), b"POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let head_only = house.ask(address(1), b"HEAD /health/live HTTP/1.1\r\n\r\n");
        assert!(head_only.contains("Content-Length: 12\r\n") && head_only.ends_with("\r\n\r\n"), "{head_only}");
    }
}
