//! The primary is lost, or all nodes are (failover 6, 7, 17).

use std::time::Instant;

use nix::sys::signal::{Signal, kill};

use super::{PORT, promoting};
use crate::harness::frontend::query;
use crate::harness::{Cluster, LOGIN, PATIENCE, Pgpool, Wire, eventually, failovers, lines_in_order, wait_for};
use crate::only_ours;

#[test]
fn a_primary_that_is_killed_is_replaced_by_the_script() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::checking(&cluster).set("load_balance_mode", "off").prepare();
    let arguments = pool.path("arguments");
    pool.set_script(
        "failover_command",
        &format!("echo \"$@\" > {}; echo promoting $5\n{}", arguments.display(), promoting(&cluster)),
    );
    let pool = pool.started();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    let begun = Instant::now();
    cluster.node(0).kill();
    let end = session.read_until('E');
    assert!(matches!(end.sqlstate().as_str(), "57P01" | "08006"), "{}", end.sqlstate());
    // Whoever comes now waits for the new primary.
    wait_for("the degeneration", || pool.log().contains("=== Starting degeneration."));
    let mut next = pool.connect();
    assert_eq!(next.value("SELECT pg_is_in_recovery()"), "f");
    next.query("CREATE TABLE after_failover (i int)").succeeded();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let host = |id: usize| format!("127.0.0.1({})", cluster.node(id).port);
    wait_for("the end of the failover", || pool.log().contains("=== Failover done."));
    lines_in_order(
        &pool.log(),
        &[
            "health check failed on node 0 (timeout:0)",
            "received degenerate backend request for node_id: 0 from pid [",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting degeneration. shutdown host {} ===", host(0)),
            "Restart all children",
            "execute command: ",
            "command output: promoting 1",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 1",
            "find_primary_node: standby node is 2",
            "failover: set new primary node: 1",
            "failover: set new main node: 1",
            &format!("=== Failover done. shutdown host {} ===", host(0)),
            "failover of DB node 0 took ",
        ],
    );
    let (port, data) = (|id: usize| cluster.node(id).port, |id: usize| cluster.node(id).data_directory().display());
    let expected =
        format!("0 127.0.0.1 {} {} 1 127.0.0.1 0 0 {} {} 127.0.0.1 {}\n", port(0), data(0), port(1), data(1), port(0));
    assert_eq!(std::fs::read_to_string(arguments).expect("arguments"), expected);
    assert_eq!(pool.status_file(), "down\nup\nup\n");
    // The former primary comes back and is left alone.
    cluster.node(0).start();
    wait_for("two more rounds of checks", || pool.count("find_primary_node: primary node is") == 2);
    assert_eq!(pool.connect().value("SELECT current_setting('port')"), port(1).to_string());
    assert_eq!(pool.status_file(), "down\nup\nup\n");
}

#[test]
fn a_primary_that_hangs_is_replaced_and_its_sessions_are_told() {
    only_ours!("a hung server is never noticed");
    let cluster = Cluster::streaming(2).start();
    let config = Pgpool::checking(&cluster).set("health_check_timeout", 2).keep(1);
    let mut pool = config.set("load_balance_mode", "off").prepare();
    pool.set_script("failover_command", &promoting(&cluster));
    let pool = pool.started();
    let mut waiting = pool.connect();
    let mut idle = pool.connect();
    assert_eq!(idle.value("SELECT 1"), "1");
    cluster.node(0).pause();
    waiting.send(query("SELECT 2"));
    assert_eq!(waiting.read_until('E').sqlstate(), "57P01");
    assert!(waiting.is_closed_within(PATIENCE));
    assert_eq!(idle.value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(pool.connect().value("SELECT pg_is_in_recovery()"), "f");
    // It wakes up and still believes to be the primary: nobody writes to it.
    cluster.node(0).resume();
    wait_for("the failover", || failovers(&pool) == 1);
    assert_eq!(pool.connect().value(PORT), cluster.node(1).port.to_string());
    assert_eq!(pool.status_file(), "down\nup\n");
}

#[test]
fn a_standby_that_somebody_else_promotes_is_found() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 60).start();
    cluster.node(0).kill();
    let waiting = "find_primary_node_repeatedly: waiting for finding a primary node";
    wait_for("the search", || pool.count(waiting) == 2);
    cluster.node(2).promote();
    let begun = Instant::now();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT pg_is_in_recovery()"), "f");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    wait_for("the end of the failover", || failovers(&pool) == 1);
    lines_in_order(&pool.log(), &[waiting, waiting, "find_primary_node: primary node is 2", "set new primary node: 2"]);
}

#[test]
fn all_nodes_go_down_and_come_back_in_any_order() {
    only_ours!("needs an administrator");
    for back in [[0, 1], [1, 0]] {
        let cluster = Cluster::streaming(2).start();
        let pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 2).set("sr_check_period", 1).start();
        cluster.node(0).kill();
        cluster.node(1).kill();
        wait_for("both to be detached", || failovers(&pool) == 2);
        lines_in_order(
            &pool.log(),
            &[
                "All the DB nodes are in down status and skip writing status file.",
                "failover: no valid backend node found",
                "Restart all children",
                "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node",
                "failover: set new primary node: -1",
                "=== Failover done.",
            ],
        );
        let refusal = pool.open().start(LOGIN).expect_err("no node").to_string();
        assert!(refusal.contains("08S01"), "{refusal}");
        for id in back {
            cluster.node(id).start();
        }
        wait_for("the service to be back", || {
            Wire::login(pool.port).is_ok_and(|mut session| session.value("SELECT pg_is_in_recovery()") == "f")
        });
        wait_for("the status file", || pool.status_file().contains("up"));
    }
}

#[test]
fn a_parent_that_is_killed_in_a_failover_goes_on_after_a_new_start() {
    only_ours!("children live on");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).prepare();
    let (begun, go_on) = (pool.path("begun"), pool.path("go-on"));
    let text = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done\n{}",
        begun.display(),
        go_on.display(),
        promoting(&cluster)
    );
    pool.set_script("failover_command", &text);
    let mut pool = pool.started();
    cluster.node(0).kill();
    wait_for("the command to run", || begun.exists());
    kill(pool.pid(), Signal::SIGKILL).expect("kill");
    pool.wait_end(PATIENCE).expect("the end");
    assert_eq!(pool.status_file(), "down\nup\n");
    std::fs::write(&go_on, "").expect("write");
    // The command goes on and promotes; pgpool finds what it has made.
    wait_for("the promotion", || cluster.node(1).sql("SELECT pg_is_in_recovery()") == "f");
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.count("successfully started") == 2), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(pool.status_file(), "down\nup\n");
}
