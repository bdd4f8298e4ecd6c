//! Statements about pgpool's own server connections: pg_terminate_backend() and DROP DATABASE (routing 11, 12).

use crate::harness::{Pgpool, shared, wait_for};
use crate::{needs_pgpool, only_ours};

const READ: &str = "SELECT current_setting('port') FROM ten WHERE n = 1";

#[test]
fn a_server_process_is_terminated_where_it_runs() {
    only_ours!("the session ends");
    needs_pgpool!();
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    let mut victim = pool.connect();
    let standby = shared().node(2).port.to_string();
    assert_eq!(victim.value(READ), standby);
    let pid = victim.value("SELECT pg_backend_pid() || '' FROM ten WHERE n = 1");
    let mut killer = pool.connect();
    assert_eq!(killer.value(&format!("SELECT pg_terminate_backend({pid})")), "t");
    wait_for("the process to end", || {
        shared().node(2).sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) == "0"
    });
    assert!(
        pool.log().contains(&format!("found the pg_terminate_backend request for backend pid:{pid} on backend node:2"))
    );
    // The session does without it.
    assert!([standby, shared().primary().port.to_string()].contains(&victim.value(READ)));
    // Not ours: the primary's answer.
    let warning = killer.query("SELECT pg_terminate_backend(1)");
    assert_eq!(warning.column(), ["f"]);
}

#[test]
fn a_database_is_dropped_although_connections_to_it_are_pooled() {
    only_ours!("sleeps for five seconds");
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    session.query("DROP DATABASE IF EXISTS pooled_and_dropped").succeeded();
    session.query("CREATE DATABASE pooled_and_dropped").succeeded();
    for _ in 0..3 {
        pool.connect_with(&[("user", "postgres"), ("database", "pooled_and_dropped")]).close();
    }
    // One of them waits in the pool of a worker that serves somebody else by now.
    let _others: Vec<_> = (0..3).map(|_| pool.connect()).collect();
    session.query("DROP DATABASE pooled_and_dropped").succeeded();
}
