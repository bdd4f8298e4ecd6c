//! TLS with a client (auth 2.1, 17): asked for by an SSLRequest, or begun at once.
//!
//! Invariants:
//! - A handshake that fails ends the connection: nothing is read or said in clear behind it.
//! - What was received in clear is never taken for what came encrypted: bytes behind an SSLRequest end the connection.

use super::Context;
use super::end::End;
use super::startup::timed_out;
use crate::net::tls::{Handshake, HandshakeError, Session};
use crate::net::{Deadline, InBuffer, Stream};
use crate::report::{Report, SqlState};

/// Answers an SSLRequest of `length` bytes at the beginning of `input`. Without TLS the client hears so, and may go on in
/// clear.
pub(super) fn answer(
    stream: &mut Stream,
    input: &mut InBuffer,
    length: usize,
    context: &mut Context,
    deadline: Deadline,
) -> Result<(), End> {
    let Some(handshake) = begin_as_asked(stream, input, length, context)? else { return Ok(()) };
    stream.finish_tls(handshake, deadline).map_err(failed)?;
    check(stream, false)
}

/// Answers it and begins the handshake, if there is TLS.
pub(super) fn begin_as_asked(
    stream: &Stream,
    input: &mut InBuffer,
    length: usize,
    context: &mut Context,
) -> Result<Option<Handshake>, End> {
    if input.len() > length {
        return Err(Report::fatal("received unencrypted data after SSL request")
            .detail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.")
            .code(SqlState::PROTOCOL_VIOLATION)
            .into());
    }
    input.consume(length);
    let Some(acceptor) = context.front.acceptor(&context.shared) else { return say(stream, b"N").map(|()| None) };
    say(stream, b"S")?;
    stream.start_tls(acceptor, &[]).map(Some).map_err(failed)
}

/// Goes on with a client that has begun a handshake without asking, of which `input` holds the beginning
/// (sslnegotiation=direct of PostgreSQL 17).
pub(super) fn begin(
    stream: &mut Stream,
    input: &mut InBuffer,
    context: &mut Context,
    deadline: Deadline,
) -> Result<(), End> {
    let handshake = begin_at_once(stream, input, context)?;
    stream.finish_tls(handshake, deadline).map_err(failed)?;
    check(stream, true)
}

/// Takes its beginning up.
pub(super) fn begin_at_once(stream: &Stream, input: &mut InBuffer, context: &mut Context) -> Result<Handshake, End> {
    let Some(acceptor) = context.front.acceptor(&context.shared) else {
        return Err(refused("direct SSL connection without SSL support", "Set ssl = on, with ssl_cert and ssl_key."));
    };
    let handshake = stream.start_tls(acceptor, input.bytes()).map_err(failed)?;
    input.consume(input.len());
    Ok(handshake)
}

/// The handshake is complete. Who has begun it without asking must name the protocol, so that no other one can be smuggled
/// in.
pub(super) fn check(stream: &Stream, is_direct: bool) -> Result<(), End> {
    if is_direct && !stream.tls(Session::has_agreed_on_protocol).unwrap_or(false) {
        return Err(refused(
            "received direct SSL connection request without ALPN protocol negotiation extension",
            "Only clients of PostgreSQL 17 or newer can begin so.",
        ));
    }
    let (version, cipher) = stream.tls(Session::description).unwrap_or_default();
    Report::debug(format!("SSL connection from client: {version}, {cipher}")).log();
    Ok(())
}

/// A client that asks again for what was settled is none of PostgreSQL's.
pub(super) fn asked_again() -> End {
    refused("received a second SSL request", "This could be a client-software bug.")
}

fn say(stream: &Stream, answer: &[u8; 1]) -> Result<(), End> {
    match stream.send(answer) {
        Ok(1) => Ok(()),
        _ => Err(End::ClientGone),
    }
}

/// The log is told; the client would not understand it.
fn refused(message: &str, hint: &str) -> End {
    Report::log_line(message).hint(hint).log();
    End::Told
}

pub(super) fn failed(error: HandshakeError) -> End {
    match error {
        HandshakeError::Stopped => End::Told,
        HandshakeError::Closed => End::ClientGone,
        HandshakeError::TimedOut => {
            if let End::Failed(report) = timed_out() {
                Report::log_line(report.message).detail("The client did not complete its TLS handshake in time.").log();
            }
            End::Told
        }
        HandshakeError::Failed(cause) => {
            Report::log_line(format!("pool_ssl: \"SSL_accept\": \"{cause}\"")).log();
            End::Told
        }
    }
}
