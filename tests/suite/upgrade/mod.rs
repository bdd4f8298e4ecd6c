//! `pgpool upgrade`: another process takes over, and no client notices (docs/upgrade.md).

mod failures;
mod nodes;
pub mod start;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::frontend::{cancel, query};
use crate::harness::{Config, Pgpool, Program, Wire, children_of, pgpool_program, process_title, shared, wait_for};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(30);

fn is_gone(pid: Pid) -> bool {
    process_title(pid.as_raw()).is_empty()
}

/// A pgpool that was started by a name of its own, which can be made to mean another program.
fn start_by_name(config: Config) -> (Pgpool, PathBuf) {
    let mut pool = config.prepare();
    let name = pool.path("program");
    symlink(pgpool_program(), &name).expect("link");
    pool.run_by(&["/bin/bash", "-c", &format!("exec -a '{}' \"$@\"", name.display()), "bash"]);
    let pool = pool.started();
    (pool, name)
}

fn install(name: &PathBuf, script: &str) {
    fs::remove_file(name).expect("remove");
    fs::write(name, format!("#!/bin/sh\n{script}\n")).expect("script");
    fs::set_permissions(name, fs::Permissions::from_mode(0o755)).expect("mode");
}

/// An upgrade to a program that becomes pgpool when a file is there: its process, and the file.
fn waiting_for_go(pool: &Pgpool, name: &PathBuf) -> (Pid, PathBuf) {
    let go = pool.path("go");
    let wait = format!("while ! test -e {}; do sleep 0.05; done", go.display());
    install(name, &format!("{wait}\nexec {} \"$@\"", pgpool_program().display()));
    pool.signal(Signal::SIGURG);
    let mut new = None;
    // A child that has just been forked is called as the old pgpool.
    wait_for("the new one", || {
        new = pool.children("/bin/sh").first().copied();
        new.is_some()
    });
    (new.expect("the new one"), go)
}

/// Two upgrades, with a session in each of the former generations; the parents of the second one and the third.
fn upgraded_twice(pool: &mut Pgpool) -> ([Wire; 2], [Pid; 2]) {
    let upgraded = [(); 2].map(|()| (pool.connect(), pool.upgrade().expect("the upgrade")));
    let [(first, second_parent), (second, third_parent)] = upgraded;
    ([first, second], [second_parent, third_parent])
}

/// How many answers its pgpool's query cache has given.
fn hits(session: &mut Wire) -> Option<String> {
    session.query("SHOW POOL_CACHE").succeeded().rows()[0][0].clone()
}

#[test]
fn nobody_notices() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).set("log_connections", "on").with_metrics().start();
    let old = pool.pid();
    let mut stays = pool.connect();
    stays.query("BEGIN; CREATE TEMP TABLE kept AS SELECT 42 AS answer").succeeded();
    // A new connection for each transaction, before, while and after.
    let (port, enough) = (pool.port, Arc::new(AtomicBool::new(false)));
    let is_enough = Arc::clone(&enough);
    let load = thread::spawn(move || {
        while !is_enough.load(Ordering::Relaxed) {
            let options = ["-n", "-C", "-c", "2", "-t", "50", "-f", "/dev/stdin", "-U", "postgres", "test"];
            let stdout = Program::client("pgbench").at_port(port).args(options).input("SELECT 1;\n").run().succeeded();
            assert!(stdout.contains("actually processed: 100/100"), "{stdout}");
        }
    });
    let connections = |pool: &Pgpool| pool.log().matches("new connection received").count();
    wait_for("the load", || connections(&pool) > 20);
    let new = pool.upgrade().expect("the upgrade");
    assert_ne!(new, old);
    let before = connections(&pool);
    wait_for("the load to go on", || connections(&pool) > before + 20);
    enough.store(true, Ordering::Relaxed);
    load.join().expect("all transactions of pgbench");

    // New sessions are the new one's, and the old one keeps its own.
    let mut comes = pool.connect();
    wait_for("its worker", || children_of(new, "postgres test").len() == 1);
    assert_eq!(children_of(old, "postgres test").len(), 1);
    assert_eq!(children_of(old, "pgpool: ").len(), 2, "it has nothing but that session, and who cancels it");
    assert_eq!(comes.value("SELECT 1"), "1");
    assert_eq!(stays.value("SELECT answer FROM kept"), "42");
    assert_eq!(children_of(new, "PCP: wait for connection request").len(), 1);
    TcpStream::connect(("127.0.0.1", pool.metrics_port())).expect("metrics");
    TcpStream::connect(("127.0.0.1", pool.pcp_port())).expect("PCP");

    stays.query("COMMIT").succeeded();
    drop(stays);
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0), "{}", pool.log());
    assert!(pool.socket().exists() && pool.path("pgpool.pid").exists(), "they are the new one's");
    assert_eq!(pool.connect().value("SELECT 2"), "2");
    wait_for("the new one to hear of it", || {
        pool.log().contains(&format!("process {old}, which this one has replaced, has ended"))
    });

    kill(new, Signal::SIGINT).expect("kill");
    wait_for("the new one to end", || is_gone(new));
    let left = [pool.socket(), pool.path("pgpool.pid"), pool.path("pgpool.pid.upgrade")];
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(pool.log().contains("Pgpool-II system is shutdown"), "{}", pool.log());
}

#[test]
fn the_socket_file_is_for_those_who_may_use_it_now() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).set("unix_socket_permissions", "0777").start();
    let mode = |pool: &Pgpool| fs::metadata(pool.socket()).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode(&pool), 0o777);
    pool.set("unix_socket_permissions", "0700");
    pool.upgrade().expect("the upgrade");
    assert_eq!(mode(&pool), 0o700);
}

#[test]
fn a_pid_file_of_another_name_takes_the_place_of_the_former() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).start();
    let (former, file) = (pool.path("pgpool.pid"), pool.path("other.pid"));
    pool.set("pid_file_name", file.display());
    pool.signal(Signal::SIGURG);
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0), "{}", pool.log());
    assert!(file.exists() && !former.exists());
    fs::copy(file, former).expect("copy");
    let new = pool.adopt();
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(!is_gone(new));
}

#[test]
fn a_reload_during_an_upgrade_is_the_new_ones_as_well() {
    only_ours!("it has to be stopped");
    let (mut pool, name) = start_by_name(Pgpool::on(shared()));
    let (_, go) = waiting_for_go(&pool, &name);
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("reload config files"));
    fs::write(go, "").expect("go");
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0), "{}", pool.log());
    let new = pool.adopt();
    wait_for("its reload", || pool.log().contains(&format!("main pid {new}: LOG:  reload config files")));
}

#[test]
fn sessions_of_the_old_one_end_after_their_time() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).set("upgrade_session_timeout", 1).start();
    let mut session = pool.connect();
    pool.upgrade().expect("the upgrade");
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn a_stop_is_one_for_all_generations() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).start();
    let ([mut first, mut second], [second_parent, third_parent]) = upgraded_twice(&mut pool);
    let mut third = pool.connect();
    for session in [&mut first, &mut second, &mut third] {
        assert_eq!(session.value("SELECT 1"), "1");
    }
    // The second one has nobody left, but its predecessor has.
    drop(second);
    wait_for("its last worker to end", || children_of(second_parent, "pgpool: ").len() == 1);
    kill(third_parent, Signal::SIGTERM).expect("kill");
    drop(third);
    wait_for("the third one's workers to end", || children_of(third_parent, "pgpool: ").is_empty());
    assert!(!is_gone(second_parent) && !is_gone(third_parent), "a smart stop waits for the first one's session");
    assert_eq!(first.value("SELECT 2"), "2");
    kill(third_parent, Signal::SIGINT).expect("kill");
    assert_eq!(first.read_until('E').sqlstate(), "57P01");
    wait_for("all to end", || is_gone(second_parent) && is_gone(third_parent));
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0));
}

#[test]
fn sessions_of_any_generation_write_where_the_newest_one_does() {
    only_ours!("it has to be stopped");
    shared().primary().sql("DROP TABLE IF EXISTS detached; CREATE TABLE detached (i int)");
    let config = Pgpool::on(shared()).set("failover_wait_timeout", 1).set("search_primary_node_timeout", 1);
    let mut pool = crate::pcp::start(config);
    let mut sessions = vec![pool.connect()];
    for _ in 0..2 {
        pool.upgrade().expect("the upgrade");
        sessions.push(pool.connect());
    }
    for session in &mut sessions {
        session.query("INSERT INTO detached VALUES (1)").succeeded();
    }
    let (answer, text) = crate::pcp::login(&pool).ask(b'D', b"0\0");
    assert_eq!(text, b"CommandComplete\0", "{}", char::from(answer));
    for session in &mut sessions {
        wait_for("nothing to be written to the node any more", || {
            session.send(query("INSERT INTO detached VALUES (2)"));
            let end = |kind: u8| kind == b'E' || kind == b'Z';
            std::iter::repeat_with(|| session.read().kind).find(|kind| end(*kind)) == Some(b'E')
        });
    }
}

#[test]
fn a_statement_of_any_generation_can_be_cancelled() {
    only_ours!("it has to be stopped");
    let mut pool = Pgpool::on(shared()).start();
    let mut sessions = vec![pool.connect()];
    for _ in 0..2 {
        pool.upgrade().expect("the upgrade");
        sessions.push(pool.connect());
    }
    for session in &mut sessions {
        session.send(query("SELECT pg_sleep(60) /* of any generation */"));
    }
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(60) /* of any %'";
    let running = || (0..3).map(|node| shared().node(node).sql(sql).parse::<u32>().expect("a number")).sum::<u32>();
    wait_for("all statements to run", || running() == 3);
    for session in &mut sessions {
        let mut canceller = pool.open();
        canceller.send(cancel(session.pid, &session.key));
        assert_eq!(session.read_until('Z').sqlstate(), "57014");
    }
}

#[test]
fn what_the_old_one_writes_the_new_one_reads() {
    only_ours!("it has to be stopped");
    shared().primary().sql("DROP TABLE IF EXISTS upgraded; CREATE TABLE upgraded AS SELECT 1 AS a");
    let mut pool = Pgpool::on(shared()).set("memory_cache_enabled", "on").weights(&[1.0, 0.0, 0.0]).start();
    let (pid, mut old) = (pool.pid(), pool.connect());
    pool.upgrade().expect("the upgrade");
    let mut new = pool.connect();
    for value in 2..6 {
        let sum = |session: &mut Wire| session.value("SELECT sum(a) FROM upgraded");
        let before = (value - 1).to_string();
        assert_eq!([sum(&mut new), sum(&mut new), sum(&mut old), sum(&mut old)], [before.as_str(); 4]);
        let writer = if value % 2 == 0 { &mut old } else { &mut new };
        writer.query(&format!("UPDATE upgraded SET a = {value}")).succeeded();
    }
    drop(old);
    let left = || children_of(pid, "pgpool: ").into_iter().map(|pid| process_title(pid.as_raw())).collect::<Vec<_>>();
    assert!(pool.wait_end(PATIENCE).is_some(), "{:?}", left());
    // It is alone, and remembers again.
    wait_for("a hit", || {
        new.value("SELECT sum(a) FROM upgraded");
        hits(&mut new).is_some_and(|hits| hits != "0")
    });
}

#[test]
fn what_the_newest_one_writes_is_read_by_one_whose_predecessor_has_ended() {
    only_ours!("it has to be stopped");
    shared().primary().sql("DROP TABLE IF EXISTS upgraded_twice; CREATE TABLE upgraded_twice AS SELECT 1 AS a");
    let caching = || Pgpool::on(shared()).set("memory_cache_enabled", "on").weights(&[1.0, 0.0, 0.0]).start();
    let mut pool = caching();
    let (first_parent, first) = (pool.pid(), pool.connect());
    pool.upgrade().expect("the first upgrade");
    let mut second = pool.connect();
    pool.upgrade().expect("the second upgrade");
    let mut third = pool.connect();
    drop(first);
    wait_for("the end of the first to be heard of", || {
        pool.log().contains(&format!("process {first_parent}, which this one has replaced, has ended"))
    });
    // By the time when one that is alone remembers again, the second one would as well.
    let mut other = caching();
    other.upgrade().expect("the upgrade");
    let mut alone = other.connect();
    wait_for("a hit", || {
        alone.value("SELECT sum(a) FROM upgraded_twice");
        hits(&mut alone).is_some_and(|hits| hits != "0")
    });
    for value in 1..4 {
        third.query(&format!("UPDATE upgraded_twice SET a = {value}")).succeeded();
        let mut read = || second.value("SELECT sum(a) FROM upgraded_twice");
        assert_eq!([read(), read()], [value.to_string(), value.to_string()]);
    }
}

#[test]
fn a_daemon_with_log_files_leaves_one_collector() {
    only_ours!("it has to be stopped");
    let config = Pgpool::on(shared()).set("logging_collector", "on").set("log_filename", "pgpool.log");
    let mut pool = config.prepare();
    let directory = pool.path("log");
    pool.set("log_directory", directory.display());
    assert!(pool.command().status().expect("pgpool").success());
    let old = pool.adopt();
    let mut session = pool.connect();
    let new = pool.upgrade().expect("the upgrade");
    let log = || fs::read_to_string(directory.join("pgpool.log")).expect("the log");
    // Both write to the same file.
    wait_for("the words of both", || {
        let log = log();
        log.contains(&format!("main pid {old}: LOG:  upgrade: process {new} serves from now on"))
            && log.contains(&format!("main pid {new}: LOG:  upgrade: process {old} is replaced by this one"))
    });
    let collectors = [old, new].map(|parent| children_of(parent, "PgpoolLogger"));
    assert_eq!([collectors[0].len(), collectors[1].len()], [1; 2]);
    assert_eq!(session.value("SELECT 1"), "1");
    drop(session);
    wait_for("the old one and its collector to end", || is_gone(old) && is_gone(collectors[0][0]));
    assert_eq!(children_of(new, "PgpoolLogger"), collectors[1]);
    wait_for("the last word", || log().contains(&format!("process {old}, which this one has replaced, has ended")));
}
