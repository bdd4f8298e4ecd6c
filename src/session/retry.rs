//! A read sent to another node than the primary can be sent again, to the primary, as long as the client has heard nothing
//! of it: when that node is lost, when it cannot follow the session's state, when it refuses the statement as a write
//! (25006), because a function or view did what the catalog does not tell, or when it has not got a table yet that the
//! primary has.
//!
//! The message or batch is *kept* when it is sent. To send it again, its bytes are put back in front of the client's next
//! ones and taken once more, with the primary as the only choice.

use super::Session;
use super::end::End;
use crate::report::Report;
use crate::sql::{Kind, Statement};
use crate::state::NodeCounters;
use crate::wire::{HEADER_LENGTH, Header, frontend};
use std::rc::Rc;

/// Longer messages and batches are not kept, in bytes.
const MAX_KEPT: usize = 16 * 1024;

/// Why a read is sent again.
#[derive(Debug)]
pub(super) enum Why {
    /// The node cannot take the session's state, for this cause.
    CannotFollow(String),
    /// It refused the statement as a write.
    Writes,
    /// It may be too far behind to know what the statement names.
    Behind,
}

impl Why {
    /// What the SQLSTATE of a standby's error makes of a read.
    fn of_error(code: &[u8]) -> Option<Self> {
        match code {
            b"25006" => Some(Self::Writes),
            b"42P01" => Some(Self::Behind),
            _ => None,
        }
    }
}

/// The last read sent to another node.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    facts: Vec<Rc<Statement>>,
    /// Where it was sent; `None`: it cannot be sent again any more.
    node: Option<usize>,
    /// So many of its bytes are still to be taken.
    untaken: usize,
    /// Its answers are being dropped, after which it is sent again.
    pub retrying: Option<Why>,
}

impl Session<'_> {
    /// Keeps the next `length` bytes of the client, which go to `node`: reads. Not if that node owes answers to earlier
    /// ones, which would be lost with them.
    pub(super) fn keep(&mut self, node: usize, length: usize, facts: Vec<Rc<Statement>>) {
        let owes = self.group.get(node).is_some_and(|server| server.replies.owes_client());
        if length > MAX_KEPT || owes || self.answered > 0 {
            self.kept.node = None;
            return;
        }
        let start = self.direct.length;
        self.kept.bytes.clear();
        self.kept.bytes.extend_from_slice(&self.client.input.bytes()[start..start + length]);
        self.kept.node = Some(node);
        self.kept.facts = facts;
        self.kept.untaken = length;
    }

    /// Whether what `node` works on can be sent again elsewhere.
    pub(super) fn is_kept(&self, node: usize) -> bool {
        self.kept.node == Some(node)
    }

    /// Whether an error of `node` with this SQLSTATE is a reason to ask the primary instead.
    pub(super) fn why_retry(&self, node: usize, code: &[u8]) -> Option<Why> {
        // The catalog has the tables named, or the statement would have gone to the primary in the first place.
        let names_tables = || self.kept.facts.iter().any(|facts| facts.reads().next().is_some());
        Why::of_error(code).filter(|why| self.is_kept_whole(node) && (!matches!(why, Why::Behind) || names_tables()))
    }

    /// Whether all of it has been sent.
    pub(super) fn is_kept_whole(&self, node: usize) -> bool {
        self.is_kept(node) && self.kept.untaken == 0
    }

    /// A message of `length` bytes is forwarded. One that is not part of what is kept would come out of order.
    #[inline]
    pub(super) fn kept_is_taken(&mut self, length: usize) {
        if self.kept.node.is_some() {
            if self.kept.untaken == 0 {
                self.kept.node = None;
            }
            self.kept.untaken = self.kept.untaken.saturating_sub(length);
        }
    }

    /// The client has heard of it.
    #[inline]
    pub(super) fn kept_is_told(&mut self) {
        self.kept.node = None;
    }

    /// The node will send answers nobody wants any more; the read is sent again behind them.
    pub(super) fn retry_after_answers(&mut self, node: usize, why: Why) {
        let answered = std::mem::take(&mut self.answered);
        if let Some(server) = self.group.get_mut(node) {
            server.input.consume(answered);
            server.replies.hide_all();
        }
        if matches!(why, Why::Writes) {
            self.context.misjudge(std::mem::take(&mut self.kept.facts));
            NodeCounters::count(&self.context.slot.counters(node).retried);
            Report::log_line(format!("DB node id: {node} refused a statement as a write: it is sent to the primary"))
                .detail(format!("statement: {}", self.kept_text()))
                .hint("Its functions or views write, although they are taken for readers: see write_function_list.")
                .log();
        }
        self.kept.retrying = Some(why);
    }

    /// The last of the unwanted answers has come: sends the read again, to the primary.
    pub(super) fn retry(&mut self) -> Result<(), End> {
        let (Some(node), Some(why)) = (self.kept.node.take(), self.kept.retrying.take()) else { return Ok(()) };
        if let Some(caching) = &mut self.caching {
            caching.filling.give_up();
        }
        if let Why::CannotFollow(cause) = why {
            self.exclude_node(node, &cause);
        }
        self.send_again(node);
        Ok(())
    }

    /// `node` is gone: sends the read again, to the primary. `false`: it cannot be done.
    pub(super) fn retry_without(&mut self, node: usize, cause: &str) -> bool {
        if !self.is_kept_whole(node) || node == self.home {
            return false;
        }
        self.kept.node = None;
        self.kept.retrying = None;
        self.leave_node(node, cause);
        self.redraw = true;
        self.send_again(node);
        true
    }

    fn send_again(&mut self, node: usize) {
        let mut bytes = self.kept.bytes.as_slice();
        while let Ok(Some(header)) = Header::read(bytes, frontend::name) {
            if header.total > bytes.len() {
                break;
            }
            if header.kind == b'P'
                && let Ok(parse) = frontend::parse(&bytes[HEADER_LENGTH..header.total])
            {
                self.statements.withdraw(parse.statement, node);
            }
            bytes = &bytes[header.total..];
        }
        for facts in &self.kept.facts {
            if let Kind::Prepare { name, .. } = &facts.kind {
                self.statements.withdraw(name.as_bytes(), node);
            }
        }
        self.changes.forget_node(node);
        self.batch = None;
        self.client.input.put_back(&self.kept.bytes);
        self.at_home = true;
    }

    fn kept_text(&self) -> String {
        let bytes = &self.kept.bytes;
        let text = match (bytes.first(), bytes.get(HEADER_LENGTH..)) {
            (Some(b'Q'), Some(content)) => content.strip_suffix(b"\0").unwrap_or(content),
            (Some(b'P'), Some(content)) => frontend::parse(content).map_or(b"".as_slice(), |parse| parse.query),
            (Some(b'B'), Some(content)) => {
                let bind = frontend::bind(content).ok();
                let prepared = bind.and_then(|bind| self.statements.get(bind.statement));
                prepared.map_or(b"".as_slice(), |prepared| prepared.text())
            }
            _ => b"",
        };
        String::from_utf8_lossy(text).into_owned()
    }
}
