//! Batches of the extended protocol answered from the query cache, with no server involved (query-cache 9).
//!
//! Only a batch of the simplest form is: one statement, its portal unnamed, all rows asked for at once, and all of it here
//! up to the Sync. That is what drivers send for a query. A statement that the batch prepares is on record afterwards as one
//! that no server knows yet, and is prepared where it is first needed.

use super::Session;
use super::end::End;
use super::statements::Definition;
use crate::cache::{self, Answer};
use crate::sql::Statement;
use crate::wire::frontend::{self, Object};
use crate::wire::{HEADER_LENGTH, Header, write};
use std::ops::Range;
use std::rc::Rc;

/// Parameter values that mean another time with every statement.
const TIMES: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
/// ParseComplete and BindComplete, which stand in front of a kept answer. They fit where its entry tells what it depends on.
const LEAD: &[u8] = b"1\0\0\0\x042\0\0\0\x04";

/// A batch as it stands in the client's buffer; ranges count from its beginning.
struct Sight {
    facts: Rc<Statement>,
    /// The whole Parse, if there is one, and whether its statement is unnamed.
    parse: Option<Range<usize>>,
    /// Name of the statement.
    name: Range<usize>,
    /// What was prepared before, if the batch does not do it.
    prepared: Option<Rc<Definition>>,
    /// What Parse says behind the name: in the batch, or in the message that prepared it before.
    parsed: Range<usize>,
    /// What Bind says behind the names.
    bound: Range<usize>,
    describes: bool,
    length: usize,
}

impl Session<'_> {
    /// Answers the batch at the front from the cache, if its answer is there and counts; then the batch is gone. Else
    /// prepares to collect it. A new name is always the server's to learn: later it might read the text by other settings.
    pub(super) fn answer_batch_from_cache(&mut self) -> Result<bool, End> {
        let Some(sight) = self.sight_batch() else {
            if let Some(caching) = &mut self.caching {
                caching.filling.want_nothing();
            }
            return Ok(false);
        };
        let Some(identities) = self.identities_to_read(&sight.facts)? else { return Ok(false) };
        let Some(now) = self.meaning() else { return Ok(false) };
        let then = sight.prepared.as_ref().map_or(Some(now), |prepared| prepared.meaning.get());
        // A statement that means something else than its text is the server's to answer.
        if sight.prepared.as_ref().is_some_and(|prepared| !prepared.may_mean(now)) {
            return Ok(false);
        }
        let Some(caching) = &mut self.caching else { return Ok(false) };
        let batch = &self.client.input.bytes()[self.direct.length..];
        let bound = &batch[sight.bound.clone()];
        let parsed = &sight.prepared.as_ref().map_or(batch, |prepared| &prepared.message)[sight.parsed.clone()];
        cache::extended_key(&identities.mine(), parsed, bound, &mut caching.key);
        let lead = if sight.parse.is_some() { LEAD } else { &LEAD[LEAD.len() / 2..] };
        // So it is, once, if something may have been defined or set since: its columns may be others. Also while it is
        // looked for.
        let is_answered = then == Some(now) && (sight.parse.is_none() || sight.name.is_empty());
        let found = if is_answered { caching.find(&self.database) } else { None };
        let found = found.filter(|_| caching.shared().definitions(&self.database) == now.definitions);
        let Some(at) = found.and_then(|at| beginning(&caching.answer, at, sight.describes)?.checked_sub(lead.len()))
        else {
            if !mentions_time(bound) {
                self.want(&sight.facts)?;
            }
            if let (Some(prepared), Some(caching)) = (sight.prepared, &mut self.caching) {
                caching.filling.is_proof(prepared, now);
            }
            return Ok(false);
        };
        let status = self.group.status(self.home);
        caching.answer[at..at + lead.len()].copy_from_slice(lead);
        write::ready_for_query(&mut caching.answer, status);
        caching.shared().count_hit(self.context.slot.index());
        if let Some(parse) = sight.parse {
            let name = &batch[sight.name];
            self.statements.prepare_nowhere(name, &batch[parse], sight.facts, self.home);
            self.statements.means(name, Some(now));
        }
        self.portals.close(b"");
        self.tell_cached(status);
        self.send_direct()?;
        self.client.input.consume(sight.length);
        if let Some(caching) = &self.caching {
            self.client.send(&caching.answer[at..])?;
        }
        Ok(true)
    }

    /// The batch at the front, if it is whole and of the form that can be answered.
    fn sight_batch(&mut self) -> Option<Sight> {
        if !self.local.is_idle() || self.is_skipping() || self.statements.has_stale() {
            return None;
        }
        let bytes = &self.client.input.bytes()[self.direct.length..];
        let (mut at, mut parse, mut bind) = (0, None, None);
        let (mut describes, mut executes) = (false, false);
        loop {
            let header = Header::read(bytes.get(at..)?, frontend::name).ok()??;
            let content = bytes.get(at + HEADER_LENGTH..at + header.total)?;
            match header.kind {
                b'P' if at == 0 => parse = Some((at..at + header.total, frontend::parse(content).ok()?)),
                b'B' if bind.is_none() => {
                    let names = frontend::bind(content).ok().filter(|bind| bind.portal.is_empty())?;
                    frontend::bind_values(content).ok()?;
                    let name = at + HEADER_LENGTH + 1;
                    let name = name..name + names.statement.len();
                    let values = name.end + 1;
                    bind = Some((names.statement, name, values..at + header.total));
                }
                b'D' if bind.is_some() && !describes && !executes => {
                    let object = frontend::object(content, "Describe").ok()?;
                    describes = object == Object::Portal(b"");
                    if !describes {
                        return None;
                    }
                }
                b'E' if bind.is_some() && !executes => {
                    executes = frontend::execute_limit(content).ok()? == (b"", 0);
                    if !executes {
                        return None;
                    }
                }
                b'S' if executes => {
                    at += header.total;
                    break;
                }
                _ => return None,
            }
            at += header.total;
        }
        let (statement, name, bound) = bind?;
        let (facts, prepared, parsed) = match &parse {
            Some((_, parse))
                if parse.statement == statement
                    && (statement.is_empty() || self.statements.get(statement).is_none()) =>
            {
                (self.context.facts.get(parse.query, self.lexing), None, behind_name(bytes)?)
            }
            Some(_) => return None,
            None => {
                let prepared = self.statements.definition(statement).filter(|prepared| prepared.is_parse())?;
                let parsed = behind_name(&prepared.message)?;
                (Rc::clone(&prepared.facts), Some(prepared), parsed)
            }
        };
        let parse = parse.map(|(range, _)| range);
        Some(Sight { facts, parse, name, prepared, parsed, bound, describes, length: at })
    }
}

/// Where in `entry`, whose messages begin at `at`, the answer to a batch begins; `describes`: with RowDescription. `None`:
/// that was not kept.
fn beginning(entry: &[u8], at: usize, describes: bool) -> Option<usize> {
    match Answer::read(entry.get(at..)?)?.description {
        Some(_) if describes => Some(at),
        Some(description) => Some(at + description.len()),
        None => (!describes).then_some(at),
    }
}

/// What the Parse message at the beginning of `bytes` says behind the name of its statement.
fn behind_name(bytes: &[u8]) -> Option<Range<usize>> {
    let header = Header::read(bytes, frontend::name).ok()??;
    let content = bytes.get(HEADER_LENGTH..header.total)?;
    let end = content.iter().position(|byte| *byte == 0)?;
    Some(HEADER_LENGTH + end + 1..header.total)
}

fn mentions_time(values: &[u8]) -> bool {
    TIMES.iter().any(|time| values.windows(time.len()).any(|part| part.eq_ignore_ascii_case(time)))
}
