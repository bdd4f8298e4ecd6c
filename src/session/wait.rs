//! Waiting: for the one who speaks next, and when that takes longer, for everybody.
//!
//! On the steady path the next one is known (the client between statements, the active server within one), and a receive
//! with a short patience is the only call. Only when that patience ends are all sockets and the signals watched at once,
//! without any limit but those the configuration sets: an idle session never wakes up.

use super::Session;
use super::end::End;
use super::message_log::MessageLog;
use super::requests::RequestState;
use crate::net::Received;
use crate::report::Report;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;

impl Session<'_> {
    /// Waits until something can be done, and receives it.
    pub(super) fn wait(&mut self) -> Result<(), End> {
        if !self.context.signals.pending().is_empty() {
            self.heed_signals()?;
            // A read that is to be sent again is no matter of waiting.
            return Ok(());
        }
        // Its next message waits for a primary, which is a matter for the next look at it.
        if self.blocked && self.is_homeless() && self.is_quiet() {
            return Ok(());
        }
        if self.limits_queries() {
            self.heed_flowing_turn()?;
        }
        let servers_took_all = self.flush_servers()?;
        if self.hear_bystanders()? || (self.congested && !self.is_congested()) {
            return Ok(());
        }
        if servers_took_all && self.client.output.is_empty() && self.receive_from_next()? {
            return Ok(());
        }
        self.wait_for_all()
    }

    /// Sends what waits for servers. `Ok(true)`: nothing waits any more.
    fn flush_servers(&mut self) -> Result<bool, End> {
        let mut all = true;
        for node in 0..self.group.connections.len() {
            if self.group.get(node).is_some_and(|server| !server.output.is_empty()) {
                self.flush_server(node)?;
                all &= self.group.get(node).is_none_or(|server| server.output.is_empty());
            }
        }
        Ok(all)
    }

    /// Receives from the one who speaks next, within the patience of its socket.
    #[inline]
    fn receive_from_next(&mut self) -> Result<bool, End> {
        match self.group.get(self.active) {
            // In the middle of a message it is the client's turn, whatever was asked before.
            _ if matches!(self.request_state, RequestState::Inside { .. }) => self.client.receive(true),
            Some(server) if server.replies.will_answer() && !server.replies.is_copying_in() => {
                self.receive_from_server(self.active, true)
            }
            _ if self.terminating || self.blocked || self.congested => Ok(false),
            _ => self.client.receive(true),
        }
    }

    fn receive_from_server(&mut self, node: usize, wait: bool) -> Result<bool, End> {
        let Some(server) = self.group.get_mut(node) else { return Ok(false) };
        match server.input.receive(&server.stream, wait) {
            Ok(Received::Bytes(_)) => Ok(true),
            Ok(Received::Nothing | Received::Interrupted) => Ok(false),
            Ok(Received::Closed) => match server.broken.take() {
                None => {
                    self.connection_closed(node);
                    self.server_gone(node, "EOF encountered with backend")
                }
                Some(cause) => {
                    let cause = format!("socket write failed with error \"{cause}\"");
                    self.connection_failed(node, &cause);
                    self.server_gone(node, &cause)
                }
            },
            Err(error) => {
                let cause = format!("socket read failed with error \"{error}\"");
                self.connection_failed(node, &cause);
                self.server_gone(node, &cause)
            }
        }
    }

    /// Whether the session cannot do without `node` now: it owes answers, or it has part of a batch.
    pub(super) fn needs(&self, node: usize) -> bool {
        self.group.get(node).is_some_and(|server| server.replies.owes_client())
            || self.batch.is_some_and(|batch| batch.begun.contains(node))
    }

    /// A server has closed its connection. A session that does not need it goes on (protocol 14.2).
    pub(super) fn server_gone(&mut self, node: usize, cause: &str) -> Result<bool, End> {
        if self.retry_without(node, cause) {
            return Ok(true);
        }
        if node == self.home && self.leave_home(cause) {
            return Ok(true);
        }
        if node == self.home || self.needs(node) {
            return Err(End::server_lost(node, cause));
        }
        self.leave_node(node, cause);
        self.redraw = true;
        Ok(true)
    }

    fn wait_for_all(&mut self) -> Result<(), End> {
        let deadline = self.turn_deadline();
        let client_full = !self.client.output.is_empty();
        let mut wanted = PollFlags::empty();
        // A client that has said goodbye may close its side; behind a congestion there may be more of one that has said all
        // it wanted to.
        wanted.set(hang_up(), !self.terminating && !self.congested);
        wanted.set(PollFlags::POLLIN, !self.terminating && !self.blocked && !self.congested);
        wanted.set(PollFlags::POLLOUT, client_full);
        let watch_client = !self.terminating || client_full;
        let servers = self.group.connections.iter().flatten().map(|server| {
            let mut wanted = PollFlags::empty();
            // The active server is not read while the client does not take what it said before.
            wanted.set(PollFlags::POLLIN, !(client_full && server.node == self.active));
            wanted.set(PollFlags::POLLOUT, !server.output.is_empty());
            (server.node, PollFd::new(server.stream.as_fd(), wanted))
        });
        let (nodes, mut fds): (Vec<_>, Vec<_>) = servers.unzip();
        fds.push(PollFd::new(self.context.signals.fd(), PollFlags::POLLIN));
        if watch_client {
            fds.push(PollFd::new(self.client.stream.as_fd(), wanted));
        }
        match poll(&mut fds, deadline.poll_timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Report::fatal(format!("poll failed: {errno}")).into()),
        }
        // `None` is the one event that the type has no name for: the client has hung up.
        let ready: Vec<_> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLHUP)).collect();
        let client = ready.get(nodes.len() + 1).copied().unwrap_or(PollFlags::empty());
        let turn_ends = match self.turn_ends_by() {
            (None, event) => client.contains(event),
            (Some(node), event) => nodes.iter().zip(&ready).any(|(id, events)| *id == node && events.contains(event)),
        };
        // What came just then counts.
        if deadline.passed() && !turn_ends {
            self.heed_turn()?;
        }
        self.heed_signals()?;
        for (node, events) in nodes.iter().zip(&ready) {
            if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
                && !(client_full && *node == self.active)
            {
                self.receive_from_server(*node, false)?;
            }
        }
        self.hear_bystanders()?;
        let hung_up = client.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
        if self.terminating {
            // It asked for something, said goodbye and left: what it asked for is done, the answer is for nobody.
            if hung_up {
                self.client.output.clear();
                self.client.deaf = true;
            }
        } else if client.contains(PollFlags::POLLIN) || (hung_up && !self.blocked) {
            self.client.receive(false)?;
        } else if hung_up {
            return Err(End::ClientGone);
        }
        Ok(())
    }

    /// A stop ends the session; new settings are taken between statements; everything else can wait until it is over.
    fn heed_signals(&mut self) -> Result<(), End> {
        if self.context.must_stop() {
            return Err(End::shutdown());
        }
        self.context.close_pooled_if_asked();
        self.heed_failover()?;
        if self.is_quiet() && self.batch.is_none() && self.context.reload_if_asked() {
            self.message_log.finish();
            self.message_log = MessageLog::new(&self.context.settings);
        }
        Ok(())
    }
}

/// The peer has closed its side. A client that does so in the middle of a statement will not read the answer.
fn hang_up() -> PollFlags {
    PollFlags::from_bits_retain(libc::POLLRDHUP)
}
