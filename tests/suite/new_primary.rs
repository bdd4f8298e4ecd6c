//! Sessions outlive their primary: between transactions, with all that they have set (failover 6.5, 6.6).

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::frontend::{bind, execute, parse, query, sync};
use crate::harness::{Cluster, LOGIN, Pgpool, Stop, Wire, wait_for};
use crate::only_ours;

const PORT: &str = "SELECT current_setting('port')";

/// A pgpool that promotes node 1 `delay` seconds after node 0 is lost.
fn failing_over(cluster: &Cluster, delay: &str) -> Pgpool {
    let mut pool = Pgpool::on(cluster)
        .set("health_check_period", 1)
        .set("health_check_timeout", 2)
        .set("health_check_user", "postgres")
        .set("search_primary_node_timeout", 10)
        .set("num_init_children", 16)
        .weights(&[1.0, 0.0])
        .prepare();
    pool.set_script("failover_command", &format!("sleep {delay}; {}", cluster.node(1).promotion()));
    pool.started()
}

fn end_node_0(cluster: &Cluster, how: &str) {
    match how {
        "fast" => cluster.node(0).stop(Stop::Fast),
        "immediate" => cluster.node(0).stop(Stop::Immediate),
        _ => cluster.node(0).kill(),
    }
}

/// Sessions that have lost their primary and go on. A statement that is sent before the loss is noticed is lost with it.
fn losses(pool: &Pgpool) -> usize {
    pool.log().matches("the session has lost DB node 0, which writes").count()
}

#[test]
fn an_idle_session_goes_on_with_the_new_primary_and_all_it_has_set() {
    only_ours!("sessions are killed");
    for how in ["fast", "immediate", "kill"] {
        let cluster = Cluster::streaming(2).start();
        let pool = failing_over(&cluster, "0.3");
        let mut session = pool.connect();
        session.query("SET work_mem = '5MB'").succeeded();
        for sql in [
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET SESSION CHARACTERISTICS AS TRANSACTION DEFERRABLE",
        ] {
            session.query(sql).succeeded();
        }
        for sql in ["BEGIN", "SET work_mem = '6MB'", "ROLLBACK", "BEGIN", "SET LOCAL work_mem = '7MB'", "COMMIT"] {
            session.query(sql).succeeded();
        }
        session.query("SET DateStyle = 'German'").succeeded();
        session.query("PREPARE by_sql(int) AS SELECT $1 + 1").succeeded();
        session.ask([parse("by_parse", "SELECT $1::int + 2", &[23]), sync()].concat()).succeeded();
        session.query("CREATE TABLE notes (i int)").succeeded();
        let mut reader = pool.connect();
        assert_eq!(reader.value("SELECT count(*) FROM notes"), "0");
        cluster.wait_replayed();
        end_node_0(&cluster, how);
        wait_for("both to notice", || losses(&pool) == 2);
        // Sent before anybody knows who the primary will be.
        session.send(query(PORT));
        assert_eq!(session.read_until('Z').first_value(), Some(cluster.node(1).port.to_string()), "{how}");
        session.query("INSERT INTO notes VALUES (1)").succeeded();
        assert_eq!(session.value("SHOW work_mem"), "5MB");
        assert_eq!(session.value("SHOW default_transaction_isolation"), "repeatable read");
        assert_eq!(session.value("SHOW default_transaction_deferrable"), "on");
        assert_eq!(session.value("SHOW DateStyle"), "German, DMY");
        assert_eq!(session.value("EXECUTE by_sql(1)"), "2");
        let reply = session.ask([bind("", "by_parse", &[Some("1")]), execute("", 0), sync()].concat());
        assert_eq!((reply.kinds().as_str(), reply.first_value().as_deref()), ("2DCZ", Some("3")), "{how}");
        session.query("DEALLOCATE by_sql").succeeded();
        assert_eq!(reader.value("SELECT count(*) FROM notes"), "1");
    }
}

#[test]
fn pgpool_tells_of_itself_while_there_is_no_primary() {
    only_ours!("sessions are killed");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("failover_wait_timeout", 600).start();
    let mut session = pool.connect();
    cluster.node(0).stop(Stop::Fast);
    wait_for("it to be noticed", || losses(&pool) == 1);
    let run = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
    let version = || run("SHOW POOL_VERSION");
    assert_eq!(session.query("SHOW POOL_VERSION").kinds(), "TDCZ");
    assert_eq!(session.ask([version(), version(), sync()].concat()).kinds(), "12DC12DCZ");
    // A refusal ends its batch, and no more.
    assert_eq!(session.ask([run("PGPOOL SET port TO 1"), version(), sync()].concat()).kinds(), "12EZ");
    assert_eq!(session.ask([version(), sync()].concat()).kinds(), "12DCZ");
    // Behind it a statement for a server waits for one.
    session.send([version(), run(PORT), sync()].concat());
    cluster.node(0).start();
    let reply = session.read_until('Z');
    assert_eq!(reply.kinds(), "12DC12DCZ");
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn what_a_new_primary_cannot_have_ends_with_the_old_one() {
    only_ours!("sessions are killed");
    let cluster = Cluster::streaming(2).start();
    let pool = failing_over(&cluster, "0");
    let leave = [
        "CREATE TEMP TABLE mine (i int)",
        "LISTEN something",
        "SELECT pg_advisory_lock(1)",
        "SELECT set_config('app.user', 'me', false)",
        "DO 'BEGIN PERFORM 1; END'",
        "SELECT 1 INTO TEMP also_mine",
        "BEGIN",
        "SELECT pg_catalog.lo_create(0)",
        "SET search_path = pg_temp, public",
        "UPDATE pg_settings SET setting = '5MB' WHERE name = 'work_mem'",
    ];
    let open = |sql: &&str| {
        let mut session = pool.connect();
        session.query(sql).succeeded();
        session
    };
    let mut rooted: Vec<Wire> = leave.iter().map(open).collect();
    // DISCARD ALL is a new beginning, but not for what is sent behind it.
    let mut clean = open(&"CREATE TEMP TABLE mine (i int)");
    clean.query("DISCARD ALL").succeeded();
    let mut behind = pool.connect();
    behind.send([query("DISCARD ALL"), query("SELECT pg_advisory_lock(2)")].concat());
    behind.read_until('Z').succeeded();
    behind.read_until('Z').succeeded();
    rooted.push(behind);
    cluster.node(0).kill();
    let leave = leave.into_iter().chain(["a lock behind DISCARD ALL"]);
    for (session, sql) in rooted.iter_mut().zip(leave) {
        let end = session.read_until('E');
        assert!(matches!(end.sqlstate().as_str(), "57P01" | "08006"), "{sql}: {}", end.sqlstate());
    }
    wait_for("the loss to be noticed", || losses(&pool) == 1);
    assert_eq!(clean.value(PORT), cluster.node(1).port.to_string());
}

#[test]
fn a_session_whose_server_process_is_terminated_ends() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[1.0, 0.0]).start();
    let mut session = pool.connect();
    let pid = session.value("SELECT pg_backend_pid()");
    assert_eq!(cluster.node(0).sql(&format!("SELECT pg_terminate_backend({pid})")), "t");
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
}

#[test]
fn a_session_goes_on_behind_a_restart_of_its_server() {
    only_ours!("sessions are killed");
    let cluster = Cluster::independent(1).start();
    let pool = Pgpool::on(&cluster).start();
    let mut session = pool.connect();
    session.query("SET search_path = pg_catalog").succeeded();
    cluster.node(0).stop(Stop::Fast);
    wait_for("the loss to be noticed", || losses(&pool) == 1);
    session.send(query("SHOW search_path"));
    assert!(session.read_within(Duration::from_millis(200)).is_err(), "it waits");
    cluster.node(0).start();
    assert_eq!(session.read_until('Z').first_value().as_deref(), Some("pg_catalog"));
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn the_wait_for_a_primary_is_bounded_and_can_be_switched_off() {
    only_ours!("sessions are killed");
    let cluster = Cluster::independent(1).start();
    let patient = Pgpool::on(&cluster).set("failover_wait_timeout", 1).start();
    let impatient = Pgpool::on(&cluster).set("failover_wait_timeout", 0).start();
    let (mut waiting, mut ending) = (patient.connect(), impatient.connect());
    cluster.node(0).stop(Stop::Immediate);
    let end = ending.read_until('E');
    assert!(matches!(end.sqlstate().as_str(), "57P01" | "08006"), "{}", end.sqlstate());
    wait_for("the loss to be noticed", || losses(&patient) == 1);
    let begun = Instant::now();
    waiting.send(query("SELECT 1"));
    let end = waiting.read_until('E');
    let error = end.error().expect("error");
    assert_eq!(error.field('C').as_deref(), Some("08006"));
    assert_eq!(error.field('M').as_deref(), Some("terminating connection because there was no primary for 1 seconds"));
    assert!(error.field('D').is_some_and(|detail| detail.contains("DB node 0 was lost: ")), "{error:?}");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(10), "{waited:?}");
    // Goodbye is said without a server, and the worker is free for the next client.
    cluster.node(0).start();
    wait_for("the service", || Wire::login(patient.port).is_ok_and(|mut session| session.value("SELECT 1") == "1"));
}

#[test]
fn a_client_that_leaves_while_it_waits_frees_its_worker() {
    only_ours!("sessions are killed");
    let cluster = Cluster::independent(1).start();
    let pool = Pgpool::on(&cluster).set("num_init_children", 1).start();
    let mut session = pool.connect();
    cluster.node(0).stop(Stop::Immediate);
    wait_for("the loss to be noticed", || losses(&pool) == 1);
    session.send(query("SELECT 1"));
    drop(session);
    cluster.node(0).start();
    let begun = Instant::now();
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_promoted_load_balance_node_becomes_the_primary_of_its_sessions() {
    only_ours!("sessions are killed");
    let cluster = Cluster::streaming(2).start();
    let pool = failing_over(&cluster, "0");
    let mut session = pool.connect();
    session.query("SET work_mem = '7MB'").succeeded();
    session.query("/*NO LOAD BALANCE*/ SELECT 1").succeeded();
    cluster.node(0).stop(Stop::Fast);
    wait_for("the loss to be noticed", || losses(&pool) == 1);
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    session.query("CREATE TABLE there (i int)").succeeded();
    session.query("BEGIN").succeeded();
    session.query("INSERT INTO there VALUES (1)").succeeded();
    assert_eq!(session.value("SELECT count(*) FROM there"), "1");
    session.query("COMMIT").succeeded();
    assert_eq!(session.value("SHOW work_mem"), "7MB");
    // The pool takes it like any other connection.
    session.close();
    let mut next = pool.connect();
    assert_eq!(next.value("SELECT count(*) FROM there"), "1");
    assert_eq!(next.value("SHOW work_mem"), "4MB");
}

#[test]
fn a_new_session_waits_for_the_verdict_on_a_primary_that_does_not_answer() {
    only_ours!("sessions are refused");
    let cluster = Cluster::streaming(2).start();
    let pool = failing_over(&cluster, "0.3");
    cluster.node(0).kill();
    // Nobody knows of it yet.
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    session.query("CREATE TABLE at_once (i int)").succeeded();
}

#[test]
fn a_new_session_is_refused_at_once_when_nobody_watches_the_primary() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("failover_on_backend_error", "off").start();
    cluster.node(0).kill();
    let begun = Instant::now();
    let refusal = pool.open().start(LOGIN).expect_err("no primary").to_string();
    assert!(refusal.contains("failed to create a backend 0 connection"), "{refusal}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_setting_that_the_new_primary_refuses_is_told() {
    only_ours!("sessions are killed");
    let cluster = Cluster::streaming(2).start();
    let pool = failing_over(&cluster, "0");
    cluster.node(0).sql("CREATE ROLE passing");
    let mut session = pool.connect();
    session.query("SET ROLE passing").succeeded();
    cluster.node(0).sql("DROP ROLE passing");
    cluster.wait_replayed();
    cluster.node(0).stop(Stop::Fast);
    wait_for("the loss to be noticed", || losses(&pool) == 1);
    session.send(query("SELECT 1"));
    let end = session.read_until('E');
    let error = end.error().expect("error");
    assert_eq!(
        error.field('M').as_deref(),
        Some("terminating connection because DB node 1 does not take the session's settings")
    );
    assert!(error.field('D').is_some_and(|detail| detail.contains("role \"passing\" does not exist")), "{error:?}");
}

#[test]
fn a_killed_session_ends_even_if_its_server_has_no_place_for_another() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[1.0, 0.0]).start();
    cluster.node(0).sql("CREATE ROLE single LOGIN CONNECTION LIMIT 1");
    let mut session = pool.connect_with(&[("user", "single"), ("database", "postgres")]);
    let pid = session.value("SELECT pg_backend_pid()");
    // Its place is taken before anybody can look.
    cluster.node(0).sql("ALTER ROLE single CONNECTION LIMIT 0");
    assert_eq!(cluster.node(0).sql(&format!("SELECT pg_terminate_backend({pid})")), "t");
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
}

#[test]
fn new_sessions_are_told_when_the_successor_takes_too_long() {
    only_ours!("sessions wait for ever");
    let cluster = Cluster::streaming(2).start();
    let mut pool = failing_over(&cluster, "3");
    pool.set("failover_wait_timeout", 1);
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("reload config files."));
    cluster.node(0).kill();
    wait_for("the degeneration", || pool.log().contains("=== Starting degeneration."));
    let refusal = pool.open().start(LOGIN).expect_err("no primary").to_string();
    assert!(refusal.contains("there was no primary for 1 seconds"), "{refusal}");
    wait_for("the end of the failover", || pool.log().contains("=== Failover done."));
    assert_eq!(pool.connect().value(PORT), cluster.node(1).port.to_string());
}
