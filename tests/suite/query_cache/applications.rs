//! Whole applications with the cache on: pgbench's TPC-B with as many reads from the cache as writes, and one that keeps its
//! data by SQLAlchemy. Each knows what it has written, and compares.

use super::memcached;
use super::{caching, counts, make};
use crate::harness::{Config, Memcached, Program, Scratch, shared};
use crate::only_ours;
use std::fs;
use std::time::Duration;

const CLIENTS: usize = 4;
const ROUNDS: usize = 250;

/// TPC-B as pgbench has it, on an account of the client's own, so that it knows the balance.
const WRITE: &str = r"
\set bid 1
\set tid random(1, 10)
\set delta random(-5000, 5000)
\set account :client_id + 1
BEGIN;
UPDATE qa_accounts SET abalance = abalance + :delta WHERE aid = :account;
SELECT abalance FROM qa_accounts WHERE aid = :account;
UPDATE qa_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE qa_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO qa_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :account, :delta, CURRENT_TIMESTAMP);
END;
\set mine :mine + :delta
";

/// Reads that see its own writes exactly, and all tables at one moment. Dividing by zero ends the client.
const READ: &str = r"
\set account :client_id + 1
SELECT abalance AS seen FROM qa_accounts WHERE aid = :account \gset
\if :seen <> :mine
SELECT 1 / 0 AS an_old_answer;
\endif
SELECT (SELECT sum(abalance) FROM qa_accounts) - (SELECT sum(delta) FROM qa_history) AS difference \gset
\if :difference <> 0
SELECT 1 / 0 AS answers_of_different_moments;
\endif
SELECT abalance AS again FROM qa_accounts WHERE aid = :account \gset
\if :again <> :mine
SELECT 1 / 0 AS an_old_answer;
\endif
";

fn bench(config: Config, mode: &str) {
    make(
        "DROP TABLE IF EXISTS qa_accounts, qa_tellers, qa_branches, qa_history",
        "CREATE TABLE qa_accounts AS SELECT n AS aid, 0 AS abalance FROM generate_series(1, 1000) AS n; \
         CREATE TABLE qa_tellers AS SELECT n AS tid, 0 AS tbalance FROM generate_series(1, 10) AS n; \
         CREATE TABLE qa_branches AS SELECT 1 AS bid, 0 AS bbalance; CREATE INDEX ON qa_accounts (aid); \
         CREATE TABLE qa_history (tid int, bid int, aid int, delta int, mtime timestamp); \
         INSERT INTO qa_history VALUES (1, 1, 1, 0, now())",
    );
    let pool = config.set("num_init_children", CLIENTS + 1).start();
    let scratch = Scratch::new("pgbench");
    let script = |name: &str, text: &str| {
        fs::write(scratch.path().join(name), text).expect("script");
        format!("--file={}@1", scratch.path().join(name).display())
    };
    let arguments = [
        script("write.sql", WRITE),
        script("read.sql", READ),
        format!("--client={CLIENTS}"),
        format!("--transactions={ROUNDS}"),
        format!("--protocol={mode}"),
    ];
    let program = Program::client("pgbench").at_port(pool.port).args(["-n", "-D", "mine=0", "--random-seed=7"]);
    let outcome = program.args(arguments).run();
    assert!(!outcome.stderr.contains("aborted"), "{outcome:#?}");
    let done = format!("transactions actually processed: {0}/{0}", CLIENTS * ROUNDS);
    assert!(outcome.succeeded().contains(&done), "{mode}");
    let mut session = pool.connect();
    let (hits, misses) = counts(&mut session);
    assert!(hits > 200 && misses > 200, "{mode}: {hits} answers from the cache, {misses} from servers");
    let sums = [
        "SELECT sum(abalance) FROM qa_accounts",
        "SELECT sum(tbalance) FROM qa_tellers",
        "SELECT sum(bbalance) FROM qa_branches",
        "SELECT sum(delta) FROM qa_history",
    ];
    let truth = shared().primary().sql(sums[0]);
    for sum in sums {
        assert_eq!((session.value(sum), shared().primary().sql(sum)), (truth.clone(), truth.clone()), "{mode}: {sum}");
    }
}

#[test]
fn a_bank_whose_clerks_read_as_often_as_they_write() {
    only_ours!("the original keeps few of the prepared reads");
    for mode in ["simple", "extended", "prepared"] {
        bench(caching(), mode);
    }
    let memcached = Memcached::start();
    bench(memcached::on(memcached.port), "simple");
    bench(memcached::on(memcached.port), "prepared");
}

#[test]
fn an_application_by_sqlalchemy_reads_what_it_has_written() {
    only_ours!("the original keeps few of the prepared reads");
    let memcached = Memcached::start();
    for config in [caching(), memcached::on(memcached.port)] {
        make("DROP TABLE IF EXISTS qa_line, qa_invoice, qa_customer", "SELECT");
        let pool = config.set("num_init_children", 8).start();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sqlalchemy_application.py");
        let program = Program::new("/usr/bin/python3").at_port(pool.port).args([script]);
        let outcome = program.patience(Duration::from_secs(180)).run();
        assert_eq!(outcome.succeeded(), "ok", "{}", pool.log());
        let (hits, _) = counts(&mut pool.connect());
        assert!(hits > 200, "{hits} answers from the cache");
    }
}
