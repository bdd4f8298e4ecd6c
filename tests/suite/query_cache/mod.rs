//! The query cache: which answers come from it, and that none of them is older than what its client can know.
//!
//! Each test has tables of its own in the shared cluster, and a pgpool of its own that reads on the primary, where nothing
//! lags; `model` compares random histories with answers that no cache has touched.

mod applications;
mod crash;
mod doubtful;
mod extended;
mod full;
mod given;
mod keys;
mod killed;
mod lists;
mod meaning;
mod memcached;
mod model;
mod portals;
mod procedures;
mod refused;
mod standby;
mod transactions;
mod triggers;
mod unconcerned;
mod unnamed;
mod unpublished;
mod unseen;
mod writes;

use crate::harness::frontend::query;
use crate::harness::{Config, Pgpool, Wire, shared};
use crate::{needs_pgpool, only_ours};

/// A pgpool with the cache on and all reads on the primary.
fn caching() -> Config {
    Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).set("memory_cache_enabled", "on")
}

/// Makes something on the primary, having removed what a former run has left.
fn make(undo: &str, sql: &str) {
    shared().primary().sql(&format!("SET client_min_messages = error; {undo}; {sql}"));
}

/// Answers from the cache so far, and SELECTs that servers have answered.
fn counts(session: &mut Wire) -> (u64, u64) {
    let rows = session.query("SHOW POOL_CACHE").succeeded().rows();
    let number = |column: usize| rows[0][column].as_deref().and_then(|text| text.parse().ok()).expect("a number");
    (number(0), number(1))
}

/// Whether this SELECT is answered from the cache.
fn is_hit(session: &mut Wire, sql: &str) -> bool {
    let before = counts(session);
    session.query(sql).succeeded();
    let after = counts(session);
    assert_eq!(after.0 + after.1, before.0 + before.1 + 1, "{sql}: {before:?} {after:?} {:?}", session.query(sql));
    after.0 > before.0
}

/// Whether this SELECT is kept, asked twice.
fn is_kept(session: &mut Wire, sql: &str) -> bool {
    session.query(sql).succeeded();
    is_hit(session, sql)
}

/// The answer to `read`, which has just been written through pgpool, is the server's.
fn assert_true(session: &mut Wire, read: &str) {
    assert_eq!(session.value(read), shared().primary().sql(read), "{read}");
}

/// PGPOOL SET CACHE DELETE forgets the answer that it names, once, and no other.
fn assert_deleted_by_order(session: &mut Wire, table: &str) {
    let (kept, other) = (&*format!("SELECT a FROM {table}"), &*format!("SELECT a + 1 FROM {table}"));
    assert!(is_kept(session, kept) && is_kept(session, other));
    let delete = |session: &mut Wire| {
        let reply = session.query(&format!("PGPOOL SET CACHE DELETE '{kept}'")).succeeded();
        reply.all('N').next().and_then(|notice| notice.field('M')).unwrap_or_default()
    };
    assert_eq!(delete(session), format!("query cache deleted. query: \"{kept}\""));
    assert_eq!(delete(session), format!("query cache does not exist for query: \"{kept}\""));
    assert!(is_hit(session, other) && !is_hit(session, kept));
}

#[test]
fn the_second_answer_comes_from_the_cache_and_is_the_same() {
    needs_pgpool!();
    make(
        "DROP TABLE IF EXISTS qc_same",
        "CREATE TABLE qc_same AS SELECT i AS a, repeat('x', i) AS b FROM generate_series(1, 50) AS i",
    );
    let pool = caching().start();
    let (mut one, mut other) = (pool.connect(), pool.connect());
    for sql in
        ["SELECT * FROM qc_same ORDER BY a", "SELECT count(*) FROM qc_same WHERE a > 1000", "SELECT 1 WHERE false"]
    {
        let first = one.query(sql).succeeded();
        assert!(is_hit(&mut other, sql), "{sql}");
        let second = other.query(sql).succeeded();
        assert_eq!((first.kinds(), first.rows(), first.tags()), (second.kinds(), second.rows(), second.tags()));
        assert_eq!(second.state(), 'I');
    }
}

#[test]
fn pipelined_queries_are_answered_in_order() {
    needs_pgpool!();
    make("DROP TABLE IF EXISTS qc_order", "CREATE TABLE qc_order AS SELECT 1 AS a");
    let pool = caching().start();
    let mut session = pool.connect();
    session.query("SELECT a FROM qc_order").succeeded();
    let batch = [
        "SELECT a FROM qc_order",
        "SELECT 2",
        "SELECT a FROM qc_order",
        "SELECT pg_sleep(0)",
        "SELECT a FROM qc_order",
    ];
    for _ in 0..5 {
        session.send(batch.map(query).concat());
        let answers: Vec<_> = batch.iter().map(|_| session.read_until('Z').first_value().unwrap_or_default()).collect();
        assert_eq!(answers, ["1", "2", "1", "", "1"]);
    }
}

#[test]
fn some_answers_are_not_kept() {
    only_ours!("the original keeps some of these");
    make(
        "DROP VIEW IF EXISTS qc_view; DROP TABLE IF EXISTS qc_plain, qc_unlogged, qc_secured, qc_listed; \
         DROP SEQUENCE IF EXISTS qc_sequence",
        "CREATE TABLE qc_plain AS SELECT 1 AS a; CREATE TABLE qc_listed AS SELECT 1 AS a; \
         CREATE VIEW qc_view AS SELECT * FROM qc_plain; CREATE UNLOGGED TABLE qc_unlogged (a int); \
         CREATE SEQUENCE qc_sequence; CREATE TABLE qc_secured (a int); \
         ALTER TABLE qc_secured ENABLE ROW LEVEL SECURITY",
    );
    let pool = caching().set("cache_unsafe_memqcache_table_list", "qc_listed").set("memqcache_maxcache", 2000).start();
    let mut session = pool.connect();
    for (kept, sql) in [
        (true, "SELECT * FROM qc_plain"),
        (true, "/* a comment */ SELECT count(*) FROM qc_plain"),
        (true, "WITH x AS (SELECT 1 AS a) SELECT * FROM x"),
        (true, "/*FORCE QUERY CACHE*/ SELECT now() FROM qc_plain"),
        (false, "/*NO QUERY CACHE*/ SELECT * FROM qc_plain"),
        (false, "SELECT now() FROM qc_plain"),
        (false, "SELECT random() FROM qc_plain"),
        (false, "SELECT current_user"),
        (false, "SELECT 'now'::timestamp"),
        (false, "SELECT a FROM qc_plain TABLESAMPLE SYSTEM (50)"),
        (false, "SELECT * FROM qc_plain FOR UPDATE"),
        (false, "SELECT * FROM qc_view"),
        (false, "SELECT * FROM qc_unlogged"),
        (false, "SELECT * FROM qc_secured"),
        (false, "/*FORCE QUERY CACHE*/ SELECT * FROM qc_secured"),
        (false, "SELECT * FROM qc_listed"),
        (false, "SELECT last_value FROM qc_sequence"),
        (false, "SELECT relname FROM pg_class LIMIT 1"),
        (false, "SELECT repeat('x', 3000) FROM qc_plain"),
    ] {
        assert_eq!(is_kept(&mut session, sql), kept, "{sql}");
    }
    session.query("CREATE TEMP TABLE qc_plain (a int)").succeeded();
    assert!(!is_kept(&mut session, "SELECT * FROM qc_plain"));
}

#[test]
fn answers_end_with_their_time() {
    needs_pgpool!();
    make("DROP TABLE IF EXISTS qc_expire", "CREATE TABLE qc_expire AS SELECT 1 AS a");
    let pool = caching().set("memqcache_expire", 1).start();
    let mut session = pool.connect();
    crate::harness::wait_for("the answer to be kept", || is_kept(&mut session, "SELECT * FROM qc_expire"));
    shared().primary().sql("UPDATE qc_expire SET a = 2");
    crate::harness::wait_for("the answer to expire", || session.value("SELECT * FROM qc_expire") == "2");
}

#[test]
fn answers_are_deleted_by_order() {
    needs_pgpool!();
    make("DROP TABLE IF EXISTS qc_order2", "CREATE TABLE qc_order2 AS SELECT 1 AS a");
    let pool = caching().start();
    assert_deleted_by_order(&mut pool.connect(), "qc_order2");
}
