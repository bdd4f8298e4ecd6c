//! What servers run for a session whose worker was killed: nobody waits for it any more, and nobody would hear of its commit.
//! So it is cancelled, as when a client vanishes; a closed connection alone would let it run to its end.
//!
//! The requests are sent by a process of their own, since a server may not answer. They reach nobody else: the connections were
//! closed with their worker, and whoever has the process id by now has another key.

use super::Supervisor;
use super::children::Role;
use super::stop::Stopping;
use crate::report::{self, Report};
use crate::session;
use crate::state::{ServerKey, Shared};
use crate::sys::{signal, title};
use nix::poll::{PollTimeout, poll};

/// In milliseconds. After this time what was sent behind the cancelled statement, and has begun then, is cancelled, too. Behind
/// that a server finds that nobody takes its answers.
const SECOND_TIME: u16 = 1000;

impl Supervisor {
    /// Has cancelled what runs for workers that were killed. In a fast stop nobody is waited for.
    pub(super) fn cancel_orphans(&mut self) {
        if !self.orphans.is_empty()
            && self.stopping.as_ref().is_none_or(Stopping::is_smart)
            && let Err(errno) = self.start_child(Role::Undertaker)
        {
            Report::warning("what servers run for a killed child process is not cancelled").detail(errno.desc()).log();
        }
        self.orphans.clear();
    }
}

/// The life of the process that cancels. Returns its exit status.
pub(super) fn cancel(shared: &Shared, orphans: &[(usize, ServerKey)]) -> i32 {
    report::set_process("undertaker", "CANCEL");
    title::set("cancel requests for killed processes");
    let pids = orphans.iter().map(|(node, server)| format!("{} on backend {node}", server.pid)).collect::<Vec<_>>();
    Report::log_line("canceling what servers run for a killed child process")
        .detail(format!("backend pids: {}", pids.join(", ")))
        .log();
    session::cancel_at(shared, orphans);
    let _ = poll(&mut [], PollTimeout::from(SECOND_TIME));
    if !signal::told_to_stop() {
        session::cancel_at(shared, orphans);
    }
    0
}
