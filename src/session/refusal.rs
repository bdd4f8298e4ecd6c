//! Clients that are not let in: what is counted, what the log tells, and what it costs them.
//!
//! A refusal for what a client has, or has not, shown of itself may answer a guess. It is held back for a second, so that who
//! tries passwords one after another has few tries. That is never at the expense of others: a client is held only while
//! there is room for the next one, and one that leaves is not held. Many connections at once are therefore not slowed
//! down; the log has the address of each, for programs that keep such clients away.

use super::Context;
use super::client::Client;
use super::end::End;
use crate::backend::LoginError;
use crate::net::{Deadline, Peer, Waited, wait};
use crate::report::{Report, Severity, SqlState};
use crate::state::Refusal;
use crate::wire::{HEADER_LENGTH, backend};
use nix::poll::PollFlags;
use std::time::Duration;

/// How long a refusal is held back.
const PENALTY: Duration = Duration::from_secs(1);
/// How often it is looked whether there is room still.
const LOOK: Duration = Duration::from_millis(50);
/// The client has closed its side.
const HANG_UP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// pgpool has ended a login by `report`: counts it, adds where the client is, and holds it. `deadline` is that of the login.
pub(super) fn by_pgpool(context: &Context, client: &Client, report: &mut Report, deadline: Deadline) {
    if !is_refusal(report.code) {
        return;
    }
    context.shared.refusals().count(Refusal::ByPgpool);
    let place = place(client.stream.peer());
    report.context = Some(match report.context.take() {
        Some(context) => format!("{context}; {place}"),
        None => place,
    });
    if is_of_identity(report.code) {
        hold(context, client, deadline);
    }
}

/// A server could not be logged in to: its own words, or ours, are for the client.
pub(super) fn by_server(
    context: &Context,
    client: &mut Client,
    user: &[u8],
    error: LoginError,
    deadline: Deadline,
) -> End {
    match error {
        LoginError::Refused(message) => {
            let fields = backend::ErrorFields::new(message.get(HEADER_LENGTH..).unwrap_or_default());
            // Of the user, the password or the database; not that the server is full or starts up.
            if [&b"28"[..], b"3D", b"42"].iter().any(|class| fields.code().starts_with(class)) {
                context.shared.refusals().count(Refusal::ByServer);
            }
            if is_of_identity(SqlState::from_bytes(fields.code())) {
                let user = String::from_utf8_lossy(user);
                Report::log_line(format!("the server has refused the login of user \"{user}\""))
                    .detail(fields.message())
                    .context(place(client.stream.peer()))
                    .log();
                hold(context, client, deadline);
            }
            client.output.extend_from_slice(&message);
            let _ = client.flush();
            End::Told
        }
        LoginError::NotConnected(mut report, _)
        | LoginError::Unreachable(mut report)
        | LoginError::Unsupported(mut report)
        | LoginError::Ours(mut report) => {
            report.severity = Severity::Fatal;
            report.into()
        }
    }
}

/// Where a client is, for the log.
pub(super) fn place(peer: &Peer) -> String {
    match peer {
        Peer::Tcp(address, port) => format!("host={address} port={port}"),
        Peer::Local => "host=[local]".to_owned(),
    }
}

/// Whether a login that pgpool has ended with this code was the client's failure: it may not come in, has broken the
/// exchange, or has run out of time.
fn is_refusal(code: SqlState) -> bool {
    is_of_identity(code) || [SqlState::PROTOCOL_VIOLATION, SqlState::OPERATOR_INTERVENTION].contains(&code)
}

/// Whether it was for what the client has shown of itself.
fn is_of_identity(code: SqlState) -> bool {
    [SqlState::INVALID_AUTHORIZATION, SqlState::INVALID_PASSWORD].contains(&code)
}

/// Holds a client back, until `deadline` at most.
fn hold(context: &Context, client: &Client, deadline: Deadline) {
    let until = Deadline::after(PENALTY).min(deadline);
    while !until.passed() && !context.is_stopping() && has_room(context) {
        match wait(&client.stream, HANG_UP, until.min(Deadline::after(LOOK))) {
            Ok(Waited::TooLate) => {}
            // It has left, or pgpool stops.
            Ok(Waited::Ready | Waited::Stopped) | Err(_) => return,
        }
    }
}

/// Whether another client would be served at once.
fn has_room(context: &Context) -> bool {
    let room = context.settings.num_init_children.saturating_sub(context.settings.reserved_connections);
    context.shared.workers().connected() < usize::try_from(room).unwrap_or(0)
}
