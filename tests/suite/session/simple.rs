//! The simple protocol, and what servers send unasked (protocol 7).

use std::time::Duration;

use crate::harness::frontend::{function_call, query};
use crate::harness::reading::reading_pool;
use crate::harness::{server_version, shared, wait_for};
use crate::only_ours;

#[test]
fn simple_statements_answer_as_the_server_does() {
    let pool = reading_pool();
    let mut session = pool.connect();
    for (sql, kinds) in [
        ("SELECT 1", "TDCZ"),
        ("", "IZ"),
        ("SELECT n FROM ten WHERE n > 8", "TDDCZ"),
        ("BEGIN", "CZ"),
        ("SELECT 1; SELECT 2", "TDCTDCZ"),
        ("ROLLBACK", "CZ"),
        ("CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1); SELECT * FROM t", "CCTDCZ"),
        ("SELECT 1 / 0", "EZ"),
        ("SELECT 1; SELECT 1 / 0; SELECT 2", "TDCEZ"),
        ("SELEC 1", "EZ"),
        (" ; ", "IZ"),
        ("SHOW work_mem", "TDCZ"),
        ("EXPLAIN (COSTS OFF) SELECT 1", "TDCZ"),
    ] {
        let reply = session.query(sql);
        assert_eq!(reply.kinds(), kinds, "{sql}: {reply:?}");
    }
}

#[test]
fn transactions_report_their_state() {
    let pool = reading_pool();
    let mut session = pool.connect();
    assert_eq!(session.query("BEGIN").state(), 'T');
    assert_eq!(session.query("SELECT n FROM ten LIMIT 1").state(), 'T');
    assert_eq!(session.query("SAVEPOINT s").state(), 'T');
    assert_eq!(session.query("SELECT 1 / 0").state(), 'E');
    assert_eq!(session.query("SELECT 1").sqlstate(), "25P02");
    assert_eq!(session.query("ROLLBACK TO s").state(), 'T');
    assert_eq!(session.query("SELECT n FROM ten LIMIT 1").succeeded().state(), 'T');
    assert_eq!(session.query("COMMIT").state(), 'I');
    session.query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY").succeeded();
    session.query("SELECT n FROM ten LIMIT 1").succeeded();
    assert_eq!(session.query("END").state(), 'I');
}

#[test]
fn a_failed_read_fails_its_transaction_on_every_server() {
    only_ours!("the primary commits when only the standby's read failed");
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_failed (id int)").succeeded();
    session.query("BEGIN").succeeded();
    assert_eq!(session.query("SELECT 1 / 0 FROM ten").sqlstate(), "22012");
    assert_eq!(session.query("INSERT INTO session_failed VALUES (1)").sqlstate(), "25P02");
    let reply = session.query("COMMIT");
    assert_eq!((reply.tags(), reply.state()), (vec!["ROLLBACK".to_owned()], 'I'), "{reply:?}");

    session.query("BEGIN").succeeded();
    session.query("INSERT INTO session_failed VALUES (2)").succeeded();
    session.query("SELECT 1 / 0 FROM ten");
    assert_eq!(session.query("COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(session.query("DELETE FROM session_failed").tags(), ["DELETE 0"]);
    session.query("DROP TABLE session_failed").succeeded();
}

#[test]
fn a_multi_statement_string_is_one_transaction() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_multi (id int)").succeeded();
    let reply =
        session.query("INSERT INTO session_multi VALUES (1); SELECT 1 / 0; INSERT INTO session_multi VALUES (2)");
    assert_eq!(reply.kinds(), "CEZ");
    session.query("BEGIN").succeeded();
    session.query("LOCK TABLE session_multi").succeeded();
    assert_eq!(
        session.value("/*NO LOAD BALANCE*/ SELECT count(*) FROM session_multi"),
        "0",
        "the first was undone too"
    );
    session.query("COMMIT").succeeded();
    let reply =
        session.query("SELECT n FROM ten WHERE n = 1; INSERT INTO session_multi VALUES (3) RETURNING id").succeeded();
    assert_eq!(reply.column(), ["1", "3"]);
    session.query("DROP TABLE session_multi").succeeded();
}

#[test]
fn notifications_arrive_also_while_idle() {
    let pool = reading_pool();
    let mut listener = pool.connect();
    listener.query("LISTEN session_channel").succeeded();
    pool.connect().query("NOTIFY session_channel, 'one'").succeeded();
    let message = listener.read();
    assert_eq!((message.kind, message.body[4..].to_vec()), (b'A', b"session_channel\0one\0".to_vec()));
    let reply = listener.query("NOTIFY session_channel, 'self'").succeeded();
    assert_eq!(reply.all('A').count(), 1, "{reply:?}");
}

#[test]
fn notices_are_relayed() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let reply = session.query("DO $$ BEGIN RAISE NOTICE 'a word'; RAISE WARNING 'another'; END $$").succeeded();
    assert_eq!(reply.kinds(), "NNCZ");
    assert_eq!(reply.all('N').next().and_then(|notice| notice.field('M')).as_deref(), Some("a word"));
    session.query("SET client_min_messages = error").succeeded();
    assert_eq!(session.query("DO $$ BEGIN RAISE NOTICE 'a word'; END $$").succeeded().kinds(), "CZ");
}

#[test]
fn errors_carry_every_field_of_the_server() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let sql = "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'P0042', TABLE = 't'; END $$";
    let reply = session.query(sql);
    let error = reply.error().expect("an error");
    let fields: Vec<_> = "SVCMDHt".chars().map(|code| error.field(code).unwrap_or_default()).collect();
    assert_eq!(fields, ["ERROR", "ERROR", "P0042", "m", "d", "h", "t"]);
}

#[test]
fn settings_are_reported_once() {
    only_ours!("every server's report is relayed");
    let pool = reading_pool();
    let mut session = pool.connect();
    let reply = session.query("SET application_name = 'renamed'").succeeded();
    let told = if server_version() < 14 { "SCZ" } else { "CSZ" };
    assert_eq!(reply.kinds(), told);
    assert_eq!(session.parameters["application_name"], "renamed");
    assert_eq!(session.query("SET DateStyle = 'German'").succeeded().kinds(), told);
    // The setting reaches the other server with the next read, which is not the client's business.
    let reply = session.query("SELECT date '2024-02-29' FROM ten LIMIT 1").succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("TDCZ", vec!["29.02.2024".to_owned()]));
}

#[test]
fn sql_cursors_and_large_objects_work_in_a_transaction() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    session.query("DECLARE c CURSOR FOR SELECT n FROM ten ORDER BY n").succeeded();
    assert_eq!(session.query("FETCH 3 FROM c").succeeded().column(), ["1", "2", "3"]);
    assert_eq!(session.query("MOVE 2 IN c").succeeded().tags(), ["MOVE 2"]);
    assert_eq!(session.query("FETCH c").succeeded().column(), ["6"]);
    session.query("CLOSE c").succeeded();
    let oid = session.value("SELECT lo_create(0)");
    let descriptor = session.value(&format!("SELECT lo_open({oid}, 131072)"));
    assert_eq!(session.value(&format!("SELECT lowrite({descriptor}, 'abcdef')")), "6");
    session.query(&format!("SELECT lo_close({descriptor})")).succeeded();
    assert_eq!(session.value(&format!("SELECT lo_get({oid})")), "\\x616263646566");
    session.query(&format!("SELECT lo_unlink({oid})")).succeeded();
    session.query("COMMIT").succeeded();
}

#[test]
fn sql_prepare_and_execute() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("PREPARE p (int) AS SELECT n FROM ten WHERE n = $1").succeeded();
    assert_eq!(session.value("EXECUTE p (4)"), "4");
    session.query("DEALLOCATE p").succeeded();
    assert_eq!(session.query("EXECUTE p (4)").sqlstate(), "26000");
    session.query("PREPARE p AS SELECT 5").succeeded();
    assert_eq!(session.value("EXECUTE p"), "5");
    session.query("DISCARD ALL").succeeded();
    assert_eq!(session.query("EXECUTE p").sqlstate(), "26000");
}

#[test]
fn simple_queries_sent_ahead_are_answered_in_order() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let queries: Vec<u8> = (0..50).flat_map(|i| query(&format!("SELECT {i} FROM ten LIMIT 1"))).collect();
    session.send(queries);
    for i in 0..50 {
        assert_eq!(session.read_until('Z').first_value(), Some(i.to_string()));
    }
}

#[test]
fn function_calls() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let oid = session.value("SELECT 'pg_catalog.int4pl'::regproc::oid").parse().expect("an oid");
    let reply = session.ask(function_call(oid, &["40", "2"])).succeeded();
    assert_eq!((reply.kinds().as_str(), &reply.0[0].body[4..]), ("VZ", &b"42"[..]));
    let reply = session.ask(function_call(1, &[]));
    assert_eq!(reply.kinds(), "EZ");
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn temporary_tables_are_read_where_they_are() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE mine (id int)").succeeded();
    session.query("INSERT INTO mine VALUES (1)").succeeded();
    assert_eq!(session.value("SELECT id FROM mine"), "1");
    only_ours!("COPY of a temporary table may go to a standby");
    assert_eq!(session.query("COPY mine TO STDOUT").succeeded().kinds(), "HdcCZ");
}

#[test]
fn a_terminated_server_process_ends_the_session_with_its_reason() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let pid = session.value("/*NO LOAD BALANCE*/ SELECT pg_backend_pid()");
    session.query("BEGIN").succeeded();
    session.send(query("CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(100)"));
    let active = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
    wait_for("the statement to run", || shared().primary().sql(&active) == "active");
    shared().primary().sql(&format!("SELECT pg_terminate_backend({pid})"));
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
    assert!(session.is_closed_within(Duration::from_secs(10)));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}
