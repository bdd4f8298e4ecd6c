//! One batch of the extended protocol, up to its Sync: which node gets its messages (routing 13).
//!
//! A batch is one implicit transaction, so it stays together on one node where it can. It goes to the load balance node if
//! every statement in sight may go there. It *moves* in the middle only where that changes nothing for the client:
//! from the load balance node to the primary when a statement comes that must go there, and from the primary to the load
//! balance node behind a BEGIN. A batch moves when the first node has answered everything; Sync goes to all its nodes, and
//! the last one answers it.

use super::Session;
use super::end::End;
use super::local::is_ours;
use crate::route::{Target, Transaction};
use crate::sql::{Kind, Statement};
use crate::state::NodeSet;
use crate::wire::frontend::{self, Object};
use crate::wire::{HEADER_LENGTH, Header, TransactionStatus};
use std::rc::Rc;

/// A batch in progress.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    /// Where its messages go now.
    pub node: usize,
    /// The nodes that must get its Sync.
    pub nodes: NodeSet,
    /// The nodes that have got a message of it already.
    pub begun: NodeSet,
    /// The primary has executed statements of it.
    pub executed: bool,
    /// So many bytes of what comes next have been judged: they go to `node`.
    approved: usize,
}

/// What a message of a batch says about its node.
enum Concern {
    /// It needs this statement's node.
    Statement(Rc<Statement>, Vec<u8>),
    /// It needs the node of a portal bound earlier.
    Portal(usize),
    /// It needs a statement that is not known here: the primary tells.
    Unknown,
}

/// A message of a batch that concerns routing, and where it begins behind the direct part of the client's buffer.
pub(super) struct Sighted {
    at: usize,
    concern: Concern,
}

/// The first message that a node other than the primary may get.
struct Read {
    at: usize,
    node: usize,
    /// It is a portal of that node.
    is_portal: bool,
}

/// Where the next messages go.
struct Verdict {
    node: usize,
    /// So many bytes of them.
    length: usize,
    /// They are a whole batch, up to its Sync, of these reads: it can be sent again elsewhere.
    keep: Vec<Rc<Statement>>,
}

impl Verdict {
    fn all(node: usize) -> Self {
        Self { node, length: usize::MAX, keep: Vec::new() }
    }
}

impl Session<'_> {
    /// `node` gets a message of the batch that has been placed otherwise.
    pub(super) fn join_batch(&mut self, node: usize) {
        let batch = self.batch.unwrap_or_default();
        self.batch = Some(Batch { node, nodes: batch.nodes.union(NodeSet::of(node)), approved: 0, ..batch });
    }

    /// The node for the message at the front, which is part of a batch and no Sync; `None`: it has to wait.
    pub(super) fn node_for_extended(&mut self, header: Header) -> Result<Option<usize>, End> {
        if let Some(batch) = &mut self.batch {
            if batch.approved >= header.total {
                batch.approved -= header.total;
                return Ok(Some(batch.node));
            }
            // Past an error the server ignores everything up to Sync.
            if self.group.get(batch.node).is_none_or(|server| server.replies.is_skipping()) {
                return Ok(Some(batch.node));
            }
        }
        // So it does when a simple query, ignored too, has come between.
        if self.batch.is_none() && self.is_skipping() {
            return Ok(Some(self.active));
        }
        let verdict = self.judge_batch()?;
        if self.is_homeless() {
            return Ok(None);
        }
        if verdict.node != self.home && !self.activate_for_read(verdict.node) {
            return Ok(None);
        }
        if !verdict.keep.is_empty() {
            self.keep(verdict.node, verdict.length, verdict.keep);
        }
        let Some(node) = self.place(verdict.node) else { return Ok(None) };
        if self.nodes_have_changed() {
            return Ok(None);
        }
        if !self.activate(node) {
            return Ok(None);
        }
        let length = if node == verdict.node { verdict.length } else { usize::MAX };
        self.join_batch(node);
        if let Some(batch) = &mut self.batch {
            batch.approved = length.saturating_sub(header.total);
        }
        self.context.slot.count_reason(self.reason);
        Ok(Some(node))
    }

    /// Learns, before the batch in sight begins, what the query cache has to know of what it does. `false`: it has to wait for
    /// that.
    pub(super) fn prepare_to_judge_batch(&mut self) -> Result<bool, End> {
        let mut sighted = std::mem::take(&mut self.sighted);
        sighted.clear();
        let seen = self.look_ahead(&mut sighted);
        let mut is_ready = true;
        let learnt = seen.and_then(|_| {
            sighted.iter().try_for_each(|sighted| match &sighted.concern {
                Concern::Statement(facts, _) => self.prepare_to_judge(facts).map(|learnt| is_ready &= learnt),
                Concern::Portal(_) | Concern::Unknown => Ok(()),
            })
        });
        self.sighted = sighted;
        learnt.map(|()| is_ready)
    }

    fn judge_batch(&mut self) -> Result<Verdict, End> {
        self.note_reason_to_stay();
        if !self.may_balance() {
            return Ok(Verdict::all(self.home));
        }
        let mut sighted = std::mem::take(&mut self.sighted);
        sighted.clear();
        let (length, complete) = self.look_ahead(&mut sighted)?;
        let verdict = self.judge(&sighted, length, complete);
        self.sighted = sighted;
        verdict
    }

    fn judge(&mut self, sighted: &[Sighted], length: usize, complete: bool) -> Result<Verdict, End> {
        let home = self.home;
        let mut transaction = self.transaction();
        // The implicit transaction of this batch: what it has written is to be seen there only.
        if transaction == Transaction::Idle && self.batch.is_some_and(|batch| batch.nodes.contains(home)) {
            return Ok(Verdict::all(home));
        }
        self.begin_statement(transaction);
        let mut leads = false;
        let mut read: Option<Read> = None;
        let mut reads = Vec::new();
        for Sighted { at, concern } in sighted {
            let (facts, text) = match concern {
                Concern::Statement(facts, text) => (facts, text),
                Concern::Portal(node) if *node != home => match &read {
                    None if !leads => {
                        read = Some(Read { at: *at, node: *node, is_portal: true });
                        continue;
                    }
                    Some(read) if read.node == *node => continue,
                    _ => {
                        let node = read.map_or(home, |read| read.node);
                        return Ok(Verdict { node, length: *at, keep: Vec::new() });
                    }
                },
                // A portal of another node is served first.
                Concern::Portal(_) | Concern::Unknown => match read {
                    Some(Read { node, is_portal: true, .. }) => {
                        return Ok(Verdict { node, length: *at, keep: Vec::new() });
                    }
                    _ => return Ok(Verdict::all(home)),
                },
            };
            let route = self.route(facts, text, transaction)?;
            match route.target {
                Target::Balance if read.is_none() => {
                    let here = self.batch.map(|batch| batch.node).filter(|node| *node != home);
                    read = Some(Read { at: *at, node: here.unwrap_or(self.balance), is_portal: false });
                    reads.push(Rc::clone(facts));
                }
                Target::Balance => reads.push(Rc::clone(facts)),
                Target::Both if read.is_none() => {
                    leads = true;
                    if let Kind::Begin(modes) = &facts.kind {
                        let isolation = modes.isolation.or(self.default_isolation());
                        transaction = Transaction::Open { isolation, on_primary_only: false };
                    }
                }
                // A portal of another node is served first.
                _ => match read {
                    Some(Read { node, is_portal: true, .. }) => {
                        return Ok(Verdict { node, length: *at, keep: Vec::new() });
                    }
                    _ => return Ok(Verdict::all(home)),
                },
            }
        }
        Ok(match read {
            Some(read) if leads => Verdict { node: home, length: read.at, keep: Vec::new() },
            Some(Read { node, is_portal, .. }) => {
                let can_be_kept = complete && !is_portal && self.batch.is_none();
                Verdict { node, length, keep: if can_be_kept { reads } else { Vec::new() } }
            }
            None => Verdict { node: self.batch.map_or(home, |batch| batch.node), length, keep: Vec::new() },
        })
    }

    /// Collects what the messages at the front say, up to the end of the batch, a Flush, or the end of what has arrived.
    /// Returns how many bytes they are, and whether the Sync is among them.
    fn look_ahead(&mut self, sighted: &mut Vec<Sighted>) -> Result<(usize, bool), End> {
        let with_text = !self.context.settings.primary_routing_query_pattern_list.is_empty();
        let failed = self.group.status(self.home) == TransactionStatus::Failed;
        let node_of = |facts: &Rc<Statement>| {
            self.portals.node_of_cursor(facts).or_else(|| self.statements.node_to_deallocate(facts, self.home, failed))
        };
        let concern_of = |facts: &Rc<Statement>, text: &[u8]| match node_of(facts) {
            Some(node) => Concern::Portal(node),
            None => Concern::Statement(Rc::clone(facts), if with_text { text.to_vec() } else { Vec::new() }),
        };
        let input = &self.client.input.bytes()[self.direct.length..];
        let (mut parsed, mut bound) = (Vec::new(), Vec::new());
        let (mut parsed_unnamed, mut bound_unnamed) = (false, false);
        let mut at = 0;
        loop {
            let bytes = &input[at..];
            let header = Header::read(bytes, frontend::name).map_err(|error| End::protocol_violation(&error))?;
            let Some(header) = header.filter(|header| bytes.len() >= header.total) else { return Ok((at, false)) };
            let content = &bytes[HEADER_LENGTH..header.total];
            if is_ours(&self.local, &mut self.context.facts, self.lexing, header.kind, content) {
                return Ok((at, false));
            }
            let mut statement = None;
            let mut portal = None;
            match header.kind {
                b'P' => {
                    let parse = frontend::parse(content).map_err(|error| End::protocol_violation(&error))?;
                    let facts = self.context.facts.get(parse.query, self.lexing);
                    sighted.push(Sighted { at, concern: concern_of(&facts, parse.query) });
                    if parse.statement.is_empty() { parsed_unnamed = true } else { parsed.push(parse.statement) }
                }
                b'B' => {
                    let bind = frontend::bind(content).map_err(|error| End::protocol_violation(&error))?;
                    statement = Some(bind.statement);
                    if bind.portal.is_empty() { bound_unnamed = true } else { bound.push(bind.portal) }
                }
                b'D' => match frontend::object(content, "Describe") {
                    Ok(Object::Statement(name)) => statement = Some(name),
                    Ok(Object::Portal(name)) => portal = Some(name),
                    Err(error) => return Err(End::protocol_violation(&error)),
                },
                b'E' => portal = Some(frontend::execute(content).map_err(|error| End::protocol_violation(&error))?),
                b'C' => {}
                b'H' => return Ok((at + header.total, false)),
                b'S' => return Ok((at + header.total, true)),
                _ => return Ok((at, false)),
            }
            let is_new = |name: &[u8], unnamed: bool, named: &[&[u8]]| {
                if name.is_empty() { unnamed } else { named.contains(&name) }
            };
            if let Some(name) = statement.filter(|name| !is_new(name, parsed_unnamed, &parsed)) {
                let concern = match self.statements.get(name) {
                    Some(prepared) => concern_of(&prepared.facts, prepared.text()),
                    None => Concern::Unknown,
                };
                sighted.push(Sighted { at, concern });
            }
            if let Some(name) = portal.filter(|name| !is_new(name, bound_unnamed, &bound)) {
                let concern = self.portals.node(name).map_or(Concern::Unknown, Concern::Portal);
                sighted.push(Sighted { at, concern });
            }
            at += header.total;
        }
    }
}
