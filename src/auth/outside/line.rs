//! The socket between a worker and the process it has started: whole messages, a byte for the kind in front.

use crate::auth::Secret;
use crate::report::Report;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The longest message in bytes: a password as long as a client may send.
const MAX_MESSAGE: usize = 65_536;

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// From the worker: a [`Request`](super::Request).
    Request = b'R',
    /// From the worker: a password.
    Secret = b'S',
    /// To the worker: the client's password is wanted.
    Ask = b'A',
    /// To the worker: [`Said`].
    Say = b'L',
    /// To the worker: the user may come in.
    Granted = b'Y',
    /// To the worker: the user may not.
    Refused = b'N',
}

const KINDS: [Kind; 6] = [Kind::Request, Kind::Secret, Kind::Ask, Kind::Say, Kind::Granted, Kind::Refused];

/// A line for the log.
#[derive(Serialize, Deserialize)]
struct Said {
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// One end.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (one, two) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), two))
    }

    pub fn new(end: OwnedFd) -> Self {
        Self(end)
    }

    pub fn send(&self, kind: Kind, content: &[u8]) -> io::Result<()> {
        if content.len() >= MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut message = Vec::with_capacity(1 + content.len());
        message.push(kind as u8);
        message.extend_from_slice(content);
        let message = Secret::new(message);
        loop {
            match send(self.0.as_raw_fd(), message.bytes(), MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next message; waits for it.
    pub fn receive(&self) -> io::Result<(Kind, Secret)> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let content = Secret::new(buffer.get(1..length).unwrap_or_default());
        let kind = buffer.first().filter(|_| length > 0).copied();
        drop(Secret::new(buffer));
        let kind = kind.ok_or(io::ErrorKind::UnexpectedEof)?;
        let kind = KINDS.into_iter().find(|known| *known as u8 == kind).ok_or(io::ErrorKind::InvalidData)?;
        Ok((kind, content))
    }

    /// Has the worker ask the client for the password. `None`: there is none.
    pub fn ask(&self) -> Option<Secret> {
        self.send(Kind::Ask, &[]).ok()?;
        self.secret()
    }

    /// The next message, which is a password.
    pub fn secret(&self) -> Option<Secret> {
        match self.receive() {
            Ok((Kind::Secret, secret)) => Some(secret),
            _ => None,
        }
    }

    /// Has the worker write this to the log. If that fails the worker is gone, which the next question tells.
    pub fn say(&self, report: Report) {
        let Report { message, detail, hint, .. } = report;
        let said = Said { message: shortened(&message), detail: detail.as_deref().map(shortened), hint };
        if let Ok(said) = serde_json::to_vec(&said) {
            let _ = self.send(Kind::Say, &said);
        }
    }
}

/// The longest text of a log line in characters, each of which is six bytes at most when written as JSON.
const MAX_TEXT: usize = 4096;

/// Texts of modules and directories may be of any length.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The log line in a message.
pub(super) fn said(content: &[u8]) -> Option<Report> {
    let Said { message, detail, hint } = serde_json::from_slice(content).ok()?;
    let mut report = Report::log_line(message);
    (report.detail, report.hint) = (detail, hint);
    Some(report)
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole() {
        let (worker, process) = Line::pair().expect("a pair");
        let process = Line::new(process);
        let long = vec![b'x'; MAX_MESSAGE - 1];
        worker.send(Kind::Secret, &long).expect("sent");
        worker.send(Kind::Secret, b"").expect("sent");
        assert_eq!(process.secret().expect("long").bytes(), long);
        assert_eq!(process.secret().expect("empty").bytes(), b"");
        assert!(worker.send(Kind::Secret, &[b'x'; MAX_MESSAGE]).is_err());
        process.say(Report::log_line("\u{1}".repeat(MAX_MESSAGE)).detail("\u{1}".repeat(MAX_MESSAGE)).hint("hint"));
        let (kind, content) = worker.receive().expect("a log line");
        let report = said(content.bytes()).expect("whole");
        assert_eq!((kind, report.message.len()), (Kind::Say, MAX_TEXT));
        assert_eq!((report.detail.map(|detail| detail.len()), report.hint.as_deref()), (Some(MAX_TEXT), Some("hint")));
    }

    #[test]
    fn whoever_is_gone_says_nothing() {
        let (worker, process) = Line::pair().expect("a pair");
        drop(process);
        assert_eq!(worker.receive().expect_err("gone").kind(), io::ErrorKind::UnexpectedEof);
        assert!(worker.send(Kind::Secret, b"x").is_err() && worker.ask().is_none());
    }
}
