//! Which statements change what names mean: in this session, or for all.

use crate::sql::{DiscardTarget, Kind, Statement, VariableScope};

/// What a statement changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Names may mean something else in this session than in others like it.
    pub session: SessionChange,
    /// Facts that all sessions have may be out of date.
    pub catalog: bool,
}

/// What becomes of the names of the session itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionChange {
    /// Nothing.
    None,
    /// Its search path is now what the text says, and nothing else has changed.
    SearchPath,
    /// Something that cannot be named: a role, temporary tables, whatever a procedure does.
    Unnamed,
}

impl Change {
    /// Judged by facts and text alone. What functions and procedures define is not seen.
    pub fn of(statement: &Statement, text: &[u8]) -> Self {
        Self { session: session(statement), catalog: changes_catalog(statement, text) }
    }
}

fn session(statement: &Statement) -> SessionChange {
    if let Kind::Set { scope: VariableScope::Session, name, .. } | Kind::Reset(Some(name)) = &statement.kind
        && name.eq_ignore_ascii_case("search_path")
        && !statement.is_multi()
    {
        return SessionChange::SearchPath;
    }
    // Temporary tables, views, sequences.
    let leaves_relation = |kind: &Kind| matches!(kind, Kind::Ddl) || statement.has.select_into;
    let unnamed = statement.kinds().any(|kind| by_kind(kind) || (statement.has.session_state && leaves_relation(kind)))
        || statement.functions.iter().any(|function| &*function.name == "set_config");
    if unnamed { SessionChange::Unnamed } else { SessionChange::None }
}

fn by_kind(kind: &Kind) -> bool {
    /// Settings that decide what a name means, or how transactions begin.
    const NAMING: [&str; 4] = ["search_path", "role", "session_authorization", "default_transaction_isolation"];
    match kind {
        Kind::Set { name, .. } | Kind::Reset(Some(name)) => {
            NAMING.iter().any(|naming| name.eq_ignore_ascii_case(naming))
        }
        Kind::SetTransaction { scope, modes } => *scope == VariableScope::Session && modes.isolation.is_some(),
        Kind::CreateTable { temporary } | Kind::CreateTableAs { temporary } => *temporary,
        Kind::Explain { inner, .. } => by_kind(inner),
        Kind::Reset(None)
        | Kind::Discard(DiscardTarget::All | DiscardTarget::Temp)
        | Kind::Call
        | Kind::Do
        | Kind::Unparsable(_) => true,
        _ => false,
    }
}

/// A procedure counts as little as a function: both may define something, and neither usually does.
fn changes_catalog(statement: &Statement, text: &[u8]) -> bool {
    let changes = |kind: &Kind| match kind {
        Kind::CreateTable { temporary } | Kind::CreateTableAs { temporary } => !temporary,
        Kind::Call => false,
        Kind::Unparsable(_) => mentions_definition(text),
        kind => kind.changes_catalog(),
    };
    statement.has.select_into || statement.kinds().any(changes)
}

/// Whether a text that could not be understood holds a word that begins a definition.
fn mentions_definition(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"create", b"alter", b"drop", b"import"];
    let begins_here = |rest: &[u8]| WORDS.iter().any(|word| rest[..word.len()].eq_ignore_ascii_case(word));
    text.windows(6).any(begins_here)
}

#[cfg(test)]
mod tests {
    use super::SessionChange::{None, SearchPath, Unnamed};
    use super::*;
    use crate::sql::{Lexing, analyse};

    #[test]
    fn statements_change_names() {
        for (text, session, catalog) in [
            ("select f() from t", None, false),
            ("insert into t values (1)", None, false),
            ("set work_mem = '1MB'", None, false),
            ("prepare p as select 1", None, false),
            ("listen x", None, false),
            ("select pg_advisory_lock(1)", None, false),
            ("truncate t", None, false),
            ("discard plans", None, false),
            ("begin isolation level serializable", None, false),
            // It may be one of pg_temp.
            ("create function f() returns int language sql as 'select 1'", Unnamed, true),
            ("create schema s", None, true),
            ("create unlogged table t (a int)", None, true),
            ("alter table t set unlogged", None, true),
            ("drop table t", None, true),
            ("select 1; create table t (a int)", None, true),
            ("select 1 into t", None, true),
            ("create temp table t (a int)", Unnamed, false),
            ("create temp table t as select 1", Unnamed, false),
            ("create temp view v as select 1", Unnamed, true),
            ("select 1 into temp t", Unnamed, true),
            ("set search_path = a, b", SearchPath, false),
            ("reset search_path", SearchPath, false),
            ("set local search_path = a", Unnamed, false),
            ("set search_path = a; select 1", Unnamed, false),
            ("select set_config('search_path', 'a', false)", Unnamed, false),
            ("set role r", Unnamed, false),
            ("set session authorization r", Unnamed, false),
            ("set default_transaction_isolation = 'serializable'", Unnamed, false),
            ("set session characteristics as transaction isolation level serializable", Unnamed, false),
            ("reset all", Unnamed, false),
            ("discard all", Unnamed, false),
            ("discard temp", Unnamed, false),
            ("call p()", Unnamed, false),
            ("do ''", Unnamed, true),
            ("sleect 1", Unnamed, false),
            ("CReate sleect 1", Unnamed, true),
            ("gibberish; drop t", Unnamed, true),
        ] {
            let statement = analyse(text.as_bytes(), Lexing::default());
            assert_eq!(Change::of(&statement, text.as_bytes()), Change { session, catalog }, "{text}");
        }
    }
}
