//! A primary that crashes has lost what no answer may tell of any more.

use super::is_kept;
use crate::harness::frontend::query;
use crate::harness::{Cluster, Pgpool, Wire, wait_for};
use crate::only_ours;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

/// For the crash to be told of.
const PATIENCE: Duration = Duration::from_secs(25);

#[test]
fn answers_from_before_a_crash_are_forgotten() {
    only_ours!("keeps them");
    let cluster = Cluster::streaming(1).start();
    cluster.primary().sql("CREATE UNLOGGED TABLE qc_crash AS SELECT 1 AS a");
    let pool = Pgpool::on(&cluster)
        .set("memory_cache_enabled", "on")
        .set("cache_safe_memqcache_table_list", "qc_crash")
        .start();
    let read = "SELECT count(*) FROM qc_crash";
    let (mut session, mut other) = (pool.connect(), pool.connect());
    wait_for("the answer to be kept", || is_kept(&mut session, read));
    let victim = session.value("/*NO QUERY CACHE*/ SELECT pg_backend_pid()").parse().expect("a number");
    other.send(query("SELECT pg_sleep(60)"));
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("kill");
    assert!(other.is_closed_within(PATIENCE));
    let count = || Wire::login(pool.port).ok()?.query(read).first_value();
    wait_for("the rows to be gone", || count().is_some_and(|count| count == "0"));
}
