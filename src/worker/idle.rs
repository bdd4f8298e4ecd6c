//! Waiting for a client without waking up for anything else than what must be done.

use crate::net::Deadline;
use crate::session::Context;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Marks events that are not a listening socket's.
const OTHER: u64 = u64::MAX;

/// The listening sockets under watch.
pub(super) struct Idle {
    listeners: Vec<OwnedFd>,
    epoll: Epoll,
}

/// What ended the wait.
pub(super) enum Wake {
    /// A client was accepted.
    Client(OwnedFd),
    /// A signal, a pooled connection, or a time limit.
    Other,
}

impl Idle {
    /// Watches `listeners`; a new connection wakes one worker only.
    pub fn new(listeners: Vec<OwnedFd>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (index, listener) in listeners.iter().enumerate() {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            epoll.add(listener, EpollEvent::new(flags, index as u64))?;
        }
        Ok(Self { listeners, epoll })
    }

    /// Waits for a client, a signal, a pooled connection that says something, or the first of the limits.
    pub fn wait(&self, context: &Context, life_left: Option<Duration>) -> nix::Result<Wake> {
        let watched = self.watch(context)?;
        let limit = life_left.into_iter().chain(context.pool.next_expiry()).min();
        let deadline = limit.map_or(Deadline::NEVER, Deadline::after);
        let mut events = [EpollEvent::empty(); 8];
        let timeout = EpollTimeout::from(deadline.poll_timeout());
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno),
        };
        self.unwatch(context, watched);
        let mut ready: Vec<_> = events[..count].iter().map(EpollEvent::data).filter(|data| *data != OTHER).collect();
        ready.sort_unstable();
        // A signal comes first: a worker that is to leave takes no more clients.
        if !context.signals.pending().is_empty() {
            return Ok(Wake::Other);
        }
        Ok(ready.into_iter().find_map(|index| self.accept(index as usize)).map_or(Wake::Other, Wake::Client))
    }

    /// Pooled connections come and go with the sessions, so they are watched for one wait. Failing is harmless: a broken
    /// connection is noticed when it is taken out of the pool.
    fn watch(&self, context: &Context) -> nix::Result<usize> {
        self.epoll.add(context.signals.fd(), EpollEvent::new(EpollFlags::EPOLLIN, OTHER))?;
        let other = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, OTHER);
        Ok(context.pool.descriptors().filter(|descriptor| self.epoll.add(descriptor, other).is_ok()).count())
    }

    fn unwatch(&self, context: &Context, watched: usize) {
        let _ = self.epoll.delete(context.signals.fd());
        for descriptor in context.pool.descriptors().take(watched) {
            let _ = self.epoll.delete(descriptor);
        }
    }

    fn accept(&self, index: usize) -> Option<OwnedFd> {
        let listener = self.listeners.get(index)?;
        // Failure: another worker was faster, or the client has left already.
        SockRef::from(listener).accept().ok().map(|(client, _)| client.into())
    }
}
