//! Start, reload, stop: what an operator does (process-model 1, 2, 6, 13).

use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::harness::frontend::{query, startup};
use crate::harness::{Cluster, LOGIN, Pgpool, Stop, eventually, foreign, process_title, shared, wait_for};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_fast_stop_tells_the_clients_and_leaves_nothing_behind() {
    only_ours!("clients are not told");
    let mut pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    let socket = pool.socket();
    assert!(socket.exists());
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
    assert!(!socket.exists() && !pool.path("pgpool.pid").exists());
    let log = pool.log();
    for line in ["exit handler called", "shutting down by signal 2", "Pgpool-II system is shutdown"] {
        assert!(log.contains(line), "{line}:\n{log}");
    }
}

#[test]
fn a_client_that_says_nothing_does_not_hold_up_a_fast_stop() {
    only_ours!("no message");
    let mut pool = Pgpool::on(shared()).start();
    let mut silent = pool.open();
    wait_for("the worker to wait for the client", || !pool.children("accept connection").is_empty());
    let begun = std::time::Instant::now();
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(silent.read_until('E').sqlstate(), "57P01");
}

#[test]
fn a_server_that_hangs_in_a_login_does_not_hold_up_a_fast_stop() {
    only_ours!("waits for the server");
    let cluster = Cluster::streaming(1).start();
    let mut pool = Pgpool::on(&cluster).set("connect_timeout", 60_000).start();
    cluster.node(0).pause();
    let mut client = pool.open();
    client.send(startup(0, LOGIN));
    wait_for("the worker to log in", || !pool.children("postgres test").is_empty());
    let begun = std::time::Instant::now();
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(client.read_until('E').sqlstate(), "57P01");
    assert!(!pool.log().contains("did not end in time"), "{}", pool.log());
    cluster.node(0).resume();
}

#[test]
fn a_smart_stop_waits_for_sessions_and_a_fast_one_overtakes_it() {
    only_ours!("a second signal is ignored");
    let mut pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    pool.signal(Signal::SIGTERM);
    wait_for("the stop to begin", || pool.log().contains("shutting down by signal 15"));
    assert_eq!(session.value("SELECT 1"), "1");
    assert!(eventually(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", pool.port)).is_err()));
    assert!(pool.is_running());
    pool.signal(Signal::SIGINT);
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0));
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
}

#[test]
fn a_smart_stop_ends_with_the_last_session() {
    let mut pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    pool.signal(Signal::SIGTERM);
    wait_for("the stop to begin", || pool.log().contains("shutting down by signal 15"));
    session.close();
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(0));
}

#[test]
fn a_second_start_is_refused_while_the_first_runs() {
    only_ours!("other texts");
    let pool = Pgpool::on(shared()).start();
    let output = pool.command().arg("-n").output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("pid file found. is another pgpool"), "{text}");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn a_port_in_use_is_an_error_that_names_its_holder() {
    only_ours!("the original only warns");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("address").port();
    let mut pool = Pgpool::on(shared()).set("port", port).prepare();
    pool.launch(&[]);
    assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(3));
    assert!(pool.log().contains(&format!("127.0.0.1:{port}")), "{}", pool.log());
}

#[test]
fn a_reload_takes_effect_and_a_broken_file_does_not() {
    only_ours!("other texts");
    let mut pool = Pgpool::on(shared()).set("log_statement", "off").start();
    pool.set("log_statement", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the reload to take effect", || {
        pool.connect().value("SELECT 'after the reload'");
        pool.log().contains("statement: SELECT 'after the reload'")
    });
    pool.set("client_idle_limit", "nonsense");
    pool.signal(Signal::SIGHUP);
    wait_for("the complaint", || pool.log().contains("client_idle_limit"));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(pool.is_running());
}

#[test]
fn an_edit_behind_the_parents_check_counts_for_nobody() {
    only_ours!("every process reads the files by itself");
    let mut pool = Pgpool::on(shared()).set("num_init_children", 1).set("log_statement", "off").start();
    wait_for("the worker", || !pool.children("pgpool: wait for connection").is_empty());
    let worker = pool.children("pgpool: wait for connection")[0];
    kill(worker, Signal::SIGSTOP).expect("stop");
    pool.set("log_statement", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("parameter \"log_statement\" changed"));
    pool.set("log_statement", "off");
    pool.set("client_idle_limit", "nonsense");
    kill(worker, Signal::SIGCONT).expect("continue");
    wait_for("the worker to take over what the parent has read", || {
        pool.connect().value("SELECT 'as the parent says'");
        pool.log().contains("statement: SELECT 'as the parent says'")
    });
    assert!(!pool.log().contains("nonsense"), "{}", pool.log());
    assert!(process_title(worker.as_raw()).starts_with("pgpool: "), "it is another worker");
}

#[test]
fn titles_tell_what_a_worker_does() {
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    let worker = *wait_for_one(&pool, " idle").first().expect("a worker");
    assert!(process_title(worker.as_raw()).starts_with("pgpool: postgres test 127.0.0.1("));
    session.query("BEGIN").succeeded();
    wait_for_one(&pool, "idle in transaction");
    session.send(query("/* a comment */ SELECT pg_sleep(0.5)"));
    wait_for_one(&pool, "SELECT");
    session.read_until('Z').succeeded();
    if !foreign() {
        assert_eq!(session.query("SELECT 1/0").state(), 'E');
        wait_for_one(&pool, "idle in transaction");
        session.query("ROLLBACK").succeeded();
        wait_for("the title", || pool.children("idle in transaction").is_empty());
    }
    session.close();
    wait_for("the worker to be free", || pool.children("idle").is_empty());
}

fn wait_for_one(pool: &Pgpool, title: &str) -> Vec<nix::unistd::Pid> {
    wait_for(title, || !pool.children(title).is_empty());
    pool.children(title)
}

#[test]
fn limits_of_clients_and_time() {
    only_ours!("other texts");
    let pool = Pgpool::on(shared())
        .set("num_init_children", 2)
        .set("reserved_connections", 1)
        .set("client_idle_limit", 1)
        .start();
    let mut session = pool.connect();
    let mut second = pool.open();
    let refusal = second.start(LOGIN).expect_err("a refusal").to_string();
    assert!(refusal.contains("53300: Sorry, too many clients already"), "{refusal}");
    assert!(second.is_closed_within(PATIENCE));
    assert_eq!(session.read_until('E').sqlstate(), "57000");
    assert!(session.is_closed_within(PATIENCE));
}
