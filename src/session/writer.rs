//! The node that writes: finding it, and waiting for it while the primary is being replaced (failover 6.5).

use super::Context;
use super::client::Client;
use super::end::End;
use crate::backend::{LoginError, ServerConnection};
use crate::net::{Deadline, Stream};
use crate::report::{Report, SqlState};
use crate::state::Progress;
use crate::wire::{HEADER_LENGTH, backend};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// Pauses between attempts to reach a server that may come back: from here, each twice the one before,
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// up to here.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The node that writes.
pub(super) enum Writer {
    Node(usize),
    /// There is none.
    Nobody,
    /// The primary is being replaced.
    Replacing,
}

/// Why a new session has no primary.
pub(super) enum Refusal {
    /// The server, or the lack of one.
    By(LoginError),
    /// The client has left, or pgpool stops.
    End(End),
}

impl Context {
    /// Until when a session waits for a primary, from now on.
    pub(super) fn patience(&self) -> Deadline {
        match u64::try_from(self.settings.failover_wait_timeout) {
            Ok(seconds) => Deadline::after(Duration::from_secs(seconds)),
            Err(_) => Deadline::after(Duration::ZERO),
        }
    }

    /// Waits while the primary is being replaced, so that a new session finds its successor. `None`: no node is left.
    pub(super) fn await_primary(&mut self, client: &Stream, until: Deadline) -> Result<Option<usize>, End> {
        loop {
            match self.writer() {
                Writer::Node(node) => return Ok(Some(node)),
                Writer::Nobody => return Ok(None),
                Writer::Replacing if until.passed() => {
                    let detail = "The primary is being replaced, and its successor is not known yet.".to_owned();
                    return Err(self.no_primary(detail, "Connect again later; see failover_wait_timeout."));
                }
                Writer::Replacing => self.pause(client, until)?,
            }
        }
    }

    /// The node that writes, by a look at the node table that no failover has come into.
    pub(super) fn writer(&mut self) -> Writer {
        loop {
            let begun = self.shared.failover().begun();
            if self.shared.failover().progress() == Progress::Primary {
                return Writer::Replacing;
            }
            self.refresh_cluster();
            let failover = self.shared.failover();
            if failover.progress() != Progress::Primary && failover.begun() == begun {
                return self.cluster.write_node().map_or(Writer::Nobody, Writer::Node);
            }
        }
    }

    pub(super) fn no_primary(&self, detail: String, hint: &str) -> End {
        let limit = self.settings.failover_wait_timeout;
        Report::fatal(format!("terminating connection because there was no primary for {limit} seconds"))
            .detail(detail)
            .hint(hint)
            .code(SqlState::CONNECTION_FAILURE)
            .into()
    }

    /// Opens a new session on `home`, which writes. If that is down, and somebody is going to decide what becomes of it, the
    /// session waits for the decision until `until`, and opens on the successor. `log_in` logs in to a node.
    pub(super) fn open_primary(
        &mut self,
        home: usize,
        client: &mut Client,
        until: Deadline,
        mut log_in: impl FnMut(&mut Self, &mut Client, usize) -> Result<ServerConnection, Refusal>,
    ) -> Result<ServerConnection, Refusal> {
        let (mut home, mut pause, mut reported) = (home, FIRST_PAUSE, None);
        loop {
            let error = match log_in(self, client, home) {
                Ok(server) => {
                    self.connected(home);
                    return Ok(server);
                }
                Err(Refusal::By(error)) => error,
                Err(end) => return Err(end),
            };
            if reported != Some(home) {
                reported = Some(home);
                self.login_failed(home, &error);
            }
            if !self.will_be_replaced(home) || !is_passing(&error) || until.passed() {
                return Err(Refusal::By(error));
            }
            self.pause(&client.stream, Deadline::after(pause).min(until)).map_err(Refusal::End)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.await_primary(&client.stream, until).map_err(Refusal::End)? {
                Some(node) => home = node,
                None => return Err(Refusal::By(error)),
            }
        }
    }

    /// Whether somebody watches `node` and will have it replaced when it is down.
    fn will_be_replaced(&self, node: usize) -> bool {
        let may_be_detached = self.cluster.nodes.get(node).is_some_and(|node| !node.disallow_to_failover);
        let is_checked = self.settings.nodes.get(node).is_some_and(|node| node.health_check_period > 0);
        self.settings.failover_wait_timeout > 0
            && may_be_detached
            && (is_checked || self.settings.failover_on_backend_error)
    }

    /// Waits for a signal, the time, or the client's leaving.
    pub(super) fn pause(&mut self, client: &Stream, until: Deadline) -> Result<(), End> {
        let hang_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut fds = [PollFd::new(self.signals.fd(), PollFlags::POLLIN), PollFd::new(client.as_fd(), hang_up)];
        let _ = poll(&mut fds, until.poll_timeout());
        if fds[1].revents().is_none_or(|events| !events.is_empty()) {
            return Err(End::ClientGone);
        }
        if self.must_stop() {
            return Err(End::shutdown());
        }
        self.close_pooled_if_asked();
        Ok(())
    }
}

/// Whether the server may be down, or on its way up or down.
pub(super) fn is_passing(error: &LoginError) -> bool {
    match error {
        LoginError::NotConnected(..) | LoginError::Unreachable(_) => true,
        LoginError::Refused(message) => is_passing_code(message, &[]),
        LoginError::Unsupported(_) | LoginError::Ours(_) => false,
    }
}

pub(super) fn is_passing_code(message: &[u8], also: &[&[u8]]) -> bool {
    let code = backend::ErrorFields::new(message.get(HEADER_LENGTH..).unwrap_or_default()).code().to_vec();
    matches!(code.as_slice(), b"57P03" | b"57P01") || also.contains(&code.as_slice())
}
