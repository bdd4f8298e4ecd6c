//! The extended protocol: statements, portals, pipelines, and batches in steps (protocol 8).

use std::time::{Duration, Instant};

use crate::harness::frontend::{
    bind, close_portal, close_statement, copy_data, copy_done, describe_portal, describe_statement, execute, flush,
    parse, query, run, sync,
};
use crate::harness::reading::{READ, reading_pool, standby};
use crate::harness::{shared, wait_for};
use crate::only_ours;

#[test]
fn unnamed_and_named_statements() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let unnamed = [parse("", "SELECT n FROM ten WHERE n = $1", &[]), bind("", "", &[Some("3")])].concat();
    let reply = session.ask([unnamed, describe_portal(""), execute("", 0), sync()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12TDCZ", vec!["3".to_owned()]));

    let reply = session.ask([parse("s", "SELECT $1::int + 1", &[]), describe_statement("s"), sync()].concat());
    assert_eq!(reply.succeeded().kinds(), "1tTZ");
    for value in ["1", "20"] {
        let reply = session.ask([bind("p", "s", &[Some(value)]), execute("p", 0), close_portal("p"), sync()].concat());
        assert_eq!(reply.succeeded().kinds(), "2DC3Z");
    }
    assert_eq!(session.ask([parse("s", "SELECT 1", &[]), sync()].concat()).sqlstate(), "42P05", "the name is in use");
    assert_eq!(session.ask([close_statement("s"), sync()].concat()).succeeded().kinds(), "3Z");
    assert_eq!(session.ask([close_statement("never was"), sync()].concat()).succeeded().kinds(), "3Z");
    assert_eq!(
        session
            .ask([parse("s", "INSERT INTO ten SELECT 1 WHERE false", &[]), describe_statement("s"), sync()].concat())
            .kinds(),
        "1tnZ"
    );
    let reply = session.ask([bind("", "s", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.tags()), ("2CZ", vec!["INSERT 0 0".to_owned()]));
}

#[test]
fn parameters_may_be_null_or_empty() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let batch = [parse("", "SELECT $1::text IS NULL, $2::text = ''", &[]), bind("", "", &[None, Some("")])].concat();
    let reply = session.ask([batch, execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.rows(), [[Some("t".to_owned()), Some("t".to_owned())]]);
}

#[test]
fn an_unknown_statement_or_portal_is_the_servers_error() {
    only_ours!("an unknown statement ends the session with XX000");
    let pool = reading_pool();
    let mut session = pool.connect();
    let cases = [
        (bind("", "unknown", &[]), "26000"),
        (describe_statement("unknown"), "26000"),
        (describe_portal("unknown"), "34000"),
        (execute("unknown", 0), "34000"),
    ];
    for (message, sqlstate) in cases {
        let reply = session.ask([message, sync()].concat());
        assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("EZ", sqlstate));
    }
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_pipeline_of_many_batches_is_answered_in_order() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let mut bytes = parse("s", "SELECT $1::int FROM ten LIMIT 1", &[]);
    for i in 0..300 {
        bytes.extend([bind("", "s", &[Some(&i.to_string())]), execute("", 0), sync()].concat());
    }
    session.send(bytes);
    for i in 0..300 {
        let reply = session.read_until('Z').succeeded();
        assert_eq!(reply.kinds(), if i == 0 { "12DCZ" } else { "2DCZ" });
        assert_eq!(reply.first_value(), Some(i.to_string()));
    }
}

#[test]
fn a_pipeline_may_mix_reads_and_writes() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_mixed (id int)").succeeded();
    let port = |expected: &str| format!("SELECT current_setting('port') /* {expected} */ FROM ten LIMIT 1");
    let one = |sql: &str| [run(sql), sync()].concat();
    session.send([one("INSERT INTO session_mixed VALUES (1) RETURNING id"), one(&port("read"))].concat());
    session.send([one("UPDATE session_mixed SET id = 2 RETURNING id"), one("SELECT 7 FROM ten LIMIT 1")].concat());
    let values: Vec<_> = (0..4).map(|_| session.read_until('Z').succeeded().column().concat()).collect();
    assert_eq!((&*values[0], &*values[2], &*values[3]), ("1", "2", "7"));
    session.query("DROP TABLE session_mixed").succeeded();
}

#[test]
fn a_read_sees_the_write_before_it_in_the_same_batch() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_batch (id int)").succeeded();
    shared().wait_replayed();
    let batch = [
        run("BEGIN"),
        run("INSERT INTO session_batch VALUES (5)"),
        run("SELECT id FROM session_batch"),
        run("COMMIT"),
        sync(),
    ];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12C12C12DC12CZ", vec!["5".to_owned()]));
    session.query("DROP TABLE session_batch").succeeded();
}

#[test]
fn flush_brings_answers_before_sync() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.send([parse("f", "SELECT n FROM ten WHERE n = $1", &[]), describe_statement("f"), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "1tT");
    session.send([bind("", "f", &[Some("9")]), execute("", 0), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "2DC");
    session.send(sync());
    assert_eq!(session.read().kind, b'Z');
}

#[test]
fn a_flush_is_answered_at_once() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.value(READ);
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let begin = Instant::now();
        session.send([run(READ), flush()].concat());
        assert_eq!(session.read_some(4).kinds(), "12DC");
        fastest = fastest.min(begin.elapsed());
        assert_eq!(session.ask(sync()).kinds(), "Z");
    }
    // The patience of one receive is 10 ms: it must not be waited out.
    assert!(fastest < Duration::from_millis(8), "{fastest:?}");
}

#[test]
fn a_portal_is_suspended_at_its_row_limit() {
    only_ours!("PortalSuspended waits in its buffer until Sync");
    let pool = reading_pool();
    let mut session = pool.connect();
    let open = [parse("", "SELECT n FROM ten ORDER BY n", &[]), bind("c", "", &[]), execute("c", 4), flush()].concat();
    session.send(open);
    assert_eq!(session.read_some(7).kinds(), "12DDDDs");
    session.send([execute("c", 4), flush()].concat());
    let reply = session.read_some(5);
    assert_eq!((reply.kinds().as_str(), reply.column()), ("DDDDs", ["5", "6", "7", "8"].map(str::to_owned).to_vec()));
    let reply = session.ask([execute("c", 4), sync()].concat());
    assert_eq!(reply.kinds(), "DDCZ");
    // Without a transaction block the portal ends at Sync; inside one it lives on.
    session.query("BEGIN").succeeded();
    let reply = session
        .ask([parse("", "SELECT n FROM ten ORDER BY n", &[]), bind("d", "", &[]), execute("d", 2), sync()].concat());
    assert_eq!(reply.kinds(), "12DDsZ");
    let reply = session.ask([execute("d", 3), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.column()), ("DDDsZ", ["3", "4", "5"].map(str::to_owned).to_vec()));
    session.query("COMMIT").succeeded();
}

#[test]
fn an_error_in_a_pipeline_skips_to_sync() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.send([run("SELECT 1"), run("SELECT 1 / 0"), run("SELECT 2"), sync(), run("SELECT 3"), sync()].concat());
    let reply = session.read_until('Z');
    assert!(["12DC12EZ", "12DC1EZ", "12DCEZ"].contains(&&*reply.kinds()), "{reply:?}");
    assert_eq!(session.read_until('Z').succeeded().column(), ["3"]);

    session.send([parse("broken", "SELEC", &[]), bind("", "broken", &[]), execute("", 0), flush(), sync()].concat());
    let reply = session.read_until('Z');
    assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("EZ", "42601"));
    assert_eq!(session.value("SELECT 4"), "4");
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
fn a_batch_left_without_sync_is_rolled_back() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS left_open; CREATE TABLE left_open (a int)").succeeded();
    let insert = [run("INSERT INTO left_open VALUES (1)"), flush()];
    session.send(insert.concat());
    assert_eq!(session.read_some(3).kinds(), "12C");
    session.close();
    wait_for("the session to end", || pool.children("idle").is_empty() && pool.children("INSERT").is_empty());
    assert_eq!(pool.connect().value("SELECT count(*) FROM left_open"), "0");
}
