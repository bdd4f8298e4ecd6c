//! Which answers a statement may make wrong (query-cache 6).

use crate::config::Settings;
use crate::route::{Catalog, Known, Volatility};
use crate::sql::{Kind, Name, Statement};

/// What a statement may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// Nothing that an answer depends on.
    Nothing,
    /// The tables that its facts name as written, with all that follows from that.
    Tables,
    /// Anything in its database.
    Database,
    /// Anything, privileges and roles included.
    Everything,
}

/// What a statement may do to answers, of its own session and of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Which answers it may make wrong.
    pub written: Written,
    /// A setting of the session may be another one afterwards, also if only to the end of the transaction.
    pub sets: bool,
    /// Among them one that servers do not list: of a name with a dot.
    pub sets_custom: bool,
    /// It runs code of which only the server knows what it does.
    pub runs_code: bool,
    /// Names may stand for other tables in its database afterwards, or tables may be other than they were.
    pub defines: bool,
}

impl Effects {
    /// Of something that cannot be read.
    pub const ANY: Self =
        Self { written: Written::Everything, sets: true, sets_custom: true, runs_code: true, defines: true };

    /// Of both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            written: self.written.max(other.written),
            sets: self.sets || other.sets,
            sets_custom: self.sets_custom || other.sets_custom,
            runs_code: self.runs_code || other.runs_code,
            defines: self.defines || other.defines,
        }
    }
}

/// What is known of a statement beside its facts.
#[derive(Clone, Copy, Debug)]
pub struct Background<'a> {
    /// VOLATILE functions that it may call without naming them, or by names of PostgreSQL's; `None`: it may call anything.
    pub hidden: Option<&'a [&'a Name]>,
    /// What its EXECUTE runs is known, and judged by itself.
    pub runs_known: bool,
}

/// What `statement` may do. What its functions do is asked of the catalog.
pub fn effects(
    statement: &Statement,
    background: Background<'_>,
    settings: &Settings,
    catalog: &dyn Catalog,
) -> Effects {
    let is_known = !statement.has.unknown_functions;
    let may_write = |name: &Name| may_write(name, is_known, settings, catalog);
    let only_explains = only_explains(statement);
    let may_call = !is_known || !settings.write_function_list.is_empty();
    let calls = runs_functions(statement)
        && ((may_call && statement.functions.iter().any(may_write)) || calls_hidden(statement, background, settings));
    let runs_unknown = !only_explains && statement.has.executes && !background.runs_known;
    let runs_code = calls || runs_unknown || statement.kinds().any(runs_code);
    let sets = calls || may_set(statement);
    let tables = match statement.writes().next() {
        _ if only_explains => Written::Nothing,
        None => Written::Nothing,
        // Names are looked up as the session means them before the text.
        Some(_) if statement.is_multi() && sets => Written::Database,
        Some(_) => Written::Tables,
    };
    let makes_table = statement.has.makes_table && !only_explains;
    let kinds = statement.kinds().map(of_kind).max().unwrap_or(Written::Nothing);
    let of_all = if calls || runs_unknown || makes_table { Written::Database } else { Written::Nothing };
    let written = kinds.max(tables).max(of_all);
    let sets_custom = runs_code || statement.kinds().any(sets_custom) || calls_set_config(statement);
    let defines = runs_code || makes_table || written == Written::Everything || statement.kinds().any(defines);
    Effects { written, sets: sets || written >= Written::Database, sets_custom, runs_code, defines }
}

/// Whether it is an EXPLAIN that runs nothing.
fn only_explains(statement: &Statement) -> bool {
    !statement.is_multi() && matches!(statement.kind, Kind::Explain { analyze: false, .. })
}

/// Whether the functions that it names are called: by a plain EXPLAIN only those in the arguments of EXECUTE.
fn runs_functions(statement: &Statement) -> bool {
    !only_explains(statement) || statement.has.executes
}

/// Whether a function that it does not name may write.
fn calls_hidden(statement: &Statement, background: Background<'_>, settings: &Settings) -> bool {
    let harmless = &settings.read_only_function_list;
    let is_harmless = |name: &Name| harmless.is_match(&name.name) || harmless.is_match(&name.to_string());
    match background.hidden {
        Some(hidden) => hidden.iter().any(|name| !is_harmless(name)),
        None => !(statement.relations.is_empty() && statement.functions.is_empty()),
    }
}

/// What the facts do not name as written.
fn of_kind(kind: &Kind) -> Written {
    match kind {
        Kind::Explain { analyze: true, inner } => of_kind(inner),
        // Where rows are, some ask.
        Kind::Vacuum => Written::Database,
        // TRUNCATE may cascade.
        Kind::Truncate | Kind::Call | Kind::Drop => Written::Database,
        Kind::CreateTable { temporary } | Kind::CreateTableAs { temporary } => {
            if *temporary {
                Written::Nothing
            } else {
                Written::Database
            }
        }
        // What was prepared may have been a definition.
        Kind::CommitPrepared | Kind::DropDatabase(_) | Kind::Do | Kind::Load | Kind::Ddl | Kind::Unparsable(_) => {
            Written::Everything
        }
        // What PREPARE prepares is judged when it is executed.
        _ => Written::Nothing,
    }
}

fn defines(kind: &Kind) -> bool {
    match kind {
        Kind::Explain { analyze: true, inner } => defines(inner),
        Kind::CreateTable { temporary } | Kind::CreateTableAs { temporary } => !temporary,
        kind => matches!(kind, Kind::Drop),
    }
}

fn runs_code(kind: &Kind) -> bool {
    match kind {
        Kind::Explain { analyze: true, inner } => runs_code(inner),
        kind => matches!(kind, Kind::Call | Kind::Do | Kind::Load | Kind::Unparsable(_)),
    }
}

fn may_set(statement: &Statement) -> bool {
    let sets = |kind: &Kind| matches!(kind, Kind::Set { .. } | Kind::Reset(_) | Kind::Discard(_));
    let keeps = |kind: &Kind| matches!(kind, Kind::Prepare { .. } | Kind::Deallocate(_));
    (statement.has.session_state && !statement.kinds().all(keeps))
        || statement.kinds().any(sets)
        || statement.writes().any(|name| &*name.name == "pg_settings")
}

fn sets_custom(kind: &Kind) -> bool {
    match kind {
        Kind::Set { name, .. } => name.contains('.'),
        _ => false,
    }
}

fn calls_set_config(statement: &Statement) -> bool {
    statement.functions.iter().any(|function| &*function.name == "set_config")
}

/// Whether calling it may write. The administrator's word counts more than the declaration. `is_known`: it is one of
/// PostgreSQL's that leave nothing behind, whether it was looked up or not.
fn may_write(name: &Name, is_known: bool, settings: &Settings, catalog: &dyn Catalog) -> bool {
    let (reading, writing) = (&settings.read_only_function_list, &settings.write_function_list);
    let is_harmless = || is_known || sets_or_locks(name) || is_declared_harmless(name, catalog);
    if reading.is_empty() && writing.is_empty() {
        return !is_harmless();
    }
    let written = name.to_string();
    writing.is_match(&written) || !(reading.is_match(&written) || is_harmless())
}

fn is_declared_harmless(name: &Name, catalog: &dyn Catalog) -> bool {
    matches!(catalog.function(name), Known::Yes(Volatility::Immutable | Volatility::Reads))
}

/// Whether it is a function of PostgreSQL's that changes the session only.
fn sets_or_locks(name: &Name) -> bool {
    let is_own = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
    let is_lock = |name: &str| ["pg_advisory_", "pg_try_advisory_"].iter().any(|prefix| name.starts_with(prefix));
    is_own && (matches!(&*name.name, "set_config" | "setseed") || is_lock(&name.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Facts;
    use crate::sql::{Lexing, analyse};

    fn of(text: &str, settings: &Settings) -> Effects {
        with(text, settings, Background { hidden: Some(&[]), runs_known: false })
    }

    fn with(text: &str, settings: &Settings, background: Background<'_>) -> Effects {
        effects(&analyse(text.as_bytes(), Lexing::default()), background, settings, &Facts)
    }

    #[test]
    fn what_executes_calls_and_makes_unnamed() {
        let settings = Settings::default();
        let (none, touch) = (&[][..], Name::qualified("s", "touch"));
        let touch = &[&touch][..];
        for (text, hidden, runs_known, expected) in [
            ("execute p", Some(none), false, Written::Database),
            ("execute p", Some(none), true, Written::Nothing),
            ("execute p(1)", None, true, Written::Nothing),
            ("execute p(f())", Some(none), true, Written::Database),
            ("explain execute p(f())", Some(none), true, Written::Database),
            ("explain execute p(1)", Some(none), false, Written::Nothing),
            ("create temp table a as execute p", Some(none), false, Written::Database),
            ("create temp table a as select 1", Some(none), false, Written::Tables),
            ("select 1; execute p", Some(none), false, Written::Database),
            ("select 1 into a", Some(none), false, Written::Database),
            ("select 1 into temp a", Some(none), false, Written::Tables),
            ("select * from t1", Some(none), false, Written::Nothing),
            ("select * from t1", Some(touch), false, Written::Database),
            ("explain select * from t1", Some(touch), false, Written::Nothing),
            ("insert into t1 values (1)", Some(touch), false, Written::Database),
            ("select * from t1", None, false, Written::Database),
            ("select count(1)", None, false, Written::Database),
            ("begin", None, false, Written::Nothing),
            ("select 1", None, false, Written::Nothing),
        ] {
            let effects = with(text, &settings, Background { hidden, runs_known });
            assert_eq!(effects.written, expected, "{text}");
            let unseen = expected == Written::Database;
            assert_eq!((effects.sets, effects.defines), (unseen || text.contains("temp"), unseen), "{text}");
        }
        for list in ["touch", "s\\.touch"] {
            let mut settings = Settings::default();
            settings.assign("read_only_function_list", list).expect("list");
            let background = Background { hidden: Some(touch), runs_known: false };
            assert_eq!(with("select * from t1", &settings, background).written, Written::Nothing, "{list}");
        }
    }

    #[test]
    fn settings_may_be_set_in_many_ways() {
        let sets = |text: &str| of(text, &Settings::default()).sets;
        for text in [
            "set a.b = 1",
            "set local timezone = 'UTC'",
            "set role x",
            "set session authorization x",
            "set time zone 1",
            "reset all",
            "reset role",
            "discard all",
            "select set_config('a.b', '1', true)",
            "update pg_settings set setting = 1",
            "do ''",
            "select f()",
            "create temp table a (b int)",
            "select 1; set a.b = 1",
        ] {
            assert!(sets(text), "{text}");
        }
        for text in
            ["select 1", "insert into t1 values (1)", "begin", "commit", "prepare p as select 1", "deallocate p"]
        {
            assert!(!sets(text), "{text}");
        }
    }

    #[test]
    fn what_nobody_lists_and_nobody_knows() {
        for (text, custom, code) in [
            ("select 1", false, false),
            ("insert into t1 values (1)", false, false),
            ("truncate t1", false, false),
            ("set timezone = 'UTC'", false, false),
            ("set app.tenant = 1", true, false),
            ("begin; set local app.tenant = 1", true, false),
            ("select set_config('app.tenant', '1', true)", true, false),
            ("explain select f()", false, false),
            ("select f()", true, true),
            ("call p()", true, true),
            ("do ''", true, true),
            ("execute p", true, true),
            ("explain analyze execute p", true, true),
            ("gibberish", true, true),
        ] {
            let effects = of(text, &Settings::default());
            assert_eq!((effects.sets_custom, effects.runs_code), (custom, code), "{text}");
        }
    }

    #[test]
    fn what_statements_change() {
        let written = |text: &str, settings: &Settings| of(text, settings).written;
        for (text, expected) in [
            ("select count(*) from t1", Written::Nothing),
            ("select nextval('s'), now()", Written::Nothing),
            ("begin", Written::Nothing),
            ("commit", Written::Nothing),
            ("set a.b = 1", Written::Nothing),
            ("create temp table a (b int)", Written::Tables),
            ("insert into t1 values (1)", Written::Tables),
            ("with x as (delete from t1 returning 1) select * from x", Written::Tables),
            ("merge into t1 using t2 on true when matched then delete", Written::Tables),
            ("copy t1 from stdin", Written::Tables),
            ("explain analyze update t1 set a = 1", Written::Tables),
            ("select 1; update t1 set a = 1", Written::Tables),
            ("select f()", Written::Database),
            ("explain select f()", Written::Nothing),
            ("explain insert into t1 values (1)", Written::Nothing),
            ("select pg_advisory_lock(1), set_config('a.b', '1', true)", Written::Nothing),
            ("select my.pg_advisory_lock(1)", Written::Database),
            ("vacuum full t1", Written::Database),
            ("copy (select f()) to stdout", Written::Database),
            ("select 1 from t1 where f(a)", Written::Database),
            ("truncate t1", Written::Database),
            ("execute p", Written::Database),
            ("call p()", Written::Database),
            ("create table a (b int)", Written::Database),
            ("drop table a", Written::Database),
            ("set search_path = s; insert into t1 values (1)", Written::Database),
            ("begin; set local search_path = s; insert into t1 values (1); commit", Written::Database),
            ("commit prepared 'x'", Written::Everything),
            ("do ''", Written::Everything),
            ("grant select on t1 to u", Written::Everything),
            ("alter role r set search_path = a", Written::Everything),
            ("refresh materialized view v", Written::Everything),
            ("select 1; alter table t1 add b int", Written::Everything),
            ("gibberish", Written::Everything),
        ] {
            assert_eq!(written(text, &Settings::default()), expected, "{text}");
        }
        let mut settings = Settings::default();
        settings.assign("read_only_function_list", "f").expect("list");
        assert_eq!(written("select f()", &settings), Written::Nothing);
        assert_eq!(written("select f(), g()", &settings), Written::Database);
        // What is declared and listed: the list counts.
        let mut settings = Settings::default();
        settings.assign("write_function_list", "count").expect("list");
        assert_eq!(written("select count(*) from t1", &settings), Written::Database);
        assert_eq!(written("select now() from t1", &settings), Written::Nothing);
    }
}
