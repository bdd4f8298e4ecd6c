//! Dynamic process management: workers come with the clients and go when they are not needed (process-model 8).

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Cluster, Config, Pgpool, Stop, Wire, children_of, eventually, shared, wait_for};
use crate::only_ours;

const WAITING: &str = "pgpool: wait for connection request";

fn dynamic(all: usize, min: usize, max: usize) -> Config {
    config(Pgpool::on(shared()), all, min, max)
}

fn config(config: Config, all: usize, min: usize, max: usize) -> Config {
    config
        .set("process_management_mode", "dynamic")
        .set("process_management_strategy", "gentle")
        .set("num_init_children", all)
        .set("min_spare_children", min)
        .set("max_spare_children", max)
}

/// The workers, with and without a client.
fn workers(pool: &Pgpool) -> BTreeSet<Pid> {
    [WAITING, "pgpool: accept connection", "pgpool: postgres "].iter().flat_map(|title| pool.children(title)).collect()
}

/// Process ids in the rows of SHOW POOL_PROCESSES, 0 for those without.
fn shown(session: &mut Wire) -> Vec<u32> {
    let rows = session.query("SHOW POOL_PROCESSES").succeeded().rows();
    rows.iter().map(|row| row[0].as_deref().and_then(|pid| pid.parse().ok()).expect("a number")).collect()
}

#[test]
fn workers_come_with_the_clients() {
    only_ours!("looks every two seconds");
    let pool = dynamic(12, 2, 4).start();
    wait_for("the first workers", || workers(&pool).len() == 2);
    let mut sessions: Vec<Wire> = (0..5).map(|_| pool.connect()).collect();
    wait_for("some to spare", || pool.children(WAITING).len() >= 2);
    let living = workers(&pool);
    assert!((7..=9).contains(&living.len()), "{} workers", living.len());
    let rows = shown(&mut sessions[0]);
    assert_eq!((rows.len(), rows.iter().filter(|pid| **pid == 0).count()), (12, 12 - living.len()));
    sessions.extend((5..12).map(|_| pool.connect()));
    assert_eq!(workers(&pool).len(), 12);
    let mut late = pool.open();
    late.send(crate::harness::frontend::startup(0, crate::harness::LOGIN));
    assert!(late.read_within(Duration::from_millis(300)).is_err(), "there are no more than num_init_children");
    sessions.remove(3).close();
    late.read_until('Z').succeeded();
    assert_eq!(late.value("SELECT 1"), "1");
    assert!(!pool.log().contains("upgrade"), "nobody has asked for anything else: {}", pool.log());
}

#[test]
fn a_burst_is_served_without_a_storm() {
    only_ours!("looks every two seconds");
    let pool = dynamic(40, 3, 8).set("log_min_messages", "debug1").start();
    let port = pool.port;
    let clients: Vec<_> = (0..30).map(|_| thread::spawn(move || Wire::login(port))).collect();
    let sessions: Vec<Wire> =
        clients.into_iter().map(|client| client.join().expect("thread").expect("login")).collect();
    wait_for("some to spare", || pool.children(WAITING).len() >= 3);
    // Each for a client, or to spare: min_spare_children and a quarter of max_spare_children. The log may come later.
    let forks = || pool.log().matches("fork a new child process").count();
    wait_for("a line for each worker", || forks() >= 33 && forks() == workers(&pool).len());
    assert!(forks() <= 35, "{} forks for {} clients", forks(), sessions.len());
}

#[test]
fn who_ends_for_other_reasons_is_replaced() {
    only_ours!("not at once");
    let cluster = Cluster::streaming(2).start();
    let pool = config(Pgpool::checking(&cluster), 8, 2, 4).set("child_max_connections", 2).start();
    for _ in 0..10 {
        pool.connect().close();
    }
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGQUIT] {
        wait_for("a free worker", || !pool.children(WAITING).is_empty());
        let victim = pool.children(WAITING)[0];
        kill(victim, signal).expect("kill");
        wait_for("the replacement", || !workers(&pool).contains(&victim) && pool.children(WAITING).len() >= 2);
    }
    // A failover leaves them alone.
    let before = workers(&pool);
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the failover", || pool.log().contains("Failover done. shutdown host"));
    assert_eq!(session.value("SELECT 1"), "1");
    assert!(workers(&pool).is_superset(&before));
}

#[test]
fn who_has_lived_long_enough_is_replaced_only_if_needed() {
    only_ours!("replaces within two seconds");
    let pool = dynamic(16, 2, 4).set("child_life_time", 1).start();
    let sessions: Vec<Wire> = (0..10).map(|_| pool.connect()).collect();
    wait_for("a worker for each and some to spare", || workers(&pool).len() >= 12);
    sessions.into_iter().for_each(Wire::close);
    // Long before the strategy would send the first away.
    wait_for("the end of the others", || workers(&pool).len() == 4);
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn an_upgrade_begins_small_and_grows_again() {
    only_ours!("it has to be stopped");
    let mut pool = dynamic(12, 2, 4).set("client_wait_limit", 60_000).start();
    let old = pool.pid();
    let mut before: Vec<Wire> = (0..6).map(|_| pool.connect()).collect();
    let new = pool.upgrade().expect("the upgrade");
    before.iter_mut().for_each(|session| assert_eq!(session.value("SELECT 1"), "1"));
    let is_left = |title| !children_of(old, title).is_empty();
    wait_for("the old one to have only its sessions", || !is_left(WAITING) && !is_left("pgpool: doorman"));
    assert_eq!(children_of(old, "postgres test").len(), 6);
    wait_for("the first workers", || children_of(new, WAITING).len() == 2);
    let mut after: Vec<Wire> = (0..8).map(|_| pool.connect()).collect();
    after.iter_mut().for_each(|session| assert_eq!(session.value("SELECT 2"), "2"));
    wait_for("some to spare", || children_of(new, WAITING).len() >= 2);
    assert_eq!(children_of(new, "pgpool: doorman").len(), 1);
    before.into_iter().for_each(Wire::close);
    assert_eq!(pool.wait_end(Duration::from_secs(20)).and_then(|status| status.code()), Some(0), "{}", pool.log());
    after.iter_mut().for_each(|session| assert_eq!(session.value("SELECT 3"), "3"));
}

#[test]
fn a_smart_stop_waits_for_the_sessions_alone() {
    let mut pool = dynamic(8, 2, 4).start();
    let mut session = pool.connect();
    pool.signal(Signal::SIGTERM);
    wait_for("the free workers to leave", || pool.children(WAITING).is_empty());
    assert_eq!(session.value("SELECT 1"), "1");
    session.close();
    assert_eq!(pool.wait_end(Duration::from_secs(20)).and_then(|status| status.code()), Some(0));
}

/// Takes its minute: no strategy dismisses anybody earlier.
#[test]
fn too_many_go_in_the_end_and_those_with_pooled_connections_last() {
    only_ours!("chooses others");
    let mut pool = dynamic(16, 1, 3).set("process_management_strategy", "aggressive").start();
    wait_for("the first workers", || workers(&pool).len() == 3);
    // Three sessions of the database that is never pooled, then three that leave their connections behind.
    let log_in = |database| pool.connect_with(&[("user", "postgres"), ("database", database)]);
    let unpooled: Vec<Wire> = (0..6).map(|_| log_in("postgres")).collect();
    let pooled: Vec<Wire> = (0..3).map(|_| log_in("test")).collect();
    let useful: BTreeSet<Pid> = pool.children("pgpool: postgres test").into_iter().collect();
    assert_eq!(useful.len(), 3);
    unpooled.into_iter().chain(pooled).for_each(Wire::close);
    wait_for("everybody to be free", || pool.children(WAITING).len() >= 9);
    assert!(eventually(Duration::from_secs(120), || workers(&pool).len() == 3), "{} are left", workers(&pool).len());
    assert_eq!(workers(&pool), useful);
    wait_for("the parent's lines", || {
        let log = pool.log();
        let left = log.matches("exited with success and will not be restarted").count();
        left >= 6 && log.matches("Exit flag set").count() == left
    });
    // In static mode there are all of them.
    pool.set("process_management_mode", "static");
    pool.signal(Signal::SIGHUP);
    // A process is there a moment before it is written down.
    wait_for("all workers", || workers(&pool).len() == 16 && shown(&mut pool.connect()).iter().all(|pid| *pid != 0));
}
