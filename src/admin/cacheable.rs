//! Whether the query cache could keep the result of a statement, as far as its facts tell (query-cache 3.1).
//!
//! Not seen yet: casts to timestamptz and timetz, and TABLESAMPLE. It does not matter whether `memory_cache_enabled` is on.

use crate::config::Settings;
use crate::route::{Catalog, Known, RelationKind, Volatility};
use crate::sql::{Kind, Name, Statement};

/// `yes`, or `no: ` and the first thing that speaks against it.
pub(super) fn cacheable(statement: &Statement, text: &[u8], settings: &Settings, catalog: &dyn Catalog) -> String {
    match obstacle(statement, text, settings, catalog) {
        None => "yes".to_owned(),
        Some(why) => format!("no: {why}"),
    }
}

fn obstacle(statement: &Statement, text: &[u8], settings: &Settings, catalog: &dyn Catalog) -> Option<String> {
    let has = &statement.has;
    let begins = |mark: &str| text.get(..mark.len()).is_some_and(|text| text.eq_ignore_ascii_case(mark.as_bytes()));
    let of_statement = [
        (statement.is_multi() || statement.kind != Kind::Select, "only a SELECT that stands alone is cached"),
        (has.modification || has.select_into, "it writes"),
        (has.locking, "it locks rows"),
        (has.session_state, "it changes the state of the session"),
        (begins("/*NO QUERY CACHE*/"), "it begins with /*NO QUERY CACHE*/"),
    ];
    if let Some((_, why)) = of_statement.into_iter().find(|(holds, _)| *holds) {
        return Some(why.to_owned());
    }
    if begins("/*FORCE QUERY CACHE*/") {
        return None;
    }
    if has.value_functions {
        return Some("it asks for the time or the user (CURRENT_DATE, CURRENT_USER, ...)".to_owned());
    }
    let functions = || statement.functions.iter().find_map(|name| of_function(name, catalog));
    statement.reads().find_map(|name| of_relation(name, settings, catalog)).or_else(functions)
}

fn of_relation(name: &Name, settings: &Settings, catalog: &dyn Catalog) -> Option<String> {
    let written = name.to_string();
    if settings.cache_unsafe_memqcache_table_list.is_match(&written) {
        return Some(format!("{name} is in cache_unsafe_memqcache_table_list"));
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
    Some(format!("{name} {what}"))
}

fn of_function(name: &Name, catalog: &dyn Catalog) -> Option<String> {
    let what = match catalog.function(name) {
        Known::Yes(Volatility::Immutable) => return None,
        Known::Yes(Volatility::Reads) => "is STABLE, not IMMUTABLE",
        Known::Yes(Volatility::Volatile) => "is VOLATILE",
        Known::Yes(Volatility::None) => "does not exist",
        Known::NotYet => "has not been looked up",
    };
    Some(format!("{name}() {what}"))
}

#[cfg(test)]
pub(super) mod tests {
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
        cacheable(&analyse(text.as_bytes(), Lexing::default()), text.as_bytes(), settings, &Facts)
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
    fn lists_of_tables_decide() {
        let mut settings = Settings::default();
        settings.assign("cache_safe_memqcache_table_list", "view1,unlogged1,secured").expect("list");
        settings.assign("cache_unsafe_memqcache_table_list", "t9").expect("list");
        assert_eq!(answer("select * from view1, unlogged1", &settings), "yes");
        assert_eq!(answer("select * from secured", &settings), "no: secured has row security");
        assert_eq!(answer("select * from t1, t9", &settings), "no: t9 is in cache_unsafe_memqcache_table_list");
    }
}
