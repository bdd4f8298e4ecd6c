//! Pipelines, failures and two servers together: each a sequence that once lost, doubled or misplaced something.

use crate::harness::frontend::{bind, close_statement, execute, flush, parse, query, run, sync};
use crate::harness::reading::{READ, connect_as, primary, reading_pool, standby};
use crate::harness::{Cluster, Pgpool, shared, wait_for};
use crate::only_ours;

/// Ends the server process of this application on the standby.
fn lose_standby(application: &str) {
    let of_it = format!("FROM pg_stat_activity WHERE application_name = '{application}'");
    shared().node(2).sql(&format!("SELECT pg_terminate_backend(pid) {of_it}"));
    wait_for("the process to end", || shared().node(2).sql(&format!("SELECT count(*) {of_it}")) == "0");
}

#[test]
fn a_long_parse_replaces_the_unnamed_statement() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS inter_long; CREATE TABLE inter_long (a text)").succeeded();
    session.query("BEGIN").succeeded();
    assert_eq!(session.ask([run(READ), sync()].concat()).succeeded().column(), [standby()]);
    let long = format!("INSERT INTO inter_long VALUES ('{}')", "x".repeat(3 << 19));
    session.send(parse("", &long, &[]));
    let reply = session.ask([bind("", "", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.tags(), ["INSERT 0 1"]);
    session.query("COMMIT").succeeded();
    assert_eq!(session.value("/* primary */ SELECT count(*) FROM inter_long"), "1");
    session.query("DROP TABLE inter_long").succeeded();
}

#[test]
fn sql_prepared_statements_are_followed_in_the_extended_protocol() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.ask([run(&format!("PREPARE e AS {READ}")), sync()].concat()).succeeded();
    assert_eq!(session.ask([run("EXECUTE e"), sync()].concat()).succeeded().column(), [standby()]);
    assert_eq!(session.value("EXECUTE e"), standby());
    session.query("BEGIN").succeeded();
    session.query("CREATE TEMP TABLE inter_temp (a int)").succeeded();
    assert_eq!(session.ask([run("EXECUTE e"), sync()].concat()).succeeded().column(), [primary()]);
    session.query("ROLLBACK").succeeded();
    session.ask([run("DEALLOCATE e"), sync()].concat()).succeeded();
    assert_eq!(session.query("EXECUTE e").sqlstate(), "26000");
    assert_eq!(session.value(READ), standby());
    // A driver's statement, deallocated in SQL and prepared anew in one pipeline.
    session.ask([parse("a", READ, &[]), sync()].concat()).succeeded();
    let anew = [run("DEALLOCATE a"), parse("a", "SELECT 'new' FROM ten LIMIT 1", &[]), sync()];
    session.ask(anew.concat()).succeeded();
    let reply = session.ask([bind("", "a", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.column(), ["new"]);
    session.send(query("DEALLOCATE ALL"));
    session.send([parse("a", READ, &[]), bind("", "a", &[]), execute("", 0), sync()].concat());
    session.read_until('Z').succeeded();
    assert_eq!(session.read_until('Z').succeeded().column(), [standby()]);
    let reply = session.ask([bind("", "a", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.column(), [standby()]);
}

#[test]
fn a_refused_close_closes_nothing() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.ask([parse("a", READ, &[]), sync()].concat()).succeeded();
    let refused = [parse("", "bad", &[]), close_statement("a"), sync()];
    assert_eq!(session.ask(refused.concat()).kinds(), "EZ");
    let reply = session.ask([bind("", "a", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.column(), [standby()]);
    session.query("BEGIN").succeeded();
    assert_eq!(session.query("SELECT 1 / 0").state(), 'E');
    assert_eq!(session.query("DEALLOCATE a").sqlstate(), "25P02");
    session.query("ROLLBACK").succeeded();
    assert_eq!(session.ask([bind("", "a", &[]), execute("", 0), sync()].concat()).succeeded().column(), [standby()]);
}

#[test]
fn what_a_savepoint_undoes_stays_undone_everywhere() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let setting = "SELECT current_setting('work_mem') || ' ' || current_setting('port') FROM ten WHERE n = 1";
    for before in [true, false] {
        session.query("SET work_mem = '1MB'").succeeded();
        session.query("BEGIN").succeeded();
        session.query("SAVEPOINT s").succeeded();
        session.query("SET work_mem = '2MB'").succeeded();
        if before {
            session.query(setting).succeeded();
        }
        session.query("ROLLBACK TO s").succeeded();
        session.query("COMMIT").succeeded();
        assert_eq!(session.value(setting), format!("1MB {}", standby()));
    }
}

#[test]
fn a_lost_standby_with_half_a_batch_ends_the_session_with_an_error() {
    only_ours!("it hangs");
    let pool = reading_pool();
    let mut session = connect_as(&pool, "inter_half");
    session.value(READ);
    session.send([run(READ), flush()].concat());
    assert_eq!(session.read_some(4).kinds(), "12DC");
    lose_standby("inter_half");
    session.try_send(&sync()).expect("sent");
    let mut kinds = String::new();
    while let Ok(Some(message)) = session.try_read() {
        kinds.push(char::from(message.kind));
    }
    assert_eq!(kinds, "E", "an error, then the end");
}

#[test]
fn a_query_behind_an_open_batch_goes_where_it_must() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS inter_behind; CREATE TABLE inter_behind (a int)").succeeded();
    session.value(READ);
    session.send([run(READ), flush()].concat());
    assert_eq!(session.read_some(4).kinds(), "12DC");
    assert_eq!(session.query("INSERT INTO inter_behind VALUES (1)").succeeded().tags(), ["INSERT 0 1"]);
    session.send([run(READ), flush()].concat());
    assert_eq!(session.read_some(4).kinds(), "12DC");
    assert_eq!(session.query("BEGIN").succeeded().state(), 'T');
    session.query("INSERT INTO inter_behind VALUES (2)").succeeded();
    session.query("ROLLBACK").succeeded();
    assert_eq!(session.value("/* primary */ SELECT count(*) FROM inter_behind"), "1");
    session.query("DROP TABLE inter_behind").succeeded();
}

#[test]
fn a_write_in_front_of_begin_is_seen_behind_it() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS inter_front; CREATE TABLE inter_front (a int)").succeeded();
    session.ask([run("INSERT INTO inter_front VALUES (1)"), run("BEGIN"), sync()].concat()).succeeded();
    assert_eq!(session.value("SELECT count(*) FROM inter_front"), "1");
    session.query("COMMIT").succeeded();
    session.query("DROP TABLE inter_front").succeeded();
}

#[test]
fn a_notification_during_a_look_up_reaches_the_client() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("LISTEN inter_channel").succeeded();
    session.query("DROP TABLE IF EXISTS inter_new; CREATE TABLE inter_new AS SELECT 1 AS a").succeeded();
    shared().wait_replayed();
    shared().primary().sql("NOTIFY inter_channel, 'hello'");
    // The look-up of the new table may meet it on its way, or the session while it is idle.
    session.send(query("SELECT a FROM inter_new"));
    let reply = session.read_until('Z').succeeded();
    let heard = reply.all('A').count() == 1 || session.read().kind == b'A';
    assert!(heard);
    session.query("DROP TABLE inter_new").succeeded();
}

#[test]
fn statement_level_balance_joins_a_node_that_cannot_follow_only_once() {
    only_ours!("ends the session");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).set("statement_level_load_balance", "on").start();
    let mut session = pool.connect();
    session.query("CREATE TABLE t AS SELECT 1 AS a").succeeded();
    cluster.wait_replayed();
    let node = cluster.node(1);
    node.sql("SELECT pg_wal_replay_pause()");
    session.query("CREATE ROLE late; GRANT SELECT ON t TO late").succeeded();
    session.query("SET ROLE late").succeeded();
    for _ in 0..3 {
        let batch = [run("BEGIN"), run("SELECT a FROM t"), sync()].concat();
        assert_eq!(session.ask(batch).succeeded().column(), ["1"]);
        session.query("ROLLBACK").succeeded();
    }
    node.sql("SELECT pg_wal_replay_resume()");
    assert_eq!(pool.log().matches("cannot follow the session").count(), 1);
}
