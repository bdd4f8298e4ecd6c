//! Waiting for a client without waking up for anything else than what must be done.

use crate::backend::Pool;
use crate::net::{Deadline, Stream, accept, is_shut_down};
use crate::sys::signal::Signals;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Marks the event of the signals; listening sockets are marked by their number.
const SIGNALS: u64 = u64::MAX;
/// Marks the events of pooled server connections.
const POOLED: u64 = u64::MAX - 1;

/// The listening sockets and the signals under watch.
pub(super) struct Idle {
    listeners: Rc<[OwnedFd]>,
    /// They were shut down: there is nothing to accept any more.
    closed: bool,
    /// The listening sockets are watched now.
    accepting: bool,
    epoll: Epoll,
}

/// What ended the wait.
pub(super) enum Wake {
    /// A client was accepted, from the listening socket with this number.
    Client(usize, Stream),
    /// A server has closed a pooled connection or said something on it.
    Server,
    /// A worker that is to leave has no client left to serve.
    Nobody,
    /// A signal, a time limit, or a client that another worker got.
    Other,
}

impl Idle {
    /// Watches `listeners`, in the order in which they are served; a new connection wakes one worker only.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new(listeners: Rc<[OwnedFd]>, signals: &Signals) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(signals.fd(), EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        let mut idle = Self { listeners, closed: false, accepting: false, epoll };
        idle.accept_clients(true)?;
        Ok(idle)
    }

    /// Whether new clients are accepted from now on, or left waiting.
    ///
    /// # Errors
    /// Out of memory.
    pub fn accept_clients(&mut self, accepting: bool) -> nix::Result<()> {
        if accepting == self.accepting || self.closed {
            return Ok(());
        }
        for (number, listener) in self.listeners.iter().enumerate() {
            if accepting {
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
                self.epoll.add(listener, EpollEvent::new(flags, number as u64))?;
            } else {
                self.epoll.delete(listener)?;
            }
        }
        self.accepting = accepting;
        Ok(())
    }

    /// For a worker that leaves and is not replaced: who has come, but has woken nobody else, is still to be served.
    ///
    /// # Errors
    /// As with [`Idle::wait`].
    pub fn last_client(&mut self) -> io::Result<Option<(usize, Stream)>> {
        self.accept_clients(false)?;
        for number in 0..self.listeners.len() {
            if let Some(client) = self.accept(number)? {
                return Ok(Some((number, client)));
            }
        }
        Ok(None)
    }

    /// Waits for a client, a signal, a word from a server of `pool`, or `deadline`. `is_held`: whether clients are to be left
    /// waiting by now, of which the signal may still be on its way when one comes.
    ///
    /// # Errors
    /// Nothing can be accepted any more by this process.
    pub fn wait(&mut self, pool: &Pool, deadline: Deadline, is_held: impl FnOnce() -> bool) -> io::Result<Wake> {
        let mut events = [EpollEvent::empty(); 16];
        self.watch(pool);
        let woken = self.epoll.wait(&mut events, deadline.poll_timeout());
        self.unwatch(pool);
        let count = match woken {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        // A client comes before a signal, also one that ends this process: nobody else was woken for him.
        let mut ready: Vec<u64> = events[..count].iter().map(EpollEvent::data).collect();
        ready.sort_unstable();
        if is_held() {
            ready.retain(|number| *number >= POOLED);
        }
        for number in ready.iter().filter(|number| **number < POOLED) {
            if let Some(client) = self.accept(*number as usize)? {
                return Ok(Wake::Client(*number as usize, client));
            }
        }
        Ok(if ready.contains(&POOLED) { Wake::Server } else { Wake::Other })
    }

    /// Pooled connections are watched for one wait only: on the way of a session's data that would cost something. Failing
    /// is harmless, since a broken connection is also noticed when it is taken out of the pool.
    fn watch(&self, pool: &Pool) {
        for descriptor in pool.descriptors() {
            let _ = self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, POOLED));
        }
    }

    fn unwatch(&self, pool: &Pool) {
        for descriptor in pool.descriptors() {
            let _ = self.epoll.delete(descriptor);
        }
    }

    fn accept(&mut self, number: usize) -> io::Result<Option<Stream>> {
        match self.listeners.get(number).map(accept) {
            Some(Err(error)) if is_shut_down(&error) => {
                // The parent stops pgpool and its signal is on the way: nothing to wait for but that.
                let _ = self.accept_clients(false);
                self.closed = true;
                Ok(None)
            }
            Some(accepted) => accepted,
            None => Ok(None),
        }
    }
}
