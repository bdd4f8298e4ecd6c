//! Why a session ends, and what the client is told (protocol 13-17).

use crate::report::{Report, SqlState};
use crate::wire::{Malformed, backend};
use std::io;

/// The end of a session.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye.
    Terminated,
    /// The client vanished.
    ClientGone,
    /// The client has been told already, e.g. by a server's own FATAL; nothing more to say.
    Told,
    /// The client is told this.
    Failed(Box<Report>),
}

impl End {
    /// The client's socket failed.
    pub fn client_lost(_: io::Error) -> Self {
        Self::ClientGone
    }

    /// The client broke the protocol.
    pub fn protocol_violation(error: &Malformed) -> Self {
        Report::fatal(error.to_string())
            .detail("The client does not follow the frontend/backend protocol.")
            .code(SqlState::PROTOCOL_VIOLATION)
            .into()
    }

    /// The connection to a server was lost (protocol 14.1).
    pub fn server_lost(node: usize, cause: &str) -> Self {
        Report::fatal(format!("unable to read data from DB node {node}"))
            .detail(cause)
            .hint("The transaction, if any, was not completed here. Connect again.")
            .code(SqlState::CONNECTION_FAILURE)
            .into()
    }

    /// A server sent what nothing had asked for.
    pub fn server_confused(node: usize, kind: u8) -> Self {
        Self::server_lost(node, &format!("{} arrived where the protocol does not allow it", backend::name(kind)))
    }

    /// pgpool stops.
    pub fn shutdown() -> Self {
        Report::fatal("terminating connection due to administrator command")
            .detail("pgpool, or this process of it, is being stopped.")
            .code(SqlState::ADMIN_SHUTDOWN)
            .into()
    }
}

impl From<Report> for End {
    fn from(report: Report) -> Self {
        Self::Failed(Box::new(report))
    }
}
