//! Transactions, prepared statements, portals and batches that are at home on two servers.

use std::time::{Duration, Instant};

use crate::harness::frontend::{bind, describe_portal, describe_statement, execute, flush, parse, query, run, sync};
use crate::harness::reading::{READ, connect_as, primary, reading_pool, standby};
use crate::harness::{Pgpool, shared, wait_for, without_lag};
use crate::only_ours;

/// How many sessions of this application are in a transaction on the standby.
fn open_on_standby(application: &str) -> String {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND state LIKE 'idle in transaction%'"
    );
    shared().node(2).sql(&sql)
}

#[test]
fn a_block_is_opened_where_it_reads_and_ended_with_it() {
    let pool = reading_pool();
    let mut session = connect_as(&pool, "tx_block");
    session.query("BEGIN").succeeded();
    assert_eq!(open_on_standby("tx_block"), "0");
    assert_eq!(session.value(READ), standby());
    assert_eq!(open_on_standby("tx_block"), "1");
    session.query("SAVEPOINT s").succeeded();
    session.query("COMMIT").succeeded();
    wait_for("the end on the standby", || open_on_standby("tx_block") == "0");
    for end in ["ROLLBACK", "COMMIT AND CHAIN"] {
        session.query("BEGIN READ ONLY").succeeded();
        assert_eq!(session.value(READ), standby());
        session.query(end).succeeded();
        assert_eq!(session.value(READ), standby());
        session.query("ROLLBACK").succeeded();
        wait_for("the end on the standby", || open_on_standby("tx_block") == "0");
    }
}

#[test]
fn after_a_write_the_block_reads_what_it_wrote() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_own; CREATE TABLE tx_own (a int)").succeeded();
    session.query("BEGIN").succeeded();
    assert_eq!(session.value(READ), standby());
    session.query("INSERT INTO tx_own VALUES (1)").succeeded();
    assert_eq!(session.value("SELECT count(*) FROM tx_own"), "1");
    assert_eq!(session.value(READ), primary());
    session.query("SAVEPOINT s").succeeded();
    session.query("ROLLBACK TO s").succeeded();
    assert_eq!(session.value("SELECT count(*) FROM tx_own"), "1");
    session.query("COMMIT").succeeded();
    assert_eq!(session.value(READ), standby());
    session.query("DROP TABLE tx_own").succeeded();
}

#[test]
fn a_read_that_fails_on_the_standby_fails_the_transaction() {
    only_ours!("the original commits (routing 7.5)");
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).set("disable_load_balance_on_write", "off").start();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_failed; CREATE TABLE tx_failed (a int)").succeeded();
    session.query("BEGIN").succeeded();
    session.query("SAVEPOINT s").succeeded();
    session.query("INSERT INTO tx_failed VALUES (1)").succeeded();
    let failed = session.query("SELECT 1 / (n - 1) FROM ten WHERE n = 1");
    assert_eq!((failed.sqlstate().as_str(), failed.state()), ("22012", 'E'));
    assert_eq!(session.query(READ).sqlstate(), "25P02");
    let end = session.query("COMMIT");
    assert_eq!((end.tags(), end.state()), (vec!["ROLLBACK".to_owned()], 'I'));
    assert_eq!(session.value("SELECT count(*) FROM tx_failed"), "0");
    // ROLLBACK TO mends it, here and there.
    session.query("BEGIN").succeeded();
    session.query("INSERT INTO tx_failed VALUES (2)").succeeded();
    session.query("SAVEPOINT s").succeeded();
    assert_eq!(session.query("SELECT 1 / (n - 1) FROM ten WHERE n = 1").state(), 'E');
    assert_eq!(session.query("ROLLBACK TO s").succeeded().state(), 'T');
    assert_eq!(session.value(READ), standby());
    assert_eq!(session.query("COMMIT").tags(), ["COMMIT"]);
    assert_eq!(session.value("/* primary */ SELECT count(*) FROM tx_failed"), "1");
    session.query("DROP TABLE tx_failed").succeeded();
}

#[test]
fn settings_made_in_a_transaction_share_its_fate_everywhere() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let setting = "SELECT current_setting('work_mem') || current_setting('port') FROM ten WHERE n = 1";
    let there = |value: &str| format!("{value}{}", standby());
    session.query("SET work_mem = '1MB'").succeeded();
    session.query("BEGIN").succeeded();
    assert_eq!(session.value(setting), there("1MB"));
    session.query("ROLLBACK").succeeded();
    for (end, value) in [("ROLLBACK", "1MB"), ("COMMIT", "2MB")] {
        session.query("BEGIN").succeeded();
        session.query("SET work_mem = '2MB'").succeeded();
        session.query(end).succeeded();
        assert_eq!(session.value(setting), there(value), "{end}");
    }
    let reply = session.ask([query("SET work_mem = 'nonsense'"), query("SET work_mem = '4MB'")].concat());
    assert_eq!(reply.kinds(), "EZ");
    assert_eq!(session.read_until('Z').kinds(), "CZ");
    assert_eq!(session.value(setting), there("4MB"));
    let undone = [run("SET work_mem = '5MB'"), parse("", "bad", &[]), sync()];
    assert_eq!(session.ask(undone.concat()).kinds(), "12CEZ");
    assert_eq!(session.value(setting), there("4MB"));
}

#[test]
fn a_batch_that_begins_a_transaction_reads_from_the_standby() {
    let pool = reading_pool();
    let mut session = connect_as(&pool, "tx_batch");
    for _ in 0..2 {
        let batch = [
            run("BEGIN READ ONLY"),
            parse("", READ, &[]),
            bind("", "", &[]),
            describe_portal(""),
            execute("", 0),
            sync(),
        ];
        let reply = session.ask(batch.concat()).succeeded();
        assert_eq!((reply.kinds().as_str(), reply.column(), reply.state()), ("12C12TDCZ", vec![standby()], 'T'));
        let end = [run("COMMIT"), sync()];
        assert_eq!(session.ask(end.concat()).succeeded().state(), 'I');
        wait_for("the end on the standby", || open_on_standby("tx_batch") == "0");
    }
    // A batch with a write in it stays on the primary.
    let batch = [run("BEGIN"), run(READ), run("CREATE TEMP TABLE t (a int)"), run("ROLLBACK"), sync()];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column(), reply.state()), ("12C12DC12C12CZ", vec![primary()], 'I'));
}

#[test]
fn a_batch_in_steps_moves_to_the_primary_when_it_must() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_steps; CREATE TABLE tx_steps (a int)").succeeded();
    session.value(READ);
    session.send([parse("r", READ, &[]), describe_statement("r"), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "1tT");
    session.send([bind("", "r", &[]), execute("", 0), flush()].concat());
    let reply = session.read_some(3);
    assert_eq!((reply.kinds().as_str(), reply.column()), ("2DC", vec![standby()]));
    session.send([run("INSERT INTO tx_steps VALUES (1)"), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "12C");
    session.send([bind("", "r", &[]), execute("", 0), parse("", "SELECT count(*) FROM tx_steps", &[])].concat());
    let reply = session.ask([bind("", "", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("2DC12DCZ", vec![primary(), "1".to_owned()]));
    session.query("DROP TABLE tx_steps").succeeded();
}

#[test]
fn a_portal_is_fetched_where_it_was_opened() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    let open = [parse("", "SELECT n FROM ten ORDER BY n", &[]), bind("c", "", &[]), execute("c", 3), sync()];
    assert_eq!(session.ask(open.concat()).kinds(), "12DDDsZ");
    session.query("CREATE TEMP TABLE tx_portal (a int)").succeeded();
    assert_eq!(session.value(READ), primary());
    let reply = session.ask([execute("c", 3), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.column()), ("DDDsZ", ["4", "5", "6"].map(str::to_owned).to_vec()));
    let mixed = [execute("c", 0), run(READ), sync()];
    let reply = session.ask(mixed.concat()).succeeded();
    assert_eq!(reply.kinds(), "DDDDC12DCZ");
    assert_eq!(reply.column().last(), Some(&primary()));
    session.query("ROLLBACK").succeeded();
}

#[test]
fn prepare_and_execute_follow_the_transaction() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query(&format!("PREPARE p AS {READ}")).succeeded();
    assert_eq!(session.value("EXECUTE p"), standby());
    session.query("BEGIN").succeeded();
    assert_eq!(session.value("EXECUTE p"), standby());
    session.query("CREATE TEMP TABLE tx_prepare (a int)").succeeded();
    assert_eq!(session.value("EXECUTE p"), primary());
    session.query("ROLLBACK").succeeded();
    session.query("DEALLOCATE p").succeeded();
    assert_eq!(session.query("EXECUTE p").sqlstate(), "26000");
    assert_eq!(session.value(READ), standby());
    // The name is free on both.
    session.query("PREPARE p AS SELECT 'other' FROM ten LIMIT 1").succeeded();
    assert_eq!(session.value("EXECUTE p"), "other");
    session.query("PREPARE w AS CREATE TEMP TABLE x (a int)");
    let reply = session.ask([parse("e", READ, &[]), sync()].concat()).succeeded();
    assert_eq!(reply.kinds(), "1Z");
    assert_eq!(session.value("EXECUTE e"), standby());
    session.query("DEALLOCATE ALL").succeeded();
    assert_eq!(session.query("EXECUTE e").sqlstate(), "26000");
    let again = [parse("e", "SELECT 'new' FROM ten LIMIT 1", &[]), bind("", "e", &[]), execute("", 0), sync()];
    assert_eq!(session.ask(again.concat()).succeeded().column(), ["new"]);
}

#[test]
fn sql_finds_portals_where_they_are() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    let open =
        [parse("", "SELECT n FROM ten ORDER BY n", &[]), bind("a_portal", "", &[]), execute("a_portal", 2), sync()];
    assert_eq!(session.ask(open.concat()).column().len(), 2);
    assert_eq!(session.query("FETCH 1 FROM a_portal").succeeded().column(), ["3"]);
    assert_eq!(session.query("MOVE 1 FROM a_portal").succeeded().tags(), ["MOVE 1"]);
    let fetch = [run("FETCH 1 FROM a_portal"), sync()].concat();
    assert_eq!(session.ask(fetch).succeeded().column(), ["5"]);
    session.query("CLOSE a_portal").succeeded();
    assert_eq!(session.query("FETCH 1 FROM a_portal").sqlstate(), "34000");
    session.query("ROLLBACK").succeeded();
}

#[test]
fn commit_does_not_wait_for_its_own_cursor_on_a_standby() {
    let primary = without_lag().primary();
    primary.sql("CREATE TABLE tx_pinned AS SELECT n FROM generate_series(1, 100) n");
    let pool = Pgpool::on(without_lag()).weights(&[0.0, 0.0, 1.0]).start();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    let open = [parse("", "SELECT n FROM tx_pinned", &[]), bind("c", "", &[]), execute("c", 2), sync()].concat();
    session.ask(open);
    // The standby cannot replay this while the cursor is on the page: it would cancel it after 30 seconds.
    let mut other = primary.connect();
    other.query("SET synchronous_commit = local").succeeded();
    other.query("DELETE FROM tx_pinned WHERE n > 50").succeeded();
    other.query("VACUUM tx_pinned").succeeded();
    session.query("INSERT INTO tx_pinned VALUES (1)").succeeded();
    let begun = Instant::now();
    session.query("COMMIT").succeeded();
    assert!(begun.elapsed() < Duration::from_secs(15), "COMMIT took {:?}", begun.elapsed());
    session.query("DROP TABLE tx_pinned").succeeded();
}
