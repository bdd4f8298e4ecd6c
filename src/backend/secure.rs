//! TLS towards servers (auth 18), what comes before the first packet; and by which methods they may let pgpool in.
//!
//! What is wanted is the same for every connection of a process: sessions, checks, cancel requests. So each process holds
//! it once, and children inherit it; [`configure`] makes it anew when settings are taken.
//!
//! Invariant: only a server's own "no", and only with a mode that allows it, makes a connection go on in clear. Whatever
//! else goes wrong ends it before anything of the login was sent.

use super::Demand;
use super::methods::Methods;
use crate::config::Settings;
use crate::net::tls::{Connector, HandshakeError, Session, SslMode};
use crate::net::{Address, Deadline, InBuffer, Keepalive, Received, Stream};
use crate::report::{Report, Result};
use crate::sys::signal;
use crate::wire::startup;
use parking_lot::RwLock;
use std::io;

static WANTED: RwLock<Option<InForce>> = RwLock::new(None);

/// What is in force in this process.
struct InForce {
    /// What is wanted, or why that cannot be had.
    wanted: Result<Wanted>,
    /// Parameters that could not be used, and are tried again with each connection: somebody may be replacing a file.
    due: Option<Box<Settings>>,
}

/// What servers must have and may ask for.
#[derive(Clone, Debug)]
struct Wanted {
    connector: Connector,
    methods: Methods,
}

impl Wanted {
    fn new(settings: &Settings) -> Result<Self> {
        let methods = Methods::parse(&settings.backend_require_auth)?;
        Ok(Self { connector: Connector::new(settings)?, methods })
    }

    /// Whether it wants no less than `settings` do.
    fn is_as_strict_as(&self, settings: &Settings) -> bool {
        let methods = Methods::parse(&settings.backend_require_auth);
        self.connector.is_as_strict_as(settings) && methods.is_ok_and(|wanted| self.methods.are_within(wanted))
    }
}

impl InForce {
    /// What is in force behind `old` when these parameters are taken, and whether they could be.
    fn behind(old: Option<Self>, settings: &Settings) -> (Self, Result<()>) {
        match Wanted::new(settings) {
            Ok(wanted) => (Self { wanted: Ok(wanted), due: None }, Ok(())),
            Err(report) => {
                let is_good_enough = |old: &Wanted| old.is_as_strict_as(settings);
                let kept = old.and_then(|old| old.wanted.ok()).filter(is_good_enough);
                let wanted = kept.ok_or_else(|| report.clone());
                (Self { wanted, due: Some(Box::new(settings.clone())) }, Err(report))
            }
        }
    }
}

/// Whether the parameters `backend_ssl*` and `backend_require_auth` of `settings` can be used.
///
/// # Errors
/// What is wrong.
pub fn check(settings: &Settings) -> Result<()> {
    Wanted::new(settings).map(drop)
}

/// Takes these parameters, and the limits of silence, for all connections from now on. If they cannot be used they are tried
/// again with the next one; what was in force stays so long, unless it is weaker than what is wanted now: then no server is
/// connected to at all.
///
/// # Errors
/// What is wrong, for whoever wants to tell.
pub fn configure(settings: &Settings) -> Result<()> {
    Keepalive::set_for_servers(settings);
    let mut in_force = WANTED.write();
    let (next, outcome) = InForce::behind(in_force.take(), settings);
    *in_force = Some(next);
    outcome
}

/// Whether servers may ask for this.
pub(super) fn may_ask_for(demand: Demand) -> bool {
    matches!(&*WANTED.read(), Some(InForce { wanted: Ok(wanted), .. }) if wanted.methods.allow(demand))
}

/// As [`configure`], for processes whose parent has found the parameters to be good.
pub fn reload(settings: &Settings) {
    if let Err(report) = configure(settings) {
        Report::warning(report.to_string()).hint("It is tried again with the next connection to a server.").log();
    }
}

/// Why a connection cannot be used.
#[derive(Debug)]
pub(super) enum Insecure {
    /// pgpool stops.
    Stopped,
    /// The server went away, or was silent for too long.
    Lost(String),
    /// It is not as secure as it must be: why, and what to do.
    Refused(String, String),
}

impl Insecure {
    fn refused(cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused(cause.into(), hint.into())
    }

    /// As an error of the socket.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Stopped => io::Error::other("pgpool is being stopped"),
            Self::Lost(cause) | Self::Refused(cause, _) => io::Error::other(cause),
        }
    }
}

/// Makes a new connection to the server at `address` as secure as is wanted.
pub(super) fn secure(stream: &mut Stream, address: &Address, deadline: Deadline) -> Result<(), Insecure> {
    let due = WANTED.read().as_ref().and_then(|in_force| in_force.due.clone());
    if let Some(settings) = due {
        let _ = configure(&settings);
    }
    let connector = match WANTED.read().as_ref().map(|in_force| &in_force.wanted) {
        Some(Ok(wanted)) => wanted.connector.clone(),
        Some(Err(report)) => {
            return Err(Insecure::refused(report.message.clone(), report.hint.clone().unwrap_or_default()));
        }
        // Whoever forgets to configure must not log in in clear for it.
        None => return Err(Insecure::refused("TLS to servers is not configured", "This is an error of pgpool's.")),
    };
    secure_by(&connector, stream, address, deadline)
}

fn secure_by(
    connector: &Connector,
    stream: &mut Stream,
    address: &Address,
    deadline: Deadline,
) -> Result<(), Insecure> {
    let is_local = address.host.starts_with('/');
    if is_local || connector.mode() == SslMode::Disable {
        return Ok(());
    }
    if !connector.is_direct() && !agrees(stream, connector.is_opportunistic(), deadline)? {
        return Ok(());
    }
    stream.connect_tls(connector, &address.host, deadline).map_err(|error| failed(error, connector.mode()))?;
    if connector.is_direct() && !stream.tls(Session::has_agreed_on_protocol).unwrap_or(false) {
        let cause = "direct SSL connection was established without ALPN protocol negotiation extension";
        return Err(Insecure::refused(
            cause,
            "Set backend_sslnegotiation = postgres for servers before PostgreSQL 17.",
        ));
    }
    let (version, cipher) = stream.tls(Session::description).unwrap_or_default();
    Report::debug(format!("connection to {address} is encrypted: {version}, {cipher}")).log();
    Ok(())
}

/// Asks the server for TLS. Whether it has it; without it only who is opportunistic goes on.
fn agrees(stream: &Stream, is_opportunistic: bool, deadline: Deadline) -> Result<bool, Insecure> {
    let lost = |error: io::Error| Insecure::Lost(error.to_string());
    stream.send(&startup::TLS_REQUEST).map_err(lost)?;
    let mut answer = InBuffer::with_capacity(16);
    while answer.is_empty() {
        match answer.receive_until(stream, deadline) {
            Ok(Received::Closed) => {
                return Err(Insecure::Lost("the server closed the connection when asked for TLS".into()));
            }
            Ok(Received::Interrupted) if signal::told_to_stop() => return Err(Insecure::Stopped),
            Ok(Received::Bytes(_)) => {}
            Ok(_) if deadline.passed() => return Err(too_late()),
            Ok(_) => {}
            Err(error) => return Err(lost(error)),
        }
    }
    let kind = char::from(answer.bytes()[0]);
    Report::debug("attempting to negotiate a secure connection")
        .detail(format!("client->server SSL response: {}", kind.escape_default()))
        .log();
    match answer.bytes() {
        b"S" => Ok(true),
        b"N" if is_opportunistic => Ok(false),
        b"N" => Err(Insecure::refused(
            "the server does not support TLS, but backend_sslmode asks for it",
            "Set ssl = on in postgresql.conf of that server, or a weaker backend_sslmode.",
        )),
        // Such a server has no process for us; what it says cannot be trusted, and is not read.
        [b'E', ..] => Err(Insecure::Lost("server sent an error response during SSL exchange".into())),
        [b'S' | b'N', ..] => Err(Insecure::refused(
            "received unencrypted data after SSL request",
            "This could be an evidence of an attempted man-in-the-middle attack.",
        )),
        _ => Err(Insecure::refused(
            format!("unhandled response to the request for TLS: {}", kind.escape_default()),
            "Check that it is a PostgreSQL server.",
        )),
    }
}

fn too_late() -> Insecure {
    Insecure::Lost("no answer in time; see connect_timeout".to_owned())
}

fn failed(error: HandshakeError, mode: SslMode) -> Insecure {
    match error {
        HandshakeError::Stopped => Insecure::Stopped,
        HandshakeError::TimedOut => too_late(),
        HandshakeError::Closed => Insecure::Lost(error.to_string()),
        HandshakeError::Failed(cause) => {
            Report::log_line(format!("pool_ssl: \"SSL_connect\": \"{cause}\"")).log();
            let hint = match mode {
                SslMode::VerifyFull => {
                    "Check that backend_hostname is a name in the server's certificate, and that backend_sslrootcert or \
                     ssl_ca_cert holds the CA that has signed it."
                }
                SslMode::VerifyCa => {
                    "Check that backend_sslrootcert or ssl_ca_cert holds the CA that has signed the server's certificate."
                }
                _ => "Look into the server's log; see backend_sslmode.",
            };
            Insecure::refused(format!("the TLS handshake failed: {cause}"), hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendSslmode, BackendSslnegotiation};
    use crate::net::connect;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};
    use std::thread;
    use std::time::Duration;

    /// How a connection begins with a server that answers a request for TLS with these bytes, and what it hears behind the
    /// request.
    fn begin(settings: &Settings, answer: &'static [u8]) -> (Result<bool, Insecure>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().expect("address").port() };
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut heard = vec![0; 8];
            stream.read_exact(&mut heard).expect("request");
            stream.write_all(answer).expect("answer");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut heard);
            heard
        });
        let deadline = Deadline::after(Duration::from_secs(20));
        let mut stream = connect(&address, deadline).expect("connect");
        let connector = Connector::new(settings).expect("connector");
        let secured = secure_by(&connector, &mut stream, &address, deadline).map(|()| stream.is_tls());
        drop(stream);
        (secured, server.join().expect("server"))
    }

    #[test]
    fn what_cannot_be_used_is_due_and_nothing_weaker_stays() {
        let verifying = |authority: &str| Settings {
            backend_sslrootcert: authority.to_owned(),
            backend_require_auth: "scram-sha-256,none".to_owned(),
            ..with(BackendSslmode::VerifyCa)
        };
        let mode = |in_force: &InForce| in_force.wanted.as_ref().ok().map(|wanted| wanted.connector.mode());
        let (prefer, outcome) = InForce::behind(None, &with(BackendSslmode::Prefer));
        assert!(outcome.is_ok() && prefer.due.is_none());
        let (refusing, outcome) = InForce::behind(Some(prefer), &verifying("/nonexistent"));
        assert!(outcome.is_err() && refusing.due.is_some() && mode(&refusing).is_none());
        let system = verifying("");
        let (verified, outcome) = InForce::behind(Some(refusing), &system);
        assert!(outcome.is_ok() && verified.due.is_none() && mode(&verified) == Some(SslMode::VerifyCa));
        // Another authority is another wish; the same one that cannot be read now is not.
        let (other, _) = InForce::behind(Some(verified), &verifying("/nonexistent"));
        assert!(mode(&other).is_none());
        let (verified, _) = InForce::behind(None, &system);
        let broken = Settings { backend_sslcert: "/nonexistent".to_owned(), ..system.clone() };
        let (kept, outcome) = InForce::behind(Some(verified), &broken);
        assert!(outcome.is_err() && kept.due.is_some() && mode(&kept) == Some(SslMode::VerifyCa));
        let fewer = Settings { backend_require_auth: "scram-sha-256".to_owned(), ..broken };
        assert!(mode(&InForce::behind(Some(kept), &fewer).0).is_none());
    }

    fn with(mode: BackendSslmode) -> Settings {
        Settings { backend_sslmode: mode, ..Settings::default() }
    }

    #[test]
    fn only_a_plain_no_goes_on_in_clear() {
        let (prefer, require) = (with(BackendSslmode::Prefer), with(BackendSslmode::Require));
        let (secured, heard) = begin(&prefer, b"N");
        assert_eq!((secured.expect("in clear"), heard), (false, startup::TLS_REQUEST.to_vec()));
        for (settings, answer, told) in [
            (&require, &b"N"[..], "Refused(\"the server does not support TLS, but backend_sslmode asks for it"),
            (&prefer, b"Nx", "Refused(\"received unencrypted data after SSL request"),
            (&prefer, b"SR\0\0\0\x08\0\0\0\0", "Refused(\"received unencrypted data after SSL request"),
            (&prefer, b"E\0\0\0\x05\0", "Lost(\"server sent an error response during SSL exchange"),
            (&prefer, b"?", "Refused(\"unhandled response to the request for TLS: ?"),
            (&prefer, b"", "Lost(\"the server closed the connection when asked for TLS"),
        ] {
            let (refused, heard) = begin(settings, answer);
            let refused = format!("{:?}", refused.expect_err("refused"));
            assert!(refused.starts_with(told), "{refused}");
            assert_eq!(heard, startup::TLS_REQUEST, "{told}");
        }
    }

    #[test]
    fn a_handshake_that_fails_sends_nothing_else() {
        let direct = BackendSslnegotiation::Direct;
        let at_once = Settings { backend_sslnegotiation: direct, ..with(BackendSslmode::Require) };
        // Nothing of the protocol is in what the server hears: records of TLS only.
        let (refused, heard) = begin(&with(BackendSslmode::Prefer), b"S");
        assert!(matches!(refused, Err(Insecure::Lost(_))), "{refused:?}");
        assert!(heard.starts_with(&startup::TLS_REQUEST) && heard[8] == startup::TLS_HANDSHAKE, "{heard:?}");
        let (refused, heard) = begin(&at_once, b"N");
        assert!(refused.is_err() && heard[0] == startup::TLS_HANDSHAKE, "{refused:?} {heard:?}");
        // Who may go on in clear asks first.
        let asks = Settings { backend_sslnegotiation: direct, ..with(BackendSslmode::Prefer) };
        assert!(!begin(&asks, b"N").0.expect("in clear"));
    }
}
