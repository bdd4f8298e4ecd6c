//! Prepared statements are answered from memory, whatever they are bound to, and with no server involved.

use super::{caching, counts, make};
use crate::harness::frontend::{
    bind, close_statement, describe_portal, describe_statement, execute, flush, parse, query, sync,
};
use crate::harness::{Cluster, Pgpool, Reply, Wire, shared};
use crate::{needs_pgpool, only_ours};

/// What one batch is answered with, and whether that came from the cache.
fn ask(session: &mut Wire, messages: &[Vec<u8>]) -> (Reply, bool) {
    let before = counts(session).0;
    let reply = session.ask(messages.concat());
    (reply, counts(session).0 > before)
}

const READ: &str = "SELECT a, b FROM qe_t WHERE a = $1";

fn stage() -> Pgpool {
    make(
        "DROP TABLE IF EXISTS qe_t",
        "CREATE TABLE qe_t AS SELECT i AS a, 'x' || i AS b FROM generate_series(1, 9) AS i",
    );
    caching().start()
}

#[test]
fn every_binding_has_an_answer_of_its_own() {
    only_ours!("the original keeps one answer for each Parse");
    let pool = stage();
    let mut session = pool.connect();
    session.ask([parse("s", READ, &[23]), sync()].concat()).succeeded();
    for round in 0..2 {
        for value in ["1", "2", "77"] {
            for described in [false, true] {
                let mut batch = vec![bind("", "s", &[Some(value)])];
                batch.extend(described.then(|| describe_portal("")));
                batch.extend([execute("", 0), sync()]);
                let (reply, hit) = ask(&mut session, &batch);
                let rows = if value == "77" { "" } else { "D" };
                let description = if described { "T" } else { "" };
                assert_eq!(reply.kinds(), format!("2{description}{rows}CZ"));
                if value != "77" {
                    assert_eq!(reply.rows()[0], [Some(value.to_owned()), Some(format!("x{value}"))]);
                }
                // What was kept without a description cannot serve who asks for one.
                assert_eq!(hit, round == 1, "{value}, described: {described}");
            }
        }
    }
    // Another session, with a statement of another name and the unnamed one.
    let mut other = pool.connect();
    other.query("SELECT 1").succeeded();
    for (name, hit) in [("t", false), ("", true)] {
        let batch =
            [parse(name, READ, &[23]), bind("", name, &[Some("1")]), describe_portal(""), execute("", 0), sync()];
        let (reply, is_hit) = ask(&mut other, &batch);
        assert!(is_hit == hit && reply.kinds() == "12TDCZ", "{name}: {reply:?}");
    }
    // A new name is told to the server; from then on it is answered from the cache.
    let again = [bind("", "t", &[Some("1")]), execute("", 0), sync()];
    assert!(ask(&mut other, &again).1);
    for messages in [
        vec![describe_statement("t"), sync()],
        vec![bind("", "t", &[Some("5")]), execute("", 1), sync()],
        vec![bind("p", "t", &[Some("5")]), execute("p", 0), sync()],
        vec![bind("", "t", &[Some("8")]), execute("", 0), flush(), sync()],
        vec![query("EXECUTE t(3)")],
        vec![close_statement("t"), sync()],
    ] {
        other.ask(messages.concat()).succeeded();
    }
    let gone = [bind("", "t", &[Some("1")]), execute("", 0), sync()];
    assert_eq!(other.ask(gone.concat()).sqlstate(), "26000");
}

#[test]
fn writes_are_seen_by_prepared_statements() {
    needs_pgpool!();
    let pool = stage();
    let (mut reader, mut writer) = (pool.connect(), pool.connect());
    reader.ask([parse("s", "SELECT count(*) FROM qe_t WHERE a < $1", &[23]), sync()].concat()).succeeded();
    let read = [bind("", "s", &[Some("100")]), describe_portal(""), execute("", 0), sync()];
    let write = [parse("", "DELETE FROM qe_t WHERE a = $1", &[23]), bind("", "", &[Some("1")]), execute("", 0), sync()];
    for _ in 0..2 {
        assert_eq!(ask(&mut reader, &read).0.first_value().as_deref(), Some("9"));
    }
    writer.ask(write.concat()).succeeded();
    assert_eq!(ask(&mut reader, &read).0.first_value().as_deref(), Some("8"));
    // In a transaction of its own, before and after its write.
    reader.query("BEGIN").succeeded();
    assert_eq!(ask(&mut reader, &read).0.first_value().as_deref(), Some("8"));
    reader.query("DELETE FROM qe_t WHERE a = 2").succeeded();
    for _ in 0..2 {
        let (reply, hit) = ask(&mut reader, &read);
        assert!(!hit && reply.first_value().as_deref() == Some("7") && reply.state() == 'T');
    }
    reader.query("ROLLBACK").succeeded();
    assert_eq!(ask(&mut reader, &read).0.first_value().as_deref(), Some("8"));
}

#[test]
fn a_hit_needs_no_server() {
    only_ours!("the original asks the server for what is outstanding");
    let cluster = Cluster::streaming(1).start();
    cluster.primary().sql("CREATE TABLE qe_alone AS SELECT 1 AS a");
    let pool = Pgpool::on(&cluster).set("memory_cache_enabled", "on").start();
    let mut session = pool.connect();
    let batch =
        [parse("", "SELECT a FROM qe_alone", &[]), bind("", "", &[]), describe_portal(""), execute("", 0), sync()];
    for _ in 0..2 {
        session.ask(batch.concat()).succeeded();
        session.query("SELECT a FROM qe_alone").succeeded();
    }
    cluster.primary().pause();
    assert_eq!(session.ask(batch.concat()).kinds(), "12TDCZ");
    assert_eq!(session.query("SELECT a FROM qe_alone").kinds(), "TDCZ");
    cluster.primary().resume();
    assert_eq!(session.value("SELECT 2"), "2");
}

#[test]
fn statements_whose_answers_are_in_the_cache_can_be_named_anywhere() {
    only_ours!("in the original each of them is prepared on a server");
    make("DROP TABLE IF EXISTS qcu13", "CREATE TABLE qcu13 AS SELECT 1 AS a");
    let pool = caching().start();
    let batch =
        |name: &str| [parse(name, "SELECT a FROM qcu13", &[]), bind("", name, &[]), execute("", 0), sync()].concat();
    for sql in [
        "CREATE TEMP TABLE x AS EXECUTE s",
        "EXPLAIN ANALYZE CREATE TEMP TABLE x AS EXECUTE s",
        "SELECT 1; EXECUTE s",
        "BEGIN; EXECUTE s; COMMIT",
        "SELECT 1; DEALLOCATE s",
        "BEGIN; DEALLOCATE s; COMMIT",
        "DO $$BEGIN EXECUTE 'EXECUTE s'; END$$",
    ] {
        let mut session = pool.connect();
        // Anew each time: what EXECUTE runs among several statements may write.
        session.ask(batch("")).succeeded();
        let before = counts(&mut session).0;
        session.ask(batch("")).succeeded();
        assert_eq!(counts(&mut session).0, before + 1, "the answer is in the cache");
        session.ask(batch("s")).succeeded();
        assert_eq!(counts(&mut session).0, before + 1, "the server is to know the statement");
        session.query(sql).succeeded();
    }
}

#[test]
fn a_statement_outlives_a_failure_to_prepare_it_elsewhere() {
    only_ours!("in the original each of them is prepared on a server");
    make("DROP TABLE IF EXISTS qcu17, qcu17_away", "CREATE TABLE qcu17 AS SELECT 1 AS a");
    let pool = caching().start();
    let mut session = pool.connect();
    let batch =
        |name: &str| [parse(name, "SELECT a FROM qcu17", &[]), bind("", name, &[]), execute("", 0), sync()].concat();
    for name in ["", "s"] {
        session.ask(batch(name)).succeeded();
    }
    shared().primary().sql("ALTER TABLE qcu17 RENAME TO qcu17_away");
    let describe = [describe_statement("s"), sync()].concat();
    assert_eq!(session.ask(&describe).sqlstate(), "42P01");
    shared().primary().sql("ALTER TABLE qcu17_away RENAME TO qcu17");
    session.ask(&describe).succeeded();
    session.ask([bind("p", "s", &[]), execute("p", 0), sync()].concat()).succeeded();
}
