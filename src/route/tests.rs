//! What a session asks beside the destination. Where statements go is in `tests/routing_table.rs`.

use super::*;
use crate::config::{DisableLoadBalanceOnWrite as Mode, Settings, load_text};
use crate::sql::{Isolation, Lexing, Name, Statement, analyse};
use crate::state::TableMutations;
use std::time::Duration;

/// A catalog in which names say what they are.
struct Facts;

impl Catalog for Facts {
    fn function(&self, name: &Name) -> Known<Volatility> {
        match &*name.name {
            "now" | "read_it" => Known::Yes(Volatility::Reads),
            "later" => Known::NotYet,
            _ => Known::Yes(Volatility::Volatile),
        }
    }

    fn relation(&self, name: &Name) -> Known<RelationKind> {
        match &*name.name {
            "temp1" => Known::Yes(RelationKind::Temporary),
            "later" => Known::NotYet,
            _ => Known::Yes(RelationKind::Ordinary),
        }
    }
}

fn facts(text: &str) -> Statement {
    analyse(text.as_bytes(), Lexing::default())
}

fn settings(text: &str) -> Settings {
    let nodes = "backend_hostname0 = 'a'\nbackend_port0 = 5432\n";
    load_text(std::path::Path::new("/pgpool.conf"), format!("{nodes}{text}\n").as_bytes()).expect("valid").settings
}

const OPEN: Transaction = Transaction::Open { isolation: Some(Isolation::ReadCommitted), on_primary_only: false };

#[test]
fn reasons_name_names() {
    let settings = Settings::default();
    let reason = |text| decide(&facts(text), b"", SessionView::new(&settings), &Facts).reason.to_string();
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

fn sets_flag(text: &str, settings: &Settings, transaction: Transaction) -> bool {
    let session = SessionView { transaction, ..SessionView::new(settings) };
    sets_writing_flag(&facts(text), &session, &Facts)
}

fn sets_flag_in(mode: Mode, text: &str, transaction: Transaction) -> bool {
    sets_flag(text, &Settings { disable_load_balance_on_write: mode, ..Settings::default() }, transaction)
}

#[test]
fn the_writing_flag_is_set_by_whatever_is_no_read() {
    for text in [
        "insert into t1 values (1)",
        "select nextval('s')",
        "select later()",
        "copy (select nextval('s')) to stdout",
        "copy t1 from stdin",
        "copy t1 to '/tmp/x'",
        "prepare a as insert into t1 values (1)",
        "set a.b = 1",
        "set local a.b = 1",
        "set transaction_read_only = off",
        "reset a.b",
        "discard plans",
        "savepoint a",
        "release a",
        "execute a",
        "declare c cursor for select 1",
        "fetch c",
        "selct",
        "select 1; select 2",
        "begin; select 1",
        "/*x*/ select 1",
        "values (1)",
        "select * from t1 for update",
        "explain analyze delete from t1",
        "explain analyze select nextval('s')",
        "explain analyze execute a",
        "lock table t1",
        "lock table t1 in access share mode",
        "create table t2 (a int)",
        "do ''",
    ] {
        for mode in [Mode::Transaction, Mode::TransTransaction] {
            assert!(sets_flag_in(mode, text, OPEN), "{text}");
            assert!(!sets_flag_in(mode, text, Transaction::Idle), "{text}");
        }
        assert!(sets_flag_in(Mode::Always, text, Transaction::Idle), "{text}");
        assert!(!sets_flag_in(Mode::Off, text, OPEN), "{text}");
    }
}

#[test]
fn the_writing_flag_is_not_set_by_reads_and_transaction_control() {
    for text in [
        "",
        "begin",
        "begin read write",
        "start transaction isolation level serializable",
        "commit",
        "end and chain",
        "rollback",
        "rollback to a",
        "select 1",
        "select now() from t1",
        "show port",
        "copy t1 to stdout",
        "copy (select 1) to stdout",
        "prepare a as select 1",
        "prepare a as select nextval('s')",
        "explain delete from t1",
        "explain select nextval('s')",
        "explain (analyze off) delete from t1",
        "explain analyze select 1",
        "set transaction read only",
        "set session characteristics as transaction read only",
        "set transaction_read_only = on",
        "set transaction isolation level serializable",
        "set default_transaction_isolation = 'serializable'",
        "prepare transaction 'x'",
        "commit prepared 'x'",
        "pgpool show port",
    ] {
        assert!(!sets_flag_in(Mode::Always, text, OPEN), "{text}");
    }
}

#[test]
fn the_function_lists_decide_on_the_flag_too() {
    let sets = |text, list| sets_flag(text, &settings(list), OPEN);
    assert!(sets("select now()", "write_function_list = 'now'"));
    assert!(!sets("select nextval('s')", "write_function_list = 'now'"));
    assert!(!sets("select nextval('s')", "read_only_function_list = 'nextval'"));
}

/// What a SELECT with a comment is depends on the parameter; what PREPARE is does not depend on where it is kept.
#[test]
fn circumstances_of_the_flag() {
    assert!(!sets_flag("/*x*/ select 1", &settings("allow_sql_comments = on"), OPEN));
    let settings = Settings::default();
    let session = SessionView { transaction: OPEN, follows_prepared: false, ..SessionView::new(&settings) };
    assert!(!sets_writing_flag(&facts("prepare a as select 1"), &session, &Facts));
}

#[test]
fn dml_adaptive_sets_the_flag_for_what_has_no_names() {
    let listed = settings(
        "disable_load_balance_on_write = dml_adaptive\ndml_adaptive_object_relationship_list = 'shop_it():orders'",
    );
    for text in ["do ''", "selct", "call p()", "execute a", "select 1; do ''"] {
        assert!(sets_flag(text, &listed, OPEN), "{text}");
        assert!(!sets_flag(text, &listed, Transaction::Idle), "{text}");
    }
    for text in ["insert into t1 values (1)", "select nextval('s')", "call shop_it()", "set a.b = 1", "savepoint a"] {
        assert!(!sets_flag(text, &listed, OPEN), "{text}");
    }
    let runs = facts("prepare a as insert into t1 values (1)");
    let known = SessionView { transaction: OPEN, runs: Some(&runs), ..SessionView::new(&listed) };
    assert!(!sets_writing_flag(&facts("execute a"), &known, &Facts));
    let reads = SessionView { transaction: OPEN, prepared: Some(Target::Balance), ..SessionView::new(&listed) };
    assert!(!sets_writing_flag(&facts("execute a"), &reads, &Facts));
}

#[test]
fn dml_adaptive_collects_the_names_of_writes() {
    let settings = settings(
        "disable_load_balance_on_write = dml_adaptive\n\
         dml_adaptive_object_relationship_list = 'Orders:order_view,orders:shop.totals,sell():stock,stock:never'",
    );
    let session = SessionView { transaction: OPEN, ..SessionView::new(&settings) };
    let touched = |text: &str| relations_touched(&facts(text), &session).join(" ");
    assert_eq!(touched("insert into shop.items select * from parts"), "items parts");
    assert_eq!(touched("update orders set a = 1"), "order_view orders totals");
    assert_eq!(touched("with x as (delete from items returning *) select * from x, parts"), "items parts");
    assert_eq!(touched("select * from items for update"), "items");
    assert_eq!(touched("insert into a values (1); insert into b values (1)"), "a b");
    // Reads leave nothing, but what a function writes is in the list.
    assert_eq!(touched("select * from orders"), "");
    assert_eq!(touched("explain analyze select * from orders"), "");
    assert_eq!(touched("select shop.Sell(1) from orders"), "stock");
    assert_eq!(touched("call sell(1)"), "stock");
    // Outside of a transaction nobody needs to know.
    let outside = SessionView { transaction: Transaction::Idle, ..session };
    assert!(relations_touched(&facts("insert into items values (1)"), &outside).is_empty());
    let other = Settings::default();
    let other = SessionView { transaction: OPEN, ..SessionView::new(&other) };
    assert!(relations_touched(&facts("insert into items values (1)"), &other).is_empty());
}

#[test]
fn dml_adaptive_looks_into_what_execute_runs() {
    let settings = settings("disable_load_balance_on_write = dml_adaptive");
    let touched = |prepared: &str| {
        let runs = facts(prepared);
        let session = SessionView { transaction: OPEN, runs: Some(&runs), ..SessionView::new(&settings) };
        relations_touched(&facts("execute a"), &session).join(" ")
    };
    assert_eq!(touched("prepare a as insert into items values (1)"), "items");
    assert_eq!(touched("prepare a as select * from items"), "");
}

#[test]
fn dml_adaptive_global_tells_the_others_what_is_written() {
    let settings = settings(
        "disable_load_balance_on_write = dml_adaptive_global\n\
         dml_adaptive_object_relationship_list = 'orders:order_view,sell():stock'",
    );
    let runs = facts("prepare a as update items set a = 1");
    let session = SessionView { runs: Some(&runs), ..SessionView::new(&settings) };
    let written = |text: &str| relations_written(&facts(text), &session).join(" ");
    for (text, expected) in [
        ("insert into shop.orders select * from parts", "order_view orders"),
        ("merge into items using parts on true when matched then delete", "items"),
        ("truncate a, b", "a b"),
        ("drop table a, shop.b", "a b"),
        ("alter table a add b int", "a"),
        ("copy a from stdin", "a"),
        ("with x as (delete from a returning *) select * from x, b", "a"),
        ("explain analyze delete from a", "a"),
        ("insert into a values (1); delete from b", "a b"),
        ("select sell()", "stock"),
        ("execute a", "items"),
        ("explain delete from a", ""),
        ("prepare b as delete from a", ""),
        ("select * from a for update", ""),
        ("copy a to stdout", ""),
    ] {
        assert_eq!(written(text), expected, "{text}");
    }
    let adaptive = Settings { disable_load_balance_on_write: Mode::DmlAdaptive, ..settings.clone() };
    assert!(relations_written(&facts("insert into a values (1)"), &SessionView::new(&adaptive)).is_empty());
}

#[test]
fn dml_adaptive_global_by_shared_memory() {
    let settings = settings("disable_load_balance_on_write = dml_adaptive_global");
    let table = TableMutations::create(1024, 2048).expect("memory");
    let at = |database, ms| SharedWrites {
        table: &table,
        database,
        now: Duration::from_millis(ms),
        cold_until: Duration::from_millis(1_000),
    };
    let reason = |database, ms| {
        let recent = at(database, ms);
        let session = SessionView { recent: Some(&recent), ..SessionView::new(&settings) };
        decide(&facts("select * from shop.orders"), b"", session, &Facts).reason
    };
    assert_eq!(reason("d", 999), Reason::WritesUnknown);
    assert_eq!(reason("d", 1_000), Reason::Read);
    let written = relations_written(&facts("update orders set a = 1"), &SessionView::new(&settings));
    at("d", 2_000).record(&written, &settings);
    assert_eq!(reason("d", 2_099), Reason::RecentlyWritten(Name::qualified("shop", "orders")));
    assert_eq!(reason("d", 2_100), Reason::Read);
    assert_eq!(reason("other", 2_001), Reason::Read);
    table.begin_cold_start(Duration::from_millis(3_000), Duration::from_millis(500));
    assert_eq!(reason("d", 3_499), Reason::WritesUnknown);
    assert_eq!(reason("d", 3_500), Reason::Read);
}
