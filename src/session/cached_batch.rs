//! Batches of the extended protocol answered from the query cache, with no server involved (query-cache 9).
//!
//! Only a batch of the simplest form is: one statement, its portal unnamed, all rows asked for at once, and all of it here
//! up to the Sync. That is what drivers send for a query. A statement that the batch prepares is on record afterwards as one
//! that no server knows yet, and is prepared where it is first needed.

use super::Session;
use super::end::End;
use crate::cache::{self, Answer};
use crate::sql::Statement;
use crate::wire::frontend::{self, Object};
use crate::wire::{HEADER_LENGTH, Header, write};
use std::ops::Range;
use std::rc::Rc;

/// Parameter values that mean another time with every statement.
const TIMES: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// A batch as it stands in the client's buffer; ranges count from its beginning.
struct Sight {
    facts: Rc<Statement>,
    /// The whole Parse, if there is one, and whether its statement is unnamed.
    parse: Option<Range<usize>>,
    /// Name of the statement.
    name: Vec<u8>,
    /// What Parse says behind the name.
    parsed: Vec<u8>,
    /// What Bind says behind the names.
    bound: Range<usize>,
    describes: bool,
    length: usize,
}

impl Session<'_> {
    /// Answers the batch at the front from the cache, if its answer is there and counts; then the batch is gone. Else
    /// prepares to collect it.
    pub(super) fn answer_batch_from_cache(&mut self) -> Result<bool, End> {
        let Some(sight) = self.sight_batch() else {
            if let Some(caching) = &mut self.caching {
                caching.want_nothing();
            }
            return Ok(false);
        };
        let Some(identities) = self.identities_to_read(&sight.facts)? else { return Ok(false) };
        let Some(caching) = &mut self.caching else { return Ok(false) };
        let batch = &self.client.input.bytes()[self.direct.length..];
        let bound = &batch[sight.bound.clone()];
        let identity = identities.of(&sight.parsed, &self.context.settings);
        cache::extended_key(&identity, &sight.parsed, bound, &mut caching.key);
        let found = caching.find(&self.database);
        let answer = found.and_then(|at| Answer::read(&caching.answer[at..]));
        let Some(answer) = answer.filter(|answer| !sight.describes || answer.description.is_some()) else {
            if !mentions_time(bound) {
                self.want(&sight.facts)?;
            }
            return Ok(false);
        };
        let status = self.group.status(self.home);
        let out = &mut self.client.output;
        if sight.parse.is_some() {
            write::parse_complete(out);
        }
        write::bind_complete(out);
        if let Some(description) = answer.description.filter(|_| sight.describes) {
            out.extend_from_slice(description);
        }
        out.extend_from_slice(answer.rows);
        write::ready_for_query(out, status);
        caching.shared().count_hit(self.context.slot.index());
        if let Some(parse) = sight.parse {
            self.statements.prepare_nowhere(&sight.name, &batch[parse], sight.facts, self.home);
        }
        self.portals.close(b"");
        self.tell_cached(status);
        self.send_direct()?;
        self.client.input.consume(sight.length);
        self.client.flush()?;
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
                    let values = HEADER_LENGTH + names.statement.len() + 2;
                    bind = Some((names, at + values..at + header.total));
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
        let (names, bound) = bind?;
        let name = names.statement;
        let (facts, parsed) = match &parse {
            Some((_, parse)) if parse.statement == name && (name.is_empty() || self.statements.get(name).is_none()) => {
                (self.context.facts.get(parse.query, self.lexing), behind_name(bytes)?)
            }
            Some(_) => return None,
            None => {
                let prepared = self.statements.get(name).filter(|prepared| prepared.is_parse())?;
                (Rc::clone(&prepared.facts), behind_name(&prepared.message)?)
            }
        };
        Some(Sight {
            facts,
            parse: parse.map(|(range, _)| range),
            name: name.to_vec(),
            parsed: parsed.to_vec(),
            bound,
            describes,
            length: at,
        })
    }
}

/// What the Parse message at the beginning of `bytes` says behind the name of its statement.
fn behind_name(bytes: &[u8]) -> Option<&[u8]> {
    let header = Header::read(bytes, frontend::name).ok()??;
    let content = bytes.get(HEADER_LENGTH..header.total)?;
    let end = content.iter().position(|byte| *byte == 0)?;
    content.get(end + 1..)
}

fn mentions_time(values: &[u8]) -> bool {
    TIMES.iter().any(|time| values.windows(time.len()).any(|part| part.eq_ignore_ascii_case(time)))
}
