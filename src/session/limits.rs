//! How long a client may be silent, and a server at work: `client_idle_limit` and its like, `client_query_limit`
//! (process-model 7.8). And how long a message may be.
//!
//! Whose turn it is is told from outside: by what has been received from the client, and by the message that the server
//! answers. A limit counts from the moment in which the turn was first waited in; when it is over is known to the wait, and
//! nothing else wakes a session.
//!
//! Nobody is blamed for somebody else: a client is not silent while a server does not take what it sends, and neither a
//! client is nor a server slow while the client has not read what it was told. Nor does a limit end what has been received
//! and was not looked at yet.

use super::Session;
use super::end::End;
use super::requests::RequestState;
use crate::backend::{ServerConnection, cancel};
use crate::net::Deadline;
use crate::report::{Report, Severity, SqlState};
use crate::wire::{Header, TransactionStatus, frontend};
use nix::poll::PollFlags;
use std::time::{Duration, Instant};

/// How long a server may take to end a statement that was cancelled.
const GRACE: Duration = Duration::from_secs(10);

/// Who is to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The client, to send; so often it has said something.
    Client { heard: u64 },
    /// That server, to answer the message with that number.
    Server { node: usize, number: u64 },
    /// That server, to take what the client sends, which has been heard so often. `copy`: the rows of a COPY.
    Taker { node: usize, heard: u64, copy: bool },
}

/// Whose turn it is, since when.
#[derive(Debug)]
pub(super) struct Turn {
    whose: Whose,
    since: Instant,
    /// The server was told to give up.
    cancelled: Option<Instant>,
    /// The client does not take what it is told, since then.
    paused: Option<Instant>,
}

impl Turn {
    pub fn new() -> Self {
        Self::of(Whose::Client { heard: 0 })
    }

    fn of(whose: Whose) -> Self {
        Self { whose, since: Instant::now(), cancelled: None, paused: None }
    }

    /// The time of the pause does not count.
    fn go_on(&mut self) {
        if let Some(paused) = self.paused.take() {
            let lost = paused.elapsed();
            self.since += lost;
            self.cancelled = self.cancelled.map(|cancelled| cancelled + lost);
        }
    }
}

/// A limit in force: what ends, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// The session, for a parameter in seconds.
    Idle(&'static str, i32),
    /// The session, for a transaction that is left open so many seconds.
    InTransaction(i32),
    /// The statement, by a cancel request, after so many milliseconds.
    Query(i32),
    /// The session, whose server does not end its statement.
    Hung(i32),
}

impl Limit {
    fn after(self) -> Duration {
        match self {
            Self::Idle(_, seconds) | Self::InTransaction(seconds) => Duration::from_secs(number(seconds)),
            Self::Query(milliseconds) => Duration::from_millis(number(milliseconds)),
            Self::Hung(_) => GRACE,
        }
    }
}

fn number(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

impl Session<'_> {
    /// Whether servers have a limit: they may be over it without ever being waited for.
    #[inline]
    pub(super) fn limits_queries(&self) -> bool {
        self.context.settings.client_query_limit > 0
    }

    /// When the present turn is over its limit.
    pub(super) fn turn_deadline(&mut self) -> Deadline {
        self.note_turn();
        self.limit().map_or(Deadline::NEVER, |(limit, since)| Deadline::at(since + limit.after()))
    }

    /// Ends what has taken too long. The limit need not be the one that was in force when the wait began.
    pub(super) fn heed_turn(&mut self) -> Result<(), End> {
        if !self.turn_deadline().passed() {
            return Ok(());
        }
        match self.limit() {
            Some((Limit::Query(limit), _)) => self.cancel_statement(limit),
            Some((limit, _)) => Err(self.too_long(limit)),
            None => Ok(()),
        }
    }

    /// Before the server is asked for more: ends its statement if that has taken too long though it never had to be waited
    /// for. Unless more was sent behind it, since a cancel request meets what the server is at.
    pub(super) fn heed_flowing_turn(&mut self) -> Result<(), End> {
        let is_last = |server: &ServerConnection| server.replies.owes_one_batch() && server.replies.will_answer();
        let is_last = self.group.get(self.active).is_some_and(is_last);
        self.note_turn();
        match self.turn.whose {
            Whose::Server { .. } if is_last => self.heed_turn(),
            _ => Ok(()),
        }
    }

    /// What would end the present turn: that node can be read or written, or the client be read (`None`).
    pub(super) fn turn_ends_by(&self) -> (Option<usize>, PollFlags) {
        match self.turn.whose {
            Whose::Client { .. } => (None, PollFlags::POLLIN),
            Whose::Server { node, .. } => (Some(node), PollFlags::POLLIN),
            Whose::Taker { node, .. } => (Some(node), PollFlags::POLLOUT),
        }
    }

    fn note_turn(&mut self) {
        if !self.client.output.is_empty() {
            self.turn.paused.get_or_insert_with(Instant::now);
            return;
        }
        let whose = self.whose_turn();
        if whose == self.turn.whose {
            self.turn.go_on();
        } else {
            self.turn = Turn::of(whose);
        }
    }

    fn whose_turn(&self) -> Whose {
        let heard = self.client.heard;
        let Some(server) = self.group.get(self.active) else { return Whose::Client { heard } };
        let (node, copy) = (self.active, server.replies.is_copying_in());
        // The client is to send more while the server reads a copy, and while all that is awaited is the answer to a
        // message that is not here completely.
        let is_receiving = matches!(self.request_state, RequestState::Inside { .. }) && server.replies.len() <= 1;
        if server.replies.is_working() && !copy && !is_receiving {
            return Whose::Server { node, number: server.replies.first_number() };
        }
        if self.congested || self.blocked || !server.output.is_empty() {
            return Whose::Taker { node, heard, copy };
        }
        Whose::Client { heard }
    }

    /// The limit of the present turn that is reached first, and since when it counts.
    fn limit(&self) -> Option<(Limit, Instant)> {
        let settings = &self.context.settings;
        let Turn { whose, since, cancelled, paused } = self.turn;
        match (whose, cancelled) {
            _ if paused.is_some() => None,
            // How long each statement of a batch takes is not known before its answers are asked for.
            (Whose::Taker { copy: false, .. }, _) => None,
            (Whose::Server { .. } | Whose::Taker { .. }, Some(cancelled)) => {
                Some((Limit::Hung(settings.client_query_limit), cancelled))
            }
            (Whose::Server { .. } | Whose::Taker { .. }, None) => {
                Some((Limit::Query(settings.client_query_limit), since)).filter(|_| self.limits_queries())
            }
            (Whose::Client { .. }, _) => {
                let (name, idle) = self.idle_limit();
                let in_transaction = match self.group.status(self.home) {
                    TransactionStatus::Idle => 0,
                    _ => settings.client_idle_in_transaction_limit,
                };
                let idle = (idle != 0).then_some(Limit::Idle(name, idle));
                let in_transaction = (in_transaction > 0).then_some(Limit::InTransaction(in_transaction));
                let first = idle.into_iter().chain(in_transaction).min_by_key(|limit| limit.after());
                first.map(|limit| (limit, since))
            }
        }
    }

    /// Another limit is in force while an administrator's request waits for the clients to leave (failover 15.5).
    fn idle_limit(&self) -> (&'static str, i32) {
        let settings = &self.context.settings;
        match self.context.shared.hold().left() {
            Some(_) => ("client_idle_limit_in_recovery", settings.client_idle_limit_in_recovery),
            None => ("client_idle_limit", settings.client_idle_limit),
        }
    }

    fn too_long(&self, limit: Limit) -> End {
        let operator = SqlState::OPERATOR_INTERVENTION;
        match limit {
            Limit::Idle(name, -1) => Report::error("connection terminated due to online recovery")
                .detail(format!("child connection forced to terminate due to {name} = -1"))
                .code(operator),
            Limit::Idle(name, limit) => Report::fatal("unable to read data")
                .detail(format!("child connection forced to terminate due to {name}:{limit} is reached"))
                .code(operator),
            Limit::InTransaction(limit) => Report::fatal("terminating connection due to idle-in-transaction timeout")
                .detail(format!(
                    "The client has sent nothing for {limit} seconds (client_idle_in_transaction_limit) inside a \
                         transaction, which is rolled back."
                ))
                .code(SqlState::IDLE_IN_TRANSACTION_TIMEOUT),
            Limit::Query(limit) | Limit::Hung(limit) => {
                Report::fatal(format!("DB node {} does not end a statement that was cancelled", self.active))
                    .detail(format!(
                        "It has taken longer than client_query_limit ({limit} ms), and {} seconds since. Whether it \
                         was carried out is not known; an open transaction is rolled back, unless the statement was \
                         its COMMIT.",
                        GRACE.as_secs()
                    ))
                    .code(SqlState::QUERY_CANCELED)
            }
        }
        .into()
    }

    /// Cancels what the active server is at. What becomes of it, and of the transaction, is what the server says then.
    fn cancel_statement(&mut self, limit: i32) -> Result<(), End> {
        let Some(server) = self.group.get(self.active) else { return Ok(()) };
        let address = self.context.address(server.node);
        let outcome = cancel::request(&address, server.pid, &server.cancel_key);
        self.turn.cancelled = Some(Instant::now());
        let report = Report::warning(format!("client_query_limit ({limit} ms) is reached: the statement is cancelled"))
            .code(SqlState::QUERY_CANCELED);
        let report = match outcome {
            Ok(has_closed) => {
                if !has_closed {
                    // It counts as long as there is this session.
                    self.context.slot.begin_cancel();
                }
                report.detail(format!("DB node id: {} backend pid: {}", server.node, server.pid))
            }
            Err(error) => report.detail(format!("DB node {} could not be asked to do so: {error}", server.node)),
        };
        report.log();
        if Severity::Warning.reaches_client(self.context.settings.client_min_messages.severity()) {
            let mut notice = Vec::new();
            report.encode(&mut notice);
            self.tell_client(&notice);
        }
        Ok(())
    }

    /// Refuses a message of the client that is longer than is allowed (`client_message_limit`).
    #[inline]
    pub(super) fn check_length(&self, header: Header) -> Result<(), End> {
        let limit = number(self.context.settings.client_message_limit);
        if limit == 0 || header.total as u64 <= limit * 1024 {
            return Ok(());
        }
        let text = format!("{} message of {} bytes is too long", frontend::name(header.kind), header.total);
        Err(Report::fatal(text)
            .detail(format!("client_message_limit allows {limit} kB."))
            .code(SqlState::PROGRAM_LIMIT_EXCEEDED)
            .into())
    }
}
