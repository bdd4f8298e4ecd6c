//! Logging in to a server (protocol 7), in two steps: up to what it asks for ([`Login::begin`]), and the rest
//! ([`Login::finish`]). In between a client can be asked for its password.

use super::connection::BUFFER;
use super::prove::{self, Demand, Request};
use super::secure::{Insecure, may_ask_for, secure};
use super::{ReplyQueue, ReplyState, ServerConnection};
use crate::auth::Credential;
use crate::net::tls::Session;
use crate::net::{Address, ConnectError, Deadline, InBuffer, Peer, Received, Waited, connect, wait};
use crate::report::{Report, Severity, SqlState};
use crate::sys::signal;
use crate::wire::{HEADER_LENGTH, Header, Malformed, TransactionStatus, backend, startup};
use nix::poll::PollFlags;
use std::time::Instant;

/// The longest message a server may send before it is ready, in bytes.
const MAX_LOGIN_MESSAGE: usize = 64 * 1024;

/// Why there is no session on the server.
#[derive(Debug)]
pub enum LoginError {
    /// There is no connection to it.
    NotConnected(Report, Box<ConnectError>),
    /// It went away during the login, or was silent for too long, or pgpool stops.
    Unreachable(Report),
    /// It refused: its ErrorResponse, whole message, to be relayed unchanged (protocol 7.4).
    Refused(Vec<u8>),
    /// It asks for something we cannot do: no fault of its own.
    Unsupported(Report),
    /// pgpool or its machine has no descriptor, port or memory left for a connection: nothing is known of the server.
    Ours(Report),
}

impl LoginError {
    /// The error as a report, for logs and our own queries.
    pub fn into_report(self, node: usize) -> Report {
        match self {
            Self::NotConnected(report, _)
            | Self::Unreachable(report)
            | Self::Unsupported(report)
            | Self::Ours(report) => report,
            Self::Refused(message) => {
                let fields = backend::ErrorFields::new(message.get(HEADER_LENGTH..).unwrap_or_default());
                Report::error(format!("DB node id: {node} refused the connection: {}", fields.message()))
                    .code(SqlState::from_bytes(fields.code()))
            }
        }
    }
}

/// Connects to `address`, which is node `node`, and logs in with the startup packet `startup` and `credential`, all within
/// `deadline`.
pub fn open(
    node: usize,
    address: &Address,
    startup: &[u8],
    credential: &Credential,
    deadline: Deadline,
) -> Result<ServerConnection, LoginError> {
    Login::begin(node, address, startup, deadline, deadline)?.finish(credential, deadline)
}

/// A login under way: the server has said what it asks for.
#[derive(Debug)]
pub struct Login<'a> {
    pub(super) node: usize,
    address: &'a Address,
    deadline: Deadline,
    input: InBuffer,
    connection: ServerConnection,
    request: Request,
    startup: &'a [u8],
}

impl<'a> Login<'a> {
    /// Connects until `connected_by`, sends the startup packet, and waits for the answer until `deadline`.
    pub fn begin(
        node: usize,
        address: &'a Address,
        startup: &'a [u8],
        connected_by: Deadline,
        deadline: Deadline,
    ) -> Result<Self, LoginError> {
        let stream = connect(address, connected_by).map_err(|error| unreachable(node, address, error))?;
        let connection = ServerConnection {
            node,
            stream,
            input: InBuffer::default(),
            output: Vec::new(),
            replies: ReplyQueue::default(),
            state: ReplyState::Between,
            status: TransactionStatus::Idle,
            pid: 0,
            cancel_key: Vec::new(),
            parameters: Vec::new(),
            negotiation: Vec::new(),
            aside: Vec::new(),
            warned: false,
            broken: None,
            created: Instant::now(),
            demand: Demand::Nothing,
            typed: None,
        };
        let input = InBuffer::with_capacity(BUFFER);
        let mut login = Self { node, address, deadline, input, connection, request: Request::Nothing, startup };
        login.secure()?;
        login.send(startup)?;
        login.request = login.next_request()?;
        login.connection.demand = match login.request.demand() {
            Demand::Nothing if login.shows_certificate() => Demand::Certificate,
            Demand::Nothing if *login.connection.stream.peer() == Peer::Local => Demand::OsUser,
            demand => demand,
        };
        if may_ask_for(login.demand()) { Ok(login) } else { Err(login.forbidden()) }
    }

    /// What the server asks for.
    pub fn demand(&self) -> Demand {
        self.connection.demand
    }

    /// Data for channel binding, with TLS (auth 14.3).
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        self.connection.stream.tls(Session::server_end_point).flatten()
    }

    /// Whether the server may have taken a certificate for our proof.
    fn shows_certificate(&self) -> bool {
        self.connection.stream.tls(Session::has_own_certificate).unwrap_or(false)
    }

    /// The user of the startup packet.
    pub(super) fn user(&self) -> Vec<u8> {
        match startup::read(self.startup) {
            Ok(startup::Request::Startup(packet)) => packet.get("user").unwrap_or_default().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Proves who we are, and reads until the server is ready, by `deadline`.
    pub fn finish(mut self, credential: &Credential, deadline: Deadline) -> Result<ServerConnection, LoginError> {
        self.deadline = deadline;
        let request = std::mem::replace(&mut self.request, Request::Nothing);
        prove::prove(&mut self, request, credential)?;
        self.run()?;
        self.connection.input = self.input;
        Ok(self.connection)
    }
}

fn unreachable(node: usize, address: &Address, error: ConnectError) -> LoginError {
    let hint = match &error {
        ConnectError::Stopped => return stopped(),
        ConnectError::Resolve { .. } => "Check backend_hostname and the name service.",
        ConnectError::TimedOut => "Check that the server runs and that no firewall drops packets; see connect_timeout.",
        ConnectError::Failed(_) => "Check that the server runs and listens on this address.",
        ConnectError::Ours(_) => {
            let report = Report::warning(format!("no connection to DB node {node} can be made"))
                .detail(error.to_string())
                .hint("Raise the limits of pgpool's process or machine: ulimit -n, net.ipv4.ip_local_port_range.")
                .code(SqlState::TOO_MANY_CONNECTIONS);
            report.log();
            return LoginError::Ours(Report { severity: Severity::Fatal, ..report });
        }
    };
    let report = Report::error(format!("failed to create a backend {node} connection"))
        .detail(format!("connecting to {address} failed: {error}"))
        .hint(hint)
        .code(SqlState::UNABLE_TO_ESTABLISH);
    LoginError::NotConnected(report, Box::new(error))
}

/// pgpool stops: whoever waits for the server learns that, and not that the server is at fault.
fn stopped() -> LoginError {
    LoginError::Unreachable(
        Report::fatal("terminating connection due to administrator command")
            .detail("pgpool is being stopped.")
            .code(SqlState::ADMIN_SHUTDOWN),
    )
}

impl Login<'_> {
    /// The next authentication request. Notices on the way are logged.
    pub(super) fn next_request(&mut self) -> Result<Request, LoginError> {
        loop {
            let header = self.next_message()?;
            let message = &self.input.bytes()[..header.total];
            let content = &message[HEADER_LENGTH..];
            let request = match header.kind {
                b'R' => Some(Request::read(content, self.node).map_err(|error| match error {
                    prove::Strange::Malformed(error) => self.malformed(&error),
                    prove::Strange::Unsupported(report) => LoginError::Unsupported(*report),
                })?),
                b'v' => {
                    self.connection.negotiation = message.to_vec();
                    None
                }
                b'N' => {
                    self.log_notice(content);
                    None
                }
                b'E' => return Err(LoginError::Refused(message.to_vec())),
                kind => return Err(self.lost(&format!("unexpected {} during login", backend::name(kind)))),
            };
            self.input.consume(header.total);
            if let Some(request) = request {
                return Ok(request);
            }
        }
    }

    /// From AuthenticationOk to ReadyForQuery.
    fn run(&mut self) -> Result<(), LoginError> {
        loop {
            let header = self.next_message()?;
            let message = &self.input.bytes()[..header.total];
            let content = &message[HEADER_LENGTH..];
            match header.kind {
                b'S' => {
                    let (name, value) = backend::parameter_status(content).map_err(|error| self.malformed(&error))?;
                    self.connection.remember_parameter(name, value);
                }
                b'K' => {
                    let (pid, key) = backend::backend_key_data(content).map_err(|error| self.malformed(&error))?;
                    self.connection.pid = pid;
                    self.connection.cancel_key = key.to_vec();
                }
                b'v' => self.connection.negotiation = message.to_vec(),
                b'N' => self.log_notice(content),
                b'E' => return Err(LoginError::Refused(message.to_vec())),
                b'Z' => {
                    self.connection.status =
                        backend::ready_for_query(content).map_err(|error| self.malformed(&error))?;
                    self.input.consume(header.total);
                    return Ok(());
                }
                kind => {
                    return Err(self.lost(&format!("unexpected {} during login", backend::name(kind))));
                }
            }
            self.input.consume(header.total);
        }
    }

    fn log_notice(&self, content: &[u8]) {
        let text = backend::ErrorFields::new(content).message();
        Report::log_line(format!("DB node id: {}: notice during login: {text}", self.node)).log();
    }

    fn malformed(&self, error: &Malformed) -> LoginError {
        LoginError::Unreachable(
            Report::error(format!("DB node id: {} does not speak the protocol: {error}", self.node))
                .hint(format!("Check that {} is a PostgreSQL server.", self.address)),
        )
    }

    /// Waits until a whole message is in the buffer.
    fn next_message(&mut self) -> Result<Header, LoginError> {
        loop {
            match Header::read(self.input.bytes(), backend::name) {
                Ok(Some(header)) if header.total > MAX_LOGIN_MESSAGE => {
                    return Err(self.lost("a message of that length cannot be part of a login"));
                }
                Ok(Some(header)) if header.total <= self.input.len() => return Ok(header),
                Ok(Some(header)) => self.input.make_room(header.total),
                Ok(None) => {}
                Err(error) => return Err(self.lost(&error.to_string())),
            }
            match self.input.receive_until(&self.connection.stream, self.deadline) {
                Ok(Received::Closed) => return Err(self.lost("the server closed the connection")),
                Ok(Received::Interrupted) if signal::told_to_stop() => return Err(stopped()),
                Ok(_) if self.deadline.passed() => return Err(self.too_late()),
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error.to_string())),
            }
        }
    }

    pub(super) fn send(&self, mut bytes: &[u8]) -> Result<(), LoginError> {
        while !bytes.is_empty() {
            let sent = self.connection.stream.send(bytes).map_err(|error| self.lost(&error.to_string()))?;
            bytes = &bytes[sent..];
            if sent == 0 {
                self.wait_for_room()?;
            }
        }
        Ok(())
    }

    fn too_late(&self) -> LoginError {
        self.lost("no answer in time; see connect_timeout and authentication_timeout")
    }

    fn wait_for_room(&self) -> Result<(), LoginError> {
        match wait(&self.connection.stream, PollFlags::POLLOUT, self.deadline) {
            Ok(Waited::Ready) => Ok(()),
            Ok(Waited::TooLate) => Err(self.too_late()),
            Ok(Waited::Stopped) => Err(stopped()),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    fn secure(&mut self) -> Result<(), LoginError> {
        let secured = secure(&mut self.connection.stream, self.address, self.deadline);
        secured.map_err(|error| match error {
            Insecure::Stopped => stopped(),
            Insecure::Lost(cause) => self.lost(&cause),
            Insecure::Refused(cause, hint) => LoginError::Unsupported(
                Report::error(format!("failed to create a backend {} connection", self.node))
                    .detail(format!("connecting to {} failed: {cause}", self.address))
                    .hint(hint)
                    .code(SqlState::UNABLE_TO_ESTABLISH),
            ),
        })
    }

    fn forbidden(&self) -> LoginError {
        let asked = self.demand().name();
        LoginError::Unsupported(
            Report::error(format!("failed to create a backend {} connection", self.node))
                .detail(format!(
                    "authentication method requirement failed: {} asks for \"{asked}\", which backend_require_auth does not allow",
                    self.address
                ))
                .hint("Look at pg_hba.conf of the server, or allow it in backend_require_auth.")
                .code(SqlState::UNABLE_TO_ESTABLISH),
        )
    }

    pub(super) fn lost(&self, cause: &str) -> LoginError {
        LoginError::Unreachable(
            Report::error(format!("failed to create a backend {} connection", self.node))
                .detail(format!("logging in to {} failed: {cause}", self.address))
                .hint("The log of that server may tell more.")
                .code(SqlState::UNABLE_TO_ESTABLISH),
        )
    }
}
