//! Random histories of several sessions: each read is compared with what the server says to the same session in the same
//! moment without a cache. And writers that are killed in the middle.

use super::memcached;
use super::{caching, counts, is_kept, make};
use crate::harness::frontend::query;
use crate::harness::{Memcached, Pgpool, Wire, shared, wait_for};
use crate::only_ours;
use nix::sys::signal::{Signal, kill};
use std::time::Duration;

const SESSIONS: usize = 4;
const STEPS: usize = 250;
const SEEDS: [u64; 4] = [1, 2, 3, 4];

const READS: [&str; 8] = [
    "SELECT count(*), sum(a) FROM qm_t",
    "SELECT * FROM qm_t ORDER BY 1, 2 LIMIT 3",
    "SELECT count(*) FROM qm_u JOIN qm_t USING (a)",
    "SELECT count(*), sum(b) FROM qm_part",
    "SELECT count(*), sum(b) FROM qm_part1",
    "SELECT count(*) FROM qm_child",
    "SELECT (SELECT max(a) FROM qm_t) + (SELECT count(*) FROM qm_u)",
    "SELECT b, now() IS NOT NULL FROM qm_t LIMIT 1",
];

/// Writes and whatever else makes answers different, or sessions.
const CHANGES: [&str; 34] = [
    "INSERT INTO qm_t (a) VALUES (1)",
    "UPDATE qm_t SET a = a + 1",
    "DELETE FROM qm_t WHERE a % 3 = 0",
    "INSERT INTO qm_u VALUES (2)",
    "UPDATE qm_u SET a = a + 1 WHERE a < 5",
    "INSERT INTO qm_part VALUES (1, 1), (2, 2)",
    "INSERT INTO qm_part1 VALUES (1, 5)",
    "UPDATE qm_part SET a = 3 - a",
    "DELETE FROM qm_part WHERE b > 4",
    "INSERT INTO qm_parent VALUES (default)",
    "INSERT INTO qm_child SELECT a FROM qm_parent LIMIT 1",
    "DELETE FROM qm_parent WHERE a % 2 = 0",
    "SELECT qm_write()",
    "WITH x AS (INSERT INTO qm_u VALUES (9) RETURNING a) SELECT a FROM x",
    "SELECT 1; DELETE FROM qm_u WHERE a > 6; SELECT 2",
    "TRUNCATE qm_u",
    "ALTER TABLE qm_t ALTER b SET DEFAULT 'new'",
    "ALTER TABLE qm_t ALTER a TYPE bigint",
    "ALTER TABLE qm_t ALTER a TYPE int",
    "SET search_path = qm_1",
    "SET search_path = qm_2, public",
    "SET search_path = public",
    "CREATE TEMP TABLE qm_u (a int)",
    "DROP TABLE IF EXISTS pg_temp.qm_u",
    "DISCARD ALL",
    "BEGIN",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "SET LOCAL search_path = qm_2",
    "SELECT 1 / 0",
    "PGPOOL SET CACHE DELETE 'SELECT count(*) FROM qm_child'",
];

fn define(more: &str) {
    let named = |sql: &str| sql.replace("qm_", &format!("q{more}m_"));
    make(
        &named(
            "DROP SCHEMA IF EXISTS qm_1, qm_2 CASCADE; DROP TABLE IF EXISTS qm_t, qm_u, qm_part, qm_child, qm_parent CASCADE; \
             DROP FUNCTION IF EXISTS qm_write",
        ),
        &named(
            "CREATE SCHEMA qm_1; CREATE SCHEMA qm_2; CREATE TABLE qm_t (a int, b text DEFAULT 'old'); \
             CREATE TABLE qm_1.qm_t (a int, b text DEFAULT 'one'); CREATE TABLE qm_2.qm_t (a int, b text DEFAULT 'two'); \
             CREATE TABLE qm_u (a int); CREATE TABLE qm_1.qm_u (a int); \
             CREATE TABLE qm_part (a int, b int) PARTITION BY LIST (a); \
             CREATE TABLE qm_part1 PARTITION OF qm_part FOR VALUES IN (1); \
             CREATE TABLE qm_part2 PARTITION OF qm_part FOR VALUES IN (2); \
             CREATE TABLE qm_parent (a serial PRIMARY KEY); \
             CREATE TABLE qm_child (a int REFERENCES qm_parent ON DELETE CASCADE); \
             CREATE FUNCTION qm_write() RETURNS int LANGUAGE sql AS 'INSERT INTO public.qm_t VALUES (7) RETURNING a'",
        ),
    );
}

/// Locks of the other sessions' transactions are not waited for.
fn connect(pool: &Pgpool) -> Wire {
    pool.connect_with(&[("user", "postgres"), ("database", "test"), ("options", "-c lock_timeout=5ms")])
}

#[test]
fn random_histories_are_answered_as_without_a_cache() {
    only_ours!("the original misses many of these writes");
    define("");
    // A small cache, so that answers are evicted too.
    let pool = caching().set("memqcache_total_size", 65536).set("memqcache_cache_block_size", 32768);
    compare(&[pool.set("memqcache_maxcache", 8192).start()], "");
}

#[test]
fn so_they_are_by_two_pgpools_that_share_a_memcached() {
    only_ours!("the original misses many of these writes");
    define("r");
    let memcached = Memcached::start();
    let pool = || memcached::on(memcached.port).start();
    compare(&[pool(), pool()], "r");
}

/// Plays histories with the sessions of these pgpools, and the objects with names that begin with `q`, `more` and `m_`.
fn compare(pools: &[Pgpool], more: &str) {
    let named = |sql: &str| sql.replace("qm_", &format!("q{more}m_"));
    let all_hits = || pools.iter().map(|pool| counts(&mut pool.connect()).0).sum::<u64>();
    let mut hits = 0;
    for seed in SEEDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sessions: Vec<_> = (0..SESSIONS).map(|at| connect(&pools[at % pools.len()])).collect();
        let mut history = Vec::new();
        for _ in 0..STEPS {
            let at = random.usize(..SESSIONS);
            let session = &mut sessions[at];
            if session.query("SHOW work_mem").state() == 'E' {
                session.query("ROLLBACK").succeeded();
            }
            if random.u8(..8) == 0 {
                let change = named(CHANGES[random.usize(..CHANGES.len())]);
                session.query(&change);
                history.push(format!("{at}: {change}"));
                continue;
            }
            let read = named(READS[random.usize(..READS.len())]);
            history.push(format!("{at}: {read}"));
            let through = session.query(&read);
            if through.state() == 'E' {
                continue;
            }
            let without = session.query(&format!("/*NO QUERY CACHE*/ {read}"));
            assert_eq!(
                (through.rows(), through.sqlstate(), through.state()),
                (without.rows(), without.sqlstate(), without.state()),
                "seed {seed}:\n{}",
                history.join("\n")
            );
        }
        drop(sessions);
        hits = all_hits();
    }
    assert!(hits > 50, "only {hits} answers came from the cache");
}

#[test]
fn a_writer_killed_at_any_moment_leaves_no_old_answer() {
    only_ours!("the original loses what a killed child had to invalidate");
    make("DROP TABLE IF EXISTS qm_killed", "CREATE TABLE qm_killed AS SELECT 0 AS a");
    let pool = caching().start();
    let read = "SELECT a FROM qm_killed";
    let mut reader = pool.connect();
    let bystander = pool.children("postgres test")[0];
    for round in 0..4_u64 {
        let mut writer = pool.connect();
        writer.query("UPDATE qm_killed SET a = a + 1").succeeded();
        let server = writer.value("SELECT pg_backend_pid()");
        wait_for("an answer to be kept", || is_kept(&mut reader, read));
        let worker =
            pool.children("postgres test").into_iter().find(|pid| *pid != bystander).expect("the writer's worker");
        writer.send(query("UPDATE qm_killed SET a = a + 1"));
        std::thread::sleep(Duration::from_micros(round * 300));
        kill(worker, Signal::SIGKILL).expect("kill");
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {server}");
        wait_for("the server to notice", || shared().primary().sql(&alive) == "0");
        let value = shared().primary().sql(read);
        wait_for("the parent to notice", || reader.value(read) == value);
        wait_for("an answer to be kept again", || is_kept(&mut reader, read));
        assert_eq!(reader.value(read), value);
    }
}
