//! Sessions that lose a server, and how its own end is told from that of one of its processes (failover 5).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PORT;
use crate::harness::frontend::{bind, execute, parse, sync};
use crate::harness::{Cluster, Pgpool, Stop, Wire, checks_started, failovers, lines_in_order, wait_for};
use crate::only_ours;

#[test]
fn a_session_that_cannot_connect_asks_for_failover() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("failover_on_backend_error", "on").weights(&[0.0, 1.0]).start();
    cluster.node(1).kill();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
    wait_for("the failover", || failovers(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "received degenerate backend request for node_id: 1 from pid [",
            "Pgpool-II parent process has received failover request",
            "=== Failover done.",
            "Connection refused",
        ],
    );
    assert_eq!(session.value("SELECT 1"), "1");
    assert_eq!(pool.status_file(), "up\ndown\n");
}

#[test]
fn a_session_that_loses_a_server_has_it_checked_at_once() {
    only_ours!("waits for the next check");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("health_check_period", 3600).weights(&[0.0, 1.0]).start();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    wait_for("the first checks", || checks_started(&pool) == 2);
    // A server process that dies is no failure: the check finds the server well.
    let pid = session.value("SELECT pg_backend_pid()");
    cluster.node(1).sql(&format!("SELECT pg_terminate_backend({pid})"));
    wait_for("the session to do without it", || pool.log().contains("no longer used by this session"));
    let mut other = pool.connect();
    assert_eq!(other.value(PORT), cluster.node(1).port.to_string());
    assert_eq!(failovers(&pool), 0);
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the failover", || failovers(&pool) == 1);
    assert_eq!(other.value(PORT), cluster.node(0).port.to_string());
}

/// All that comes before the end.
fn last_words(session: &mut Wire) -> String {
    format!("{:?}", std::iter::from_fn(|| session.try_read().ok().flatten()).collect::<Vec<_>>())
}

#[test]
fn a_server_that_ends_one_session_is_no_failure_however_it_ends_it() {
    only_ours!("the original detaches the node");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("failover_on_backend_shutdown", "on")
        .set("failover_on_backend_error", "on")
        .weights(&[1.0, 0.0])
        .start();
    let ends_itself =
        "DO $$BEGIN PERFORM pg_sleep(0.3); PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END$$";
    let padding = parse("x", &format!("SELECT 1 /*{}*/", "y".repeat(60_000)), &[]);
    for round in 0..12 {
        // So much is sent behind the statement that the socket is full when the server's process ends: that resets the
        // connection while pgpool is writing to it.
        let mut session = pool.connect();
        let batch = [parse("", ends_itself, &[]), bind("", "", &[]), execute("", 0)].concat();
        session.try_send(&batch).expect("sent");
        for _ in 0..1000 {
            if session.try_send(&padding).is_err() {
                break;
            }
        }
        let _ = session.try_send(&sync());
        let end = last_words(&mut session);
        assert!(end.contains("57P01"), "round {round}: {end}");
    }
    // A warning of the server's end that is none.
    let mut session = pool.connect();
    session.query("DO $$BEGIN RAISE WARNING USING ERRCODE = '57P02'; END$$").succeeded();
    let pid = session.value("SELECT pg_backend_pid()");
    cluster.node(0).sql(&format!("SELECT pg_terminate_backend({pid})"));
    let end = last_words(&mut session);
    assert!(end.contains("57P01"), "{end}");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
}

#[test]
fn a_server_that_is_shut_down_is_detached_and_one_process_that_is_terminated_is_not() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("failover_on_backend_shutdown", "on")
        .set("failover_on_backend_error", "on")
        .weights(&[0.0, 1.0])
        .start();
    let mut session = pool.connect();
    let pid = session.value("SELECT pg_backend_pid()");
    let mut killer = pool.connect();
    assert_eq!(killer.value(&format!("SELECT pg_terminate_backend({pid})")), "t");
    let line = "connection to postmaster on DB node 1 was lost due to pg_terminate_backend";
    wait_for("the session to hear of it", || pool.log().contains(line));
    assert_eq!(session.value("SELECT 1"), "1");
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
    cluster.node(1).stop(Stop::Fast);
    wait_for("the failover", || failovers(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "reading and processing packets",
            "postmaster on DB node 1 was shutdown by administrative command",
            "received degenerate backend request for node_id: 1 from pid [",
            "=== Failover done.",
        ],
    );
    assert_eq!(killer.value(PORT), cluster.node(0).port.to_string());
}

/// A server process is killed: the others are ended by the server, with 57P02 as a warning.
#[test]
fn a_server_that_crashes_is_detached_if_the_user_says_so() {
    only_ours!("not recognised on every release");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("failover_on_backend_shutdown", "on").weights(&[0.0, 1.0]).start();
    let port = cluster.node(1).port.to_string();
    let mut sessions: Vec<_> = (0..3).map(|_| pool.connect()).collect();
    sessions.iter_mut().for_each(|session| assert_eq!(session.value(PORT), port));
    let session = &mut sessions[0];
    // Such a notice is nothing without the end.
    session.query("DO $$BEGIN RAISE WARNING 'the end is near' USING ERRCODE = '57P02'; END$$").succeeded();
    assert_eq!(session.value(PORT), port);
    let shutdown = "postmaster on DB node 1 was shutdown by administrative command";
    assert!(!pool.log().contains("reading and processing packets"), "{}", pool.log());
    let mut other = cluster.node(1).connect();
    let victim = other.value("SELECT pg_backend_pid()").parse().expect("a pid");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("kill");
    wait_for("the failover", || failovers(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "reading and processing packets",
            shutdown,
            "received degenerate backend request for node_id: 1 from pid [",
            "=== Failover done.",
        ],
    );
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
}
