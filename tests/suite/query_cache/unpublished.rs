//! Writes that have come into force although their statement was not answered by CommandComplete: rows left to fetch, an error
//! behind a commit, a function called by its OID.

use super::{caching, is_hit, is_kept, make};
use crate::harness::frontend::{bind, execute, function_call, parse, query, sync};
use crate::harness::{Wire, server_version, shared, wait_for};
use crate::only_ours;

/// What `write` does is seen by `reader`, who is given the answer to `read` from the cache before.
fn assert_seen(reader: &mut Wire, read: &str, what: &str, write: impl FnOnce()) {
    let before = reader.value(read);
    assert!(is_kept(reader, read), "before {what}");
    write();
    let now = shared().primary().sql(read);
    assert_ne!(now, before, "{what} does nothing");
    assert_eq!(reader.value(read), now, "after {what}");
}

fn extended(sql: &str, limit: u32) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", limit)].concat()
}

#[test]
fn a_write_is_in_force_however_few_of_its_rows_were_fetched() {
    only_ours!("the original looks at CommandComplete");
    make(
        "DROP TABLE IF EXISTS qcp1; DROP FUNCTION IF EXISTS qcp1_write",
        "CREATE TABLE qcp1 (a int); CREATE FUNCTION qcp1_write(int) RETURNS int LANGUAGE sql AS \
         'INSERT INTO qcp1 VALUES ($1) RETURNING a'",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcp1";
    for sql in [
        "INSERT INTO qcp1 SELECT generate_series(1, 3) RETURNING a",
        "INSERT INTO qcp1 VALUES (1) RETURNING a",
        "WITH x AS (INSERT INTO qcp1 SELECT generate_series(1, 3) RETURNING a) SELECT * FROM x",
        "SELECT qcp1_write(i) FROM generate_series(1, 3) AS i",
    ] {
        assert_seen(&mut reader, read, sql, || {
            let reply = writer.ask([extended(sql, 1), sync()].concat()).succeeded();
            assert_eq!(reply.kinds(), "12DsZ");
        });
        assert_seen(&mut reader, read, sql, || {
            writer.query("BEGIN").succeeded();
            writer.ask([extended(sql, 1), sync()].concat()).succeeded();
            writer.query("COMMIT").succeeded();
        });
    }
}

#[test]
fn what_a_procedure_has_committed_stays_whatever_it_fails_of() {
    only_ours!("the original does not know what CALL and DO do");
    const FAILURES: [(&str, &str); 3] = [
        ("42601", "EXECUTE 'gibberish'"),
        ("26000", "RAISE 'x' USING ERRCODE = '26000'"),
        ("34000", "RAISE 'x' USING ERRCODE = '34000'"),
    ];
    let body = |failure: &str| format!("BEGIN INSERT INTO qcp2 VALUES (1); COMMIT; {failure}; END");
    let procedures = FAILURES.map(|(code, failure)| {
        format!("CREATE OR REPLACE PROCEDURE qcp2_{code}() LANGUAGE plpgsql AS $${}$$; ", body(failure))
    });
    make("DROP TABLE IF EXISTS qcp2", &format!("CREATE TABLE qcp2 (a int); {}", procedures.concat()));
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcp2";
    for (code, failure) in FAILURES {
        let (call, block) = (format!("CALL qcp2_{code}()"), format!("DO $${}$$", body(failure)));
        for message in
            [query(&call), query(&block), [extended(&call, 0), sync()].concat(), [extended(&block, 0), sync()].concat()]
        {
            assert_seen(&mut reader, read, &call, || assert_eq!(writer.ask(message).sqlstate(), code));
        }
        // Behind it the server does not understand something, and has done nothing for that.
        assert_seen(&mut reader, read, &call, || {
            writer.send([query(&call), query("gibberish")].concat());
            assert_eq!([0, 1].map(|_| writer.read_until('Z').sqlstate()), [code, "42601"]);
        });
    }
}

#[test]
fn a_function_called_by_its_number_writes_too() {
    only_ours!("the original does not look at function calls");
    make(
        "DROP TABLE IF EXISTS qcp3; DROP FUNCTION IF EXISTS qcp3_write",
        "CREATE TABLE qcp3 (a int); CREATE FUNCTION qcp3_write(int) RETURNS int LANGUAGE sql AS \
         'INSERT INTO qcp3 VALUES ($1) RETURNING a'",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let oid = writer.value("SELECT 'qcp3_write'::regproc::oid").parse().expect("an oid");
    assert_seen(&mut reader, "SELECT count(*) FROM qcp3", "a function call", || {
        assert_eq!(writer.ask(function_call(oid, &["5"])).succeeded().kinds(), "VZ");
    });
}

#[test]
fn a_definition_in_two_steps_may_fail_behind_the_first() {
    only_ours!("the original does not know partitions");
    if server_version() < 14 {
        return;
    }
    make(
        "DROP TABLE IF EXISTS qcp4",
        "CREATE TABLE qcp4 (a int) PARTITION BY LIST (a); CREATE TABLE qcp4_1 PARTITION OF qcp4 FOR VALUES IN (1); \
         CREATE TABLE qcp4_2 PARTITION OF qcp4 FOR VALUES IN (2); INSERT INTO qcp4 VALUES (1), (2)",
    );
    let pool = caching().start();
    let (mut writer, mut reader, mut old) = (pool.connect(), pool.connect(), pool.connect());
    old.query("BEGIN").succeeded();
    old.query("SELECT *, random() FROM qcp4").succeeded();
    let server = writer.value("SELECT pg_backend_pid()");
    assert_seen(&mut reader, "SELECT count(*) FROM qcp4", "the first step", || {
        writer.send(query("ALTER TABLE qcp4 DETACH PARTITION qcp4_1 CONCURRENTLY"));
        let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending AND inhparent = 'qcp4'::regclass";
        wait_for("the first step", || shared().primary().sql(pending) == "1");
        shared().primary().sql(&format!("SELECT pg_cancel_backend({server})"));
        assert_eq!(writer.read_until('Z').sqlstate(), "57014");
    });
    old.query("COMMIT").succeeded();
}

#[test]
fn what_was_refused_leaves_all_answers() {
    only_ours!("other rules");
    make("DROP TABLE IF EXISTS qcp5", "CREATE TABLE qcp5 AS SELECT 1 AS a; ALTER TABLE qcp5 ADD UNIQUE (a)");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcp5";
    assert!(is_kept(&mut reader, read));
    for (sql, code) in [
        ("gibberish", "42601"),
        ("INSERT INTO qcp5 VALUES (1)", "23505"),
        ("UPDATE qcp5 SET a = 1 / 0", "22012"),
        ("EXECUTE nothing", "26000"),
    ] {
        for message in [query(sql), [extended(sql, 0), sync()].concat()] {
            assert_eq!(writer.ask(message).sqlstate(), code, "{sql}");
            assert!(is_hit(&mut reader, read), "{sql}");
        }
    }
}
