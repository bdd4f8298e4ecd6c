//! Processes and servers that die or stall: one session may be lost, never the service.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::frontend::query;
use crate::harness::{Cluster, LOGIN, Pgpool, Program, Stop, Wire, eventually, lines_in_order, shared, wait_for};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_killed_worker_loses_its_own_session_only() {
    only_ours!("waits are different");
    let pool = Pgpool::on(shared()).set("num_init_children", 3).start();
    let mut other = pool.connect();
    assert_eq!(other.value("SELECT 1"), "1");
    for begun in [None, Some("BEGIN"), Some("SELECT pg_sleep(30)")] {
        let before = pool.children("idle");
        let mut session = pool.connect();
        let worker = pool.children("idle").into_iter().find(|pid| !before.contains(pid)).expect("its worker");
        if let Some(sql) = begun {
            session.send(query(sql));
        }
        kill(worker, Signal::SIGKILL).expect("kill");
        assert!(session.is_closed_within(PATIENCE), "{begun:?}");
        wait_for("the worker to be replaced", || pool.children("pgpool: wait for connection request").len() == 2);
        assert_eq!(other.value("SELECT 2"), "2");
    }
    assert!(pool.log().contains("was terminated by sigkill"), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT 3"), "3");
}

#[test]
fn a_killed_parent_takes_everybody_along_and_a_new_start_works() {
    only_ours!("children of the original live on");
    let mut pool = Pgpool::on(shared()).set("num_init_children", 3).start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    let children = pool.children("pgpool: ");
    assert!(children.len() >= 4);
    kill(pool.pid(), Signal::SIGKILL).expect("kill");
    assert!(session.is_closed_within(Duration::from_secs(2)));
    let is_gone = || children.iter().all(|pid| kill(*pid, None).is_err());
    assert!(eventually(Duration::from_secs(2), is_gone), "children are still there");
    pool.wait_end(PATIENCE);
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.is_running() && pool.log().matches("successfully started").count() == 2));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn a_server_that_stalls_is_waited_for() {
    let cluster = Cluster::streaming(1).start();
    let pool = Pgpool::on(&cluster).start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    cluster.node(0).pause();
    session.send(query("SELECT 2"));
    assert!(session.read_within(Duration::from_millis(500)).is_err(), "a paused server answered");
    cluster.node(0).resume();
    assert_eq!(session.read_until('Z').first_value().as_deref(), Some("2"));
}

#[test]
fn a_server_that_goes_away_ends_the_sessions_that_need_it() {
    only_ours!("failover comes with health checks");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).start();
    let mut reader = pool.connect();
    let port = "SELECT current_setting('port')";
    assert_eq!(reader.value(port), cluster.node(1).port.to_string());
    cluster.node(1).stop(Stop::Immediate);
    // The session lives on: its reads go to the primary.
    wait_for("the session to do without the standby", || pool.log().contains("no longer used by this session"));
    assert_eq!(reader.value(port), cluster.node(0).port.to_string());
    assert_eq!(pool.connect().value(port), cluster.node(0).port.to_string());
    reader.query("BEGIN").succeeded();
    cluster.node(0).stop(Stop::Immediate);
    let reply = reader.read_until('E');
    assert!(matches!(reply.sqlstate().as_str(), "08006" | "57P01" | "57P02"), "{}", reply.sqlstate());
    assert!(reader.is_closed_within(PATIENCE));
}

#[test]
fn a_client_that_vanishes_has_its_statement_cancelled() {
    only_ours!("the original lets it run");
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%vanishing act%' AND state = 'active' \
                   AND pid <> pg_backend_pid()";
    session.send(query("SELECT pg_sleep(600) /* vanishing act */"));
    let mut watcher = shared().primary().connect();
    wait_for("the statement to run", || watcher.value(running) == "1");
    drop(session);
    wait_for("the statement to be cancelled", || watcher.value(running) == "0");
}

#[test]
fn a_node_missing_at_start_is_used_as_soon_as_it_answers() {
    only_ours!("must be attached by hand");
    let cluster = Cluster::streaming(2).start();
    cluster.node(1).stop(Stop::Smart);
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).set("sr_check_period", 1).start();
    let port = "SELECT current_setting('port')";
    assert_eq!(pool.connect().value(port), cluster.node(0).port.to_string());
    cluster.node(1).start();
    wait_for("the standby to be used", || pool.connect().value(port) == cluster.node(1).port.to_string());
}

#[test]
fn nobody_is_served_before_the_primary_is_known() {
    only_ours!("searches before it starts, node after node");
    let cluster = Cluster::streaming(3).start();
    // As after a failover: the lowest node is a standby. The node that hangs makes the search last.
    let mut pool = Pgpool::on(&cluster)
        .set("backend_port0", cluster.node(1).port)
        .set("backend_port1", cluster.node(0).port)
        .set("connect_timeout", 1500)
        .set("load_balance_mode", "off")
        .prepare();
    cluster.node(2).pause();
    pool.launch(&[]);
    let mut session = None;
    wait_for("the first session", || {
        session = Wire::login(pool.port).ok();
        session.is_some()
    });
    assert_eq!(session.expect("a session").value("SELECT pg_is_in_recovery()"), "f");
    cluster.node(2).resume();
}

#[test]
fn raw_mode_sends_everything_to_the_main_node() {
    let cluster = Cluster::independent(2).start();
    let pool = Pgpool::on(&cluster).set("backend_clustering_mode", "raw").weights(&[0.0, 1.0]).start();
    assert_eq!(pool.connect().value("SELECT current_setting('port')"), cluster.node(0).port.to_string());
}

#[test]
fn a_hung_node_keeps_no_worker_once_it_is_detached() {
    only_ours!("a hung server is never noticed");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("health_check_period", 1)
        .set("health_check_timeout", 2)
        .set("health_check_user", "postgres")
        .set("num_init_children", 1)
        .weights(&[0.0, 1.0])
        .start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT current_setting('port')"), cluster.node(1).port.to_string());
    cluster.node(1).pause();
    // Its worker resets the session on the node, which does not answer.
    session.close();
    wait_for("the failover", || pool.log().contains("=== Failover done."));
    let begun = Instant::now();
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    cluster.node(1).resume();
}

#[test]
fn what_pgpool_itself_lacks_is_not_blamed_on_the_server() {
    only_ours!("it makes a failover");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("num_init_children", 1).set("failover_on_backend_error", "on").start();
    let worker = *pool.children("pgpool: wait for connection request").first().expect("a worker");
    let limit = |most: usize| {
        let done = std::process::Command::new("prlimit")
            .args([format!("--pid={worker}"), format!("--nofile={most}:4096")])
            .status()
            .expect("prlimit");
        assert!(done.success());
    };
    let entries = std::fs::read_dir(format!("/proc/{worker}/fd")).expect("descriptors");
    let used: Vec<usize> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // Room for the client, not for the server.
    let first_free = (0..).find(|descriptor| !used.contains(descriptor)).expect("a free one");
    limit(first_free + 1);
    let refusal = pool.open().start(LOGIN).expect_err("no descriptor").to_string();
    assert!(refusal.contains("no connection to DB node 0 can be made"), "{refusal}");
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
    limit(1024);
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

/// Nor does it hide that a server has died.
#[test]
fn a_health_check_without_means_finds_no_server_well() {
    only_ours!("it makes a failover");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("health_check_max_retries", 1).set("health_check_retry_delay", 0).start();
    let checker = *pool.children("health check process(1)").first().expect("a health check process");
    let limit = |most: &str| {
        let arguments = [format!("--pid={checker}"), format!("--nofile={most}:4096")];
        assert!(Program::new("prlimit").args(arguments).run().status.success());
    };
    // The counts of rounds that have ended: well, failed.
    let ended = || {
        let rows = pool.connect().query("SHOW POOL_HEALTH_CHECK_STATS").rows();
        [7, 8].map(|column| rows[1][column].clone().unwrap_or_default())
    };
    wait_for("a round", || ended()[0] != "0");
    // The standard ones, which are open.
    limit("3");
    let unasked = "health check: DB node 1 cannot be asked, and nobody knows how it is";
    wait_for("a round that cannot ask", || pool.log().contains(unasked));
    let before = ended();
    cluster.node(1).kill();
    let lacks = || pool.log().matches("no connection to DB node 1 can be made").count();
    let so_far = lacks();
    wait_for("more attempts", || lacks() >= so_far + 3);
    assert_eq!(ended(), before, "{}", pool.log());
    assert!(!pool.log().contains("health check failed on node 1"), "{}", pool.log());
    limit("1024");
    wait_for("the failover", || pool.log().contains("=== Failover done."));
    lines_in_order(&pool.log(), &[unasked, "health check failed on node 1", "=== Failover done."]);
}

#[test]
fn a_client_that_uses_up_its_time_does_not_harm_the_server() {
    only_ours!("the time is another");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("num_init_children", 2)
        .set("authentication_timeout", 1)
        .set("failover_on_backend_error", "on")
        .start();
    for round in 0..6 {
        let mut late = pool.open();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(999_000 + 400 * round) {
            std::thread::yield_now();
        }
        let _ = late.start(LOGIN);
    }
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}
