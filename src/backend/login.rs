//! Logging in to a server (protocol 7). Methods other than trust come with authentication.

use super::connection::BUFFER;
use super::{ReplyQueue, ReplyState, ServerConnection};
use crate::net::{Address, ConnectError, Deadline, InBuffer, PATIENCE, Received, Stream, Waited, connect, wait};
use crate::report::{Report, SqlState};
use crate::sys::signal;
use crate::wire::backend::{self, Authentication};
use crate::wire::{HEADER_LENGTH, Header, TransactionStatus};
use nix::poll::PollFlags;
use std::time::SystemTime;

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
    /// It asks for something we cannot do.
    Unsupported(Report),
}

impl LoginError {
    /// The error as a report, for logs and our own queries.
    pub fn into_report(self, node: usize) -> Report {
        match self {
            Self::NotConnected(report, _) | Self::Unreachable(report) | Self::Unsupported(report) => report,
            Self::Refused(message) => {
                let fields = backend::ErrorFields::new(message.get(HEADER_LENGTH..).unwrap_or_default());
                Report::error(format!("DB node id: {node} refused the connection: {}", fields.message()))
                    .code(SqlState::from_bytes(fields.code()))
            }
        }
    }
}

/// Connects to `address`, which is node `node`, and logs in with the startup packet `startup`, all within `deadline`.
pub fn open(
    node: usize,
    address: &Address,
    startup: &[u8],
    deadline: Deadline,
) -> Result<ServerConnection, LoginError> {
    open_within(node, address, startup, deadline, deadline)
}

/// As [`open`], with a limit of its own for the connection: `connected_by`.
pub(super) fn open_within(
    node: usize,
    address: &Address,
    startup: &[u8],
    connected_by: Deadline,
    deadline: Deadline,
) -> Result<ServerConnection, LoginError> {
    let stream = connect(address, connected_by).map_err(|error| unreachable(node, address, error))?;
    let mut login = Login { node, address, deadline, input: InBuffer::with_capacity(BUFFER) };
    stream.set_patience(PATIENCE).map_err(|error| login.lost(&error.to_string()))?;
    login.send(&stream, startup)?;
    let mut connection = ServerConnection {
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
        created: SystemTime::now(),
    };
    login.run(&mut connection)?;
    connection.input = login.input;
    Ok(connection)
}

fn unreachable(node: usize, address: &Address, error: ConnectError) -> LoginError {
    let hint = match &error {
        ConnectError::Stopped => return stopped(),
        ConnectError::Resolve { .. } => "Check backend_hostname and the name service.",
        ConnectError::TimedOut => "Check that the server runs and that no firewall drops packets; see connect_timeout.",
        ConnectError::Failed(_) => "Check that the server runs and listens on this address.",
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

struct Login<'a> {
    node: usize,
    address: &'a Address,
    deadline: Deadline,
    input: InBuffer,
}

impl Login<'_> {
    fn run(&mut self, connection: &mut ServerConnection) -> Result<(), LoginError> {
        loop {
            let header = self.next_message(&connection.stream)?;
            let message = &self.input.bytes()[..header.total];
            let content = &message[HEADER_LENGTH..];
            let malformed = |error: crate::wire::Malformed| {
                LoginError::Unreachable(
                    Report::error(format!("DB node id: {} does not speak the protocol: {error}", self.node))
                        .hint(format!("Check that {} is a PostgreSQL server.", self.address)),
                )
            };
            match header.kind {
                b'R' => match backend::authentication(content).map_err(malformed)? {
                    Authentication::Ok => {}
                    Authentication::Method(code, _) => return Err(self.unsupported(code)),
                },
                b'S' => {
                    let (name, value) = backend::parameter_status(content).map_err(malformed)?;
                    connection.remember_parameter(name, value);
                }
                b'K' => {
                    let (pid, key) = backend::backend_key_data(content).map_err(malformed)?;
                    connection.pid = pid;
                    connection.cancel_key = key.to_vec();
                }
                b'v' => connection.negotiation = message.to_vec(),
                b'N' => {
                    let text = backend::ErrorFields::new(content).message();
                    Report::log_line(format!("DB node id: {}: notice during login: {text}", self.node)).log();
                }
                b'E' => return Err(LoginError::Refused(message.to_vec())),
                b'Z' => {
                    connection.status = backend::ready_for_query(content).map_err(malformed)?;
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

    /// Waits until a whole message is in the buffer.
    fn next_message(&mut self, stream: &Stream) -> Result<Header, LoginError> {
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
            match self.input.receive_until(stream, self.deadline) {
                Ok(Received::Closed) => return Err(self.lost("the server closed the connection")),
                Ok(Received::Interrupted) if signal::told_to_stop() => return Err(stopped()),
                Ok(_) if self.deadline.passed() => return Err(self.too_late()),
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error.to_string())),
            }
        }
    }

    fn send(&self, stream: &Stream, mut bytes: &[u8]) -> Result<(), LoginError> {
        while !bytes.is_empty() {
            let sent = stream.send(bytes).map_err(|error| self.lost(&error.to_string()))?;
            bytes = &bytes[sent..];
            if sent == 0 {
                self.wait_for_room(stream)?;
            }
        }
        Ok(())
    }

    fn too_late(&self) -> LoginError {
        self.lost("no answer in time; see connect_timeout and authentication_timeout")
    }

    fn wait_for_room(&self, stream: &Stream) -> Result<(), LoginError> {
        match wait(stream, PollFlags::POLLOUT, self.deadline) {
            Ok(Waited::Ready) => Ok(()),
            Ok(Waited::TooLate) => Err(self.too_late()),
            Ok(Waited::Stopped) => Err(stopped()),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    fn lost(&self, cause: &str) -> LoginError {
        LoginError::Unreachable(
            Report::error(format!("failed to create a backend {} connection", self.node))
                .detail(format!("logging in to {} failed: {cause}", self.address))
                .code(SqlState::UNABLE_TO_ESTABLISH),
        )
    }

    fn unsupported(&self, code: u32) -> LoginError {
        let method = backend::authentication_name(code);
        LoginError::Unsupported(
            Report::fatal(format!(
                "DB node id: {} asks for {method} authentication, which is not supported",
                self.node
            ))
            .hint("Let pgpool's host in with method trust in pg_hba.conf of the server.")
            .code(SqlState::FEATURE_NOT_SUPPORTED),
        )
    }
}
