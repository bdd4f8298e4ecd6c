//! Transactions, prepared statements and batches that are at home on two servers, and reads that are sent again.

use std::time::{Duration, Instant};

use crate::harness::frontend::{
    bind, close_statement, copy_data, copy_done, describe_portal, describe_statement, execute, flush, parse, query,
    sync, terminate,
};
use crate::harness::reading::{READ, connect_as, primary, reading_pool, standby};
use crate::harness::{Cluster, Pgpool, Wire, shared, wait_for, without_lag};
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
    let undone =
        [parse("", "SET work_mem = '5MB'", &[]), bind("", "", &[]), execute("", 0), parse("", "bad", &[]), sync()];
    assert_eq!(session.ask(undone.concat()).kinds(), "12CEZ");
    assert_eq!(session.value(setting), there("4MB"));
}

#[test]
fn a_batch_that_begins_a_transaction_reads_from_the_standby() {
    let pool = reading_pool();
    let mut session = connect_as(&pool, "tx_batch");
    for _ in 0..2 {
        let batch = [
            parse("", "BEGIN READ ONLY", &[]),
            bind("", "", &[]),
            execute("", 0),
            parse("", READ, &[]),
            bind("", "", &[]),
            describe_portal(""),
            execute("", 0),
            sync(),
        ];
        let reply = session.ask(batch.concat()).succeeded();
        assert_eq!((reply.kinds().as_str(), reply.column(), reply.state()), ("12C12TDCZ", vec![standby()], 'T'));
        let end = [parse("", "COMMIT", &[]), bind("", "", &[]), execute("", 0), sync()];
        assert_eq!(session.ask(end.concat()).succeeded().state(), 'I');
        wait_for("the end on the standby", || open_on_standby("tx_batch") == "0");
    }
    // A batch with a write in it stays on the primary.
    let batch = [
        parse("", "BEGIN", &[]),
        bind("", "", &[]),
        execute("", 0),
        parse("", READ, &[]),
        bind("", "", &[]),
        execute("", 0),
        parse("", "CREATE TEMP TABLE t (a int)", &[]),
        bind("", "", &[]),
        execute("", 0),
        parse("", "ROLLBACK", &[]),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ];
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
    session
        .send([parse("", "INSERT INTO tx_steps VALUES (1)", &[]), bind("", "", &[]), execute("", 0), flush()].concat());
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
    let mixed = [execute("c", 0), parse("", READ, &[]), bind("", "", &[]), execute("", 0), sync()];
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
fn a_write_that_looked_like_a_read_is_sent_again() {
    only_ours!("the original relays the error");
    let pool = reading_pool();
    let mut session = pool.connect();
    session
        .query(
            "CREATE SEQUENCE tx_hidden_sequence;
             CREATE FUNCTION tx_hidden_inner() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('tx_hidden_sequence') $$;
             CREATE FUNCTION tx_hidden() RETURNS bigint STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN tx_hidden_inner(); END $$",
        )
        .succeeded();
    shared().wait_replayed();
    assert_eq!(session.value("SELECT tx_hidden() FROM ten WHERE n = 1"), "1");
    assert!(pool.log().contains("refused a statement as a write"), "{}", pool.log());
    assert_eq!(session.value("SELECT tx_hidden() FROM ten WHERE n = 1"), "2");
    assert_eq!(pool.log().matches("refused a statement as a write").count(), 1, "the second one goes to the primary");
    let batch =
        [parse("h", "SELECT tx_hidden() + 0 FROM ten LIMIT 1", &[]), bind("", "h", &[]), execute("", 0), sync()];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12DCZ", vec!["3".to_owned()]));
    let again = [bind("", "h", &[]), describe_portal(""), execute("", 0), close_statement("h"), sync()];
    assert_eq!(session.ask(again.concat()).succeeded().kinds(), "2TDC3Z");
    assert_eq!(session.value(READ), standby());
    // Inside a transaction block the server's word stands.
    session.query("BEGIN").succeeded();
    let reply = session.query("SELECT tx_hidden() + 1 FROM ten WHERE n = 1");
    assert_eq!((reply.sqlstate().as_str(), reply.state()), ("25006", 'E'));
    session.query("ROLLBACK").succeeded();
    session
        .query("DROP FUNCTION tx_hidden(); DROP FUNCTION tx_hidden_inner(); DROP SEQUENCE tx_hidden_sequence")
        .succeeded();
}

#[test]
fn a_table_that_a_standby_has_not_got_yet_is_read_on_the_primary() {
    only_ours!("the original relays the error");
    // A cluster of its own: replay is paused for a while.
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).start();
    let mut session = pool.connect();
    let node = cluster.node(1);
    node.sql("SELECT pg_wal_replay_pause()");
    session.query("CREATE TABLE tx_behind AS SELECT 7 AS a").succeeded();
    let answer = session.query("SELECT a FROM tx_behind");
    node.sql("SELECT pg_wal_replay_resume()");
    assert_eq!(answer.succeeded().column(), ["7"]);
    session.query("DROP TABLE tx_behind").succeeded();
}

#[test]
fn a_read_goes_on_elsewhere_when_its_standby_ends() {
    only_ours!("the original ends the session");
    let pool = reading_pool();
    for in_block in [false, true] {
        let mut session = connect_as(&pool, "tx_lost");
        if in_block {
            session.query("BEGIN").succeeded();
        }
        assert_eq!(session.value(READ), standby());
        shared().node(2).sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tx_lost' AND pid <> pg_backend_pid()",
        );
        let answer = session.value(READ);
        assert!([primary(), standby()].contains(&answer), "{answer}");
    }
}

#[test]
fn a_setting_that_a_standby_cannot_follow_costs_the_standby_only() {
    // A cluster of its own: replay is paused for a while.
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).start();
    let primary = cluster.primary().port.to_string();
    let mut session = pool.connect();
    session.value(READ);
    // A role that exists on the primary only for the moment.
    let node = cluster.node(1);
    node.sql("SELECT pg_wal_replay_pause()");
    session.query("CREATE ROLE tx_late; GRANT SELECT ON ten TO tx_late").succeeded();
    session.query("SET ROLE tx_late").succeeded();
    let answer = session.query(READ);
    node.sql("SELECT pg_wal_replay_resume()");
    assert_eq!(answer.succeeded().column(), [primary]);
    assert_eq!(session.value("SELECT current_user || '' FROM ten WHERE n = 1"), "tx_late");
    session.query("RESET ROLE").succeeded();
    session.query("DROP OWNED BY tx_late; DROP ROLE tx_late").succeeded();
}

#[test]
fn terminate_in_the_middle_of_a_copy_takes_it_back() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_copy; CREATE TABLE tx_copy (a text)").succeeded();
    session.send(query("COPY tx_copy FROM STDIN"));
    assert_eq!(session.read_some(1).kinds(), "G");
    session.send([copy_data(b"half\n"), terminate()].concat());
    // The only worker is free again.
    let mut next = pool.connect();
    assert_eq!(next.value("SELECT count(*) FROM tx_copy"), "0");
    next.query("DROP TABLE tx_copy").succeeded();
}

#[test]
fn copy_may_be_sent_in_one_go() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_ahead; CREATE TABLE tx_ahead (a text)").succeeded();
    let copy = "COPY tx_ahead FROM STDIN";
    let batch =
        [parse("", copy, &[]), bind("", "", &[]), execute("", 0), copy_data(b"a\nb\n"), copy_done(), sync()].concat();
    assert_eq!(session.ask(batch).succeeded().kinds(), "12GCZ");
    let simple =
        [query(copy), copy_data(b"c\n"), copy_done(), query("SELECT count(*) FROM tx_ahead WHERE random() < 2")];
    assert_eq!(session.ask(simple.concat()).succeeded().kinds(), "GCZ");
    let reply = session.read_until('Z').succeeded();
    assert_eq!(reply.column(), ["3"]);
    session.query("DROP TABLE tx_ahead").succeeded();
}

#[test]
fn a_goodbye_behind_a_long_answer_waits_for_the_reader() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect();
    let rows = 200_000;
    session.send([query(&format!("SELECT repeat('x', 100) FROM generate_series(1, {rows})")), terminate()].concat());
    let reply = session.read_until('Z').succeeded();
    assert_eq!(reply.all('D').count(), rows);
    assert!(session.is_closed_within(Duration::from_secs(10)));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn a_flush_is_answered_at_once() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.value(READ);
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let begin = Instant::now();
        session.send([parse("", READ, &[]), bind("", "", &[]), execute("", 0), flush()].concat());
        assert_eq!(session.read_some(4).kinds(), "12DC");
        fastest = fastest.min(begin.elapsed());
        assert_eq!(session.ask(sync()).kinds(), "Z");
    }
    // The patience of one receive is 10 ms: it must not be waited out.
    assert!(fastest < Duration::from_millis(8), "{fastest:?}");
}

#[test]
fn a_long_bind_finds_its_statement() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let text = "SELECT length($1) || current_setting('port') FROM ten WHERE n = 1";
    assert_eq!(session.ask([parse("long", text, &[25]), sync()].concat()).succeeded().kinds(), "1Z");
    let value = "x".repeat(3 << 20);
    let reply = session.ask([bind("", "long", &[Some(&value)]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.kinds(), "2DCZ");
    assert!(reply.column()[0].starts_with("3145728"));
}

/// A copy that fills every buffer on its way to a server that does not read for a while.
#[test]
fn a_congested_copy_goes_on_when_the_server_does() {
    let cluster = Cluster::independent(1).start();
    let pool = Pgpool::on(&cluster).start();
    let mut session = pool.connect();
    session.query("CREATE TABLE slow (a text)").succeeded();
    session.send(query("COPY slow FROM STDIN"));
    assert_eq!(session.read_some(1).kinds(), "G");
    cluster.node(0).pause();
    let line = format!("{}\n", "y".repeat(8191));
    let (rows, sender) = (4000, session.split());
    let (session, mut writer): (&mut Wire, Wire) = sender;
    let thread = std::thread::spawn(move || {
        for _ in 0..rows {
            writer.send(copy_data(line.as_bytes()));
        }
        writer.send(copy_done());
    });
    wait_for("the buffers to fill", || pool.children("COPY").len() == 1);
    cluster.node(0).resume();
    assert_eq!(session.read_until('Z').succeeded().tags(), [format!("COPY {rows}")]);
    thread.join().expect("the writer ends");
}

#[test]
fn a_query_behind_a_batch_without_sync_goes_where_it_should() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE tx_unsynced (id int)").succeeded();
    shared().wait_replayed();
    // asyncpg prepares like this: Flush brings the answers, and no Sync follows.
    let prepare = |name: &str| [parse(name, READ, &[]), describe_statement(name), flush()].concat();
    session.send(prepare("one"));
    assert_eq!(session.read_some(3).kinds(), "1tT");
    session.query("INSERT INTO tx_unsynced VALUES (1)").succeeded();
    session.send(prepare("two"));
    assert_eq!(session.read_some(3).kinds(), "1tT");
    session.send(query("COPY tx_unsynced FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    session.send([copy_data(b"2\n"), copy_done()].concat());
    session.read_until('Z').succeeded();
    session.send(prepare("three"));
    assert_eq!(session.read_some(3).kinds(), "1tT");
    assert_eq!(session.value(READ), standby());
    for name in ["one", "two", "three"] {
        let reply = session.ask([bind("", name, &[]), execute("", 0), sync()].concat());
        assert_eq!(reply.first_value(), Some(standby()));
    }
    assert_eq!(shared().primary().sql("SELECT count(*) FROM tx_unsynced"), "2");
    session.query("DROP TABLE tx_unsynced").succeeded();
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
    let fetch = [parse("", "FETCH 1 FROM a_portal", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
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
