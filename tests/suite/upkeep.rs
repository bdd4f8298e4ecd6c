//! What the parent keeps right while nobody looks: counts, replacements, remembered states, and silence (process-model 7.4,
//! 9, 12.1, 14).

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Cluster, Pgpool, Stop, eventually, shared, wait_for};
use crate::only_ours;

#[test]
fn the_count_of_sessions_is_right_after_a_worker_was_killed() {
    only_ours!("the original counts the dead");
    let pool = Pgpool::on(shared()).set("num_init_children", 3).set("reserved_connections", 1).start();
    for _ in 0..4 {
        let session = pool.connect();
        let worker = pool.children("postgres test")[0];
        kill(worker, Signal::SIGKILL).expect("kill");
        drop(session);
        wait_for("the replacement", || pool.children("pgpool: wait for connection request").len() == 3);
    }
    let (one, two) = (pool.connect(), pool.connect());
    drop((one, two));
}

#[test]
fn workers_that_serve_short_sessions_are_replaced_at_once() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).set("child_max_connections", 1).start();
    let started = Instant::now();
    for _ in 0..20 {
        pool.connect().close();
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_stopped_worker_does_not_keep_an_immediate_stop() {
    only_ours!("the original waits for ever");
    let mut pool = Pgpool::on(shared()).start();
    wait_for("a worker to be ready", || !pool.children("pgpool: wait for connection").is_empty());
    kill(pool.children("pgpool: wait for connection")[0], Signal::SIGSTOP).expect("stop");
    let started = Instant::now();
    assert_eq!(pool.stop(Stop::Immediate).code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_node_missing_at_start_is_remembered_as_attached() {
    only_ours!("the original detaches it for good");
    let cluster = Cluster::independent(2).start();
    let late = cluster.node(1);
    late.stop(Stop::Fast);
    let mut pool = Pgpool::on(&cluster).set("sr_check_period", 1).start();
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert_eq!(fs::read_to_string(pool.path("pgpool_status")).expect("status file"), "up\nup\n");
    let shown = |pool: &Pgpool| pool.psql("SHOW POOL_NODES").succeeded().lines().nth(1).unwrap_or_default().to_owned();
    assert!(shown(&pool).contains("|down|"), "{}", shown(&pool));
    late.start();
    wait_for("the node to be used", || shown(&pool).contains("|up|"));
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    assert_eq!(fs::read_to_string(pool.path("pgpool_status")).expect("status file"), "up\nup\n");
}

#[test]
fn an_idle_pgpool_does_nothing_at_all() {
    only_ours!("the original wakes every second");
    let pool = Pgpool::on(shared()).start();
    pool.connect().close();
    wait_for("everybody to be idle", || pool.children("pgpool: wait for connection").len() == 4);
    let switches = |pid: Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok())
    };
    let everybody: Vec<Pid> = pool.children("").into_iter().chain([pool.pid()]).collect();
    let count = || everybody.iter().map(|pid| switches(*pid)).collect::<Vec<_>>();
    // Quiet once it has been quiet for three seconds: any periodic work of a second or two would show.
    let mut last = (count(), Instant::now());
    assert!(
        eventually(Duration::from_secs(20), || {
            let now = count();
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() > Duration::from_secs(3)
        }),
        "processes keep waking up"
    );
}
