//! Reads that are sent again elsewhere when their standby cannot answer them.

use crate::harness::frontend::{bind, close_statement, describe_portal, execute, parse, query, sync};
use crate::harness::reading::{READ, connect_as, primary, reading_pool, standby};
use crate::harness::{Cluster, Pgpool, Stop, Wire, shared, wait_for};
use crate::only_ours;

/// Makes a function that says it only reads, and writes, as nobody can see who looks at it.
fn make_hidden_write(session: &mut Wire, name: &str) {
    let sql = "CREATE SEQUENCE hidden_sequence;
         CREATE FUNCTION hidden_inner() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('hidden_sequence') $$;
         CREATE FUNCTION hidden() RETURNS bigint STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN hidden_inner(); END $$";
    session.query(&sql.replace("hidden", name)).succeeded();
    shared().wait_replayed();
}

fn drop_hidden_write(session: &mut Wire, name: &str) {
    let sql = "DROP FUNCTION hidden(); DROP FUNCTION hidden_inner(); DROP SEQUENCE hidden_sequence";
    session.query(&sql.replace("hidden", name)).succeeded();
}

/// A session in a role that exists on the primary only, since the standby, node 1, does not replay for the moment.
fn in_late_role(cluster: &Cluster, pool: &Pgpool) -> Wire {
    let mut session = pool.connect();
    session.value(READ);
    cluster.node(1).sql("SELECT pg_wal_replay_pause()");
    session.query("CREATE ROLE late; GRANT SELECT ON ten TO late").succeeded();
    session.query("SET ROLE late").succeeded();
    session
}

#[test]
fn a_write_that_looked_like_a_read_is_sent_again() {
    only_ours!("the original relays the error");
    let pool = reading_pool();
    let mut session = pool.connect();
    make_hidden_write(&mut session, "tx_hidden");
    assert_eq!(session.value("SELECT tx_hidden() FROM ten WHERE n = 1"), "1");
    assert!(pool.log().contains("refused a statement as a write"), "{}", pool.log());
    assert_eq!(session.value("SELECT tx_hidden() FROM ten WHERE n = 1"), "2");
    assert_eq!(pool.log().matches("refused a statement as a write").count(), 1, "the second one goes to the primary");
    let batch =
        [parse("h", "SELECT tx_hidden() + 0 FROM ten LIMIT 1", &[]), bind("", "h", &[]), execute("", 0), sync()];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12DCZ", vec!["3".to_owned()]));
    let again = [bind("", "h", &[]), describe_portal(""), execute("", 0), close_statement("h"), sync()];
    assert_eq!(session.ask(again.concat()).succeeded().kinds(), "2TDC3Z");
    assert_eq!(session.value(READ), standby());
    // Inside a transaction block the server's word stands.
    session.query("BEGIN").succeeded();
    let reply = session.query("SELECT tx_hidden() + 1 FROM ten WHERE n = 1");
    assert_eq!((reply.sqlstate().as_str(), reply.state()), ("25006", 'E'));
    session.query("ROLLBACK").succeeded();
    drop_hidden_write(&mut session, "tx_hidden");
}

#[test]
fn pipelined_reads_are_all_answered_when_one_of_them_turns_out_to_write() {
    only_ours!("the original relays the error");
    let pool = reading_pool();
    let mut session = pool.connect();
    make_hidden_write(&mut session, "inter_hidden");
    let hidden = "SELECT inter_hidden() FROM ten WHERE n = 1";
    session.send([query(READ), query(hidden), query(READ)].concat());
    assert_eq!(session.read_until('Z').succeeded().column(), [standby()]);
    // The second one has company, so the server's word stands.
    assert_eq!(session.read_until('Z').sqlstate(), "25006");
    assert_eq!(session.read_until('Z').succeeded().column(), [standby()]);
    drop_hidden_write(&mut session, "inter_hidden");
}

#[test]
fn a_table_that_a_standby_has_not_got_yet_is_read_on_the_primary() {
    only_ours!("the original relays the error");
    // A cluster of its own: replay is paused for a while.
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).start();
    let mut session = pool.connect();
    let node = cluster.node(1);
    node.sql("SELECT pg_wal_replay_pause()");
    session.query("CREATE TABLE tx_behind AS SELECT 7 AS a").succeeded();
    let answer = session.query("SELECT a FROM tx_behind");
    node.sql("SELECT pg_wal_replay_resume()");
    assert_eq!(answer.succeeded().column(), ["7"]);
    session.query("DROP TABLE tx_behind").succeeded();
}

#[test]
fn a_read_goes_on_elsewhere_when_its_standby_ends() {
    only_ours!("the original ends the session");
    let pool = reading_pool();
    for in_block in [false, true] {
        let mut session = connect_as(&pool, "tx_lost");
        if in_block {
            session.query("BEGIN").succeeded();
        }
        assert_eq!(session.value(READ), standby());
        shared().node(2).sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tx_lost' AND pid <> pg_backend_pid()",
        );
        let answer = session.value(READ);
        assert!([primary(), standby()].contains(&answer), "{answer}");
    }
}

#[test]
fn a_setting_that_a_standby_cannot_follow_costs_the_standby_only() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).start();
    let primary = cluster.primary().port.to_string();
    let mut session = in_late_role(&cluster, &pool);
    let answer = session.query(READ);
    cluster.node(1).sql("SELECT pg_wal_replay_resume()");
    assert_eq!(answer.succeeded().column(), [primary]);
    assert_eq!(session.value("SELECT current_user || '' FROM ten WHERE n = 1"), "late");
}

#[test]
fn pipelined_reads_survive_a_standby_that_cannot_follow() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).start();
    let primary = cluster.primary().port.to_string();
    let mut session = in_late_role(&cluster, &pool);
    session.send([query(READ), query(READ), query("SELECT current_user FROM ten WHERE n = 1")].concat());
    let answers = [(); 3].map(|()| session.read_until('Z'));
    cluster.node(1).sql("SELECT pg_wal_replay_resume()");
    let answers = answers.map(|answer| answer.succeeded().column().concat());
    assert_eq!(answers, [primary.clone(), primary, "late".to_owned()]);
    assert_eq!(pool.log().matches("cannot follow the session").count(), 1, "it is not asked again and again");
}

/// In an immediate stop or a crash a server sends what it has got ready, in front of its farewell.
#[test]
fn an_answer_that_a_standby_has_only_begun_comes_from_the_primary() {
    only_ours!("the original ends the session");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).set("read_only_function_list", "pg_.*").start();
    let mut session = pool.connect();
    let mut watcher = cluster.node(1).connect();
    let read = "SELECT n, CASE WHEN n > 3 AND pg_is_in_recovery() THEN pg_sleep(600) END FROM ten";
    session.send(query(read));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    wait_for("the standby to have three rows", || watcher.value(sleeping) == "1");
    cluster.node(1).stop(Stop::Immediate);
    let reply = session.read_until('Z');
    assert_eq!(reply.succeeded().kinds(), "TDDDDDDDDDDCZ", "{}", pool.log());
}
