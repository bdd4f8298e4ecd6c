//! The facts about one text.

use super::kind::{Kind, StatementClass};
use super::text::Lead;
use std::fmt;

/// Everything later rooms ask about a text; owned and small, without the parse tree.
///
/// Facts that are sets (relations, functions, the flags) cover the whole text: all statements of it, and what EXPLAIN,
/// PREPARE, DECLARE and COPY hold inside.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The kind of the first statement.
    pub kind: Kind,
    /// The kinds of further statements in the same text.
    pub further: Box<[Kind]>,
    /// How the text begins.
    pub lead: Lead,
    /// Relations named, without names of common table expressions; each name and use once, in order of name.
    pub relations: Box<[Relation]>,
    /// Functions called; each name once, in order of name.
    pub functions: Box<[Name]>,
    /// Flags.
    pub has: Contents,
    /// `pg_terminate_backend` with a constant process id in a plain SELECT (routing 11).
    pub terminates: Option<i32>,
}

/// What a text contains, anywhere in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// INSERT, UPDATE, DELETE or MERGE, also inside a WITH.
    pub modification: bool,
    /// SELECT ... INTO.
    pub select_into: bool,
    /// SELECT ... INTO a table that is not temporary.
    pub makes_table: bool,
    /// EXECUTE, also within EXPLAIN and CREATE TABLE AS.
    pub executes: bool,
    /// FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE.
    pub locking: bool,
    /// CURRENT_TIMESTAMP, CURRENT_USER and the like: no function calls, but no constants either.
    pub value_functions: bool,
    /// What makes an answer differ from the next one without any function: TABLESAMPLE, casts to `timestamptz` and `timetz`,
    /// constants such as `'now'` and `'yesterday'`.
    pub passing: bool,
    /// Something whose effect outlives the statement in the server session, judged by the text alone: SET, PREPARE,
    /// LISTEN, temporary tables, advisory locks, CALL, DO, anything not understood. A function or trigger that does so
    /// inside cannot be seen.
    pub session_state: bool,
    /// A function is called of which it is not known that it leaves nothing behind in the server session: any but the
    /// common ones of PostgreSQL.
    pub unknown_functions: bool,
}

/// A name, perhaps with a schema, as the parser folds it. A catalog (database) in front is dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// As written; None when the search path decides.
    pub schema: Option<Box<str>>,
    /// Without schema.
    pub name: Box<str>,
}

impl Name {
    /// A name without schema.
    pub fn bare(name: &str) -> Self {
        Self { schema: None, name: name.into() }
    }

    /// A name in a schema.
    pub fn qualified(schema: &str, name: &str) -> Self {
        Self { schema: Some(schema.into()), name: name.into() }
    }

    /// As SQL writes it with every part quoted: `"schema"."name"`.
    pub fn quoted(&self) -> String {
        let quote = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

impl fmt::Display for Name {
    /// For people: `schema.name`, without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// A relation and what the text does with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// Its name.
    pub name: Name,
    /// Read or written; a relation with both appears twice.
    pub usage: Use,
}

/// What a text does with a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Rows are read.
    Read,
    /// The target of INSERT, UPDATE, DELETE, MERGE, COPY FROM, TRUNCATE, CREATE, ALTER, DROP, ...
    Written,
}

impl Statement {
    /// Facts of a text of which only the kind and the beginning are known.
    pub(super) fn of_kind(kind: Kind, lead: Lead) -> Self {
        let session_state = matches!(kind, Kind::Unparsable(_));
        Self {
            kind,
            further: Box::default(),
            lead,
            relations: Box::default(),
            functions: Box::default(),
            has: Contents { session_state, unknown_functions: session_state, ..Contents::default() },
            terminates: None,
        }
    }

    /// Whether the text holds more than one statement.
    pub fn is_multi(&self) -> bool {
        !self.further.is_empty()
    }

    /// The kinds of all statements of the text, in order; one at least.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        std::iter::once(&self.kind).chain(&self.further)
    }

    /// Whether facts of the catalog learnt before are out of date afterwards; see [`Kind::changes_catalog`].
    pub fn changes_catalog(&self) -> bool {
        self.has.select_into || self.kinds().any(Kind::changes_catalog)
    }

    /// The class that statistics count it in (show-commands 5.7b).
    pub fn class(&self) -> StatementClass {
        self.kind.class()
    }

    /// The name in `SHOW pool_...`, exactly as the parser folds it; whether such a command exists is not checked.
    pub fn show_pool(&self) -> Option<&str> {
        match &self.kind {
            Kind::Show(name) if name.starts_with("pool_") => Some(name),
            _ => None,
        }
    }

    /// Names of the relations whose rows are read.
    pub fn reads(&self) -> impl Iterator<Item = &Name> {
        self.relations.iter().filter(|relation| relation.usage == Use::Read).map(|relation| &relation.name)
    }

    /// Names of the relations that are written.
    pub fn writes(&self) -> impl Iterator<Item = &Name> {
        self.relations.iter().filter(|relation| relation.usage == Use::Written).map(|relation| &relation.name)
    }

    /// About how many bytes the facts occupy.
    pub(super) fn footprint(&self) -> usize {
        let names = self.functions.iter().chain(self.relations.iter().map(|relation| &relation.name));
        let text: usize = names.map(|name| name.name.len() + name.schema.as_ref().map_or(0, |s| s.len())).sum();
        size_of::<Self>()
            + size_of_val(&*self.further)
            + size_of_val(&*self.relations)
            + size_of_val(&*self.functions)
            + text
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_quoted_for_the_server_and_plain_for_people() {
        let name = Name::qualified("My Schema", "a\"b");
        assert_eq!(name.quoted(), "\"My Schema\".\"a\"\"b\"");
        assert_eq!(name.to_string(), "My Schema.a\"b");
        assert_eq!(Name::bare("t").quoted(), "\"t\"");
    }
}
