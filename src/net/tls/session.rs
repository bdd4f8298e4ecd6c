//! One TLS session on a socket.

use super::socket::{Fetch, Socket};
use super::{ALPN, Certificate, channel_binding, reason};
use crate::net::{Deadline, Received, Waited, wait};
use crate::sys::signal;
use nix::poll::PollFlags;
use openssl::ssl::{ErrorCode, Ssl, SslRef, SslStream};
use openssl::x509::X509VerifyResult;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// So much is encrypted at once, in bytes, so that what the kernel does not take stays bounded.
const PORTION: usize = 64 * 1024;

/// Why there is no TLS session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side was silent for too long.
    #[error("no answer in time")]
    TimedOut,
    /// This process was told to stop.
    #[error("pgpool is being stopped")]
    Stopped,
    /// The other side went away.
    #[error("the connection was closed during the TLS handshake")]
    Closed,
    /// What OpenSSL says.
    #[error("{0}")]
    Failed(String),
}

/// Which side of the handshake is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Side {
    Server,
    Client,
}

/// A TLS session.
#[derive(Debug)]
pub struct Session {
    stream: SslStream<Socket>,
    /// Bytes at the beginning of what will be sent next that are encrypted already: they were reported as not taken, so that
    /// the caller comes back for the records that the kernel did not take.
    held: usize,
}

/// A handshake under way. The descriptor is that of the stream.
#[derive(Debug)]
pub struct Handshake {
    stream: SslStream<Socket>,
    side: Side,
    /// The other side knows all it has to, or will when it gets what is on its way.
    is_agreed: bool,
}

impl Handshake {
    /// On `fd`, of which `first` has been received already.
    pub(in crate::net) fn new(ssl: Ssl, side: Side, fd: BorrowedFd<'_>, first: &[u8]) -> Result<Self, HandshakeError> {
        let failed = |errors| HandshakeError::Failed(reason(&errors));
        let stream = SslStream::new(ssl, Socket::new(fd.as_raw_fd(), first)).map_err(failed)?;
        Ok(Self { stream, side, is_agreed: false })
    }

    /// Goes on as far as it goes at once; with `patience` it waits within that of the socket, which is one call where the
    /// answer comes soon. Returns what to wait for; `None`: the handshake is complete.
    pub(in crate::net) fn go_on(&mut self, patience: bool) -> Result<Option<PollFlags>, HandshakeError> {
        let stream = &mut self.stream;
        if !self.is_agreed {
            stream.get_mut().fetch = if patience { Fetch::Wait } else { Fetch::Ask };
            let step = match self.side {
                Side::Server => stream.accept(),
                Side::Client => stream.connect(),
            };
            // An alert that tells the other side what is wrong is worth sending, too.
            if stream.get_mut().take_interrupted() && signal::told_to_stop() {
                return Err(HandshakeError::Stopped);
            }
            let sent = stream.get_mut().flush_now();
            match step {
                Ok(()) => self.is_agreed = true,
                Err(error) if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) => {
                    let is_sent = sent.map_err(|error| HandshakeError::Failed(error.to_string()))?;
                    return Ok(Some(if is_sent { PollFlags::POLLIN } else { PollFlags::POLLOUT }));
                }
                Err(_) if stream.get_ref().closed => return Err(HandshakeError::Closed),
                Err(error) => return Err(HandshakeError::Failed(told(stream.ssl(), &error))),
            }
        }
        let is_sent = stream.get_mut().flush_now().map_err(|error| HandshakeError::Failed(error.to_string()))?;
        Ok((!is_sent).then_some(PollFlags::POLLOUT))
    }

    /// Goes on to its end, on `fd`.
    pub(in crate::net) fn finish(mut self, fd: BorrowedFd<'_>, deadline: Deadline) -> Result<Session, HandshakeError> {
        while let Some(events) = self.go_on(true)? {
            await_events(fd, events, deadline)?;
        }
        Ok(self.into_session())
    }

    /// It is complete.
    pub(in crate::net) fn into_session(self) -> Session {
        Session { stream: self.stream, held: 0 }
    }
}

impl Session {
    /// As [`Stream::receive`](crate::net::Stream::receive).
    pub(in crate::net) fn receive(&mut self, buffer: &mut [u8], wait: bool) -> io::Result<Received> {
        self.stream.get_mut().fetch = if wait { Fetch::Wait } else { Fetch::Ask };
        self.read(buffer)
    }

    /// Receives what has been fetched from the socket before, without asking it.
    pub(in crate::net) fn receive_fetched(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        self.stream.get_mut().fetch = Fetch::Never;
        self.read(buffer)
    }

    /// Whether [`Session::receive_fetched`] may bring something: nothing on the socket would tell.
    pub(in crate::net) fn has_fetched(&self) -> bool {
        self.stream.ssl().pending() > 0 || self.stream.get_ref().has_fetched()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let error = match self.stream.ssl_read(buffer) {
            Ok(count) => return Ok(Received::Bytes(count)),
            Err(error) => error,
        };
        let socket = self.stream.get_mut();
        match error.code() {
            ErrorCode::WANT_READ | ErrorCode::WANT_WRITE if socket.take_interrupted() => Ok(Received::Interrupted),
            ErrorCode::WANT_READ | ErrorCode::WANT_WRITE if !socket.closed => Ok(Received::Nothing),
            ErrorCode::ZERO_RETURN => {
                // Its end may have come with its last bytes, and the socket is still open. From now on the socket tells of
                // it, too, to whoever waits there.
                socket.end_receiving();
                Ok(Received::Closed)
            }
            _ if socket.closed => Ok(Received::Closed),
            _ => Err(as_io(error)),
        }
    }

    /// As [`Stream::send`](crate::net::Stream::send). The caller comes back with the bytes that were not taken, in the same
    /// order.
    pub(in crate::net) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while self.stream.get_mut().flush_now()? {
            taken += std::mem::take(&mut self.held).min(bytes.len() - taken);
            let rest = &bytes[taken..];
            if rest.is_empty() {
                return Ok(taken);
            }
            let portion = &rest[..rest.len().min(PORTION)];
            let mut encrypted = 0;
            while encrypted < portion.len() {
                encrypted += self.stream.ssl_write(&portion[encrypted..]).map_err(as_io)?;
            }
            taken += encrypted;
            if !self.stream.get_mut().flush_now()? {
                self.held = 1;
                return Ok(taken - 1);
            }
        }
        Ok(taken)
    }

    /// Tells the other side that no more will be sent.
    pub(in crate::net) fn shut_down(&mut self) {
        let _ = self.stream.shutdown();
        let _ = self.stream.get_mut().flush_now();
    }

    /// For the log: `TLSv1.3`, and the cipher.
    pub fn description(&self) -> (&'static str, &'static str) {
        let ssl = self.stream.ssl();
        (ssl.version_str(), ssl.current_cipher().map_or("", |cipher| cipher.name()))
    }

    /// Whether both sides have agreed on PostgreSQL's protocol by ALPN.
    pub fn has_agreed_on_protocol(&self) -> bool {
        self.stream.ssl().selected_alpn_protocol() == Some(ALPN)
    }

    /// Whether the other side gets a certificate of ours if it asks for one.
    pub fn has_own_certificate(&self) -> bool {
        self.stream.ssl().certificate().is_some()
    }

    /// The client's certificate, which has been verified; `None` if it has none, or was not asked for one.
    pub fn client_certificate(&self) -> Option<Certificate> {
        self.stream.ssl().peer_certificate().map(|certificate| Certificate::read(&certificate))
    }

    /// The channel binding data `tls-server-end-point` (RFC 5929) of the server's certificate: ours or the other side's.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let ssl = self.stream.ssl();
        if ssl.is_server() {
            ssl.certificate().and_then(channel_binding::server_end_point)
        } else {
            ssl.peer_certificate().and_then(|certificate| channel_binding::server_end_point(&certificate))
        }
    }
}

fn await_events(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> Result<(), HandshakeError> {
    match wait(fd.as_fd(), events, deadline) {
        Ok(Waited::Ready) => Ok(()),
        Ok(Waited::TooLate) => Err(HandshakeError::TimedOut),
        Ok(Waited::Stopped) => Err(HandshakeError::Stopped),
        Err(error) => Err(HandshakeError::Failed(error.to_string())),
    }
}

/// What went wrong in a handshake; a certificate that was not accepted says why.
fn told(ssl: &SslRef, error: &openssl::ssl::Error) -> String {
    let text = error.ssl_error().map_or_else(|| error.to_string(), reason);
    match ssl.verify_result() {
        X509VerifyResult::OK => text,
        result => format!("{text}: {}", result.error_string()),
    }
}

fn as_io(error: openssl::ssl::Error) -> io::Error {
    let text = error.ssl_error().map(reason);
    match (text, error.into_io_error()) {
        (_, Ok(error)) => error,
        (Some(text), Err(_)) => io::Error::other(text),
        (None, Err(error)) => io::Error::other(error.to_string()),
    }
}
