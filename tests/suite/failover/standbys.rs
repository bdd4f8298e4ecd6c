//! A standby is lost or comes back (failover 5, 6, 8).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::kill;

use super::PORT;
use crate::harness::frontend::query;
use crate::harness::{Cluster, PATIENCE, Pgpool, Stop, cpu_time, eventually, failovers, lines_in_order, wait_for};
use crate::only_ours;

#[test]
fn a_standby_that_stops_is_detached_and_nobody_else_notices() {
    only_ours!("sessions are killed");
    let cluster = Cluster::streaming(3).start();
    let pool = Pgpool::checking(&cluster).keep(0).weights(&[0.0, 0.0, 1.0]).start();
    let mut reader = pool.connect();
    assert_eq!(reader.value(PORT), cluster.node(2).port.to_string());
    let mut writer = pool.connect();
    writer.query("BEGIN").succeeded();
    writer.query("CREATE TEMP TABLE kept (i int)").succeeded();
    cluster.node(2).stop(Stop::Fast);
    let done = format!("=== Failover done. shutdown host 127.0.0.1({}) ===", cluster.node(2).port);
    wait_for("the failover", || pool.log().contains(&done));
    let port = cluster.node(2).port;
    lines_in_order(
        &pool.log(),
        &[
            &format!("failed to connect to PostgreSQL server on \"127.0.0.1:{port}\""),
            "health check failed on node 2 (timeout:0)",
            "received degenerate backend request for node_id: 2 from pid [",
            "signal_user1_to_parent_with_reason(0)",
            "Pgpool-II parent process received SIGUSR1",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting degeneration. shutdown host 127.0.0.1({port}) ==="),
            &format!(
                "Do not restart children because we are switching over node id 2 host: 127.0.0.1 port: {port} and we are in \
             streaming replication mode"
            ),
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            &done,
            "failover of DB node 2 took ",
            "cause: health check failed: ",
        ],
    );
    wait_for("the worker process to be replaced", || pool.log().contains("worker process received restart request"));
    assert_eq!(pool.status_file(), "up\nup\ndown\n");
    writer.query("INSERT INTO kept VALUES (1)").succeeded();
    writer.query("COMMIT").succeeded();
    assert_ne!(reader.value(PORT), cluster.node(2).port.to_string());
    let nodes = pool.psql("SHOW POOL_NODES").succeeded();
    assert_eq!(nodes.matches("|down|").count(), 1, "{nodes}");
    assert!(!pool.log().contains("failed to find primary"), "{}", pool.log());
}

#[test]
fn a_standby_that_is_killed_or_hangs_is_detached() {
    only_ours!("a hung server is never noticed");
    let cluster = Cluster::streaming(3).start();
    let pool = Pgpool::checking(&cluster).set("health_check_timeout", 2).keep(0).weights(&[0.0, 1.0, 0.0]).start();
    let mut hung = pool.connect();
    assert_eq!(hung.value(PORT), cluster.node(1).port.to_string());
    cluster.node(1).pause();
    // The statement is on its way to a server that will never answer.
    hung.send(query(PORT));
    let begun = Instant::now();
    assert_eq!(hung.read_until('Z').first_value().as_deref(), Some(cluster.node(0).port.to_string().as_str()));
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    wait_for("the failover", || failovers(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "using INET socket",
            "health check timer expired",
            "health check failed on node 1 (timeout:1)",
            "=== Failover done.",
        ],
    );
    cluster.node(1).resume();
    cluster.node(2).kill();
    wait_for("the second failover", || pool.status_file() == "up\ndown\ndown\n");
    assert_eq!(hung.value(PORT), cluster.node(0).port.to_string());
}

#[test]
fn no_read_fails_when_a_standby_is_lost() {
    only_ours!("sessions are killed");
    for how in ["stop", "kill", "hang"] {
        let cluster = Cluster::streaming(2).start();
        let pool = Pgpool::checking(&cluster).set("health_check_timeout", 2).keep(0).weights(&[0.0, 1.0]).start();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let mut session = pool.connect();
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let mut reads = 0;
                        while !is_over.load(Ordering::Relaxed) {
                            session.query("SELECT count(*) FROM pg_class").succeeded();
                            reads += 1;
                        }
                        reads
                    })
                })
                .collect();
            match how {
                "stop" => cluster.node(1).stop(Stop::Fast),
                "kill" => cluster.node(1).kill(),
                _ => cluster.node(1).pause(),
            }
            let is_done = eventually(PATIENCE, || failovers(&pool) == 1);
            is_over.store(true, Ordering::Relaxed);
            for reader in readers {
                assert!(reader.join().unwrap_or_else(|_| panic!("{how}: a read failed\n{}", pool.log())) > 0);
            }
            assert!(is_done, "{how}: no failover\n{}", pool.log());
        });
    }
}

#[test]
fn five_hundred_workers_do_not_slow_a_failover_down() {
    only_ours!("the line is ours");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("num_init_children", 500).start();
    // The PCP process waits for connections, too.
    let workers = || pool.children("pgpool: wait for connection request");
    assert!(eventually(Duration::from_secs(120), || workers().len() >= 500), "{} workers", workers().len());
    let started = workers();
    let before = cpu_time(pool.pid());
    cluster.node(1).kill();
    wait_for("the failover", || pool.log().contains("failover of DB node 1 took "));
    // The parent's own work, not its waiting for a processor: some 20 ms for a debug build.
    let own = cpu_time(pool.pid()) - before;
    assert!(own < Duration::from_millis(200), "{own:?}");
    let gone = started.iter().filter(|worker| kill(**worker, None).is_err()).count();
    assert_eq!(gone, 0, "workers were restarted");
}

#[test]
fn a_node_that_must_not_be_detached_stays() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).keep(1).weights(&[1.0, 0.0]).start();
    cluster.node(1).stop(Stop::Immediate);
    let line = "health check failed on node 1 but failover is disallowed for the node";
    wait_for("two rounds", || pool.count(line) >= 2);
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn a_node_that_flaps_is_no_failure_within_its_retries() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster)
        .set("health_check_max_retries1", 60)
        .set("health_check_retry_delay1", 1)
        .weights(&[1.0, 0.0])
        .start();
    let failed = "failed to connect to PostgreSQL server";
    for round in 1..=2 {
        let before = pool.count(failed);
        cluster.node(1).stop(Stop::Immediate);
        wait_for("a failed attempt", || pool.count(failed) > before);
        cluster.node(1).start();
        wait_for("a good one", || pool.count("health check retrying on DB node: 1 succeeded") == round);
    }
    assert!(!pool.log().contains("degenerat"), "{}", pool.log());
    assert_eq!(pool.status_file(), "up\nup\n");
}

#[test]
fn a_node_that_was_detached_stays_so_over_a_restart() {
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).weights(&[0.0, 1.0]).start();
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the failover", || failovers(&pool) == 1);
    cluster.node(1).start();
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.count("successfully started") == 2), "{}", pool.log());
    assert_eq!(pool.connect().value(PORT), cluster.node(0).port.to_string());
    assert_eq!(pool.status_file(), "up\ndown\n");
}

#[test]
fn a_standby_that_streams_again_comes_back_by_itself() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster)
        .set("auto_failback", "on")
        .set("auto_failback_interval", 1)
        .set("sr_check_period", 1)
        .weights(&[0.0, 1.0])
        .prepare();
    pool.set_script("failback_command", "echo back: $1 $5 $8");
    let pool = pool.started();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    cluster.node(1).stop(Stop::Fast);
    wait_for("the failover", || failovers(&pool) == 1);
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
    cluster.node(1).start();
    let port = cluster.node(1).port;
    let back = format!("=== Failback done. reconnect host 127.0.0.1({port}) ===");
    wait_for("the failback", || pool.log().contains(&back));
    lines_in_order(
        &pool.log(),
        &[
            "request auto failback, node id:1",
            "received failback request for node_id: 1 from pid [",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting fail back. reconnect host 127.0.0.1({port}) ==="),
            "Node 0 is not down (status: 2)",
            "execute command: ",
            "command output: back: 1 0 0",
            &format!(
                "Do not restart children because we are failing back node id 1 host: 127.0.0.1 port: {port} and we are \
                 in streaming replication mode and not all backends were down"
            ),
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 0",
            "find_primary_node: standby node is 1",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            &back,
            "failback of DB node 1 took ",
        ],
    );
    assert_eq!(pool.status_file(), "up\nup\n");
    // A new session reads there; one that is there already stays where it is.
    assert_eq!(pool.connect().value(PORT), port.to_string());
    assert_eq!(session.value("SELECT 1"), "1");
}
