//! Clients that find no free process: how they wait, for how long, and what is told of them (process-model 7.3).

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::frontend::{self, query, startup};
use crate::harness::{Config, LOGIN, Pgpool, Wire, eventually, shared, wait_for};
use crate::only_ours;
use crate::tls::authority::Authority;
use crate::tls::stage::{self, with_tls};

const LIMIT: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// A pgpool with a single worker.
fn narrow() -> Config {
    Pgpool::on(shared()).set("num_init_children", 1)
}

fn with_limit() -> Config {
    narrow().set("client_wait_limit", LIMIT.as_millis())
}

#[track_caller]
fn assert_turned_away(client: &mut Wire) {
    let refusal = client.read_until('E');
    assert_eq!(refusal.sqlstate(), "53300");
    let message = &refusal.0[refusal.0.len() - 1];
    assert_eq!(message.field('M').as_deref(), Some("Sorry, too many clients already"));
    assert!(message.field('D').is_some_and(|detail| detail.contains("client_wait_limit (400 ms)")), "{message:?}");
    assert!(client.is_closed_within(PATIENCE));
}

#[test]
fn who_has_waited_too_long_is_told_so() {
    only_ours!("clients wait for ever");
    let pool = with_limit().with_metrics().start();
    let mut session = pool.connect();
    let begun = Instant::now();
    let (mut talking, mut silent, mut secret) = (pool.open(), pool.open(), pool.open());
    talking.send(startup(0, LOGIN));
    secret.send(SSL_REQUEST);
    let mut local = Wire::open_unix(&pool.socket()).expect("connect");
    local.send(startup(0, LOGIN));
    assert_turned_away(&mut talking);
    assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
    assert_eq!(secret.read_byte().expect("an answer"), Some(b'N'));
    secret.send(startup(0, LOGIN));
    assert_turned_away(&mut secret);
    assert!(silent.is_closed_within(PATIENCE));
    assert_turned_away(&mut local);
    assert_eq!(session.value("SELECT 1"), "1");
    session.close();
    wait_for("room for another", || Wire::login(pool.port).is_ok());
}

#[test]
fn the_silent_do_not_keep_others_waiting() {
    only_ours!("clients wait for ever");
    let pool = with_limit().set("listen_backlog_multiplier", 100).start();
    let _session = pool.connect();
    // Two seconds for each of them would be more than anybody waits here.
    let silent: Vec<Wire> = (0..40).map(|_| pool.open()).collect();
    let mut talking = pool.open();
    talking.send(startup(0, LOGIN));
    assert_turned_away(&mut talking);
    drop(silent);
}

#[test]
fn those_who_stop_halfway_do_not_keep_others_waiting() {
    only_ours!("clients wait for ever");
    let authority = Authority::new("authority of queues");
    let pool = with_tls(with_limit().set("listen_backlog_multiplier", 100), &authority.issue("pgpool")).start();
    let _session = pool.connect();
    // Two seconds for each of them would be more than anybody waits here.
    let beginnings: [&[u8]; 3] = [SSL_REQUEST, b"\0", b"\0\0\0\x30\0\x03\0\0user\0"];
    let stalled: Vec<Wire> = beginnings
        .iter()
        .cycle()
        .take(36)
        .map(|beginning| {
            let mut client = pool.open();
            client.send(beginning);
            client
        })
        .collect();
    let mut talking = pool.open();
    talking.send(startup(0, LOGIN));
    let mut encrypted = stage::wire(&pool);
    encrypted.send(startup(0, LOGIN));
    assert_turned_away(&mut talking);
    assert_turned_away(&mut encrypted);
    drop(stalled);
}

#[test]
fn who_is_served_in_time_is_not_turned_away() {
    only_ours!("clients wait for ever");
    let pool = narrow().set("client_wait_limit", 60_000).start();
    let session = pool.connect();
    let mut waiting = pool.open();
    waiting.send(startup(0, LOGIN));
    assert!(waiting.read_within(LIMIT).is_err());
    session.close();
    waiting.read_until('Z').succeeded();
    assert_eq!(waiting.value("SELECT 1"), "1");
}

#[test]
fn a_cancel_request_needs_no_free_worker() {
    only_ours!("it waits for one");
    let pool = with_limit().start();
    let mut session = pool.connect();
    session.send(query("SELECT pg_sleep(300)"));
    wait_for("the statement to run", || !pool.children("SELECT").is_empty());
    let mut cancel = pool.open();
    cancel.send(frontend::cancel(session.pid, &session.key));
    assert_eq!(session.read_until('Z').sqlstate(), "57014");
}

#[test]
fn a_long_queue_is_told_of_once() {
    only_ours!("nobody is told");
    let pool = narrow().set("client_wait_warning", 2).set("listen_backlog_multiplier", 77).start();
    let mut session = pool.connect();
    let waiting: Vec<Wire> = (0..4).map(|_| pool.open()).collect();
    wait_for("the figures", || {
        let shown = session.query("SHOW POOL_QUEUE").succeeded().rows();
        let row = shown.iter().find(|row| row[0] == Some(format!("127.0.0.1:{}", pool.port))).expect("the socket");
        row[1..] == ["4", "77", "1"].map(|figure| Some(figure.to_owned()))
    });
    wait_for("the warning", || pool.log().contains("clients wait for a free process"));
    let log = pool.log();
    assert!(log.contains("All 1 processes have a client. The queues of the sockets have room for "), "{log}");
    assert!(log.contains(" 77."), "num_init_children times listen_backlog_multiplier: {log}");
    drop(waiting);
    session.close();
    wait_for("the end of it", || pool.log().contains("clients find a free process again; "));
    assert_eq!(pool.log().matches("clients wait for a free process").count(), 1, "{}", pool.log());
}

#[test]
fn the_doorman_is_there_while_it_is_needed() {
    only_ours!("there is none");
    let mut pool = narrow().start();
    let doormen = |pool: &Pgpool| pool.children("pgpool: doorman");
    assert!(doormen(&pool).is_empty());
    pool.set("client_wait_limit", LIMIT.as_millis());
    pool.signal(Signal::SIGHUP);
    wait_for("the doorman", || doormen(&pool).len() == 1);
    let first = doormen(&pool)[0];
    pool.signal(Signal::SIGUSR2);
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        kill(first, signal).expect("kill");
    }
    let session = pool.connect();
    let mut late = pool.open();
    late.send(startup(0, LOGIN));
    assert_turned_away(&mut late);
    session.close();
    assert_eq!(doormen(&pool), [first]);
    kill(first, Signal::SIGKILL).expect("kill");
    wait_for("the next one", || matches!(doormen(&pool)[..], [next] if next != first));
    let session = pool.connect();
    let mut late = pool.open();
    late.send(startup(0, LOGIN));
    assert_turned_away(&mut late);
    session.close();
    pool.set("client_wait_limit", 0);
    pool.signal(Signal::SIGHUP);
    assert!(eventually(PATIENCE, || doormen(&pool).is_empty()));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}
