//! From the servers to the client: answers are checked against the reply queue and passed on as byte ranges.
//!
//! While something waits for the client's socket, no answer is touched: memory stays bounded by the receive buffers.

use super::end::End;
use super::failover::{is_end_of_server, is_shutdown};
use super::retry::Why;
use super::{Session, trace};
use crate::backend::{Awaited, ReplyState};
use crate::state::NodeSet;
use crate::wire::{HEADER_LENGTH, Header, TransactionStatus, backend};

/// The longest message of the kinds that must be read as a whole, in bytes. Longer ones are passed on unread.
const MAX_READ: usize = 1 << 20;

/// What to do behind a message.
enum Next {
    /// Look at the next one.
    Continue,
    /// The rest is not here yet.
    Incomplete,
    /// Nothing of the answer is told before it is known what follows.
    HeldBack,
}

impl Session<'_> {
    /// Passes on what the active node has answered. `Ok(true)`: something was done.
    pub(super) fn relay_answers(&mut self) -> Result<bool, End> {
        if !self.client.flush()? {
            return Ok(false);
        }
        let node = self.active;
        let Some(server) = self.group.get(node) else { return Ok(false) };
        if server.input.is_empty() {
            return Ok(false);
        }
        let owes_nothing = server.replies.is_empty() && server.state == ReplyState::Between && self.answered == 0;
        if owes_nothing && (node != self.home || server.input.bytes().first() == Some(&b'E')) {
            return self.hear_bystander(node);
        }
        let mut moved = false;
        loop {
            self.pass_rows(node);
            moved |= self.answered > 0;
            let Some(server) = self.group.get_mut(node) else { break };
            let available = server.input.len() - self.answered;
            if available == 0 {
                break;
            }
            if let ReplyState::Inside { remaining, deliver } = server.state {
                let now = remaining.min(available);
                server.state = match remaining - now {
                    0 => ReplyState::Between,
                    remaining => ReplyState::Inside { remaining, deliver },
                };
                self.pass(node, now, deliver)?;
                self.release_notices(node)?;
                moved = true;
                continue;
            }
            let header = Header::read(&server.input.bytes()[self.answered..], backend::name)
                .map_err(|error| End::server_lost(node, &error.to_string()))?;
            let Some(header) = header else { break };
            match self.answer(node, header, available)? {
                Next::Continue => moved = true,
                Next::Incomplete => {
                    self.send_answers(node)?;
                    if let Some(server) = self.group.get_mut(node) {
                        server.input.make_room(header.total);
                    }
                    break;
                }
                Next::HeldBack => return Ok(false),
            }
        }
        self.send_answers(node)?;
        Ok(moved)
    }

    /// The fast way for rows: complete DataRow messages for the client need nothing but their length.
    #[inline]
    fn pass_rows(&mut self, node: usize) {
        let Some(server) = self.group.get(node) else { return };
        if self.message_log.answers
            || server.state != ReplyState::Between
            || !matches!(server.replies.head(), Some(Awaited::Query | Awaited::Execute))
            || !server.replies.delivers()
        {
            return;
        }
        let bytes = server.input.bytes();
        while let Some([b'D', a, b, c, d]) = bytes.get(self.answered..self.answered + HEADER_LENGTH) {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            if length < 4 || length >= bytes.len() - self.answered {
                break;
            }
            self.answered += length + 1;
        }
    }

    /// One message of which `available` bytes are here.
    fn answer(&mut self, node: usize, header: Header, available: usize) -> Result<Next, End> {
        let must_read = matches!(header.kind, b'E' | b'N' | b'S' | b'Z' | b'C' | b'A');
        if must_read && available < header.total && header.total <= MAX_READ {
            return Ok(Next::Incomplete);
        }
        if header.kind == b'N' {
            self.heed_notice(node, header);
            if self.may_be_farewell(node, header, available) {
                return Ok(Next::HeldBack);
            }
        }
        let Some(server) = self.group.get_mut(node) else { return Ok(Next::Incomplete) };
        if self.message_log.answers {
            self.message_log.received(node, header.kind);
        }
        let deliver = match header.kind {
            b'N' => server.replies.delivers(),
            b'A' => true,
            b'S' => self.parameter_status(node, header)?,
            b'E' => self.error(node, header, available)?,
            b'Z' => self.ready(node, header)?,
            kind => {
                let step = server.replies.received(kind).map_err(|_| End::server_confused(node, kind))?;
                if matches!(kind, b'C' | b's' | b'V') && node == self.home {
                    self.completed_for_cache();
                }
                if kind == b'C' && node == self.home {
                    self.rolled_back = self.reply_content(node, header).starts_with(b"ROLLBACK");
                }
                if step.finished.is_some() {
                    self.changes.done(node, step.number, &mut self.statements);
                    if node == self.home && step.finished == Some(Awaited::Execute) {
                        self.done_at_home(step.number);
                    }
                }
                step.deliver
            }
        };
        let now = header.total.min(available);
        if now < header.total
            && let Some(server) = self.group.get_mut(node)
        {
            server.state = ReplyState::Inside { remaining: header.total - now, deliver };
        }
        self.pass(node, now, deliver)?;
        if self.fatal {
            self.send_answers(node)?;
            return Err(End::Told);
        }
        Ok(Next::Continue)
    }

    /// The next `count` bytes of `node` go to the client, or to nobody.
    fn pass(&mut self, node: usize, count: usize, deliver: bool) -> Result<(), End> {
        if deliver {
            self.answered += count;
            return Ok(());
        }
        // What comes before leaves first; then the hidden part is dropped.
        self.collect_for_cache(node);
        if let Some(server) = self.group.get_mut(node) {
            self.client.output.extend_from_slice(&server.input.bytes()[..self.answered]);
            server.input.consume(self.answered + count);
        }
        if self.answered > 0 {
            self.kept_is_told();
        }
        self.answered = 0;
        Ok(())
    }

    /// What has been approved for the client may be an answer to be kept.
    #[inline]
    fn collect_for_cache(&mut self, node: usize) {
        if let Some(caching) = &mut self.caching
            && self.answered > 0
            && let Some(server) = self.group.get(node)
        {
            caching.collect(node, &server.input.bytes()[..self.answered]);
        }
    }

    /// Sends what has been approved, straight from the receive buffer.
    pub(super) fn send_answers(&mut self, node: usize) -> Result<(), End> {
        self.collect_for_cache(node);
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        if self.answered > 0 {
            self.client.send(&server.input.bytes()[..self.answered])?;
            server.input.consume(self.answered);
            self.answered = 0;
            self.kept_is_told();
        }
        self.client.flush()?;
        Ok(())
    }

    /// The primary has done its message `number`.
    fn done_at_home(&mut self, number: u64) {
        let rolled_back = std::mem::take(&mut self.rolled_back);
        self.journal.finished(number, rolled_back, self.context.settings.disable_load_balance_on_write);
        if self.journal.take_ended() {
            self.end_block_elsewhere();
        }
        if self.journal.take_discarded() {
            self.forget_statements();
        }
    }

    /// The client has discarded all its statements: names are free, and nodes that could not follow may be able to.
    fn forget_statements(&mut self) {
        self.local.forget_statements();
        self.statements.clear();
        self.excluded = NodeSet::EMPTY;
    }

    pub(super) fn reply_content(&self, node: usize, header: Header) -> &[u8] {
        let bytes = self.group.get(node).map_or(&[][..], |server| server.input.bytes());
        bytes.get(self.answered + HEADER_LENGTH..self.answered + header.total).unwrap_or_default()
    }

    fn parameter_status(&mut self, node: usize, header: Header) -> Result<bool, End> {
        if let Some(caching) = &mut self.caching {
            if node == self.home {
                caching.identity.setting_changed();
            } else {
                caching.identity.changed_on(node);
            }
        }
        let content = self.reply_content(node, header);
        if let Ok((name, value)) = backend::parameter_status(content) {
            let (name, value) = (name.to_vec(), value.to_vec());
            self.note_parameter(&name, &value);
            if let Some(server) = self.group.get_mut(node) {
                server.remember_parameter(&name, &value);
            }
        }
        Ok(self.group.get(node).is_some_and(|server| server.replies.delivers()))
    }

    /// A server that crashes, or stops at once, sends what it has got ready of its answer and a WARNING behind it. If that is
    /// the last thing it has said, the client hears nothing of it as long as its read can be sent again: with the end of the
    /// connection it is, and anything else that follows makes it a notice of the statement.
    fn may_be_farewell(&self, node: usize, header: Header, available: usize) -> bool {
        let is_told = || is_end_of_server(backend::ErrorFields::new(self.reply_content(node, header)).code());
        let owes_client = self.group.get(node).is_some_and(|server| server.replies.owes_client());
        available == header.total && node != self.home && owes_client && self.is_kept_whole(node) && is_told()
    }

    fn error(&mut self, node: usize, header: Header, available: usize) -> Result<bool, End> {
        let content = if available >= header.total { self.reply_content(node, header) } else { &[] };
        let fields = backend::ErrorFields::new(content);
        let fatal = matches!(fields.severity(), b"FATAL" | b"PANIC");
        let outside = self.group.status(self.home) == TransactionStatus::Idle && !self.journal.has_block();
        let refused = self.why_retry(node, fields.code()).filter(|_| outside);
        let is_unread = is_unread(&fields);
        let cause = fields.message();
        trace::server_error(self.context, node, &fields);
        if is_shutdown(&fields) {
            self.heed_farewell(node);
        }
        if fatal && self.retry_without(node, &cause) {
            return Ok(false);
        }
        if node == self.home
            && let Some(caching) = &mut self.caching
        {
            caching.locks.failed();
            caching.unpublished.failed(is_unread);
        }
        let Some(server) = self.group.get_mut(node) else { return Ok(true) };
        let refused = refused.filter(|_| server.replies.owes_one_batch());
        let step = server.replies.received(b'E').map_err(|_| End::server_confused(node, b'E'))?;
        server.warned = false;
        self.changes.failed(node, step.number, step.failed, &mut self.statements);
        if node == self.home {
            self.journal.failed(step.number, step.failed);
            self.catalog.failed();
            self.rolled_back = false;
        } else if !step.deliver || refused.is_some() {
            match (self.kept.retrying.is_some(), self.is_kept_whole(node)) {
                (true, _) => {}
                (false, true) => {
                    let why = refused.filter(|_| step.deliver).unwrap_or(Why::CannotFollow(cause));
                    self.retry_after_answers(node, why);
                }
                (false, false) if self.needs(node) => return Err(End::server_lost(node, &cause)),
                (false, false) => self.exclude_node(node, &cause),
            }
            return Ok(false);
        }
        self.fatal = fatal && step.deliver;
        Ok(step.deliver)
    }

    fn ready(&mut self, node: usize, header: Header) -> Result<bool, End> {
        let status = backend::ready_for_query(self.reply_content(node, header))
            .map_err(|error| End::server_lost(node, &error.to_string()))?;
        let Some(server) = self.group.get_mut(node) else { return Ok(true) };
        let step = server.replies.received(b'Z').map_err(|_| End::server_confused(node, b'Z'))?;
        server.warned = false;
        // While a message of our own is to make the transaction fail, it counts as failed.
        if step.deliver || server.replies.is_empty() {
            server.status = status;
        }
        let settled = server.replies.is_empty();
        if let Some(caching) = &mut self.caching {
            caching.filling.answered(node, step.number);
        }
        if settled {
            trace::answered(self.context, &self.group, node);
            trace::idle(self.context, status);
        }
        self.changes.done(node, step.number, &mut self.statements);
        if step.deliver && !self.journal.has_block() && node != self.home {
            self.end_portals();
        }
        if node == self.home {
            self.done_at_home(step.number);
            self.home_is_ready(status, settled);
            if status == TransactionStatus::Idle {
                self.end_portals();
            }
        } else if status == TransactionStatus::Failed && step.deliver && self.journal.has_block() {
            self.fail_block_at_home();
        }
        if settled && self.kept.retrying.is_some() {
            self.retry_next = true;
        }
        Ok(step.deliver)
    }

    /// Portals end with their transaction.
    pub(super) fn end_portals(&mut self) {
        self.portals.clear();
        self.local.clear_portals();
    }

    /// The primary is ready for the next statement.
    pub(super) fn home_is_ready(&mut self, status: TransactionStatus, settled: bool) {
        self.journal.ready(status);
        if self.journal.take_ended() {
            self.end_block_elsewhere();
        }
        self.publish_writes();
        // Whoever sees that something was written sees that names have changed with it.
        self.settle(status, settled);
        self.ready_for_cache(status, settled);
    }

    /// The primary is ready: prepared statements may have been discarded, names may mean something else. `answered`: it owes
    /// nothing.
    fn settle(&mut self, status: TransactionStatus, answered: bool) {
        if self.journal.take_discarded() {
            self.forget_statements();
        }
        if status == TransactionStatus::Idle {
            self.catalog.settle(answered);
        }
    }
}

/// Whether the server could not read the text of a message, so that it has run nothing of it: it is the parser that speaks,
/// and of that text, not of one that a procedure runs.
fn is_unread(fields: &backend::ErrorFields<'_>) -> bool {
    let is_inside = [b'W', b'q'].into_iter().any(|tag| fields.get(tag).is_some());
    fields.code() == b"42601" && fields.get(b'R') == Some(b"scanner_yyerror") && !is_inside
}
