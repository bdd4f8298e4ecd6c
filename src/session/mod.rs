//! One client's life: startup, login, statements, end.
//!
//! The session reads what the client sends ([`requests`], [`extended`]), asks where it belongs ([`judge`], [`batch`]), brings
//! that node to its own state ([`plan`], [`follow`], by the [`journal`]), forwards the message unchanged, and passes the
//! answers back ([`answers`], [`bystanders`]). It waits in one place ([`wait`]) and ends in one place ([`finish`]).
//!
//! Invariants:
//! - Only the *active* node owes answers to the client; another one becomes active when the first owes nothing more.
//! - Bytes travel as ranges of the receive buffers. What the other side does not take at once is copied aside, and until
//!   it is gone nothing more is read: memory per session is bounded whatever anybody does.
//! - What a client is told is what a server said. If that cannot be known any more, the session ends with an error.
//!
//! It must not open sockets itself (that is `backend`), nor parse SQL itself (that is `sql`).

mod answers;
mod auth_query;
mod authenticate;
mod batch;
mod bystanders;
mod cache_writes;
mod cached_batch;
mod caching;
mod changes;
mod client;
mod context;
mod effects;
mod end;
mod extended;
mod failover;
mod farewell;
mod filling;
mod finish;
mod follow;
mod gate;
mod hidden_calls;
mod identity;
mod journal;
mod judge;
mod limits;
mod local;
mod locks;
mod meaning;
mod message_log;
mod new_primary;
mod open;
mod own_servers;
mod plan;
mod portals;
mod refusal;
mod requests;
mod retry;
mod secure;
mod startup;
mod statements;
mod trace;
mod unpublished;
mod verdicts;
mod wait;
mod writer;

pub use context::Context;
pub use farewell::Farewell;
pub use open::serve;
pub use startup::{cancel, cancel_at};

use crate::auth::Credential;
use crate::backend::Group;
use crate::catalog::Facts;
use crate::sql::{Encoding, Lexing};
use crate::state::NodeSet;
use batch::{Batch, Sighted};
use caching::Caching;
use changes::Changes;
use client::Client;
use end::End;
use journal::Journal;
use limits::Turn;
use message_log::MessageLog;
use new_primary::Lost;
use portals::Portals;
use requests::{Direct, RequestState};
use retry::Kept;
use statements::Statements;

/// A session in progress.
struct Session<'c> {
    context: &'c mut Context,
    client: Client,
    /// What logs in to servers.
    credential: Credential,
    group: Group,
    /// The node that writes: the primary, or the main node where there is none.
    home: usize,
    /// The node that reads may go to; the same as `home` when none can be used.
    balance: usize,
    /// The load balance node was lost: another one is drawn for the next read.
    redraw: bool,
    /// The connection to `home` is lost, and there is none yet to another primary.
    lost_home: Option<Box<Lost>>,
    /// The node that may owe answers.
    active: usize,
    /// The extended batch in progress.
    batch: Option<Batch>,
    /// `application_name` of the startup packet.
    application_name: String,
    /// Name of the database.
    database: String,
    /// Reads may go to other nodes at all, in this mode with these parameters.
    follows: bool,
    /// The next message or batch goes to the primary, having failed elsewhere.
    at_home: bool,
    catalog: Facts,
    lexing: Lexing,
    statements: Statements,
    portals: Portals,
    journal: Journal,
    kept: Kept,
    /// What is kept must be sent again now.
    retry_next: bool,
    /// The primary's last CommandComplete said ROLLBACK.
    rolled_back: bool,
    /// Changes to `statements` that a server has still to confirm.
    changes: Changes,
    /// Nodes that cannot follow this session's state, until it is discarded.
    excluded: NodeSet,
    /// Memory for looking ahead in a batch.
    sighted: Vec<Sighted>,
    request_state: RequestState,
    /// Beginning of the client's buffer that has a destination.
    direct: Direct,
    /// Beginning of the active server's buffer that is approved for the client.
    answered: usize,
    /// The client's next message must wait for answers.
    blocked: bool,
    /// The active server does not take what the client sends.
    congested: bool,
    /// Ask the active server for the answers it holds back.
    flush_next: bool,
    /// The client has said goodbye behind statements that are still running.
    terminating: bool,
    /// A server's FATAL has been passed on.
    fatal: bool,
    message_log: MessageLog,
    /// Whose turn it is.
    turn: Turn,
    /// Which reason the last destination had, for counting them.
    reason: usize,
    /// Prepared statements and portals that no server knows.
    local: local::Objects,
    /// The query cache, if it is on.
    caching: Option<Box<Caching>>,
}

impl Session<'_> {
    fn run(&mut self) -> Result<(), End> {
        loop {
            let mut moved = self.relay_requests()?;
            moved |= self.relay_answers()?;
            if std::mem::take(&mut self.retry_next) {
                self.retry()?;
                moved = true;
            }
            if !moved {
                self.wait()?;
            }
        }
    }

    /// A parameter value was reported to the client.
    fn note_parameter(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"client_encoding" => self.lexing.encoding = Encoding::from_name(&String::from_utf8_lossy(value)),
            b"standard_conforming_strings" => self.lexing.standard_conforming_strings = value == b"on",
            b"application_name" => crate::report::set_application_name(&String::from_utf8_lossy(value)),
            _ => {}
        }
    }
}
