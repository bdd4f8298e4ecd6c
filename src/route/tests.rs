//! Statements, circumstances, and where they go.

use super::*;
use crate::config::{BackendClusteringMode, DisableLoadBalanceOnWrite, Settings, load_text};
use crate::sql::{Isolation, Lexing, Name, Statement, analyse};
use crate::state::Delay;
use Target::{Balance, Both, Main, Primary};

/// A catalog in which names say what they are.
struct Facts;

impl Catalog for Facts {
    fn function(&self, name: &Name) -> Known<Volatility> {
        Known::Yes(match &*name.name {
            "now" | "count" | "current_setting" | "version" | "timezone" => Volatility::Reads,
            "nosuch" => Volatility::None,
            "later" => return Known::NotYet,
            _ => Volatility::Volatile,
        })
    }

    fn relation(&self, name: &Name) -> Known<RelationKind> {
        Known::Yes(match &*name.name {
            "pg_class" => RelationKind::System,
            "temp1" => RelationKind::Temporary,
            "unlogged1" => RelationKind::Unlogged,
            "nosuch" => RelationKind::None,
            "later" => return Known::NotYet,
            _ => RelationKind::Ordinary,
        })
    }
}

fn facts(text: &str) -> Statement {
    analyse(text.as_bytes(), Lexing::default())
}

/// Decides for a session that has all abilities, after `change`.
fn route_with(text: &str, settings: &Settings, change: impl FnOnce(&mut SessionView<'_>)) -> Route {
    let mut session = SessionView::new(settings);
    session.balance_in_transaction = true;
    session.follows_prepared = true;
    change(&mut session);
    decide(&facts(text), text.as_bytes(), session, &Facts)
}

fn route(text: &str) -> Route {
    route_with(text, &Settings::default(), |_| {})
}

fn settings(text: &str) -> Settings {
    let nodes = "backend_hostname0 = 'a'\nbackend_port0 = 5432\n";
    load_text(std::path::Path::new("/pgpool.conf"), format!("{nodes}{text}\n").as_bytes()).expect("valid").settings
}

const OPEN: Transaction = Transaction::Open { isolation: Some(Isolation::ReadCommitted), on_primary_only: false };

/// The catalogue of observed destinations (routing 17.1) as far as single statements go. Left out: COPY of what a standby
/// cannot read, and catalogs and functions behind COPY and PREPARE, where the original lets the standby fail.
const OBSERVED: &[(Target, &[&str])] = &[
    (
        Balance,
        &[
            "select 1",
            "select * from t1",
            "table t1",
            "(select 1)",
            " select 1",
            "select * from view1",
            "select * from information_schema.tables",
            "select 't1'::regclass::oid",
            "select now()",
            "select current_setting('port')",
            "with x as (select 1) select * from x",
            "with pg_class as (select 1) select * from pg_class",
            "show port",
            "show all",
            "copy t1 to stdout",
            "copy (select 1) to stdout",
            "prepare a as select 1",
            "",
            ";",
            "select",
            "select 1 -- comment behind",
            "select /* inside */ 1",
            "select current_timestamp, count(*) from t1 union all select now(), 1 order by 1",
        ],
    ),
    (
        Primary,
        &[
            "values (1)",
            "/*x*/select 1",
            "/*NO LOAD BALANCE*/ select 1",
            "-- c\nselect 1",
            "select * from temp1",
            "select * from unlogged1",
            "select 1 from pg_class",
            "select (select 1 from pg_class)",
            "with x as (insert into t1 values (1) returning 1) select * from x",
            "with x as (merge into t1 using t2 on true when matched then delete returning 1) select * from x",
            "select 1 into temp zz",
            "select * from t1 for update",
            "select * from (select * from t1 for share) x",
            "explain select 1",
            "explain analyze select 1",
            "select nextval('s')",
            "select random()",
            "select * from t1 where a = random()",
            "select * from t1 order by pg_sleep(1)",
            "select set_config('a.b', 'c', false)",
            "select pg_advisory_lock(1)",
            "select lo_creat(-1)",
            "prepare b as insert into t1 values (1)",
            "prepare b as select nextval('s')",
            "execute unknown",
            "insert into t1 values (1)",
            "update t1 set a = 1",
            "delete from t1",
            "merge into t1 using t2 on true when matched then delete",
            "truncate t1",
            "create table t2 as select 1",
            "declare c cursor for select 1",
            "fetch c",
            "close c",
            "listen x",
            "notify x",
            "unlisten x",
            "vacuum",
            "analyze",
            "checkpoint",
            "do $$ begin end $$",
            "call p()",
            "grant select on t1 to public",
            "select 1; select 2",
            "begin; select 1",
            "selct 1",
            "lock table t1",
            "lock table t1 in row exclusive mode",
            "prepare transaction 'x'",
            "commit prepared 'x'",
            "copy (select nextval('s')) to stdout",
            "copy temp1 to stdout",
            "copy t1 from stdin",
            "copy t1 to '/tmp/x'",
            "copy (delete from t1 returning 1) to stdout",
            "set transaction isolation level serializable",
            "set default_transaction_isolation = 'serializable'",
            "set session characteristics as transaction read write",
            "set transaction_read_only = off",
            "set transaction snapshot '1'",
            "select nosuch()",
            "select * from nosuch",
            "select * from later",
            "select later()",
            "drop database d",
            "PGPOOL SHOW all",
        ],
    ),
    (
        Both,
        &[
            "begin",
            "begin read only",
            "begin isolation level serializable",
            "start transaction read write",
            "commit",
            "rollback",
            "savepoint a",
            "release a",
            "rollback to a",
            "set x.y = 1",
            "set local x.y = 1",
            "set transaction read only",
            "set transaction_read_only = on",
            "reset x.y",
            "reset all",
            "discard plans",
            "discard all",
            "deallocate all",
            "lock table t1 in access share mode",
        ],
    ),
];

#[test]
fn observed_destinations() {
    for (target, texts) in OBSERVED {
        for text in *texts {
            let route = route(text);
            assert_eq!(route.target, *target, "{text}: {}", route.reason);
        }
    }
}

/// What cannot be balanced outside of a transaction cannot be inside one, and modes without balancing stay on one node.
#[test]
fn circumstances_only_ever_take_away() {
    let raw = settings("backend_clustering_mode = raw");
    let native = settings("backend_clustering_mode = native_replication");
    let off = settings("load_balance_mode = off");
    for (target, texts) in OBSERVED {
        for text in *texts {
            let inside = route_with(text, &Settings::default(), |session| session.transaction = OPEN);
            assert_eq!(inside.target, *target, "{text}: {}", inside.reason);
            assert_eq!(route_with(text, &raw, |_| {}), Route { target: Main, reason: Reason::Raw });
            assert_eq!(route_with(text, &native, |_| {}).target, Main);
            assert_eq!(route_with(text, &off, |_| {}).target, Primary);
            let single = route_with(text, &Settings::default(), |session| session.has_balance_node = false);
            assert_ne!(single.target, Balance);
        }
    }
}

#[test]
fn transactions() {
    let settings = Settings::default();
    let reason = |change: &dyn Fn(&mut SessionView<'_>)| route_with("select 1", &settings, change).reason;
    let open = |isolation, on_primary_only| Transaction::Open { isolation, on_primary_only };
    assert_eq!(reason(&|session| session.transaction = OPEN), Reason::Read);
    assert_eq!(reason(&|session| session.transaction = Transaction::Failed), Reason::FailedTransaction);
    assert_eq!(reason(&|session| session.transaction = open(None, false)), Reason::IsolationUnknown);
    assert_eq!(reason(&|session| session.transaction = open(None, true)), Reason::TransactionOnPrimary);
    let serializable = open(Some(Isolation::Serializable), false);
    assert_eq!(reason(&|session| session.transaction = serializable), Reason::SerializableTransaction);
    let alone = |session: &mut SessionView<'_>| (session.transaction, session.balance_in_transaction) = (OPEN, false);
    assert_eq!(reason(&alone), Reason::InTransaction);
    // The flag counts inside a transaction only.
    assert_eq!(reason(&|session| session.writing = true), Reason::Read);
    assert_eq!(reason(&|session| (session.writing, session.transaction) = (true, OPEN)), Reason::WritingTransaction);
    let tied = |session: &mut SessionView<'_>| session.tied = true;
    assert_eq!(route_with("select 1", &settings, tied), Route::primary(Reason::Tied));
    let on_primary = |session: &mut SessionView<'_>| session.transaction = open(None, true);
    assert_eq!(route_with("set a.b = 1", &settings, on_primary), Route::primary(Reason::TransactionOnPrimary));
}

#[test]
fn after_writes() {
    let always = settings("disable_load_balance_on_write = always");
    assert_eq!(route_with("select 1", &always, |session| session.writing = true).reason, Reason::WroteBefore);
    let written = ["t1".into(), "t2".into()];
    let adaptive = |session: &mut SessionView<'_>| (session.transaction, session.written) = (OPEN, &[]);
    assert_eq!(route_with("select * from t1", &Settings::default(), adaptive).reason, Reason::Read);
    let read = |text| {
        let settings = Settings::default();
        let mut session =
            SessionView { transaction: OPEN, balance_in_transaction: true, ..SessionView::new(&settings) };
        session.written = &written;
        decide(&facts(text), b"", session, &Facts).reason
    };
    assert_eq!(read("select * from s.t2"), Reason::WrittenTable(Name::qualified("s", "t2")));
    assert_eq!(read("select * from t3"), Reason::Read);
}

#[test]
fn prepared_statements_are_followed() {
    let settings = Settings { delay_threshold: 1, ..Settings::default() };
    let at = |target, transaction, writing| {
        let route = route_with("execute a", &settings, |session| {
            session.prepared = Some(target);
            (session.transaction, session.writing) = (transaction, writing);
        });
        (route.target, route.reason)
    };
    assert_eq!(at(Balance, Transaction::Idle, false), (Balance, Reason::WherePrepared));
    assert_eq!(at(Balance, OPEN, true), (Primary, Reason::WritingTransaction));
    assert_eq!(at(Primary, Transaction::Idle, false), (Primary, Reason::WherePrepared));
    let late = route_with("execute a", &settings, |session| {
        (session.prepared, session.delay) = (Some(Balance), Delay::Bytes(2));
    });
    assert_eq!(late.reason, Reason::Delayed);
    let kept = route_with("prepare a as select 1", &settings, |session| session.follows_prepared = false);
    assert_eq!(kept, Route::primary(Reason::PreparedOnPrimary));
}

#[test]
fn parameters() {
    let reason = |text, parameters: &str| route_with(text, &settings(parameters), |_| {}).reason;
    assert_eq!(reason("/*x*/select 1", "allow_sql_comments = on"), Reason::Read);
    assert_eq!(reason("values (1)", "allow_sql_comments = on"), Reason::Read);
    assert_eq!(reason(" select 1", "ignore_leading_white_space = off"), Reason::LeadingComment);
    let pattern = "primary_routing_query_pattern_list = 'select .* from t1.*;'";
    assert_eq!(reason("SELECT \"a\" from t1 where b", pattern), Reason::QueryPattern);
    assert_eq!(reason("select a from t2", pattern), Reason::Read);
    let read_only = "read_only_function_list = 'nextval,s.f'";
    assert_eq!(reason("select nextval('x'), s.f()", read_only), Reason::Read);
    assert_eq!(reason("select now()", read_only), Reason::UnlistedFunction(Name::bare("now")));
    let write = "write_function_list = 'now'";
    assert_eq!(reason("select now()", write), Reason::ListedFunction(Name::bare("now")));
    assert_eq!(reason("select random(), pg_catalog.now()", write), Reason::Read);
    let kinds = "select * from unlogged1, temp1";
    let temporary = Reason::TemporaryTable(Name::bare("temp1"));
    assert_eq!(reason(kinds, "check_unlogged_table = off"), temporary);
    assert_eq!(reason("select * from temp1", "check_temp_table = trace"), temporary);
    assert_eq!(reason(kinds, "check_temp_table = none"), Reason::UnloggedTable(Name::bare("unlogged1")));
    let neither = "check_temp_table = off\ncheck_unlogged_table = off";
    assert_eq!(reason(kinds, neither), Reason::Read);
    assert_eq!(reason("select * from nosuch", neither), Reason::UnknownRelation(Name::bare("nosuch")));
    assert_eq!(reason("select * from pg_class", neither), Reason::SystemCatalog(Name::bare("pg_class")));
    let late = route_with("select 1", &settings("delay_threshold = 10"), |session| session.delay = Delay::Bytes(11));
    assert_eq!(late, Route::primary(Reason::Delayed));
}

#[test]
fn reasons_name_names() {
    let reason = |text| route(text).reason.to_string();
    assert_eq!(reason("select * from s.temp1"), "it reads the temporary table s.temp1, which only the primary has");
    assert!(reason("select nextval('x')").starts_with("it calls nextval(), which is VOLATILE"));
    assert!(reason("selct").starts_with("the text is not understood, so it may write: syntax error"));
}

#[test]
fn missing_facts() {
    let statement = facts("select later(), now() from later, t1, temp1");
    let (relations, functions) = missing(&statement, &Settings::default(), &Facts);
    assert_eq!((relations, functions), (vec![&Name::bare("later")], vec![&Name::bare("later")]));
    let (_, functions) = missing(&statement, &settings("write_function_list = 'x'"), &Facts);
    assert!(functions.is_empty());
}

#[test]
fn the_writing_flag() {
    let sets = |text: &str, mode, transaction| {
        let settings = Settings { disable_load_balance_on_write: mode, ..Settings::default() };
        let session = SessionView { transaction, ..SessionView::new(&settings) };
        sets_writing_flag(&facts(text), &session, &Facts)
    };
    use DisableLoadBalanceOnWrite as Mode;
    for text in [
        "insert into t1 values (1)",
        "select nextval('s')",
        "set a.b = 1",
        "savepoint a",
        "execute a",
        "selct",
        "select 1; select 2",
        "/*x*/ select 1",
        "explain analyze delete from t1",
        "lock table t1",
    ] {
        assert!(sets(text, Mode::Transaction, OPEN), "{text}");
        assert!(!sets(text, Mode::Transaction, Transaction::Idle), "{text}");
        assert!(sets(text, Mode::Always, Transaction::Idle), "{text}");
        assert!(!sets(text, Mode::Off, OPEN) && !sets(text, Mode::DmlAdaptive, OPEN), "{text}");
    }
    for text in [
        "begin",
        "commit",
        "rollback to a",
        "select 1",
        "show port",
        "copy t1 to stdout",
        "explain delete from t1",
        "explain analyze select 1",
        "set transaction read only",
        "set transaction_read_only = on",
        "set transaction isolation level serializable",
        "prepare transaction 'x'",
    ] {
        assert!(!sets(text, Mode::Always, OPEN), "{text}");
    }
}

#[test]
fn modes() {
    for (mode, target) in [
        (BackendClusteringMode::StreamingReplication, Balance),
        (BackendClusteringMode::LogicalReplication, Balance),
        (BackendClusteringMode::SnapshotIsolation, Main),
    ] {
        let settings = Settings { backend_clustering_mode: mode, ..Settings::default() };
        assert_eq!(route_with("select 1", &settings, |_| {}).target, target);
    }
}

mod modifications {
    use super::*;
    use proptest::prelude::*;

    /// A query with a modification somewhere inside, in shapes that PostgreSQL's grammar takes.
    fn hidden_modification() -> impl Strategy<Value = String> {
        let modification = prop_oneof![
            Just("insert into t values (1) returning 1"),
            Just("update t set a = 1 returning a"),
            Just("delete from t returning a"),
            Just("merge into t using s on true when matched then delete returning 1"),
            Just("with y as (select 1) insert into t select * from y returning 1"),
        ];
        let query = modification.prop_map(|text| format!("with x as ({text}) select * from x"));
        query.prop_recursive(6, 20, 1, |inner| {
            const SHAPES: &[&str] = &[
                "select (QUERY)",
                "select * from (QUERY) s",
                "select 1 from a join lateral (QUERY) s on true",
                "select 1 where exists (QUERY)",
                "select f((QUERY)), array(QUERY)",
                "select 1 union all (QUERY)",
                "(QUERY) intersect select 1",
                "with z as (QUERY) select 1",
                "with recursive z as (select 1 union all (QUERY)) select * from z",
                "select case when (QUERY) then 1 else 2 end",
                "select 1 group by (QUERY) having 1 = any (QUERY) order by (QUERY)",
                "select sum(a) filter (where (QUERY)) over (order by (QUERY)) from a",
                "select json_object('k': (QUERY)), coalesce(1, (QUERY)), ((QUERY))::int",
                "values ((QUERY))",
            ];
            (inner, proptest::sample::select(SHAPES)).prop_map(|(query, shape)| shape.replace("QUERY", &query))
        })
    }

    fn wrapped() -> impl Strategy<Value = String> {
        const WRAPPINGS: &[&str] =
            &["QUERY", "prepare p as QUERY", "copy (QUERY) to stdout", "explain QUERY", "declare c cursor for QUERY"];
        (hidden_modification(), proptest::sample::select(WRAPPINGS))
            .prop_map(|(query, wrapping)| wrapping.replace("QUERY", &query))
    }

    proptest! {
        /// No function or relation stands in the way here, so it is the modification that decides.
        #[test]
        fn never_leave_the_primary(text in wrapped()) {
            struct Harmless;
            impl Catalog for Harmless {
                fn function(&self, _: &Name) -> Known<Volatility> {
                    Known::Yes(Volatility::Reads)
                }
                fn relation(&self, _: &Name) -> Known<RelationKind> {
                    Known::Yes(RelationKind::Ordinary)
                }
            }
            let statement = facts(&text);
            prop_assert!(statement.has.modification, "{text}: {:?}", statement.kind);
            let settings = Settings { allow_sql_comments: true, ..Settings::default() };
            let session = SessionView { follows_prepared: true, ..SessionView::new(&settings) };
            prop_assert_eq!(decide(&statement, text.as_bytes(), session, &Harmless).target, Primary);
        }
    }
}
