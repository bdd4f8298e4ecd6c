//! One session with pgpool: connecting, the challenge, a request and its reply (pcp 2, 8).

use super::SOCKET_DIRECTORY;
use super::options::Options;
use super::records::invalid;
use super::reply::{self, Part, Record};
use crate::net::{self, Address, ConnectError, Deadline, InBuffer};
use crate::tools::peer::{Lost, Peer};
use crate::tools::{describe, say};
use crate::wire::HEADER_LENGTH;
use crate::wire::pcp::{AUTHENTICATED_REPLY, ERROR, NOTICE, Request, SALT_REPLY};
use nix::errno::Errno;
use std::time::Duration;

/// Connecting and logging in, each.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);
/// For the last word.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
/// Names from this length on do not fit the server's memory.
const MAX_USER: usize = 128;

/// Why there is no result; the message for stderr, complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing could be asked, or no answer understood.
    Trouble(String),
    /// pgpool answered that it will not or cannot do it.
    Refused(String),
}

impl Failure {
    /// Trouble with this message, a line without its end.
    pub fn trouble(message: impl Into<String>) -> Self {
        Self::Trouble(message.into() + "\n")
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Connection {
    peer: Peer,
    /// Frames are traced on stdout.
    debug: bool,
}

impl Connection {
    /// Connects to where the options say.
    pub fn open(options: &Options) -> Result<Self, Failure> {
        let host = if options.host.is_empty() { SOCKET_DIRECTORY } else { &options.host };
        let address = Address { host: host.to_owned(), port: options.port };
        let stream =
            net::connect(&address, Deadline::after(LOGIN_LIMIT)).map_err(|error| cannot_connect(&address, &error))?;
        Ok(Self { peer: Peer::new(stream, InBuffer::with_capacity(8192)), debug: options.debug })
    }

    /// Answers the server's challenge.
    pub fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), Failure> {
        if user.len() >= MAX_USER {
            return Err(Failure::trouble("ERROR: PCP authorization failed. username too long."));
        }
        let deadline = Deadline::after(LOGIN_LIMIT);
        let salt = self.converse(&Request::Salt, SALT_REPLY, deadline)?;
        let hash = challenge::answer(password, user, &salt)
            .ok_or_else(|| Failure::trouble("ERROR: this system's OpenSSL does without MD5, which PCP needs"))?;
        self.converse(&Request::Authenticate { user, hash: &hash }, AUTHENTICATED_REPLY, deadline)?;
        Ok(())
    }

    /// A step of the login: an error here ends it.
    fn converse(&mut self, request: &Request<'_>, expected: u8, deadline: Deadline) -> Result<Vec<u8>, Failure> {
        self.send(request, deadline)?;
        match self.frame(deadline)? {
            (ERROR, content) => Err(Failure::Trouble(reply::message(&content) + "\n")),
            (kind, content) if kind == expected => Ok(content),
            (kind, _) => Err(unexpected(kind)),
        }
    }

    /// Sends a request and collects its reply, which must be there within `limit`.
    pub fn ask(&mut self, request: &Request<'_>, limit: Option<Duration>) -> Result<Vec<Record>, Failure> {
        let deadline = limit.map_or(Deadline::NEVER, Deadline::after);
        self.send_traced(request, deadline)?;
        let mut announced = None;
        let mut records = Vec::new();
        loop {
            let (kind, content) = self.frame(deadline)?;
            if kind == ERROR {
                return Err(Failure::Refused(reply::message(&content) + "\n"));
            }
            if Some(kind) != request.reply_kind() {
                return Err(unexpected(kind));
            }
            match (reply::read(&content), announced) {
                (Some(Part::Announcement(count)), None) => announced = Some(count),
                (Some(Part::Record(record)), Some(count)) if records.len() < count => records.push(record),
                (Some(Part::End(_)), Some(_)) => return Ok(records),
                (Some(Part::End(record)), None) => return Ok(vec![record]),
                _ => return Err(invalid()),
            }
        }
    }

    /// Says goodbye. That pgpool may have gone by now is nobody's trouble.
    pub fn leave(mut self) {
        let _ = self.send_traced(&Request::Disconnect, Deadline::after(GOODBYE_LIMIT));
    }

    /// Sends; the steps of the login are not traced.
    fn send_traced(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<(), Failure> {
        let length = self.send(request, deadline)?;
        if self.debug {
            say(trace("send", request.kind(), length));
        }
        Ok(())
    }

    /// Sends. Returns the number of bytes.
    fn send(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<usize, Failure> {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        self.peer.send(&bytes, deadline).map_err(lost)?;
        Ok(bytes.len())
    }

    /// The next frame that is no notice.
    fn frame(&mut self, deadline: Deadline) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            let (kind, content) = self.peer.receive(deadline).map_err(lost)?;
            if self.debug {
                say(trace("recv", kind, content.len() + HEADER_LENGTH));
            }
            if kind != NOTICE {
                return Ok((kind, content));
            }
            if self.debug {
                say(format!("BACKEND {}", reply::message(&content)));
            }
        }
    }
}

/// The response to the salt (pcp 2.3).
mod challenge {
    use crate::auth::md5;

    pub(super) fn answer(password: &[u8], user: &[u8], salt: &[u8]) -> Option<[u8; 32]> {
        md5::pcp_answer(&md5::hex(&[password])?, user, salt)
    }

    #[test]
    fn as_observed() {
        assert_eq!(answer(b"secret", b"pgpool", &[1, 2, 3, 4]).as_ref(), Some(b"60304671a2939999810fd6d3fdf9e920"));
    }
}

fn trace(word: &str, kind: u8, total: usize) -> String {
    format!("DEBUG: {word}: tos=\"{}\", len={}\n", char::from(kind), total - 1)
}

fn unexpected(kind: u8) -> Failure {
    Failure::trouble(format!("ERROR: invalid PCP packet type =\"{}\"", kind.escape_ascii()))
}

fn lost(reason: Lost) -> Failure {
    match reason {
        Lost::TooLate => Failure::trouble("ERROR: no reply from pgpool in time"),
        Lost::Invalid => invalid(),
        Lost::Closed | Lost::Failed(_) => Failure::trouble("ERROR: unable to read data from socket."),
    }
}

fn cannot_connect(address: &Address, error: &ConnectError) -> Failure {
    let reason = match error {
        ConnectError::Resolve { cause, .. } => {
            let cause = cause.to_string();
            let text = cause.rsplit_once("information: ").map_or(cause.as_str(), |(_, text)| text);
            return Failure::trouble(format!("ERROR: getaddrinfo failed \"{text}\""));
        }
        ConnectError::Failed(cause) | ConnectError::Ours(cause) => describe(cause),
        ConnectError::TimedOut => Errno::ETIMEDOUT.desc().to_owned(),
        ConnectError::Stopped => error.to_string(),
    };
    let Address { host, port } = address;
    Failure::trouble(if host.starts_with('/') {
        format!("ERROR: connection to socket \"{host}/.s.PGSQL.{port}\" failed with error \"{reason}\"")
    } else {
        format!("ERROR: connection to host \"{host}\" failed with error \"{reason}\"")
    })
}
