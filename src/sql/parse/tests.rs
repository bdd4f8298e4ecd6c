use super::{MAX_ANALYSED, analyse};
use crate::sql::*;

fn facts(text: &str) -> Statement {
    analyse(text.as_bytes(), Lexing::default())
}

fn kind(text: &str) -> Kind {
    facts(text).kind
}

fn reads(text: &str) -> Vec<String> {
    facts(text).reads().map(Name::to_string).collect()
}

fn writes(text: &str) -> Vec<String> {
    facts(text).writes().map(Name::to_string).collect()
}

fn functions(text: &str) -> Vec<String> {
    facts(text).functions.iter().map(Name::to_string).collect()
}

#[test]
fn kinds_of_transaction_statements() {
    let serializable =
        TransactionModes { isolation: Some(Isolation::Serializable), access: Some(AccessMode::ReadOnly) };
    assert_eq!(kind("BEGIN"), Kind::Begin(TransactionModes::default()));
    assert_eq!(kind("start transaction isolation level serializable, read only"), Kind::Begin(serializable));
    assert_eq!(kind("end and chain"), Kind::Commit { chain: true });
    assert_eq!(kind("abort"), Kind::Rollback { chain: false });
    assert_eq!(kind("savepoint \"A b\""), Kind::Savepoint("A b".into()));
    assert_eq!(kind("release a"), Kind::Release("a".into()));
    assert_eq!(kind("rollback to savepoint a"), Kind::RollbackTo("a".into()));
    assert_eq!(kind("prepare transaction 'x'"), Kind::PrepareTransaction);
    assert_eq!(kind("commit prepared 'x'"), Kind::CommitPrepared);
    let read_write = TransactionModes { isolation: None, access: Some(AccessMode::ReadWrite) };
    assert_eq!(
        kind("set session characteristics as transaction read write"),
        Kind::SetTransaction { scope: VariableScope::Session, modes: read_write }
    );
    assert_eq!(
        kind("set transaction isolation level serializable read only"),
        Kind::SetTransaction { scope: VariableScope::Transaction, modes: serializable }
    );
}

#[test]
fn kinds_of_settings() {
    let set =
        |scope, name: &str, value: Option<&str>| Kind::Set { scope, name: name.into(), value: value.map(Into::into) };
    use VariableScope::{Session, Transaction};
    for (text, expected) in [
        ("set Work_Mem = 64", set(Session, "work_mem", Some("64"))),
        ("set local work_mem to '64MB'", set(Transaction, "work_mem", Some("64MB"))),
        ("set enable_seqscan to off", set(Session, "enable_seqscan", Some("off"))),
        ("set search_path to a, b", set(Session, "search_path", None)),
        ("set x.y to default", set(Session, "x.y", None)),
        ("set time zone 'UTC'", set(Session, "timezone", Some("UTC"))),
        ("set role none", set(Session, "role", Some("none"))),
        ("set session authorization joe", set(Session, "session_authorization", Some("joe"))),
        ("set names 'UTF8'", set(Session, "client_encoding", Some("UTF8"))),
        ("set transaction snapshot '1-1'", set(Transaction, "transaction_snapshot", None)),
        ("reset a", Kind::Reset(Some("a".into()))),
        ("reset all", Kind::Reset(None)),
        ("show Pool_Nodes;", Kind::Show("pool_nodes".into())),
        ("show all", Kind::Show("all".into())),
        ("show time zone", Kind::Show("timezone".into())),
        ("discard temp", Kind::Discard(DiscardTarget::Temp)),
        ("discard all", Kind::Discard(DiscardTarget::All)),
        ("PGPOOL SHOW all", Kind::Pgpool(PgpoolCommand::Show("all".into()))),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
    assert_eq!(facts("show pool_nodes").show_pool(), Some("pool_nodes"));
    assert_eq!(facts("show \"POOL_NODES\"").show_pool(), None);
}

#[test]
fn kinds_with_statements_inside() {
    assert_eq!(kind("prepare a as select 1"), Kind::Prepare { name: "a".into(), inner: Box::new(Kind::Select) });
    assert_eq!(kind("execute a(1, f(2))"), Kind::Execute("a".into()));
    assert_eq!(kind("deallocate prepare all"), Kind::Deallocate(None));
    let explain = |analyze, inner| Kind::Explain { analyze, inner: Box::new(inner) };
    assert_eq!(kind("explain select 1"), explain(false, Kind::Select));
    assert_eq!(kind("explain analyze verbose insert into t values (1)"), explain(true, Kind::Insert));
    assert_eq!(kind("explain (analyze off) select 1"), explain(false, Kind::Select));
    assert_eq!(kind("explain (costs, analyze) select 1"), explain(true, Kind::Select));
    assert_eq!(kind("explain (analyze 0, analyze 1) select 1"), explain(true, Kind::Select));
    assert_eq!(kind("copy t from stdin"), Kind::CopyFrom(CopyPeer::Client));
    assert_eq!(kind("copy t to stdout"), Kind::CopyTo { peer: CopyPeer::Client, query: None });
    assert_eq!(kind("copy t to program 'x'"), Kind::CopyTo { peer: CopyPeer::Program, query: None });
    let query = Some(Box::new(Kind::Delete));
    assert_eq!(kind("copy (delete from t returning 1) to '/x'"), Kind::CopyTo { peer: CopyPeer::File, query });
    assert_eq!(kind("declare c scroll cursor with hold for select 1"), Kind::Declare { name: "c".into(), hold: true });
    assert_eq!(kind("fetch 5 from c"), Kind::Fetch("c".into()));
    assert_eq!(kind("close all"), Kind::Close(None));
}

#[test]
fn kinds_of_other_statements() {
    for (text, expected) in [
        ("", Kind::Empty),
        (" ;; ", Kind::Empty),
        ("-- nothing", Kind::Empty),
        ("values (1)", Kind::Select),
        ("table t", Kind::Select),
        ("select", Kind::Select),
        ("merge into t using s on true when matched then delete", Kind::Merge),
        ("lock t in row share mode", Kind::Lock { writes: false }),
        ("lock t in row exclusive mode", Kind::Lock { writes: true }),
        ("lock t", Kind::Lock { writes: true }),
        ("create temp table t(a int)", Kind::CreateTable { temporary: true }),
        ("create table pg_temp.t(a int)", Kind::CreateTable { temporary: true }),
        ("create unlogged table t(a int)", Kind::CreateTable { temporary: false }),
        ("create temp table t as select 1", Kind::CreateTableAs { temporary: true }),
        ("drop database \"X\"", Kind::DropDatabase("X".into())),
        ("drop table t", Kind::Drop),
        ("truncate a, b", Kind::Truncate),
        ("call p(1)", Kind::Call),
        ("do $$ begin end $$", Kind::Do),
        ("vacuum t", Kind::Vacuum),
        ("analyze", Kind::Vacuum),
        ("grant select on t to public", Kind::Ddl),
        ("create foreign table f() server s", Kind::Ddl),
        ("set constraints all deferred", Kind::SetConstraints),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
}

#[test]
fn several_statements() {
    let statement = facts("begin; insert into t values (1); commit;");
    assert!(statement.is_multi());
    let kinds: Vec<_> = statement.kinds().cloned().collect();
    assert_eq!(kinds, [Kind::Begin(TransactionModes::default()), Kind::Insert, Kind::Commit { chain: false }]);
    assert!(!facts("select 1;;").is_multi());
    assert_eq!(reads("select 1; select * from b; table a"), ["a", "b"]);
}

#[test]
fn names_of_common_table_expressions_are_no_relations() {
    for (text, expected) in [
        ("with x as (select * from t) select * from x, y", vec!["t", "y"]),
        // The scope ends with the statement that has the WITH.
        ("select * from (with x as (select 1) select * from x) s, x", vec!["x"]),
        // Without RECURSIVE a query does not see itself nor later ones.
        ("with x as (select * from x) select * from x", vec!["x"]),
        ("with a as (select * from b), b as (select * from a) select 1", vec!["b"]),
        ("with recursive x as (select 1 union all select * from x) select * from x", vec![]),
        ("with recursive a as (select * from b), b as (select 1) select * from a", vec![]),
        // A schema always means a table.
        ("with x as (select 1) select * from public.x", vec!["public.x"]),
        ("with x as (select 1) select (select max(a) from x where b in (table x)) from t", vec!["t"]),
        ("with x as (select 1) (select * from x union select * from y) order by 1", vec!["y"]),
        ("with x as (with y as (table t) table y) select * from x, y", vec!["t", "y"]),
        ("with x as (select 1) insert into x select * from x", vec![]),
    ] {
        assert_eq!(reads(text), expected, "{text}");
    }
}

#[test]
fn relations_are_found_everywhere() {
    for (text, expected) in [
        ("select * from a join b using (x), lateral (select * from c) s, only d, e tablesample system(1)", "a b c d e"),
        (
            "select (table a), array(table b), exists(table c), 1 in (table d), case when (table e) then 1 end",
            "a b c d e",
        ),
        ("select * from rows from (f((table a)))", "a"),
        (
            "select 1 group by rollup((table a)) having (table b) order by (table c) limit (table d) offset (table e)",
            "a b c d e",
        ),
        (
            "select sum(x) filter (where (table a)) over (partition by (table b) order by (table c)) from d window w as (order by (table e))",
            "a b c d e",
        ),
        ("values ((table a)), ((table b))", "a b"),
        (
            "select json_object('a': (table a)), json_array((table b), 1), json_array(table c), json_arrayagg((table d))",
            "a b c d",
        ),
        ("select json_value((table a), '$' passing (table b) as x default (table c) on empty)", "a b c"),
        (
            "select * from json_table((table a)::jsonb, '$' columns (x int path '$')) j, xmltable('/x' passing (table b) columns y int path 'z' default (table c)) x",
            "a b c",
        ),
        (
            "select xmlelement(name x, (table a)), xmlforest((table b) as y), ((table c))[(table d)], (row((table e))).x",
            "a b c d e",
        ),
        ("explain select * from a", "a"),
        ("prepare p as select * from a", "a"),
        ("declare c cursor for select * from a", "a"),
        ("copy a to stdout", "a"),
        ("copy (select * from a, Public.\"B\") to stdout", "public.B a"),
        ("insert into w select * from a on conflict (x) do update set y = (table b) returning (table c)", "a b c"),
        ("update w set x = (table a), (y, z) = (select 1, 2 from b) from c where (table d)", "a b c d"),
        ("delete from w using a where (table b)", "a b"),
        ("merge into w using a on (table b) when matched and (table c) then update set x = (table d)", "a b c d"),
        ("create table w as select * from a", "a"),
    ] {
        let mut expected: Vec<_> = expected.split_whitespace().collect();
        expected.sort_unstable();
        let mut found = reads(text);
        found.sort_unstable();
        assert_eq!(found, expected, "{text}: {:?}", kind(text));
    }
}

#[test]
fn written_relations() {
    for (text, expected) in [
        ("insert into s.w select * from a", vec!["s.w"]),
        ("with x as (delete from w returning *) select * from x", vec!["w"]),
        ("with x as (merge into w using a on true when matched then delete returning 1) select 1", vec!["w"]),
        ("select 1 into w from a", vec!["w"]),
        ("create table w as select 1", vec!["w"]),
        ("copy w from stdin where (table a) is null", vec!["w"]),
        ("truncate w, x", vec!["w", "x"]),
        ("drop table s.w, x", vec!["x", "s.w"]),
        ("drop function f()", vec![]),
        ("alter table w add column x int", vec!["w"]),
        ("create index on w(a)", vec!["w"]),
        ("explain analyze update w set a = 1", vec!["w"]),
    ] {
        assert_eq!(writes(text), expected, "{text}");
    }
}

#[test]
fn functions_are_found_with_their_schema() {
    assert_eq!(functions("select Now(), s.f(g(1)), db.s.h(), \"F\"()"), ["F", "g", "now", "s.f", "s.h"]);
    assert_eq!(
        functions("select nextval('s'), nextval('s') from generate_series(1, 2)"),
        ["generate_series", "nextval"]
    );
    assert_eq!(
        functions("select extract(year from d), 'x' like 'y' escape 'z'"),
        ["pg_catalog.extract", "pg_catalog.like_escape"]
    );
    assert_eq!(
        functions("select d at time zone 'UTC', (a, b) overlaps (c, d)"),
        ["pg_catalog.overlaps", "pg_catalog.timezone"]
    );
    assert_eq!(functions("call p(f(1))"), ["f", "p"]);
    assert_eq!(functions("execute p(f(1))"), ["f"]);
    assert!(functions("select current_timestamp, current_user").is_empty());
    assert!(facts("select current_timestamp").has.value_functions);
}

#[test]
fn flags_hold_at_any_depth() {
    assert!(facts("select * from (select * from t for key share) s").has.locking);
    assert!(facts("with x as (select * from t for update) select 1").has.locking);
    assert!(facts("explain with x as (delete from t returning *) select 1").has.modification);
    assert!(facts("prepare p as insert into t values (1)").has.modification);
    assert!(facts("copy (update t set a = 1 returning *) to stdout").has.modification);
    assert!(facts("select 1 into t").has.select_into);
    for (text, makes_table, executes) in [
        ("select 1", false, false),
        ("select 1 into t", true, false),
        ("explain analyze select 1 into t", true, false),
        ("select 1 into temp t", false, false),
        ("create table t as select 1", false, false),
        ("execute p", false, true),
        ("explain execute p", false, true),
        ("create temp table t as execute p", false, true),
        ("select 1; execute p", false, true),
        ("prepare p as select 1", false, false),
    ] {
        let has = facts(text).has;
        assert_eq!((has.makes_table, has.executes), (makes_table, executes), "{text}");
    }
    assert!(facts("select 1 into temp t").has.session_state);
    let plain = facts("select count(*) from t where a = 1").has;
    assert_eq!(plain, Contents::default());
}

#[test]
fn session_state_is_seen_in_the_text() {
    for text in [
        "set a to 1",
        "reset all",
        "discard all",
        "prepare a as select 1",
        "deallocate a",
        "listen x",
        "unlisten *",
        "load 'x'",
        "call p()",
        "do 'x'",
        "create temp table t()",
        "create temp view v as select 1",
        "create temp sequence s",
        "create type pg_temp.x as enum ('a')",
        "declare c cursor with hold for select 1",
        "select set_config('a', 'b', false)",
        "select pg_catalog.pg_advisory_lock(1)",
        "gibberish",
        "select 1; set a to 1",
    ] {
        assert!(facts(text).has.session_state, "{text}");
    }
    for text in [
        "select 1",
        "set local a to 1",
        "begin",
        "insert into t values (1)",
        "create view v as select 1",
        "alter table t add b int",
        "select pg_advisory_xact_lock(1)",
    ] {
        assert!(!facts(text).has.session_state, "{text}");
    }
}

#[test]
fn terminating_a_backend() {
    assert_eq!(facts("select pg_terminate_backend(123)").terminates, Some(123));
    assert_eq!(facts("select pg_catalog.pg_terminate_backend(5, 10)").terminates, Some(5));
    for text in [
        "select pg_terminate_backend($1)",
        "select pg_terminate_backend(1+1)",
        "select f(1)",
        "explain select pg_terminate_backend(1)",
        "select 1; select pg_terminate_backend(1)",
        "select pg_terminate_backend(1), pg_terminate_backend(2)",
    ] {
        assert_eq!(facts(text).terminates, None, "{text}");
    }
}

#[test]
fn text_that_is_not_understood() {
    let why = |text: &[u8], lexing| match analyse(text, lexing).kind {
        Kind::Unparsable(why) => why,
        kind => panic!("{kind:?}"),
    };
    let utf8 = Lexing::default();
    assert!(matches!(why(b"selct 1", utf8), Unparsable::Syntax(message) if message.contains("selct")));
    assert_eq!(why(b"select '\xff'", utf8), Unparsable::Encoding);
    assert_eq!(why(b"select 1\0", utf8), Unparsable::Encoding);
    assert_eq!(why(&vec![b' '; MAX_ANALYSED + 1], utf8), Unparsable::TooLong);
    let old = Lexing { standard_conforming_strings: false, ..utf8 };
    assert_eq!(why(br"select '\'", old), Unparsable::Backslash);
    let sjis = Lexing { encoding: Encoding::Ambiguous, ..utf8 };
    assert_eq!(why(b"select '\x83\x5c'", sjis), Unparsable::Encoding);
    assert_eq!(analyse(b"select 1", sjis).kind, Kind::Select);
}

#[test]
fn other_encodings_are_read_when_names_are_ascii() {
    let latin = Lexing { encoding: Encoding::AsciiSuperset, ..Lexing::default() };
    assert_eq!(analyse(b"select 'M\xfcller' from t", latin).kind, Kind::Select);
    assert_eq!(analyse(b"select 1 from \xfc", latin).kind, Kind::Unparsable(Unparsable::Encoding));
    assert_eq!(analyse(b"select \xfc(1)", latin).kind, Kind::Unparsable(Unparsable::Encoding));
}

#[test]
fn what_a_standby_refuses_is_recognised() {
    for text in [
        "begin isolation level serializable",
        "set transaction isolation level serializable",
        "set session characteristics as transaction isolation level serializable, read only",
        "set default_transaction_isolation = 'Serializable'",
        "set local transaction_isolation to serializable",
    ] {
        assert!(kind(text).asks_serializable() && !kind(text).asks_read_write(), "{text}");
    }
    for text in [
        "start transaction read write",
        "set transaction read write",
        "set transaction_read_only = off",
        "set transaction_read_only to 'F'",
        "set transaction_read_only to no",
        "set transaction_read_only = 0",
        "set transaction_read_only to default",
        "reset transaction_read_only",
    ] {
        assert!(kind(text).asks_read_write() && !kind(text).asks_serializable(), "{text}");
    }
    for text in ["begin", "begin read only", "set transaction_read_only = on", "set a = 'serializable'", "select 1"] {
        assert!(!kind(text).asks_read_write() && !kind(text).asks_serializable(), "{text}");
    }
}

#[test]
fn changes_of_the_catalog() {
    for text in [
        "create function f() returns int language sql volatile as 'select 1'",
        "drop table t",
        "do ''",
        "select 1 into t",
        "create unlogged table t()",
        "alter table t set unlogged",
        "select 1; drop view v",
        "gibberish",
    ] {
        assert!(facts(text).changes_catalog(), "{text}");
    }
    for text in ["select 1", "insert into t values (1)", "begin", "set a = 1", "truncate t", "vacuum"] {
        assert!(!facts(text).changes_catalog(), "{text}");
    }
}
