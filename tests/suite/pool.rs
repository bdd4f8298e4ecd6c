//! Workers and their pools of server connections (protocol 6-8, 10, 11; process-model 7).

use std::time::Duration;

use crate::harness::frontend::{query, startup};
use crate::harness::{Pgpool, Wire, eventually, shared, wait_for};
use crate::only_ours;

const USER: (&str, &str) = ("user", "postgres");
const TEST: (&str, &str) = ("database", "test");

/// Node 0's process id behind this session.
fn primary_pid(session: &mut Wire) -> String {
    session.value("/*NO LOAD BALANCE*/ SELECT pg_backend_pid()")
}

/// Is this process still a server process of node 0?
fn is_alive(pid: &str) -> bool {
    shared().primary().sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) == "1"
}

#[test]
fn clients_beyond_num_init_children_wait_and_are_served() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let first = pool.connect();
    let mut second = pool.open();
    second.send(startup(0, &[USER, TEST]));
    let answer = second.read_within(Duration::from_millis(300));
    assert!(answer.is_err(), "the only worker is busy, nobody answers: {answer:?}");
    first.close();
    second.read_until('Z').succeeded();
    assert_eq!(second.value("SELECT 1"), "1");
}

#[test]
fn all_workers_serve_at_the_same_time() {
    let pool = Pgpool::on(shared()).set("num_init_children", 8).start();
    let mut sessions: Vec<Wire> = (0..8).map(|_| pool.connect()).collect();
    for (i, session) in sessions.iter_mut().enumerate() {
        assert_eq!(session.value(&format!("SELECT {i}")), i.to_string());
    }
}

#[test]
fn a_server_connection_is_reused() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut first = pool.connect();
    let pid = primary_pid(&mut first);
    let parameters = first.parameters.clone();
    first.close();
    for _ in 0..3 {
        let mut next = pool.connect();
        assert_eq!(primary_pid(&mut next), pid);
        assert_eq!(next.parameters, parameters, "a pooled login reports the same parameters");
        next.close();
    }
}

#[test]
fn a_reused_connection_is_reset() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut first = pool.connect();
    let pid = primary_pid(&mut first);
    first.query("SET application_name = 'marked'").succeeded();
    first.query("SET work_mem = '9MB'").succeeded();
    first.query("CREATE TEMP TABLE pool_temp (id int)").succeeded();
    first.query("PREPARE pool_statement AS SELECT 1").succeeded();
    first.query("LISTEN pool_channel").succeeded();
    first.query("SELECT pg_advisory_lock(4711)").succeeded();
    first.query("BEGIN").succeeded();
    first.close();

    let mut next = pool.connect();
    assert_eq!(primary_pid(&mut next), pid, "the same server connection");
    assert_eq!(next.parameters.get("application_name").map(String::as_str), Some(""));
    assert_ne!(next.value("SHOW work_mem"), "9MB");
    assert_eq!(next.query("SELECT * FROM pool_temp").sqlstate(), "42P01");
    assert_eq!(next.query("EXECUTE pool_statement").sqlstate(), "26000");
    assert_eq!(next.value("/*NO LOAD BALANCE*/ SELECT count(*) FROM pg_listening_channels()"), "0");
    let locks = "/*NO LOAD BALANCE*/ SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
    assert_eq!(next.value(locks), "0");
}

#[test]
fn other_startup_parameters_are_not_shared() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut first = pool.connect_with(&[USER, TEST, ("options", "-c work_mem=5MB")]);
    assert_eq!(first.value("SHOW work_mem"), "5MB");
    let pid = primary_pid(&mut first);
    first.close();
    let mut other = pool.connect_with(&[USER, TEST, ("options", "-c work_mem=6MB")]);
    assert_eq!(other.value("SHOW work_mem"), "6MB");
    assert_ne!(primary_pid(&mut other), pid);
    other.close();
}

#[test]
fn parameter_sets_of_one_user_are_pooled_side_by_side() {
    only_ours!("two parameter sets of one user and database evict each other");
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let login = |name: &'static str| {
        let mut session = pool.connect_with(&[USER, TEST, ("application_name", name)]);
        let pid = primary_pid(&mut session);
        session.close();
        pid
    };
    let (one, two) = (login("one"), login("two"));
    assert_ne!(one, two);
    assert_eq!(login("one"), one);
    assert_eq!(login("two"), two);
}

#[test]
fn the_order_of_startup_parameters_does_not_matter() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut first = pool.connect_with(&[USER, TEST, ("application_name", "x")]);
    let pid = primary_pid(&mut first);
    first.close();
    let mut next = pool.connect_with(&[("application_name", "x"), TEST, USER]);
    assert_eq!(primary_pid(&mut next), pid);
}

#[test]
fn connection_cache_off_closes_the_server_connection() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).set("connection_cache", "off").start();
    let mut first = pool.connect();
    let pid = primary_pid(&mut first);
    first.close();
    wait_for("the server connection to be closed", || !is_alive(&pid));
    assert_ne!(primary_pid(&mut pool.connect()), pid);
}

#[test]
fn the_database_postgres_is_not_pooled() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect_with(&[USER, ("database", "postgres")]);
    let pid = primary_pid(&mut session);
    session.close();
    wait_for("the server connection to be closed", || !is_alive(&pid));
}

#[test]
fn max_pool_evicts_the_connection_unused_longest() {
    only_ours!("its clock of use counts whole seconds");
    let pool = Pgpool::on(shared()).set("num_init_children", 1).set("max_pool", 2).start();
    let primary = shared().primary();
    for user in ["pool_a", "pool_b", "pool_c"] {
        primary.sql(&format!("CREATE ROLE {user} LOGIN"));
    }
    shared().wait_replayed();
    let login = |user: &'static str| {
        let mut session = pool.connect_with(&[("user", user), TEST]);
        let pid = primary_pid(&mut session);
        session.close();
        pid
    };
    let (a, b) = (login("pool_a"), login("pool_b"));
    assert_eq!(login("pool_a"), a, "two fit");
    let c = login("pool_c");
    wait_for("pool_b's connection to be closed", || !is_alive(&b));
    assert!(is_alive(&a) && is_alive(&c));
    drop(pool);
    for user in ["pool_a", "pool_b", "pool_c"] {
        primary.sql(&format!("DROP ROLE {user}"));
    }
}

#[test]
fn connection_life_time_closes_idle_server_connections() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).set("connection_life_time", 1).start();
    let mut session = pool.connect();
    let pid = primary_pid(&mut session);
    session.close();
    wait_for("the server connection to expire", || !is_alive(&pid));
}

#[test]
fn a_pooled_connection_that_died_is_replaced() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect();
    let pid = primary_pid(&mut session);
    session.close();
    let kill = format!("SELECT pg_terminate_backend({pid})");
    // The session's end is asynchronous: the server may still be running the reset.
    let idle = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
    wait_for("the reset to finish", || shared().primary().sql(&idle) == "idle");
    shared().primary().sql(&kill);
    wait_for("the server process to end", || !is_alive(&pid));
    let mut next = pool.connect();
    assert_ne!(primary_pid(&mut next), pid);
}

#[test]
fn reserved_connections_refuses_with_a_message() {
    let pool = Pgpool::on(shared()).set("num_init_children", 2).set("reserved_connections", 1).start();
    let _first = pool.connect();
    let mut second = pool.open();
    second.send(startup(0, &[USER, TEST]));
    let refusal = second.read();
    assert_eq!((refusal.kind, refusal.field('C')), (b'E', Some("53300".to_owned())), "{refusal:?}");
    assert_eq!(refusal.field('M').as_deref(), Some("Sorry, too many clients already"));
}

#[test]
fn a_refused_client_is_disconnected() {
    only_ours!("the socket of a refused client stays open");
    let pool = Pgpool::on(shared()).set("num_init_children", 2).set("reserved_connections", 1).start();
    let _first = pool.connect();
    let mut second = pool.open();
    second.send(startup(0, &[USER, TEST]));
    assert!(second.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn a_vanished_client_leaves_no_server_connection() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect();
    let pid = primary_pid(&mut session);
    session.query("BEGIN").succeeded();
    session.query("CREATE TABLE never_committed (id int)").succeeded();
    drop(session);
    wait_for("the server connection to be closed", || !is_alive(&pid));
    let mut next = pool.connect();
    assert_eq!(next.query("SELECT * FROM never_committed").sqlstate(), "42P01");
}

#[test]
fn a_client_that_vanishes_in_a_query_has_it_cancelled() {
    only_ours!("a client's end is noticed only after 30 seconds");
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    session.send(query("CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(300) /* vanished */"));
    let running = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* vanished */'";
        shared().primary().sql(sql) == "1"
    };
    wait_for("the statement to run", running);
    drop(session);
    assert!(eventually(Duration::from_secs(10), || !running()), "the statement goes on without its client");
}

#[test]
fn show_pool_processes_and_pools_list_every_slot() {
    let pool = Pgpool::on(shared()).set("num_init_children", 3).set("max_pool", 2).start();
    let mut session = pool.connect();
    assert_eq!(session.query("SHOW POOL_PROCESSES").succeeded().rows().len(), 3);
    let pools = session.query("SHOW POOL_POOLS").succeeded().rows().len();
    // One row per worker, slot and node: the original lists 128 nodes or only the used ones, by release.
    assert!(pools >= 3 * 2 && pools.is_multiple_of(3 * 2), "{pools} rows");
}
