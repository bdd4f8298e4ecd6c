//! From bytes to facts: guard, parse, classify, collect.

mod children;
mod classify;
mod collect;
mod known;
mod session_state;

use super::kind::{Kind, Unparsable};
use super::pgpool::PgpoolCommand;
use super::text::Lead;
use super::{Encoding, Lexing, Statement};
use collect::Collector;
use pg_raw_parse::Error;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Longer texts, in bytes, are not parsed: a parse tree takes some hundred times the text's memory.
pub const MAX_ANALYSED: usize = 256 * 1024;

/// Texts with more beginnings of comments, wherever they stand, are not parsed: the scanner calls itself for each
/// comment, and takes quadratic time for nested ones.
pub const MAX_COMMENTS: usize = 250;

/// The facts about `text` as a server of these lexical rules will read it.
///
/// Never fails: what cannot be understood is [`Kind::Unparsable`]. Takes about a microsecond for a short statement; see
/// [`FactsCache`](super::FactsCache).
pub fn analyse(text: &[u8], lexing: Lexing) -> Statement {
    let lead = Lead::of(text);
    if let Some(command) = PgpoolCommand::read(text) {
        return Statement::of_kind(Kind::Pgpool(command), lead);
    }
    // The parser is foreign code, and its bindings check their assumptions by panicking. That must not take a session
    // down: a text that makes them panic is one more that is not understood.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let readable = readable(text, lexing)?;
        let exact = matches!(readable, Cow::Borrowed(_));
        parse(&readable, exact, lead)
    }));
    result
        .unwrap_or(Err(Unparsable::ParserFailed))
        .unwrap_or_else(|why| Statement::of_kind(Kind::Unparsable(why), lead))
}

/// The text as the parser may get it: same tokens, valid UTF-8.
fn readable(text: &[u8], lexing: Lexing) -> Result<Cow<'_, str>, Unparsable> {
    if text.len() > MAX_ANALYSED {
        return Err(Unparsable::TooLong);
    }
    if has_many_comments(text) {
        return Err(Unparsable::Comments);
    }
    if !lexing.standard_conforming_strings && memchr::memchr(b'\\', text).is_some() {
        return Err(Unparsable::Backslash);
    }
    match lexing.encoding {
        _ if text.is_ascii() => {}
        Encoding::Utf8 => {}
        Encoding::AsciiSuperset => return Ok(text.iter().copied().map(char::from).collect()),
        Encoding::Ambiguous => return Err(Unparsable::Encoding),
    }
    std::str::from_utf8(text).map(Cow::Borrowed).map_err(|_| Unparsable::Encoding)
}

fn has_many_comments(text: &[u8]) -> bool {
    if text.len() < 2 * MAX_COMMENTS {
        return false;
    }
    let begins = |at: &usize| matches!(text.get(*at..*at + 2), Some(b"/*" | b"--"));
    memchr::memchr2_iter(b'/', b'-', text).filter(begins).nth(MAX_COMMENTS).is_some()
}

/// Facts of readable text; `exact`: its names are spelled as the server will see them.
fn parse(text: &str, exact: bool, lead: Lead) -> Result<Statement, Unparsable> {
    let tree = pg_raw_parse::parse(text).map_err(|error| match error {
        Error::StatementContainedNul(_) => Unparsable::Encoding,
        Error::Parse(error) => match error.to_string() {
            message if message.starts_with("out of memory") => Unparsable::ParserFailed,
            message => Unparsable::Syntax(message.into()),
        },
        Error::PgError(_) => Unparsable::ParserFailed,
    })?;
    let mut collector = Collector::default();
    let mut kinds = tree.stmts().map(|statement| classify::classify(statement, &mut collector));
    let kind = kinds.next().unwrap_or(Kind::Empty);
    let further: Box<[Kind]> = kinds.collect();
    let mut statement = Statement { kind, further, ..Statement::of_kind(Kind::Empty, lead) };
    collector.finish(&mut statement)?;
    let spelled = exact || names_are_ascii(&statement);
    statement.has.session_state |= session_state::is_changed(&statement);
    statement.has.unknown_functions |= !statement.functions.iter().all(known::leaves_nothing);
    if spelled { Ok(statement) } else { Err(Unparsable::Encoding) }
}

fn names_are_ascii(statement: &Statement) -> bool {
    let relations = statement.relations.iter().map(|relation| &relation.name);
    let schemas_too = |name: &super::Name| name.name.is_ascii() && name.schema.as_ref().is_none_or(|s| s.is_ascii());
    relations.chain(&statement.functions).all(schemas_too)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
