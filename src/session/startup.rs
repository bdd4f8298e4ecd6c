//! The first packets of a client, up to the startup packet (protocol 3-5).
//!
//! The whole of it, and the login behind it, is bounded by `authentication_timeout`.

use super::context::address_of;
use super::end::End;
use super::{Context, message_log, secure};
use crate::backend::{self, Key};
use crate::net::{Deadline, InBuffer, Received, Stream};
use crate::report::{Report, SqlState};
use crate::state::{ServerKey, Shared};
use crate::wire::startup::{self, Request, Startup};
use crate::wire::{Malformed, write};

/// The newest minor version of protocol 3 that is understood.
const NEWEST_MINOR: u16 = 2;
/// Servers cut names behind so many bytes, without a word.
const MAX_NAME: usize = 63;
/// Requests for TLS and GSS that a client may make before its startup packet.
pub(super) const MAX_REQUESTS: usize = 4;

/// What a client wants who has come this far.
#[derive(Debug)]
pub(super) struct Opening {
    /// Pool key, with the packet for the servers.
    pub key: Key,
    /// Minor protocol version.
    pub minor: u16,
    /// `application_name` of the startup packet.
    pub application_name: Vec<u8>,
    /// What the client has sent behind the startup packet.
    pub rest: InBuffer,
    /// NegotiateProtocolVersion to be sent first, if what the client asked for must be cut down; else empty.
    pub negotiation: Vec<u8>,
}

/// Reads up to the startup packet. `Ok(None)`: there will be no session (a cancel request was served, or the client has
/// left without a word).
pub(super) fn read(stream: &mut Stream, context: &mut Context, deadline: Deadline) -> Result<Option<Opening>, End> {
    let mut input = InBuffer::with_capacity(4096);
    let mut is_settled = false;
    if !receive(stream, &mut input, deadline, context)? {
        return Ok(None);
    }
    if input.bytes().first() == Some(&startup::TLS_HANDSHAKE) {
        secure::begin(stream, &mut input, context, deadline)?;
        is_settled = true;
    }
    for _ in 0..MAX_REQUESTS {
        let Some(length) = packet(stream, &mut input, deadline, context)? else { return Ok(None) };
        match startup::read(&input.bytes()[..length]).map_err(|error| refuse(&error))? {
            Request::Tls if is_settled => return Err(secure::asked_again()),
            Request::Tls => {
                is_settled = true;
                secure::answer(stream, &mut input, length, context, deadline)?;
            }
            Request::GssEnc => refuse_gss(stream, &mut input, length)?,
            Request::Cancel { pid, key } => {
                serve_cancel(context, pid, key, &input.bytes()[..length]);
                return Ok(None);
            }
            Request::Startup(startup) => {
                let opening = open(&startup)?;
                input.consume(length);
                return Ok(Some(Opening { rest: input, ..opening }));
            }
        }
    }
    Err(too_many_requests())
}

pub(super) fn too_many_requests() -> End {
    Report::fatal("too many encryption requests before the startup packet").code(SqlState::PROTOCOL_VIOLATION).into()
}

/// There is no GSS; the client may go on in clear.
pub(super) fn refuse_gss(stream: &Stream, input: &mut InBuffer, length: usize) -> Result<(), End> {
    if input.len() > length {
        return Err(Report::fatal("received unencrypted data after GSSAPI encryption request")
            .detail("This may be a client bug or an attempt at a man-in-the-middle attack.")
            .code(SqlState::PROTOCOL_VIOLATION)
            .into());
    }
    input.consume(length);
    stream.send(b"N").map(drop).map_err(End::client_lost)
}

/// `packet` is a cancel request for this session.
pub(super) fn serve_cancel(context: &Context, pid: u32, key: &[u8], packet: &[u8]) {
    if context.settings.log_client_messages {
        message_log::cancel_arrived(pid);
    }
    if !cancel(&context.shared, pid, key) && !context.ask_former(packet) {
        Report::log_line(format!("invalid cancel key: pid:{pid} keylen:{}", key.len()))
            .detail("No session has this key, or it has ended.")
            .log();
    }
}

/// A packet that makes no sense.
pub(super) fn refuse(error: &Malformed) -> End {
    let code = match error {
        Malformed::Startup(text) if text.contains("version") => SqlState::FEATURE_NOT_SUPPORTED,
        _ => SqlState::PROTOCOL_VIOLATION,
    };
    let hint = match error {
        Malformed::Length { .. } => "This is no client of PostgreSQL, but a browser, a probe or a scanner.",
        _ => "pgpool understands protocol 3.0 to 3.2; use a client library of PostgreSQL 7.4 or newer.",
    };
    Report::fatal(error.to_string()).hint(hint).code(code).into()
}

/// Waits for a whole packet; returns its length. `Ok(None)`: the client left before its first byte.
fn packet(stream: &Stream, input: &mut InBuffer, deadline: Deadline, context: &Context) -> Result<Option<usize>, End> {
    loop {
        if let Some(length) = startup::length(input.bytes()).map_err(|error| refuse(&error))? {
            if input.len() >= length {
                return Ok(Some(length));
            }
            input.make_room(length);
        }
        if !receive(stream, input, deadline, context)? {
            return Ok(None);
        }
    }
}

/// Receives something more. `Ok(false)`: the client left before its first byte.
fn receive(stream: &Stream, input: &mut InBuffer, deadline: Deadline, context: &Context) -> Result<bool, End> {
    loop {
        match input.receive_until(stream, deadline).map_err(End::client_lost)? {
            Received::Closed if input.is_empty() => return Ok(false),
            Received::Closed => return Err(End::ClientGone),
            _ if context.is_stopping() => return Err(End::shutdown()),
            // Also when something came just then: there would be no time left for the servers.
            _ if deadline.passed() => return Err(timed_out()),
            Received::Bytes(_) => return Ok(true),
            _ => {}
        }
    }
}

/// The client was too slow (protocol 12; unlike the original it is told so).
pub(super) fn timed_out() -> End {
    Report::fatal("authentication timeout")
        .detail("The client did not complete its login within authentication_timeout.")
        .code(SqlState::OPERATOR_INTERVENTION)
        .into()
}

fn open(startup: &Startup<'_>) -> Result<Opening, End> {
    let user = name(startup.get("user").unwrap_or_default());
    if user.is_empty() {
        return Err(Report::fatal("no PostgreSQL user name specified in startup packet")
            .code(SqlState::INVALID_AUTHORIZATION)
            .into());
    }
    let database = name(startup.get("database").filter(|name| !name.is_empty()).unwrap_or(user));
    if startup.get("replication").is_some_and(asks_for_replication) {
        return Err(Report::fatal("replication connections through pgpool are not supported")
            .hint("Connect to the server itself; its address is in backend_hostname and backend_port.")
            .code(SqlState::FEATURE_NOT_SUPPORTED)
            .into());
    }
    // A newer minor version, or an option of one, is answered by ourselves: servers never see what we do not understand.
    let minor = startup.minor.min(NEWEST_MINOR);
    let options: Vec<_> =
        startup.parameters.iter().map(|(name, _)| *name).filter(|name| name.starts_with(b"_pq_.")).collect();
    let mut negotiation = Vec::new();
    if startup.minor > minor || !options.is_empty() {
        write::negotiate_protocol_version(&mut negotiation, minor, &options);
    }
    let mut known = startup.clone();
    known.parameters.retain(|(name, _)| !name.starts_with(b"_pq_."));
    for (parameter, value) in &mut known.parameters {
        if [&b"user"[..], b"database"].contains(parameter) {
            *value = name(value);
        }
    }
    let key = Key { user: user.to_vec(), database: database.to_vec(), startup: known.canonical(minor) };
    let application_name = startup.get("application_name").unwrap_or_default().to_vec();
    Ok(Opening { key, minor, application_name, rest: InBuffer::default(), negotiation })
}

/// As much of the name of a user or database as servers look at: rules must not see another name than they do.
fn name(name: &[u8]) -> &[u8] {
    &name[..name.len().min(MAX_NAME)]
}

/// `replication` is a boolean or the word `database`.
fn asks_for_replication(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    !matches!(value.as_slice(), b"false" | b"off" | b"no" | b"0" | b"f" | b"n" | b"")
}

/// Sends a cancel request on to the servers that are at work for that session (protocol 4). Returns whether there is one.
pub fn cancel(shared: &Shared, pid: u32, key: &[u8]) -> bool {
    let Some(target) = shared.find_cancel_target(pid, key) else { return false };
    let busy = target.nodes.iter().filter(|(node, _)| target.busy.contains(*node)).inspect(|(node, server)| {
        Report::log_line(format!("forwarding cancel request to backend {node}"))
            .detail(format!("canceling backend pid: {} keylen: {}", server.pid, server.key.len()))
            .log();
    });
    // Else the connections of that session are for no other one.
    if cancel_at(shared, busy) {
        shared.worker(target.worker).end_cancel(target.session);
    }
    true
}

/// Asks the nodes to cancel what these processes of theirs are running. Whether no request can reach any of them later.
pub fn cancel_at<'a>(shared: &Shared, servers: impl IntoIterator<Item = &'a (usize, ServerKey)>) -> bool {
    let cluster = shared.nodes().view();
    let mut is_over = true;
    for (node, server) in servers {
        let Some(address) = cluster.nodes.get(*node).map(|node| address_of(&node.hostname, node.port)) else {
            continue;
        };
        match backend::cancel::request(&address, server.pid, &server.key) {
            Ok(has_closed) => is_over &= has_closed,
            Err(error) => {
                Report::log_line(format!("Could not create socket for sending cancel request for backend {node}"))
                    .detail(error.to_string())
                    .log()
            }
        }
    }
    is_over
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup<'a>(minor: u16, parameters: &[(&'a str, &'a str)]) -> Startup<'a> {
        Startup {
            minor,
            parameters: parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect(),
        }
    }

    #[test]
    fn user_is_needed_and_names_the_database() {
        assert!(
            matches!(open(&startup(0, &[("database", "d")])), Err(End::Failed(report)) if report.code == SqlState::INVALID_AUTHORIZATION)
        );
        let opening = open(&startup(0, &[("user", "u")])).unwrap();
        assert_eq!((opening.key.user.as_slice(), opening.key.database.as_slice()), (&b"u"[..], &b"u"[..]));
        assert!(opening.negotiation.is_empty());
    }

    #[test]
    fn names_are_cut_as_servers_cut_them() {
        let (long, cut) = ("n".repeat(64), "n".repeat(63));
        let opening = open(&startup(0, &[("user", &long), ("database", &long)])).unwrap();
        assert_eq!((opening.key.user.as_slice(), opening.key.database.as_slice()), (cut.as_bytes(), cut.as_bytes()));
        assert_eq!(opening.key, open(&startup(0, &[("user", &cut), ("database", &cut)])).unwrap().key);
    }

    #[test]
    fn what_is_not_understood_is_negotiated() {
        let opening = open(&startup(9, &[("user", "u"), ("_pq_.x", "1")])).unwrap();
        assert_eq!(opening.minor, 2);
        assert_eq!(opening.negotiation, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
        assert!(!opening.key.startup.windows(4).any(|part| part == b"_pq_"));
    }

    #[test]
    fn replication_is_refused() {
        for value in ["true", "database", "on", "1"] {
            assert!(open(&startup(0, &[("user", "u"), ("replication", value)])).is_err());
        }
        assert!(open(&startup(0, &[("user", "u"), ("replication", "off")])).is_ok());
    }
}
