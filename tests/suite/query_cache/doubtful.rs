//! A worker was killed, and its last statement comes into force all the same: it does not let itself be cancelled.

use super::{caching, is_kept, make};
use crate::harness::frontend::query;
use crate::harness::{Pgpool, Wire, shared, wait_for};
use crate::only_ours;
use nix::sys::signal::{Signal, kill};
use std::time::{Duration, Instant};

/// What comes into force within this time is waited for.
const DOUBT: Duration = Duration::from_millis(2500);
const READ: &str = "SELECT count(*) FROM qcd1";

/// The worker of a definition is killed, `writer` learns what was defined before, and the definition comes into force. Whether
/// that was fast enough.
fn define_and_die(pool: &Pgpool, writer: &mut Wire) -> bool {
    make("DROP FUNCTION IF EXISTS qcd1_f", "CREATE FUNCTION qcd1_f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'");
    let mut barrier = Wire::login(shared().primary().port).expect("a session");
    barrier.query("SELECT pg_advisory_lock(7721)").succeeded();
    let others = pool.children("postgres test");
    let mut owner = pool.connect();
    let worker = pool.children("postgres test").into_iter().find(|pid| !others.contains(pid)).expect("a worker");
    owner.send(query(
        "CREATE OR REPLACE FUNCTION qcd1_f() RETURNS int VOLATILE LANGUAGE sql AS \
         'INSERT INTO qcd1 VALUES (1) RETURNING a'; \
         DO 'BEGIN LOOP BEGIN PERFORM pg_advisory_xact_lock(7721); EXIT; \
         EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END'",
    ));
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7721 AND NOT granted";
    wait_for("the definition", || shared().primary().sql(waits) == "1");
    kill(worker, Signal::SIGKILL).expect("kill");
    let killed = Instant::now();
    wait_for("the parent to notice", || pool.log().contains(&format!("pid: {worker} was terminated")));
    assert_eq!(writer.value("SELECT qcd1_f()"), "1");
    barrier.query("SELECT pg_advisory_unlock(7721)").succeeded();
    let is_volatile = "SELECT provolatile FROM pg_proc WHERE proname = 'qcd1_f'";
    wait_for("the definition to come into force", || shared().primary().sql(is_volatile) == "v");
    killed.elapsed() < DOUBT
}

#[test]
fn what_was_learnt_in_a_doubt_is_asked_anew_behind_it() {
    only_ours!("the original asks once");
    make("DROP TABLE IF EXISTS qcd1", "CREATE TABLE qcd1 (a int)");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    wait_for("a definition in time", || define_and_die(&pool, &mut writer));
    wait_for("the end of the doubt", || is_kept(&mut reader, READ));
    writer.query("SELECT qcd1_f()").succeeded();
    assert_eq!(reader.value(READ), shared().primary().sql(READ));
    assert_ne!(reader.value(READ), "0");
}
