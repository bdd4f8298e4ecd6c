//! Log lines about single messages: log_statement, log_per_node_statement, notice_per_node_statement,
//! log_client_messages and log_backend_messages (routing 18, process-model 11).
//!
//! A client's message is told once, before it is sent: what it says when it has arrived, where it goes when it has been
//! given a node ([`Session::take_request_told`]). A server's message is told when it is matched against the reply queue
//! ([`MessageLog::received`]). While all is off this costs the callers one branch each, on [`MessageLog::requests`] and
//! [`MessageLog::answers`].

use super::end::End;
use super::requests::{MAX_READ, Taken, front};
use super::{Context, Session};
use crate::backend::{ReplyState, ServerConnection};
use crate::config::{LogBackendMessages, Settings};
use crate::report::{Report, Severity, SqlState, is_logged};
use crate::sql::{Kind, Statement};
use crate::state::ClientInfo;
use crate::wire::frontend::{self, Object};
use crate::wire::{Header, backend, write};
use std::borrow::Cow;
use std::fmt::Write as _;

/// What is told of a session's messages.
#[derive(Debug, Default)]
pub(super) struct MessageLog {
    /// Messages of the client are of interest.
    pub requests: bool,
    /// Messages of the servers are of interest.
    pub answers: bool,
    /// Reasons for the destinations of statements are of interest.
    pub reasons: bool,
    statements: bool,
    per_node: bool,
    notice: bool,
    notice_to_client: bool,
    client_messages: bool,
    terse: bool,
    /// The client's message at the front has been told; it is looked at again because it had to wait.
    told: bool,
    /// Why the statement at the front goes where it goes.
    pub reason: Option<String>,
    /// CopyData messages of the COPY in progress.
    copied: u64,
    /// Node and kind of the server message told last, and how often it came again since.
    last: Option<(usize, u8)>,
    repeats: u64,
    /// Notices that wait for the end of the message that is being passed on to the client.
    pub notices: Vec<u8>,
}

impl MessageLog {
    /// As `settings` want it.
    pub fn new(settings: &Settings) -> Self {
        let logged = is_logged(Severity::Log);
        let statements = settings.log_statement && logged;
        let per_node = settings.log_per_node_statement && logged;
        let client_messages = settings.log_client_messages && logged;
        let notice = settings.notice_per_node_statement;
        Self {
            requests: statements || per_node || client_messages || notice,
            answers: settings.log_backend_messages != LogBackendMessages::None && logged,
            reasons: per_node && settings.log_routing_reason,
            statements,
            per_node,
            notice,
            notice_to_client: notice && Severity::Notice.reaches_client(settings.client_min_messages.severity()),
            client_messages,
            terse: settings.log_backend_messages == LogBackendMessages::Terse,
            ..Self::default()
        }
    }

    /// A statement of our own, or a message named in its place, is about to be sent to `server`. `label`: `Parse: ` or
    /// nothing.
    pub fn sent(&self, server: &ServerConnection, label: &str, text: &[u8]) {
        if self.per_node {
            server.statement_line(&format!("{label}{}", words(text))).log();
        }
    }

    /// As [`MessageLog::sent`], for a message of the client.
    fn sent_on(&mut self, server: &ServerConnection, label: &str, text: &[u8]) {
        match self.reason.take() {
            Some(reason) => self.sent(server, label, &[text, b" reason: ", reason.as_bytes()].concat()),
            None => self.sent(server, label, text),
        }
    }

    /// A message of type `kind` has come from `node`.
    pub fn received(&mut self, node: usize, kind: u8) {
        if self.terse {
            if self.last == Some((node, kind)) {
                self.repeats += 1;
                return;
            }
            self.finish();
            self.last = Some((node, kind));
        }
        Report::log_line(format!("{} message from backend {node}", backend::name(kind))).log();
    }

    /// Tells the repetitions that have not been told.
    pub fn finish(&mut self) {
        let repeats = std::mem::take(&mut self.repeats);
        if let Some((node, kind)) = self.last.take()
            && repeats > 0
        {
            let name = backend::name(kind);
            Report::log_line(format!("last {name} message from backend {node} repeated {repeats} times")).log();
        }
    }

    /// `content`: `None` if the message is too long to be read.
    fn arrived(&mut self, header: Header, content: Option<&[u8]>) {
        if header.kind == b'd' {
            self.copied += 1;
            return;
        }
        let copied = std::mem::take(&mut self.copied);
        if self.client_messages {
            if copied > 0 {
                client_message(b'd', Some(format!("count: {copied}")));
            }
            client_message(
                header.kind,
                content.map_or_else(|| Some(unread(header)), |content| detail(header, content)),
            );
        }
        if self.statements && header.kind == b'Q' {
            statement(&content.map_or_else(|| unread(header).into(), |content| words(without_zero(content))));
        }
    }
}

impl Session<'_> {
    /// As [`Session::take_request`], telling what the message is and where it goes.
    pub(super) fn take_request_told(&mut self, header: Header, available: usize) -> Result<Taken, End> {
        // What is sent again to another node has arrived once only.
        let again = self.at_home;
        if !again {
            self.tell_arrival(header, available);
        }
        let taken = self.take_request(header, available)?;
        if !again && matches!(taken, Taken::Forward { .. } | Taken::Answered) {
            self.message_log.told = false;
        }
        if let Taken::Forward { node, now } = taken {
            self.tell_destination(header, node, now == header.total, again);
        }
        Ok(taken)
    }

    fn tell_arrival(&mut self, header: Header, available: usize) {
        let is_whole = available >= header.total;
        // The rest is on its way, unless it is passed on in pieces.
        if self.message_log.told || !(is_whole || header.kind == b'd' || header.total > MAX_READ) {
            return;
        }
        self.message_log.told = true;
        let content = is_whole.then(|| front(&self.client, self.direct, header, header.total));
        self.message_log.arrived(header, content);
    }

    fn tell_destination(&mut self, header: Header, node: usize, is_whole: bool, again: bool) {
        let Some(server) = self.group.get(node) else { return };
        if server.replies.is_skipping() {
            return;
        }
        let content = if is_whole { front(&self.client, self.direct, header, header.total) } else { b"" };
        let prepared = |name: &[u8]| self.statements.get(name).map_or(&b""[..], |prepared| prepared.text());
        let (label, text) = match header.kind {
            b'Q' => ("", without_zero(content)),
            b'P' => ("Parse: ", frontend::parse(content).map_or(&b""[..], |parse| parse.query)),
            b'B' => ("Bind: ", frontend::bind(content).map_or(&b""[..], |bind| prepared(bind.statement))),
            b'E' => {
                let portal = frontend::execute(content).ok();
                (
                    "Execute: ",
                    portal.and_then(|portal| self.portals.definition(portal)).map_or(&b""[..], |bound| bound.text()),
                )
            }
            b'D' => ("", &b"D message"[..]),
            b'C' => ("", &b"C message"[..]),
            b'S' => ("", &b"Sync"[..]),
            _ => return,
        };
        let text = if is_whole { Cow::Borrowed(text) } else { unread(header).into_bytes().into() };
        if header.kind == b'E' && self.message_log.statements && !again && !text.is_empty() {
            statement(&words(&text));
        }
        self.message_log.sent_on(server, label, &text);
        if self.message_log.notice {
            let text = text.into_owned();
            self.notice(node, label, &text);
        }
    }

    /// A NOTICE goes to the client now, or behind the message of which the client has got the beginning.
    fn notice(&mut self, node: usize, label: &str, text: &[u8]) {
        let start = format!("DB node id: {node} statement: {label}");
        Report::notice(format!("{start}{}", words(text))).log();
        if self.message_log.notice_to_client {
            // The statement goes back in the client's own encoding.
            let mut notice = Vec::new();
            write::notice(&mut notice, SqlState::INTERNAL_ERROR.as_str(), &[start.as_bytes(), text].concat());
            self.tell_client(&notice);
        }
    }

    /// The client gets a message of our own now, or behind the one of which it has got the beginning.
    pub(super) fn tell_client(&mut self, message: &[u8]) {
        let is_inside = self.is_inside_answer();
        let out = if is_inside { &mut self.message_log.notices } else { &mut self.client.output };
        out.extend_from_slice(message);
    }

    /// Sends the notices that had to wait, if they need not any more.
    pub(super) fn release_notices(&mut self, node: usize) -> Result<(), End> {
        if self.message_log.notices.is_empty() || self.is_inside_answer() {
            return Ok(());
        }
        self.send_answers(node)?;
        self.client.output.append(&mut self.message_log.notices);
        self.client.flush().map(|_| ())
    }

    fn is_inside_answer(&self) -> bool {
        let server = self.group.get(self.active);
        server.is_some_and(|server| matches!(server.state, ReplyState::Inside { deliver: true, .. }))
    }
}

/// The client as titles show it: `HOST(PORT)`, nothing for a Unix socket.
pub(super) fn from(client: &ClientInfo) -> String {
    match client.port {
        0 => String::new(),
        port => format!("{}({port})", client.host),
    }
}

/// A statement that is not understood goes to the primary.
pub(super) fn unparsable(context: &Context, facts: &Statement, text: &[u8]) {
    let Kind::Unparsable(why) = &facts.kind else { return };
    let from = match from(&context.client) {
        from if from.is_empty() => "from local client".to_owned(),
        from => format!("from client {from}"),
    };
    Report::log_line(format!("Unable to parse the query: \"{}\" {from}", words(without_zero(text))))
        .detail(why.to_string())
        .log();
}

/// A cancel request has come.
pub(super) fn cancel_arrived(pid: u32) {
    Report::log_line("Cancel message from frontend.").detail(format!("process id: {pid}")).log();
}

fn client_message(kind: u8, detail: Option<String>) {
    Report { detail, ..Report::log_line(format!("{} message from frontend.", frontend::name(kind))) }.log();
}

fn statement(text: &str) {
    Report::log_line(format!("statement: {text}")).log();
}

/// What a client's message says; `None` for one that says nothing or cannot be understood.
fn detail(header: Header, content: &[u8]) -> Option<String> {
    let object = |name| match frontend::object(content, name) {
        Ok(Object::Statement(name)) => Some(format!("statement: \"{}\"", words(name))),
        Ok(Object::Portal(name)) => Some(format!("portal: \"{}\"", words(name))),
        Err(_) => None,
    };
    match header.kind {
        b'Q' => Some(format!("query: \"{}\"", words(without_zero(content)))),
        b'P' => frontend::parse(content)
            .ok()
            .map(|parse| format!("statement: \"{}\", query: \"{}\"", words(parse.statement), words(parse.query))),
        b'B' => frontend::bind(content)
            .ok()
            .map(|bind| format!("portal: \"{}\", statement: \"{}\"", words(bind.portal), words(bind.statement))),
        b'D' => object("Describe"),
        b'C' => object("Close"),
        b'E' => frontend::execute(content).ok().map(|portal| format!("portal: \"{}\"", words(portal))),
        b'F' => frontend::function_call(content).ok().map(|function| format!("oid: \"{function}\"")),
        _ => None,
    }
}

/// In place of a text too long to be read.
fn unread(header: Header) -> String {
    format!("({} message of {} bytes)", frontend::name(header.kind), header.total)
}

fn without_zero(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}

/// `text` for the log, whatever its encoding: bytes that are not UTF-8 become `\xe9`.
fn words(text: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for chunk in text.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_words() {
        let in_words = |kind, content: &[u8]| detail(Header { kind, total: 5 + content.len() }, content);
        for (kind, content, expected) in [
            (b'Q', &b"SELECT 1\0"[..], "query: \"SELECT 1\""),
            (b'P', b"s\0SELECT $1\0\0\0", "statement: \"s\", query: \"SELECT $1\""),
            (b'B', b"p\0s\0\0\0\0\0\0\0", "portal: \"p\", statement: \"s\""),
            (b'D', b"Ss\0", "statement: \"s\""),
            (b'C', b"Pp\0", "portal: \"p\""),
            (b'E', b"p\0\0\0\0\0", "portal: \"p\""),
            (b'F', b"\0\0\x06\x3e\0\0", "oid: \"1598\""),
            (b'Q', b"caf\xe9 \xff\0", "query: \"caf\\xe9 \\xff\""),
        ] {
            assert_eq!(in_words(kind, content).as_deref(), Some(expected));
        }
        for (kind, content) in [(b'S', &b""[..]), (b'c', b""), (b'P', b"s"), (b'D', b"X\0"), (b'F', b"\0")] {
            assert_eq!(in_words(kind, content), None);
        }
    }
}
