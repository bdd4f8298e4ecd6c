//! CancelRequest reaches the server that runs the statement (protocol 4).

use std::time::Duration;

use crate::harness::{Cluster, Node, Pgpool, Wire, eventually, frontend, shared, wait_for};
use crate::only_ours;

/// A plain read that runs for hours: ten to the thirteenth rows.
const LONG_READ: &str = "SELECT count(*) FROM ten a, ten b, ten c, ten d, ten e, ten f, ten g, ten h, ten i, ten j, ten k, \
    ten l, ten m";

/// A write that sleeps.
const LONG_WRITE: &str = "CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(120)";

fn is_sleeping(node: &Node, marker: &str) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE";
    node.sql(&format!("{sql} '%{marker}%'")) == "1"
}

/// Starts a long statement, waits until it runs on this node, cancels it with the session's own key.
fn cancel_on(cluster: &Cluster, pool: &Pgpool, node: usize, sql: &str, marker: &str) {
    let mut session = pool.connect();
    session.send(frontend::query(sql));
    wait_for(&format!("node {node} to run the statement"), || is_sleeping(cluster.node(node), marker));

    let mut canceller = pool.open();
    canceller.send(frontend::cancel(session.pid, &session.key));
    assert!(canceller.is_closed_within(Duration::from_secs(10)), "a cancel connection is closed without an answer");

    let reply = session.read_until('Z');
    assert_eq!(reply.sqlstate(), "57014", "{reply:?}");
    assert_eq!(session.value("SELECT 42"), "42");
}

#[test]
fn a_write_is_cancelled_on_the_primary() {
    let pool = Pgpool::on(shared()).start();
    cancel_on(shared(), &pool, 0, &format!("{LONG_WRITE} /* cancel write */"), "cancel write");
}

#[test]
fn a_read_is_cancelled_on_its_standby() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    cancel_on(shared(), &pool, 2, &format!("{LONG_READ} /* cancel read */"), "cancel read");
}

#[test]
fn a_pooled_connection_has_a_working_key() {
    let pool = Pgpool::on(shared()).set("num_init_children", 2).start();
    pool.connect().close();
    pool.connect().close();
    cancel_on(shared(), &pool, 0, &format!("{LONG_WRITE} /* cancel pooled */"), "cancel pooled");
}

#[test]
fn a_wrong_key_cancels_nothing() {
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    session.send(frontend::query("CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(1) /* wrong key */"));
    wait_for("the statement to run", || is_sleeping(shared().primary(), "wrong key"));
    for (pid, key) in [(session.pid, vec![1, 2, 3, 4]), (session.pid ^ 1, session.key.clone()), (0, Vec::new())] {
        let mut canceller = pool.open();
        canceller.send(frontend::cancel(pid, &key));
        assert!(canceller.is_closed_within(Duration::from_secs(10)));
    }
    let reply = session.read_until('Z');
    assert_eq!(reply.tags(), ["SELECT 1"], "{reply:?}");
}

#[test]
#[ignore = "a cancel waits for a free worker as yet"]
fn a_cancel_needs_no_free_worker() {
    only_ours!("a cancel waits until a child is free");
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    cancel_on(shared(), &pool, 0, &format!("{LONG_WRITE} /* all busy */"), "all busy");
}

#[test]
fn ten_cancels_at_once_reach_their_statements() {
    only_ours!("cancels need free children and take two seconds each");
    let pool = Pgpool::on(shared()).set("num_init_children", 12).start();
    let mut sessions: Vec<Wire> = (0..10).map(|_| pool.connect()).collect();
    for session in &mut sessions {
        session.send(frontend::query(&format!("{LONG_WRITE} /* ten */")));
    }
    let running = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* ten */'";
        shared().primary().sql(sql) == "10"
    };
    assert!(eventually(Duration::from_secs(20), running), "ten statements run");
    for session in &sessions {
        pool.open().send(frontend::cancel(session.pid, &session.key));
    }
    for session in &mut sessions {
        assert_eq!(session.read_until('Z').sqlstate(), "57014");
    }
}
