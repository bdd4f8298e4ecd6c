//! Upgrades that fail, or in the middle of which something fails: whoever serves goes on, and nobody is left behind.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, install, is_gone, start_by_name, upgraded_twice, waiting_for_go};
use crate::harness::{
    Cluster, Pgpool, Stop, Wire, children_of, eventually, forget_process, pgpool_program, register_process, shared,
    wait_for,
};
use crate::{needs_namespaces, only_ours};

#[test]
fn a_program_that_does_not_come_up_changes_nothing() {
    only_ours!("it has to be stopped");
    let (mut pool, name) = start_by_name(Pgpool::on(shared()).set("upgrade_start_timeout", 1));
    let mut session = pool.connect();
    for (script, reason) in [
        ("exit 7", "upgrade failed: the new process has ended with status 7"),
        ("exec sleep 1000", "upgrade failed: the new process was not ready within 1 seconds"),
    ] {
        install(&name, script);
        let said = pool.upgrade().expect_err(script);
        assert!(said.contains(reason), "{said}");
        assert!(pool.log().contains(reason), "{}", pool.log());
        assert_eq!(session.value("SELECT 1"), "1");
        assert_eq!(pool.connect().value("SELECT 2"), "2");
        wait_for("PCP", || pool.children("PCP: wait for connection request").len() == 1);
        let pid: i32 = fs::read_to_string(pool.path("pgpool.pid")).expect("pid file").trim().parse().expect("pid");
        assert_eq!(pid, pool.pid().as_raw());
        wait_for("the failed one to be gone", || pool.children("sleep 1000").is_empty());
    }
    // A configuration that the new one cannot use is found before anything is done.
    pool.set("port", "nonsense");
    assert!(pool.upgrade().expect_err("the file").contains("nonsense"));
    let port = pool.port;
    pool.set("port", port);
    // It is mended, and the next attempt succeeds.
    fs::remove_file(&name).expect("remove");
    symlink(pgpool_program(), &name).expect("link");
    pool.set("upgrade_start_timeout", 60);
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("parameter \"upgrade_start_timeout\" changed"));
    pool.upgrade().expect("the upgrade");
    assert_eq!(session.value("SELECT 3"), "3");
}

#[test]
fn a_new_one_that_is_told_to_stop_leaves_the_old_one_its_sockets() {
    only_ours!("it has to be stopped");
    // The new one waits for a node that does not answer.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a node that says nothing");
    let mut pool = Pgpool::on(shared()).start();
    pool.set("backend_hostname3", "127.0.0.1");
    pool.set("backend_port3", mute.local_addr().expect("address").port());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let failures = pool.log().matches("upgrade failed").count();
        pool.signal(Signal::SIGURG);
        let mut new = None;
        wait_for("the new one to search nodes", || {
            let children = pool.children("pgpool -n").into_iter().chain(pool.children("-n -f"));
            new = children.into_iter().find(|new| !children_of(*new, "pgpool: ").is_empty());
            new.is_some()
        });
        kill(new.expect("the new one"), signal).expect("kill");
        wait_for("its end", || pool.log().matches("upgrade failed").count() > failures);
        assert_eq!(pool.connect().value("SELECT 1"), "1");
        assert!(pool.psql("SELECT 2").stdout.contains('2'), "{}", pool.log());
    }
}

#[test]
fn addresses_are_changed_or_the_upgrade_fails() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).set("listen_addresses", "*").start();
    let old = pool.pid();
    for (parameter, usual) in [("listen_addresses", "*"), ("pcp_listen_addresses", "127.0.0.1")] {
        let other = if usual == "*" { "127.0.0.1" } else { "*" };
        pool.set(parameter, other);
        pool.upgrade().expect_err("nobody can listen on both");
        let refusal = format!("{parameter} cannot be changed like this by an upgrade");
        assert!(pool.log().contains(&refusal), "{}", pool.log());
        assert_eq!(pool.connect().value("SELECT 1"), "1");
        pool.set(parameter, usual);
    }
    pool.upgrade().expect("nothing has changed");
    assert!(pool.wait_end(PATIENCE).is_some() && is_gone(old));

    // Between single addresses it changes.
    let mut pool = Pgpool::on(shared()).start();
    pool.set("listen_addresses", "127.0.0.2");
    pool.upgrade().expect("the upgrade");
    wait_for("the former address to be closed", || TcpStream::connect(("127.0.0.1", pool.port)).is_err());
    TcpStream::connect(("127.0.0.2", pool.port)).expect("the new address");
}

#[test]
fn a_stop_during_an_upgrade_begins_nothing() {
    only_ours!("it has to be stopped");
    let (mut pool, name) = start_by_name(Pgpool::on(shared()));
    install(&name, "exec sleep 1000");
    let asked = pool.command().arg("upgrade").stderr(Stdio::piped()).spawn().expect("pgpool upgrade");
    wait_for("the new one", || !pool.children("sleep 1000").is_empty());
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    let said = String::from_utf8(asked.wait_with_output().expect("its end").stderr).expect("text");
    assert!(
        said.contains("upgrade failed: ") && !said.contains("goes on serving") && !said.contains("release"),
        "{said}"
    );
    let log = pool.log();
    assert!(log.contains("upgrade failed: pgpool is being stopped"), "{log}");
    assert!(!log.contains("goes on serving") && !log.contains("received SIGUSR1"), "{log}");
}

/// A new pgpool that is to take over and has not heard it yet: it is held by SIGSTOP.
fn held_before_it_takes_over(pool: &Pgpool, name: &PathBuf) -> Pid {
    let (new, go) = waiting_for_go(pool, name);
    register_process(new.as_raw() as u32);
    // Nobody answers what it says.
    pool.signal(Signal::SIGSTOP);
    fs::write(go, "").expect("go");
    wait_for("it to be ready, and the old one to hear that", || {
        let has_workers =
            eventually(Duration::from_millis(500), || !children_of(new, "wait for connection").is_empty());
        kill(new, Signal::SIGSTOP).expect("kill");
        pool.signal(Signal::SIGCONT);
        // The last thing that it does.
        if has_workers && eventually(Duration::from_secs(2), || !pool.children("cancel requests").is_empty()) {
            return true;
        }
        pool.signal(Signal::SIGSTOP);
        kill(new, Signal::SIGCONT).expect("kill");
        false
    });
    new
}

#[test]
fn a_stop_while_the_new_one_takes_over_is_one_for_both() {
    only_ours!("it has to be stopped");
    for (whom, signal) in
        [("new", Signal::SIGTERM), ("old", Signal::SIGTERM), ("new", Signal::SIGINT), ("old", Signal::SIGINT)]
    {
        let (mut pool, name) = start_by_name(Pgpool::on(shared()));
        let mut session = pool.connect();
        let new = held_before_it_takes_over(&pool, &name);
        let stop = if whom == "new" {
            kill(new, signal).expect("kill");
            None
        } else {
            let mode = if signal == Signal::SIGTERM { "smart" } else { "fast" };
            let command = pool.command().args(["-m", mode, "stop"]).stderr(Stdio::null()).spawn().expect("pgpool stop");
            wait_for("the stop", || pool.log().contains("exit handler called"));
            Some(command)
        };
        kill(new, Signal::SIGCONT).expect("kill");
        if signal == Signal::SIGTERM {
            wait_for("the new one to have it all", || pool.log().contains("is replaced by this one"));
            wait_for("the port to be free", || TcpStream::connect(("127.0.0.1", pool.port)).is_err());
            assert_eq!(session.value("SELECT 1"), "1");
            drop(session);
        } else {
            assert_eq!(session.read_until('E').sqlstate(), "57P01");
        }
        assert!(pool.wait_end(PATIENCE).is_some(), "{whom}, {signal}: {}", pool.log());
        wait_for("the new one to end", || is_gone(new));
        if let Some(mut command) = stop {
            assert!(command.wait().expect("pgpool stop").success());
        }
        let left = [pool.socket(), pool.path("pgpool.pid"), pool.path("pgpool.pid.upgrade")];
        assert!(left.iter().all(|path| !path.exists()), "{whom}, {signal}: {left:?}");
        forget_process(new.as_raw() as u32);
    }
}

#[test]
fn who_asks_while_the_new_one_takes_over_hears_that_it_does() {
    only_ours!("it has to be stopped");
    let (mut pool, name) = start_by_name(Pgpool::on(shared()));
    let _session = pool.connect();
    let new = held_before_it_takes_over(&pool, &name);
    let mut asked = pool.command().arg("upgrade").stdout(Stdio::piped()).spawn().expect("pgpool upgrade");
    wait_for("the request", || pool.log().contains("upgrade: one is under way already"));
    kill(new, Signal::SIGCONT).expect("kill");
    assert!(asked.wait().expect("its end").success());
    assert_eq!(pool.adopt(), new);
}

#[test]
fn a_new_one_whose_predecessor_is_killed_early_takes_over_all_the_same() {
    only_ours!("it has to be stopped");
    let (mut pool, name) = start_by_name(Pgpool::on(shared()));
    let (_, go) = waiting_for_go(&pool, &name);
    pool.signal(Signal::SIGKILL);
    assert!(pool.wait_end(PATIENCE).is_some());
    fs::write(go, "").expect("go");
    wait_for("the new one to take over", || pool.log().contains("has ended before it was replaced"));
    wait_for("its pid file", || {
        let pid = fs::read_to_string(pool.path("pgpool.pid")).unwrap_or_default();
        pid.trim().parse().is_ok_and(|pid: i32| pid != pool.pid().as_raw())
    });
    let new = pool.adopt();
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    kill(new, Signal::SIGINT).expect("kill");
    wait_for("its end", || is_gone(new));
    assert!(!pool.socket().exists(), "the file was its own");
}

#[test]
fn a_failover_does_not_wait_for_a_new_one_that_does_not_come_up() {
    only_ours!("it has to be stopped");
    let cluster = Cluster::streaming(2).start();
    let (pool, name) = start_by_name(Pgpool::checking(&cluster).set("upgrade_start_timeout", 600));
    install(&name, "exec sleep 1000");
    pool.signal(Signal::SIGURG);
    wait_for("the new one", || !pool.children("sleep 1000").is_empty());
    cluster.node(1).stop(Stop::Fast);
    wait_for("the failover", || pool.log().contains("=== Failover done."));
    assert!(pool.log().contains("upgrade failed: a failover is needed"), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn nobody_outlives_the_pgpool_that_serves() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).start();
    let ([mut first, mut second], [second_parent, third_parent]) = upgraded_twice(&mut pool);
    kill(second_parent, Signal::SIGKILL).expect("kill");
    // Nobody can tell the first one any more how to stop.
    assert_eq!(first.read_until('E').sqlstate(), "57P01");
    assert_eq!(second.read_until('E').sqlstate(), "57P01");
    assert!(pool.wait_end(PATIENCE).is_some(), "{}", pool.log());
    let mut third = pool.connect();
    let fourth_parent = pool.upgrade().expect("the third upgrade");
    kill(fourth_parent, Signal::SIGKILL).expect("kill");
    assert_eq!(third.read_until('E').sqlstate(), "57P01");
    wait_for("the third one to end", || is_gone(third_parent));
    wait_for("its port to be free", || TcpStream::connect(("127.0.0.1", pool.port)).is_err());
    pool.launch(&[]);
    wait_for("a new pgpool to serve", || Wire::login(pool.port).is_ok());
}

#[test]
fn the_first_process_of_a_container_is_not_replaced() {
    only_ours!("it is not asked to upgrade");
    needs_namespaces!();
    let mut pool = Pgpool::on(shared()).prepare();
    pool.run_by(&["unshare", "--pid", "--fork", "--kill-child"]);
    let pool = pool.started();
    let first = pool.children("-n")[0];
    kill(first, Signal::SIGURG).expect("kill");
    wait_for("the refusal", || pool.log().contains("upgrade: not possible, the container would end"));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}
