//! Limits of time and size: silent clients, long statements, long messages, peers that have vanished (process-model 7.8).

mod blame;

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::frontend::{bind, copy_data, copy_done, execute, parse, query, sync};
use crate::harness::{Cluster, Pgpool, Reply, Wire, eventually, shared, wait_for};
use crate::{needs_namespaces, only_ours};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn notices_of_the_server_do_not_prolong_silence() {
    only_ours!("whole seconds, each wake-up counts anew");
    let pool = Pgpool::on(shared()).set("client_idle_limit", 3).start();
    let mut silent = pool.connect();
    silent.query("LISTEN limits_channel").succeeded();
    let begun = Instant::now();
    let mut talking = shared().primary().connect();
    let ended = eventually(PATIENCE, || {
        talking.query("NOTIFY limits_channel").succeeded();
        silent.is_closed_within(Duration::from_millis(300))
    });
    assert!(ended && begun.elapsed() >= Duration::from_secs(3), "{ended} after {:?}", begun.elapsed());
    assert!(pool.log().contains("forced to terminate due to client_idle_limit:3 is reached"), "{}", pool.log());
}

#[test]
fn a_session_sets_its_own_limit_of_silence() {
    only_ours!("severity DEBUG");
    let pool = Pgpool::on(shared()).start();
    let (mut session, mut other) = (pool.connect(), pool.connect());
    session.query("PGPOOL SET client_idle_limit = 1").succeeded();
    let end = session.read_until('E');
    assert_eq!(end.sqlstate(), "57000");
    assert_eq!(end.error().and_then(|error| error.field('S')).as_deref(), Some("FATAL"));
    assert!(session.is_closed_within(PATIENCE));
    assert_eq!(other.value("SELECT 1"), "1");
}

#[test]
fn a_transaction_left_open_is_rolled_back() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).set("client_idle_in_transaction_limit", 3).start();
    shared().primary().sql("CREATE TABLE left_open (n int)");
    let mut quiet = pool.connect();
    assert_eq!(quiet.value("SELECT 1"), "1");
    for failing in [false, true] {
        let mut session = pool.connect();
        session.query("BEGIN").succeeded();
        session.query("INSERT INTO left_open VALUES (1)").succeeded();
        if failing {
            assert_eq!(session.query("SELECT 1/0").state(), 'E');
        }
        let end = session.read_until('E');
        assert_eq!(end.sqlstate(), "25P03");
        assert!(session.is_closed_within(PATIENCE));
    }
    assert_eq!(quiet.value("SELECT count(*) FROM left_open"), "0", "silence outside of transactions is no matter");
    shared().primary().sql("DROP TABLE left_open");
}

/// From here on statements of the session may take two seconds: what has to succeed is done before.
#[track_caller]
fn set_query_limit(session: &mut Wire) {
    session.query("PGPOOL SET client_query_limit = 2000").succeeded();
}

/// What a statement that took too long is answered: a warning, and then the server's error.
#[track_caller]
fn assert_cancelled(reply: &Reply, state: char) {
    assert_eq!((reply.sqlstate().as_str(), reply.state()), ("57014", state), "{reply:?}");
    let warning = reply.all('N').next().expect("a warning");
    assert_eq!(warning.field('S').as_deref(), Some("WARNING"));
    assert!(warning.field('M').is_some_and(|text| text.starts_with("client_query_limit (2000 ms) is reached")));
}

#[test]
fn a_long_statement_is_cancelled_and_the_session_goes_on() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).weights(&[0.0, 1.0, 0.0]).start();
    let mut session = pool.connect();
    // On a standby, on the primary, in a transaction.
    set_query_limit(&mut session);
    assert_cancelled(&session.query("SELECT pg_sleep(60)"), 'I');
    assert_cancelled(&session.query("/*NO LOAD BALANCE*/ SELECT pg_sleep(60)"), 'I');
    session.query("PGPOOL RESET client_query_limit").succeeded();
    session.query("BEGIN").succeeded();
    session.query("CREATE TABLE too_long (n int)").succeeded();
    set_query_limit(&mut session);
    assert_cancelled(&session.query("INSERT INTO too_long SELECT 1 FROM pg_sleep(60)"), 'E');
    assert_eq!(session.query("COMMIT").succeeded().tags(), ["ROLLBACK"]);
    session.send([parse("", "SELECT pg_sleep(60)", &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_cancelled(&session.read_until('Z'), 'I');
    // Each message of a pipeline has its own time.
    session.query("PGPOOL SET client_query_limit = 5000").succeeded();
    session.send((0..6).flat_map(|_| query("SELECT pg_sleep(1)")).collect::<Vec<u8>>());
    (0..6).for_each(|_| drop(session.read_until('Z').succeeded()));
    let log = pool.log();
    assert_eq!(log.matches(" is reached: the statement is cancelled").count(), 4, "{log}");
}

#[test]
fn an_endless_answer_is_cancelled_though_it_flows() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    set_query_limit(&mut session);
    // A quarter of an hour: the client is the faster one.
    session.send(query("SELECT repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, 1000000)"));
    let mut rows = 0;
    let end = loop {
        let message = session.read();
        if message.kind == b'E' {
            break message;
        }
        rows += usize::from(message.kind == b'D');
    };
    assert!(rows > 0, "it did not flow");
    assert_eq!(end.field('C').as_deref(), Some("57014"));
    session.read_until('Z');
    session.query("PGPOOL RESET client_query_limit").succeeded();
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_copy_waits_for_its_client() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE slowly (n int)").succeeded();
    set_query_limit(&mut session);
    session.send(query("COPY slowly FROM STDIN"));
    session.read_until('G');
    assert!(session.read_within(Duration::from_millis(2500)).is_err(), "it was not cancelled");
    session.send([copy_data(b"1\n2\n"), copy_done()].concat());
    assert_eq!(session.read_until('Z').succeeded().tags(), ["COPY 2"]);
}

/// Takes its quarter of a minute: so long a server may take to react.
#[test]
fn a_server_that_does_not_cancel_loses_the_session() {
    only_ours!("has no such limit");
    let cluster = Cluster::streaming(1).start();
    let pool = Pgpool::on(&cluster).start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    set_query_limit(&mut session);
    cluster.node(0).pause();
    session.send(query("SELECT 2"));
    let end = session.read_until('E');
    cluster.node(0).resume();
    assert_eq!(end.sqlstate(), "57014");
    let text = end.error().and_then(|error| error.field('M')).unwrap_or_default();
    assert_eq!(text, "DB node 0 does not end a statement that was cancelled");
    assert!(session.is_closed_within(PATIENCE));
    assert_eq!(pool.connect().value("SELECT 3"), "3");
}

#[test]
fn a_message_that_is_too_long_ends_the_session() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).set("client_message_limit", 64).start();
    let text = |kilobytes: usize| format!("SELECT length('{}')", "x".repeat(kilobytes * 1024));
    let mut session = pool.connect();
    assert_eq!(session.value(&text(60)), (60 * 1024).to_string());
    session.send(query(&text(70)));
    let end = session.read_until('E');
    assert_eq!(end.sqlstate(), "54000");
    let text = end.error().and_then(|error| error.field('M')).unwrap_or_default();
    assert_eq!(text, "Query message of 71703 bytes is too long");
    assert!(session.is_closed_within(PATIENCE));
}

/// For the connection with these ports at its two ends: hundredths of a second until TCP asks for the peer.
fn keepalive_timer(local: u16, remote: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").expect("table");
    let is_it = |fields: &[&str]| {
        fields[1].ends_with(&format!(":{local:04X}")) && fields[2].ends_with(&format!(":{remote:04X}"))
    };
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let timer = lines.filter(|fields| fields[3] == "01" && is_it(fields)).map(|fields| fields[5].to_owned()).next()?;
    // "02": the keepalive timer.
    u64::from_str_radix(timer.strip_prefix("02:")?, 16).ok()
}

#[test]
fn silent_connections_are_asked_by_tcp() {
    only_ours!("after two hours");
    let pool = Pgpool::on(shared()).set("client_keepalives_idle", 500).set("server_keepalives_idle", 900).start();
    let mut session = pool.connect();
    assert_eq!(session.value("/*NO LOAD BALANCE*/ SELECT 1"), "1");
    let server_port = session.value("/*NO LOAD BALANCE*/ SELECT inet_client_port()").parse().expect("a port");
    let shown = session.query("SHOW POOL_PROCESSES").succeeded();
    assert!(!shown.rows().is_empty());
    let client_port = {
        let title = pool.children("pgpool: postgres test 127.0.0.1(");
        let title = crate::harness::process_title(title[0].as_raw());
        title.split(['(', ')']).nth(1).and_then(|port| port.parse().ok()).expect("a port")
    };
    let is_about = |timer: Option<u64>, seconds: u64| {
        timer.is_some_and(|timer| (seconds * 90..=seconds * 100 + 100).contains(&timer))
    };
    let primary = shared().primary().port;
    wait_for("the timers", || {
        is_about(keepalive_timer(pool.port, client_port), 500) && is_about(keepalive_timer(server_port, primary), 900)
    });
}

#[test]
fn a_server_whose_cable_is_pulled_is_given_up_by_tcp() {
    only_ours!("after a quarter of an hour");
    needs_namespaces!();
    let cluster = Cluster::streaming(1).apart(0).start();
    let pool = Pgpool::on(&cluster).set("server_tcp_user_timeout", 1500).start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    cluster.node(0).pull_cable();
    session.send(query("SELECT 2"));
    assert_eq!(session.read_until('E').sqlstate(), "08006");
    assert!(session.is_closed_within(PATIENCE));
    cluster.node(0).plug_cable();
    wait_for("the server", || Wire::login(pool.port).is_ok());
}
