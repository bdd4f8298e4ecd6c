//! Small queries of our own, on connections of our own: node discovery, checks, catalog facts.

use super::{Awaited, Deliver, Login, LoginError, ServerConnection};
use crate::auth::Credential;
use crate::auth::passwords::Passwords;
use crate::config::{NodeSettings, Settings};
use crate::net::{Address, Deadline, Received, Stream};
use crate::report::{Report, Result, SqlState};
use crate::sys::signal;
use crate::wire::{Cursor, HEADER_LENGTH, Header, TransactionStatus, backend, write};
use nix::poll::{PollFd, PollFlags, poll};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How often it is looked whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(200);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// The rows of an answer; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// A user of pgpool's own (auth 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name of the user.
    pub user: String,
    /// Database to log in to.
    pub database: String,
    /// What logs in.
    pub credential: Credential,
}

impl Account {
    /// User, password parameter and database; empty ones mean `postgres`, the entry in pool_passwd, and `postgres`. All users
    /// of pgpool's own log in by this (auth 9.1).
    pub fn new(settings: &Settings, user: &str, password: &str, database: &str) -> Self {
        Self::by(&mut Passwords::new(settings), user, password, database)
    }

    /// The same, by a pool_passwd that has been read already.
    pub fn by(passwords: &mut Passwords, user: &str, password: &str, database: &str) -> Self {
        let or_postgres = |name: &str| if name.is_empty() { "postgres" } else { name }.to_owned();
        let (user, database) = (or_postgres(user), or_postgres(database));
        let credential = passwords.own_user(&user, password);
        Self { user, database, credential }
    }

    /// That of `sr_check_user`.
    pub fn sr_check(settings: &Settings) -> Self {
        Self::new(settings, &settings.sr_check_user, &settings.sr_check_password, &settings.sr_check_database)
    }

    /// That of a node's `health_check_user`.
    pub fn health_check(settings: &Settings, node: &NodeSettings) -> Self {
        Self::new(settings, &node.health_check_user, &node.health_check_password, &node.health_check_database)
    }
}

/// A connection for our own queries.
#[derive(Debug)]
pub struct Connection(ServerConnection);

impl Connection {
    /// Connects to node `node` at `address` and logs in, all within `deadline`.
    pub fn open(node: usize, address: &Address, account: &Account, deadline: Deadline) -> Result<Self> {
        Self::login(node, address, account, deadline).map_err(|error| error.into_report(node))
    }

    /// As [`Connection::open`], telling apart why it failed.
    pub fn login(node: usize, address: &Address, account: &Account, deadline: Deadline) -> Result<Self, LoginError> {
        Self::login_within(node, address, account, deadline, deadline)
    }

    /// As [`Connection::login`], with a limit of its own for the connection, which the login does not need to keep.
    pub fn login_within(
        node: usize,
        address: &Address,
        Account { user, database, credential }: &Account,
        connect: Deadline,
        deadline: Deadline,
    ) -> Result<Self, LoginError> {
        let mut startup = Vec::new();
        write::startup(&mut startup, &[("user", user), ("database", database), ("application_name", "pgpool")]);
        Login::begin(node, address, &startup, connect, deadline)?.finish(credential, deadline).map(Self)
    }

    /// Runs `sql` and returns its rows.
    ///
    /// # Errors
    /// The server's error, or that it went away, or that `deadline` has passed: [`Connection::is_usable`] tells them apart.
    pub fn query(&mut self, sql: &str, deadline: Deadline) -> Result<Rows> {
        query(&mut self.0, sql, deadline)
    }

    /// Whether it can be asked again: the server has answered everything, be it by an error, and is in no transaction.
    pub fn is_usable(&self) -> bool {
        self.0.is_clean()
    }

    /// A descriptor that is readable as soon as the server goes away, or says something unasked.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.0.stream.as_fd().try_clone_to_owned()
    }

    /// As [`Connection::query`], with text values for `$1` and so on.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub fn query_with(&mut self, sql: &str, values: &[&[u8]], deadline: Deadline) -> Result<Rows> {
        let Self(connection) = self;
        write::query_with(&mut connection.output, sql.as_bytes(), values);
        for awaited in [Awaited::Parse, Awaited::Bind, Awaited::Execute, Awaited::Sync] {
            connection.replies.sent(awaited, Deliver::Silent);
        }
        let last = connection.replies.last_number();
        collect(connection, last - 3..=last, sql.as_bytes(), deadline, &|| false)
    }

    /// Says goodbye.
    pub fn close(self) {
        self.0.close();
    }
}

/// Runs `sql` on a connection to which nothing is owed but answers that nobody waits for, and returns its rows.
pub(crate) fn query(connection: &mut ServerConnection, sql: impl AsRef<[u8]>, deadline: Deadline) -> Result<Rows> {
    query_unless(connection, sql, deadline, &|| false)
}

/// As [`query`], between a client's statements: in a transaction block within a savepoint of its own, so that the block goes on
/// as it was, whatever the answer is, locks included.
pub(crate) fn query_aside(connection: &mut ServerConnection, sql: &str, deadline: Deadline) -> Result<Rows> {
    /// No client is likely to have this name, and if one does, his savepoint is there again afterwards.
    const SAVEPOINT: &str = "_pgpool_aside";
    if connection.status == TransactionStatus::Idle {
        return query(connection, sql, deadline);
    }
    let undo = format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}; RELEASE SAVEPOINT {SAVEPOINT}");
    let answer = query(connection, format!("SAVEPOINT {SAVEPOINT}; {sql}; {undo}"), deadline);
    if connection.status == TransactionStatus::Failed {
        query(connection, undo, deadline)?;
    }
    answer
}

/// As [`query`], but ends soon after `given_up` says that nobody wants the answer any more.
pub(crate) fn query_unless(
    connection: &mut ServerConnection,
    sql: impl AsRef<[u8]>,
    deadline: Deadline,
    given_up: &dyn Fn() -> bool,
) -> Result<Rows> {
    let sql = sql.as_ref();
    write::query(&mut connection.output, sql);
    connection.replies.sent(Awaited::Query, Deliver::Silent);
    let number = connection.replies.last_number();
    collect(connection, number..=number, sql, deadline, given_up)
}

/// The rows that answer the messages with these numbers, which say `sql`.
fn collect(
    connection: &mut ServerConnection,
    numbers: RangeInclusive<u64>,
    sql: &[u8],
    deadline: Deadline,
    given_up: &dyn Fn() -> bool,
) -> Result<Rows> {
    let mut rows = Vec::new();
    let mut failure = None;
    let mut read = 0;
    loop {
        let header = next_message(connection, deadline, given_up)?;
        let content = &connection.input.bytes()[HEADER_LENGTH..header.total];
        match header.kind {
            b'D' => rows.push(row(content).ok_or_else(|| broken(connection.node, "malformed DataRow"))?),
            // Answers nobody waits for may come first; their errors are no concern of this query.
            b'E' if numbers.contains(&connection.replies.first_number()) => {
                let fields = backend::ErrorFields::new(content);
                failure = Some(
                    Report::error(format!(
                        "DB node id: {} answered with an error: {}",
                        connection.node,
                        fields.message()
                    ))
                    .context(format!("while running {}", String::from_utf8_lossy(sql)))
                    .code(SqlState::from_bytes(fields.code())),
                );
            }
            b'S' | b'A' => connection.set_aside(header.total),
            b'Z' => {
                connection.status =
                    backend::ready_for_query(content).map_err(|error| broken(connection.node, &error.to_string()))?;
            }
            _ => {}
        }
        connection.input.consume(header.total);
        read += header.total;
        if read > MAX_ANSWER {
            return Err(broken(connection.node, "the answer is too long"));
        }
        if !matches!(header.kind, b'N' | b'S' | b'A') {
            let step = connection
                .replies
                .received(header.kind)
                .map_err(|_| broken(connection.node, &format!("unexpected {}", backend::name(header.kind))))?;
            if step.number == *numbers.end() && step.finished.is_some() {
                return failure.map_or(Ok(rows), Err);
            }
        }
    }
}

fn row(content: &[u8]) -> Option<Vec<Option<String>>> {
    let mut cursor = Cursor::new(content);
    let columns = cursor.u16()?;
    (0..columns)
        .map(|_| match cursor.u32()? {
            u32::MAX => Some(None),
            length => Some(Some(String::from_utf8_lossy(cursor.take(length as usize)?).into_owned())),
        })
        .collect()
}

/// Sends what waits and receives until a whole message is there.
fn next_message(connection: &mut ServerConnection, deadline: Deadline, given_up: &dyn Fn() -> bool) -> Result<Header> {
    let node = connection.node;
    loop {
        match Header::read(connection.input.bytes(), backend::name) {
            Ok(Some(header)) if header.total > MAX_ANSWER => return Err(broken(node, "the answer is too long")),
            Ok(Some(header)) if header.total <= connection.input.len() => return Ok(header),
            Ok(Some(header)) => connection.input.make_room(header.total),
            Ok(None) => {}
            Err(error) => return Err(broken(node, &error.to_string())),
        }
        let took_all = connection.flush().map_err(|error| broken(node, &error.to_string()))?;
        let ServerConnection { input, stream, .. } = connection;
        let soon = deadline.min(Deadline::after(LOOK));
        let received = if took_all {
            input.receive_until(stream, soon)
        } else {
            wait_for_room(stream, soon).and_then(|()| input.receive(stream, false))
        };
        match received {
            Ok(Received::Closed) => return Err(broken(node, "EOF encountered with backend")),
            Ok(Received::Interrupted) if signal::told_to_stop() => return Err(broken(node, "pgpool is being stopped")),
            Ok(Received::Nothing | Received::Interrupted) if given_up() => {
                return Err(broken(node, "the node has been detached"));
            }
            Ok(_) if deadline.passed() => return Err(broken(node, "no answer in time")),
            Ok(_) => {}
            Err(error) => return Err(broken(node, &error.to_string())),
        }
    }
}

/// Waits until the server takes more of a long query, or says something.
fn wait_for_room(stream: &Stream, deadline: Deadline) -> io::Result<()> {
    let events = PollFlags::POLLIN | PollFlags::POLLOUT;
    match poll(&mut [PollFd::new(stream.as_fd(), events)], deadline.poll_timeout()) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn broken(node: usize, cause: &str) -> Report {
    Report::error(format!("unable to read data from DB node {node}")).detail(cause).code(SqlState::CONNECTION_FAILURE)
}
