//! While the new pgpool of an upgrade starts: the old one does everything, the new one nothing; and it does not take over
//! before it can do what the old one does.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, install, start_by_name};
use crate::harness::frontend::startup;
use crate::harness::{Cluster, LOGIN, Pgpool, Wire, children_of, shared, wait_for};
use crate::metrics;
use crate::only_ours;
use crate::pcp::{self, raw};

const DONE: &[u8] = b"CommandComplete\0";
const FINDS_NOTHING: &str = "upgrade: this process does not replace process";

/// The new one of an upgrade, which waits for node 1, that the old one uses and that does not answer.
#[track_caller]
pub fn waiting(pool: &mut Pgpool, cluster: &Cluster) -> Pid {
    // It looks again all the same.
    pool.set("sr_check_period", 3600);
    cluster.node(1).pause();
    pool.signal(Signal::SIGURG);
    wait_for("the new one", || pool.log().contains(FINDS_NOTHING));
    let new = pool.children("-n -f").into_iter().find(|new| !children_of(*new, "node finder").is_empty());
    new.unwrap_or_else(|| panic!("{}", pool.log()))
}

#[test]
fn nobody_is_served_by_a_new_one_before_the_old_one_has_retired() {
    only_ours!("it has to be stopped");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::on(&cluster).set("upgrade_start_timeout", 600).start();
    let old = pool.pid();
    let new = waiting(&mut pool, &cluster);
    // It does not hear that the new one is ready.
    pool.signal(Signal::SIGSTOP);
    cluster.node(1).resume();
    wait_for("the new one's workers", || children_of(new, "pgpool: wait for connection request").len() == 4);
    let mut sessions: Vec<Wire> = (0..4).map(|_| pool.connect()).collect();
    let mut late = pool.open();
    late.send(startup(0, LOGIN));
    assert!(late.read_within(Duration::from_millis(500)).is_err(), "{}", pool.log());
    assert_eq!(children_of(old, "postgres test").len(), 4);
    pool.signal(Signal::SIGCONT);
    late.read_until('Z').succeeded();
    assert_eq!(children_of(new, "postgres test").len(), 1);
    assert!(sessions.iter_mut().all(|session| session.value("SELECT 1") == "1"));
    wait_for("the pid file", || {
        fs::read_to_string(pool.path("pgpool.pid")).is_ok_and(|pid| pid.trim() == new.to_string())
    });
    pool.adopt();
}

#[test]
fn who_serves_answers_administrators_and_load_balancers_and_carries_out_failovers() {
    only_ours!("it has to be stopped");
    let cluster = Cluster::streaming(2).start();
    let config = Pgpool::on(&cluster).with_metrics().set("upgrade_start_timeout", 600);
    let mut pool = config.prepare();
    pool.set("failover_command", format!("echo %d >> {}", pool.path("commands").display()));
    pcp::admit(&pool);
    let mut pool = pool.started();
    let mut session = pool.connect();
    let new = waiting(&mut pool, &cluster);
    assert!(children_of(new, "PCP").is_empty() && children_of(new, "metrics").is_empty());
    for _ in 0..20 {
        let (status, body) = metrics::get(&pool, "/health/write");
        assert_eq!(status, 200, "{body}");
    }
    // What an administrator orders is done by the one that serves, which goes on.
    assert!(!pool.path("commands").exists());
    let mut raw = pcp::login(&pool);
    assert_eq!(raw.ask(b'D', b"1\0").1, DONE);
    wait_for("the failover", || pool.log().contains("=== Failover done."));
    let log = pool.log();
    assert!(log.contains("upgrade failed: a failover is needed"), "{log}");
    assert_eq!(fs::read_to_string(pool.path("commands")).expect("commands"), "1\n");
    assert_eq!(log.matches("=== Starting degeneration").count(), 1, "{log}");
    assert!(log.contains(&format!("main pid {}: LOG:  === Starting degeneration", pool.pid())), "{log}");
    let nodes = session.query("SHOW POOL_NODES").succeeded().rows();
    assert!(nodes[1].contains(&Some("down".to_owned())), "{nodes:?}");
    assert_eq!(pool.status_file(), "up\ndown\n");
    assert_eq!(session.value("SELECT 1"), "1");
    cluster.node(1).resume();
    pool.upgrade().expect("the upgrade");
    assert_eq!(raw.frame(), None, "he asks the new one");
    pcp::login(&pool);
}

#[test]
fn who_does_not_find_the_primary_does_not_take_over() {
    only_ours!("it has to be stopped");
    shared().primary().sql("DROP TABLE IF EXISTS kept_on; CREATE TABLE kept_on (i int)");
    let mut pool = Pgpool::on(shared()).set("upgrade_start_timeout", 5).start();
    let mut session = pool.connect();
    session.query("BEGIN; INSERT INTO kept_on VALUES (1)").succeeded();
    pool.set("sr_check_user", "nobody_there");
    let said = pool.upgrade().expect_err("it cannot log in");
    let (port, seconds) = (shared().primary().port, "the new process was not ready within 5 seconds");
    let expected = format!("{seconds}: the primary, which is 127.0.0.1:{port}, is not found");
    assert!(said.contains(&expected), "{said}");
    assert!(pool.log().contains(FINDS_NOTHING), "{}", pool.log());
    session.query("INSERT INTO kept_on VALUES (2); COMMIT").succeeded();
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    pool.set("sr_check_user", "postgres");
    pool.upgrade().expect("the upgrade");
}

#[test]
fn a_request_that_waits_for_clients_goes_before() {
    only_ours!("it has to be stopped");
    let (mut pool, name) = start_by_name(Pgpool::on(shared()).set("upgrade_start_timeout", 600));
    pcp::admit(&pool);
    let reason = "an administrator's request waits for clients to leave";
    let waits = |pool: &Pgpool, is_held: &dyn Fn() -> bool| {
        let session = pool.connect();
        let mut raw = pcp::login(pool);
        raw.request(b'd', b"2\0");
        wait_for("clients to be held back", is_held);
        (session, raw)
    };
    let held = |pool: &Pgpool| pool.log().matches("new clients wait until those that are connected have left").count();
    let (session, mut raw) = waits(&pool, &|| held(&pool) == 1);
    let said = pool.upgrade().expect_err("not now");
    assert!(said.contains(&format!("not now, {reason}")), "{said}");
    drop(session);
    let answer = raw.frame().expect("an answer");
    assert_eq!(answer.1, DONE, "{}", raw::report(&answer));
    assert_eq!(raw.ask(b'C', b"2\0").1, DONE);
    wait_for("the node to be back", || pool.log().contains("=== Failback done."));

    // The same while the new one starts.
    install(&name, "exec sleep 1000");
    pool.signal(Signal::SIGURG);
    wait_for("the new one", || !pool.children("sleep 1000").is_empty());
    let (session, mut raw) = waits(&pool, &|| pool.log().contains(&format!("upgrade failed: {reason}")));
    drop(session);
    assert_eq!(raw.frame().expect("an answer").1, DONE);
}

#[test]
fn all_who_ask_at_the_same_time_hear_how_it_ends() {
    only_ours!("it has to be stopped");
    let (pool, name) = start_by_name(Pgpool::on(shared()).set("upgrade_start_timeout", 600));
    install(&name, "exec sleep 1000");
    let ask = || pool.command().arg("upgrade").stderr(Stdio::piped()).spawn().expect("pgpool upgrade");
    let first = ask();
    wait_for("the new one", || !pool.children("sleep 1000").is_empty());
    let second = ask();
    wait_for("the second request", || pool.log().contains("upgrade: one is under way already"));
    kill(pool.children("sleep 1000")[0], Signal::SIGKILL).expect("kill");
    for asked in [first, second] {
        let told = asked.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.status.success() && said.contains("the new process was ended by SIGKILL"), "{said}");
    }
}

#[test]
fn the_link_to_the_log_file_names_that_of_who_serves() {
    only_ours!("there is none");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::on(&cluster).set("logging_collector", "on").set("upgrade_start_timeout", 600).prepare();
    let directory = pool.path("log");
    pool.set("log_directory", directory.display());
    pool.set("log_filename", "old.log");
    pool.launch(&[]);
    wait_for("pgpool to serve", || Wire::login(pool.port).is_ok());
    let current = || fs::read_link(directory.join("current")).expect("the link").display().to_string();
    assert_eq!(current(), "old.log");
    pool.set("log_filename", "new.log");
    cluster.node(1).pause();
    pool.signal(Signal::SIGURG);
    let has_said = |text: &str| fs::read_to_string(directory.join("new.log")).is_ok_and(|log| log.contains(text));
    wait_for("the new one", || has_said(FINDS_NOTHING));
    assert_eq!(current(), "old.log");
    cluster.node(1).resume();
    wait_for("the upgrade", || has_said("is replaced by this one"));
    wait_for("the link", || current() == "new.log");
    assert!(pool.wait_end(PATIENCE).is_some());
    pool.adopt();
}
