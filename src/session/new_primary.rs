//! A session outlives its primary: between transactions, when all that it has there can be had on another one (failover
//! 6.5, 6.6).
//!
//! A session that has lost its primary's connection that way has no *home* connection any more, and its client is told
//! nothing. Its next statement waits until there is a primary again, the successor or the same server restarted. There the
//! session is opened anew: same startup packet, its settings from the journal; statements are prepared when they are used.
//! Then the statement goes its way, of which nothing has been sent before. If all that takes longer than
//! `failover_wait_timeout`, the session ends with an error that says so.

use super::end::End;
use super::requests::RequestState;
use super::writer::{FIRST_PAUSE, LONGEST_PAUSE, Writer, is_passing, is_passing_code};
use super::{Session, open, trace};
use crate::backend::{LoginError, ReplyState, ServerConnection, control, open};
use crate::net::Deadline;
use crate::report::{Report, Severity, SqlState};
use crate::wire::{TransactionStatus, write};

/// What a session knew of its lost primary.
pub(super) struct Lost {
    /// How it was lost, in words.
    cause: String,
    /// Parameter values that the client knows.
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why there is no session on a server yet.
enum Missing {
    /// It may come.
    Yet(Report),
    /// The server has said no: its message.
    Refused(Vec<u8>),
    /// It never will, for this reason.
    Never(Report),
}

impl Session<'_> {
    /// Whether the session could go on with another primary, or with the same after a restart.
    fn can_leave_home(&self) -> bool {
        let home = self.home;
        let inside = matches!(self.request_state, RequestState::Inside { node, .. } if node == home);
        self.context.settings.failover_wait_timeout > 0
            && !self.needs(home)
            && !inside
            && (self.direct.node != home || self.direct.length == 0)
            && self.group.status(home) == TransactionStatus::Idle
            && self.journal.can_leave_primary()
            && self.group.get(home).is_none_or(|server| server.output.is_empty() && server.state == ReplyState::Between)
    }

    /// Whether the next statement has to wait for a primary.
    pub(super) fn is_homeless(&self) -> bool {
        self.lost_home.is_some() && self.batch.is_none()
    }

    /// The primary's connection is lost, or of no use any more. `true`: the session goes on and will look for a primary when
    /// it needs one.
    pub(super) fn leave_home(&mut self, cause: &str) -> bool {
        if !self.can_leave_home() {
            return false;
        }
        let home = self.home;
        if let Some(server) = self.group.connections.get_mut(home).and_then(Option::take) {
            trace::left(self.context, &self.group, home);
            self.lost_home = Some(Box::new(Lost { cause: cause.to_owned(), parameters: server.parameters.clone() }));
            server.close();
        }
        self.journal.forget_node(home);
        self.statements.forget_node(home);
        self.changes.forget_node(home);
        self.redraw |= self.balance == home;
        Report::log_line(format!(
            "the session has lost DB node {home}, which writes, and waits for its successor: {cause}"
        ))
        .log();
        true
    }

    /// The primary's server has said that it ends the session by an administrator's command. `true`: the session goes on, as
    /// with [`Session::leave_home`]. If that server still lets sessions in, it was about this one alone, which has to end.
    pub(super) fn home_shuts_down(&mut self, cause: &str) -> bool {
        self.heed_farewell(self.home);
        if !self.can_leave_home() || self.was_terminated(self.home) {
            return false;
        }
        let deadline = self.context.connect_deadline(self.home);
        let address = self.context.address(self.home);
        match open(self.home, &address, &self.group.key.startup, &self.credential, deadline) {
            Ok(server) => {
                server.close();
                false
            }
            Err(error) => is_passing(&error) && self.leave_home(cause),
        }
    }

    /// Before a message of the client is looked at: sees to it that there is a primary if the message could need one.
    /// `false`: another node has to answer first.
    pub(super) fn is_home_again(&mut self) -> Result<bool, End> {
        let goodbye = self.client.input.bytes().first() == Some(&b'X');
        if goodbye || self.needs_no_server() || self.batch.is_some() || self.request_state != RequestState::Between {
            return Ok(true);
        }
        if !self.is_quiet() {
            self.blocked = true;
            return Ok(false);
        }
        self.find_home().map(|()| true)
    }

    /// Opens the session on the primary, waiting for one as long as `failover_wait_timeout` allows. For the moment before a
    /// statement of the client is looked at, when no node owes anything.
    fn find_home(&mut self) -> Result<(), End> {
        let deadline = self.context.patience();
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        let mut reported = None;
        loop {
            if let Writer::Node(node) = self.context.writer() {
                match self.open_home(node, deadline, &mut reported) {
                    Ok(server) => return self.settle_at(node, server),
                    Err(Missing::Refused(message)) => {
                        self.client.output.extend_from_slice(&message);
                        self.client.flush()?;
                        return Err(End::Told);
                    }
                    Err(Missing::Never(report)) => return Err(self.cannot_go_on(report)),
                    Err(Missing::Yet(report)) => last = Some(report),
                }
            }
            if deadline.passed() {
                return Err(self.no_home(last));
            }
            self.context.pause(&self.client.stream, Deadline::after(pause).min(deadline))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A connection to `node` on which all settings of the session are made. `reported`: the node whose trouble has been
    /// told to those who watch it.
    fn open_home(
        &mut self,
        node: usize,
        deadline: Deadline,
        reported: &mut Option<usize>,
    ) -> Result<ServerConnection, Missing> {
        let kept = self.group.connections.get_mut(node).and_then(Option::take).filter(ServerConnection::is_clean);
        let was_there = kept.is_some();
        let mut server = match kept {
            Some(server) => server,
            None => {
                self.journal.forget_node(node);
                self.statements.forget_node(node);
                let deadline = self.context.connect_deadline(node).min(deadline);
                let address = self.context.address(node);
                let opened = open(node, &address, &self.group.key.startup, &self.credential, deadline);
                opened.map_err(|error| {
                    if *reported != Some(node) {
                        *reported = Some(node);
                        self.context.login_failed(node, &error);
                    }
                    missing(node, error)
                })?
            }
        };
        self.context.connected(node);
        let mut texts = Vec::new();
        self.journal.replay(node, |text| texts.push(text.to_vec()));
        // A connection that was there before tells that it is alive, and what has changed for it.
        if texts.is_empty() && was_there {
            texts.push(Vec::new());
        }
        for text in texts {
            self.message_log.sent(&server, "", &text);
            control::query(&mut server, &text, deadline).map_err(|report| match report.code {
                SqlState::CONNECTION_FAILURE | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
                    Missing::Yet(report)
                }
                _ => Missing::Never(settings_refused(node, &report)),
            })?;
        }
        self.statements.unnamed_lost(node);
        Ok(server)
    }

    /// `server` is the session's primary from now on.
    fn settle_at(&mut self, node: usize, server: ServerConnection) -> Result<(), End> {
        let Some(lost) = self.lost_home.take() else { return Ok(()) };
        Report::debug(format!("the session goes on with DB node {node}, which writes")).log();
        self.tell_parameters(&lost.parameters, &server.parameters);
        trace::joined(self.context, &self.group, &server);
        if self.group.connections.len() <= node {
            self.group.connections.resize_with(node + 1, || None);
        }
        self.group.connections[node] = Some(server);
        self.home = node;
        self.active = node;
        self.catalog.connection_changed();
        if let Some(caching) = &mut self.caching {
            caching.identity.forget();
        }
        self.answered = 0;
        self.balance = open::balance_node(self.context, &self.group.key, &self.application_name, node);
        self.redraw = self.balance == node;
        self.group_has_moved();
        self.client.flush()?;
        Ok(())
    }

    /// The client learns which parameter values are others now.
    fn tell_parameters(&mut self, known: &[(Vec<u8>, Vec<u8>)], now: &[(Vec<u8>, Vec<u8>)]) {
        for (name, value) in now.iter().filter(|parameter| !known.contains(parameter)) {
            write::parameter_status(&mut self.client.output, name, value);
            self.note_parameter(name, value);
        }
    }

    fn group_has_moved(&self) {
        let balance = self.balance;
        self.context.slot.pool(self.group.slot).update(|entry| entry.load_balance_node = Some(balance));
    }

    fn cannot_go_on(&mut self, report: Report) -> End {
        let cause = self.lost_home.take().map_or_else(String::new, |lost| lost.cause);
        let detail = report.detail.unwrap_or_default();
        Report { severity: Severity::Fatal, detail: None, ..report }
            .detail(format!("{detail}; DB node {} was lost: {cause}", self.home))
            .hint("The statement has not been sent to any server. Connect again.")
            .into()
    }

    fn no_home(&mut self, last: Option<Report>) -> End {
        let cause = self.lost_home.take().map_or_else(String::new, |lost| lost.cause);
        let detail = match last {
            Some(report) => format!("DB node {} was lost: {cause}; {report}", self.home),
            None => format!("DB node {} was lost: {cause}; no node has taken its place", self.home),
        };
        self.context.no_primary(
            detail,
            "The statement has not been sent to any server. Connect again; see failover_wait_timeout.",
        )
    }
}

fn settings_refused(node: usize, report: &Report) -> Report {
    Report::fatal(format!("terminating connection because DB node {node} does not take the session's settings"))
        .detail(report.to_string())
        .code(report.code)
}

/// What a failed login means to a session that has been served before: a server that is full may let it in later, too.
fn missing(node: usize, error: LoginError) -> Missing {
    match error {
        LoginError::Unsupported(report) | LoginError::Ours(report) => Missing::Never(report),
        LoginError::Refused(message) if !is_passing_code(&message, &[b"53300"]) => Missing::Refused(message),
        error => Missing::Yet(error.into_report(node)),
    }
}
