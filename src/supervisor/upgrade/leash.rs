//! What two parents, one of which replaces the other, say to each other: one message each, of one byte, behind which
//! some have a text.

use crate::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// One end.
#[derive(Debug)]
pub(in crate::supervisor) struct Leash(UnixStream);

/// What the other end has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The new one could serve.
    Ready,
    /// It is to do so: the old one does not any more.
    Go,
    /// It does.
    Serves,
    /// The other one is to end like this.
    Stop(Signal),
    /// The other one sees the nodes like this: [`news`](super::news).
    Nodes(String),
    /// The new one does not serve yet, because this is lacking.
    Lack(String),
    /// Administrators have told the old one to do this: [`orders`](super::orders).
    Orders(String),
    /// The other has ended.
    End,
}

const STOPS: [(u8, Signal); 3] = [(b's', Signal::SIGTERM), (b'f', Signal::SIGINT), (b'i', Signal::SIGQUIT)];
const READY: u8 = b'r';
const GO: u8 = b'g';
const SERVES: u8 = b'v';
const NODES: u8 = b'n';
const LACK: u8 = b'l';
const ORDERS: u8 = b'o';
/// No message is longer, in bytes: all nodes with the longest names and reasons.
const LONGEST: usize = 128 * 1024;

impl Leash {
    /// Both ends, closed on exec.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn pair() -> std::io::Result<(Self, Self)> {
        let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
        let (one, other) = socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self::new(one.into())?, Self::new(other.into())?))
    }

    fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(stream))
    }

    /// The end that was inherited.
    ///
    /// # Errors
    /// It is no socket.
    pub fn inherited(descriptor: OwnedFd) -> std::io::Result<Self> {
        Self::new(descriptor.into())
    }

    /// The other end gets to know that this process could serve.
    pub(super) fn say_ready(&self) {
        self.say(READY, "");
    }

    /// The other end is to serve.
    pub(super) fn say_go(&self) {
        self.say(GO, "");
    }

    /// The other end gets to know that this process serves.
    pub fn say_serves(&self) {
        self.say(SERVES, "");
    }

    /// The other end is to stop.
    pub fn say_stop(&self, signal: Signal) {
        let word = STOPS.iter().find(|(_, meant)| *meant == signal).map_or(b's', |(byte, _)| *byte);
        self.say(word, "");
    }

    /// The other end gets to know how the nodes are. Whether there was room for it.
    pub(super) fn say_nodes(&self, news: &str) -> bool {
        self.say(NODES, news)
    }

    /// The other end gets to know why this process does not serve yet. Whether there was room for it.
    pub(super) fn say_lack(&self, what: &str) -> bool {
        self.say(LACK, what)
    }

    /// The other end is to do this. Whether there was room for it.
    pub(super) fn say_orders(&self, orders: &str) -> bool {
        self.say(ORDERS, orders)
    }

    fn say(&self, word: u8, text: &str) -> bool {
        let message = [&[word], text.as_bytes()].concat();
        (&self.0).write(&message).is_ok()
    }

    /// The next word, if one has come. Unknown ones, of a later release, are passed over.
    pub(super) fn hear(&self) -> Option<Word> {
        let mut message = vec![0; LONGEST];
        loop {
            match (&self.0).read(&mut message) {
                Ok(0) => return Some(Word::End),
                Ok(length) => {
                    if let Some(word) = Word::of(message[0], &message[1..length]) {
                        return Some(word);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => return Some(Word::End),
            }
        }
    }
}

impl Word {
    fn of(byte: u8, text: &[u8]) -> Option<Self> {
        let text = || String::from_utf8_lossy(text).into_owned();
        Some(match byte {
            READY => Self::Ready,
            GO => Self::Go,
            SERVES => Self::Serves,
            NODES => Self::Nodes(text()),
            LACK => Self::Lack(text()),
            ORDERS => Self::Orders(text()),
            _ => Self::Stop(STOPS.iter().find(|(word, _)| *word == byte)?.1),
        })
    }
}

impl AsFd for Leash {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_at_one_end_is_heard_at_the_other() {
        let (new, old) = Leash::pair().expect("pair");
        assert_eq!(old.hear(), None);
        new.say_ready();
        let _ = (&new.0).write(b"?");
        for signal in crate::sys::signal::STOPS {
            new.say_stop(signal);
        }
        let news = "up\thost\t5432\t\n".repeat(128 * 30);
        assert!(new.say_nodes(&news) && new.say_lack("a node") && new.say_orders("down"));
        drop(new);
        assert_eq!(old.hear(), Some(Word::Ready));
        for signal in crate::sys::signal::STOPS {
            assert_eq!(old.hear(), Some(Word::Stop(signal)));
        }
        assert_eq!(old.hear(), Some(Word::Nodes(news)));
        assert_eq!(old.hear(), Some(Word::Lack("a node".to_owned())));
        assert_eq!(old.hear(), Some(Word::Orders("down".to_owned())));
        assert_eq!([old.hear(), old.hear()], [Some(Word::End), Some(Word::End)]);
    }
}
