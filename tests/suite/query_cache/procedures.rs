//! What commits and goes on: others can know of its commits before it has come to its end.

use super::{caching, is_hit, is_kept, make};
use crate::harness::frontend::{bind, execute, parse, query, sync};
use crate::harness::{Pgpool, Wire, shared, wait_for};
use crate::only_ours;
use nix::sys::signal::{Signal, kill};

/// A session of the primary that holds an advisory lock.
struct Barrier {
    session: Wire,
    lock: u32,
}

impl Barrier {
    fn new(lock: u32) -> Self {
        let mut session = Wire::login(shared().primary().port).expect("a session");
        session.query(&format!("SELECT pg_advisory_lock({lock})")).succeeded();
        Self { session, lock }
    }

    /// Until somebody waits for it.
    fn met(&self) {
        wait_for("somebody at the barrier", || self.waiting() == "1");
    }

    /// How many wait for it.
    fn waiting(&self) -> String {
        let lock = self.lock;
        let waits =
            format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {lock} AND NOT granted");
        shared().primary().sql(&waits)
    }

    fn lift(&mut self) {
        self.session.query(&format!("SELECT pg_advisory_unlock({})", self.lock)).succeeded();
    }
}

fn start(table: &str, lock: u32) -> (Pgpool, Barrier) {
    make(
        &format!("DROP TABLE IF EXISTS {table}"),
        &format!(
            "CREATE TABLE {table} (a int); CREATE OR REPLACE PROCEDURE {table}_run() LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO {table} VALUES (1); COMMIT; PERFORM pg_advisory_lock({lock}); \
             PERFORM pg_advisory_unlock({lock}); END'"
        ),
    );
    (caching().start(), Barrier::new(lock))
}

#[test]
fn answers_are_true_while_a_procedure_commits() {
    only_ours!("the original does not know what CALL and DO do");
    let (pool, mut barrier) = start("qcl1", 7711);
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let mut elsewhere = pool.connect_with(&[("user", "postgres"), ("database", "postgres")]);
    let (read, constant) = ("SELECT count(*) FROM qcl1", "SELECT 1 AS one");
    let call = "CALL qcl1_run()";
    let extended = [parse("", call, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    let several = "INSERT INTO qcl1 VALUES (1); COMMIT; SELECT pg_advisory_lock(7711); SELECT pg_advisory_unlock(7711)";
    for message in [query(call), extended, query("DO 'BEGIN CALL qcl1_run(); END'"), query(several)] {
        assert!(is_kept(&mut reader, read) && is_kept(&mut elsewhere, constant));
        writer.send(message);
        barrier.met();
        for _ in 0..3 {
            assert_eq!(reader.value(read), shared().primary().sql(read));
        }
        assert!(!is_hit(&mut reader, read) && is_hit(&mut elsewhere, constant));
        barrier.lift();
        writer.read_until('Z').succeeded();
        assert!(is_kept(&mut reader, read));
        assert_eq!(reader.value(read), shared().primary().sql(read));
        barrier = Barrier::new(7711);
    }
}

#[test]
fn in_a_block_a_procedure_keeps_nobody_from_the_answers() {
    only_ours!("the original does not know what CALL and DO do");
    make(
        "DROP TABLE IF EXISTS qcl2",
        "CREATE TABLE qcl2 (a int); CREATE OR REPLACE PROCEDURE qcl2_wait() LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock(7712); END'",
    );
    let pool = caching().start();
    let mut barrier = Barrier::new(7712);
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcl2";
    assert!(is_kept(&mut reader, read));
    writer.query("BEGIN").succeeded();
    writer.send(query("CALL qcl2_wait()"));
    barrier.met();
    assert!(is_hit(&mut reader, read));
    barrier.lift();
    writer.read_until('Z').succeeded();
    writer.query("COMMIT").succeeded();
}

#[test]
fn a_worker_killed_meanwhile_keeps_nobody_from_the_answers() {
    only_ours!("the original does not know what CALL and DO do");
    let (pool, mut barrier) = start("qcl3", 7713);
    let mut reader = pool.connect();
    let read = "SELECT count(*) FROM qcl3";
    assert!(is_kept(&mut reader, read));
    let others = pool.children("postgres test");
    let mut writer = pool.connect();
    let worker = pool.children("postgres test").into_iter().find(|pid| !others.contains(pid)).expect("a worker");
    writer.send(query("CALL qcl3_run()"));
    barrier.met();
    kill(worker, Signal::SIGKILL).expect("kill");
    // Nobody would hear of what it commits later.
    wait_for("the procedure to be cancelled", || barrier.waiting() == "0");
    barrier.lift();
    wait_for("the parent to notice", || is_kept(&mut reader, read));
    assert_eq!(reader.value(read), shared().primary().sql(read));
}
