//! Whether the query cache may keep the answer of a statement, as far as its facts and the catalog tell (query-cache 3.1).
//! One place for the rules: PGPOOL EXPLAIN tells what speaks against a statement, sessions obey it.

use crate::config::Settings;
use crate::route::{Catalog, Known, RelationKind, Volatility};
use crate::sql::{Kind, Name, Statement};
use std::fmt;

/// What speaks against keeping an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle<'s> {
    /// Something about the statement as a whole.
    Statement(&'static str),
    /// A relation, and what it is.
    Relation(&'s Name, &'static str),
    /// A function, and what it is.
    Function(&'s Name, &'static str),
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(what) => f.write_str(what),
            Self::Relation(name, what) => write!(f, "{name} {what}"),
            Self::Function(name, what) => write!(f, "{name}() {what}"),
        }
    }
}

/// Whether `text` begins with the hint that its answer may be kept whatever it calls or reads.
pub fn is_forced(text: &[u8]) -> bool {
    begins(text, b"/*FORCE QUERY CACHE*/")
}

fn begins(text: &[u8], mark: &[u8]) -> bool {
    text.get(..mark.len()).is_some_and(|text| text.eq_ignore_ascii_case(mark))
}

/// Whether a look into the cache is worth while: what facts alone exclude was never stored.
#[inline]
pub fn may_be_cached(statement: &Statement) -> bool {
    let has = &statement.has;
    statement.kind == Kind::Select
        && !statement.is_multi()
        && !(has.modification || has.select_into || has.locking || has.session_state)
}

/// The first thing that speaks against keeping the answer of `statement`, whose text is `text`.
pub fn obstacle<'s>(
    statement: &'s Statement,
    text: &[u8],
    settings: &Settings,
    catalog: &dyn Catalog,
) -> Option<Obstacle<'s>> {
    let has = &statement.has;
    let of_statement = [
        (statement.is_multi() || statement.kind != Kind::Select, "only a SELECT that stands alone is cached"),
        (has.modification || has.select_into, "it writes"),
        (has.locking, "it locks rows"),
        (has.session_state, "it changes the state of the session"),
        (begins(text, b"/*NO QUERY CACHE*/"), "it begins with /*NO QUERY CACHE*/"),
    ];
    if let Some((_, why)) = of_statement.into_iter().find(|(holds, _)| *holds) {
        return Some(Obstacle::Statement(why));
    }
    // Who may see which rows is no matter of taste.
    let secured = |name: &&Name| catalog.relation(name) == Known::Yes(RelationKind::RowSecurity);
    if let Some(name) = statement.reads().find(secured) {
        return Some(Obstacle::Relation(name, "has row security"));
    }
    if is_forced(text) {
        return None;
    }
    if has.value_functions {
        return Some(Obstacle::Statement("it asks for the time or the user (CURRENT_DATE, CURRENT_USER, ...)"));
    }
    if has.passing {
        return Some(Obstacle::Statement(
            "it depends on when it runs (TABLESAMPLE, 'now', casts to timestamptz or timetz)",
        ));
    }
    let functions = || statement.functions.iter().find_map(|name| of_function(name, settings, catalog));
    statement.reads().find_map(|name| of_relation(name, settings, catalog)).or_else(functions)
}

fn of_relation<'s>(name: &'s Name, settings: &Settings, catalog: &dyn Catalog) -> Option<Obstacle<'s>> {
    let written = name.to_string();
    if settings.cache_unsafe_memqcache_table_list.is_match(&written) {
        return Some(Obstacle::Relation(name, "is in cache_unsafe_memqcache_table_list"));
    }
    let is_safe = settings.cache_safe_memqcache_table_list.is_match(&written);
    let what = match catalog.relation(name) {
        Known::Yes(RelationKind::Ordinary) => return None,
        Known::Yes(RelationKind::View | RelationKind::Unlogged) if is_safe => return None,
        Known::Yes(RelationKind::View) => "is a view or a foreign table, and not in cache_safe_memqcache_table_list",
        Known::Yes(RelationKind::Unlogged) => "is unlogged, and not in cache_safe_memqcache_table_list",
        Known::Yes(RelationKind::RowSecurity) => "has row security",
        Known::Yes(RelationKind::System) => "is a system catalog",
        Known::Yes(RelationKind::Temporary) => "is a temporary table",
        Known::Yes(RelationKind::None) => "does not exist",
        Known::NotYet => "has not been looked up",
    };
    Some(Obstacle::Relation(name, what))
}

/// `read_only_function_list` decides nothing here: not to write is not to answer the same for ever.
fn of_function<'s>(name: &'s Name, settings: &Settings, catalog: &dyn Catalog) -> Option<Obstacle<'s>> {
    let writing = &settings.write_function_list;
    if !writing.is_empty() && writing.is_match(&name.to_string()) {
        return Some(Obstacle::Function(name, "is in write_function_list"));
    }
    let what = match catalog.function(name) {
        Known::Yes(Volatility::Immutable) => return None,
        Known::Yes(Volatility::Reads) => "is STABLE, not IMMUTABLE",
        Known::Yes(Volatility::Volatile) => "is VOLATILE",
        Known::Yes(Volatility::None) => "does not exist",
        Known::NotYet => "has not been looked up",
    };
    Some(Obstacle::Function(name, what))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};

    /// A catalog in which names say what they are.
    pub struct Facts;

    impl Catalog for Facts {
        fn function(&self, name: &Name) -> Known<Volatility> {
            Known::Yes(match &*name.name {
                "count" => Volatility::Immutable,
                "now" => Volatility::Reads,
                "later" => return Known::NotYet,
                _ => Volatility::Volatile,
            })
        }

        fn relation(&self, name: &Name) -> Known<RelationKind> {
            Known::Yes(match &*name.name {
                "view1" => RelationKind::View,
                "unlogged1" => RelationKind::Unlogged,
                "secured" => RelationKind::RowSecurity,
                "temp1" => RelationKind::Temporary,
                "pg_class" => RelationKind::System,
                "nosuch" => RelationKind::None,
                "later" => return Known::NotYet,
                _ => RelationKind::Ordinary,
            })
        }
    }

    fn answer(text: &str, settings: &Settings) -> String {
        let statement = analyse(text.as_bytes(), Lexing::default());
        let obstacle = obstacle(&statement, text.as_bytes(), settings, &Facts);
        obstacle.map_or_else(|| "yes".to_owned(), |obstacle| format!("no: {obstacle}"))
    }

    #[test]
    fn what_speaks_against_it_is_said() {
        for (text, why) in [
            ("select count(*) from t1 join t2 using (a)", ""),
            ("/* x */ select 1", ""),
            ("/*force query cache*/ select now() from view1", ""),
            ("/*FORCE QUERY CACHE*/ with x as (delete from t returning 1) select * from x", "it writes"),
            ("/*NO QUERY CACHE*/ select 1", "it begins with /*NO QUERY CACHE*/"),
            ("select 1; select 2", "only a SELECT that stands alone is cached"),
            ("show port", "only a SELECT that stands alone is cached"),
            (
                "with x as (merge into t1 using t2 on true when matched then delete returning 1) select * from x",
                "it writes",
            ),
            ("select 1 into x", "it writes"),
            ("select * from t1 for share", "it locks rows"),
            ("select set_config('a.b', 'c', false)", "it changes the state of the session"),
            ("select current_date", "it asks for the time or the user (CURRENT_DATE, CURRENT_USER, ...)"),
            (
                "select a from t1 where b > 'Today'",
                "it depends on when it runs (TABLESAMPLE, 'now', casts to timestamptz or timetz)",
            ),
            (
                "select '[today,tomorrow)'::daterange",
                "it depends on when it runs (TABLESAMPLE, 'now', casts to timestamptz or timetz)",
            ),
            ("/*FORCE QUERY CACHE*/ select * from secured", "secured has row security"),
            ("select now()", "now() is STABLE, not IMMUTABLE"),
            ("select count(*), random()", "random() is VOLATILE"),
            ("select later()", "later() has not been looked up"),
            ("select * from later", "later has not been looked up"),
            (
                "select * from s.view1",
                "s.view1 is a view or a foreign table, and not in cache_safe_memqcache_table_list",
            ),
            ("select * from unlogged1", "unlogged1 is unlogged, and not in cache_safe_memqcache_table_list"),
            ("select * from secured", "secured has row security"),
            ("select * from temp1", "temp1 is a temporary table"),
            ("select * from pg_class", "pg_class is a system catalog"),
            ("select * from nosuch", "nosuch does not exist"),
        ] {
            let expected = if why.is_empty() { "yes".to_owned() } else { format!("no: {why}") };
            assert_eq!(answer(text, &Settings::default()), expected, "{text}");
        }
    }

    #[test]
    fn lists_of_tables_and_functions_decide() {
        let mut settings = Settings::default();
        settings.assign("cache_safe_memqcache_table_list", "view1,unlogged1,secured").expect("list");
        settings.assign("cache_unsafe_memqcache_table_list", "t9").expect("list");
        assert_eq!(answer("select * from view1, unlogged1", &settings), "yes");
        assert_eq!(answer("select * from secured", &settings), "no: secured has row security");
        assert_eq!(answer("select * from t1, t9", &settings), "no: t9 is in cache_unsafe_memqcache_table_list");
        settings.assign("read_only_function_list", "now,random").expect("list");
        assert_eq!(answer("select now()", &settings), "no: now() is STABLE, not IMMUTABLE");
        settings.assign("write_function_list", "count").expect("list");
        assert_eq!(answer("select count(*) from t1", &settings), "no: count() is in write_function_list");
    }
}
