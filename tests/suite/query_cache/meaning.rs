//! A prepared statement means what its text meant when it was prepared: its columns are what they were, or the server refuses
//! it, and its literals were read by the settings of then. The cache knows texts only.

use super::{caching, counts, make};
use crate::harness::Wire;
use crate::harness::frontend::{bind, describe_statement, execute, parse, sync};
use crate::only_ours;

/// Prepares `s`, and hears what its columns are.
fn prepare(session: &mut Wire, sql: &str) {
    session.ask([parse("s", sql, &[]), describe_statement("s"), sync()].concat()).succeeded();
}

fn run() -> Vec<u8> {
    [bind("", "s", &[]), execute("", 0), sync()].concat()
}

/// What `s` answers, and whether that came from the cache.
fn value(session: &mut Wire) -> (String, bool) {
    let before = counts(session).0;
    let value = session.ask(run()).succeeded().first_value().unwrap_or_default();
    (value, counts(session).0 > before)
}

#[test]
fn columns_that_have_changed_are_the_servers_to_refuse() {
    only_ours!("the original answers from the cache");
    make(
        "DROP TABLE IF EXISTS qcm1 CASCADE; DROP SCHEMA IF EXISTS qcm1_2 CASCADE",
        "CREATE TABLE qcm1 AS SELECT 65 AS a; CREATE SCHEMA qcm1_2; CREATE TABLE qcm1_2.qcm1 AS SELECT 'text' AS a",
    );
    let pool = caching().start();
    let (mut old, mut new, mut writer) = (pool.connect(), pool.connect(), pool.connect());
    let read = "SELECT * FROM qcm1";
    prepare(&mut old, read);
    assert_eq!((value(&mut old), value(&mut old)), (("65".into(), false), ("65".into(), true)));
    for change in ["ALTER TABLE qcm1 ALTER a TYPE text USING 'ABCD'", "ALTER TABLE qcm1 ADD COLUMN b int"] {
        writer.query(change).succeeded();
        new.query("DEALLOCATE ALL").succeeded();
        prepare(&mut new, read);
        assert_eq!((value(&mut new), value(&mut new)), (("ABCD".into(), false), ("ABCD".into(), true)), "{change}");
        for _ in 0..2 {
            assert_eq!(old.ask(run()).sqlstate(), "0A000", "{change}");
        }
        old.query("DEALLOCATE ALL").succeeded();
        prepare(&mut old, read);
        assert_eq!(value(&mut old), ("ABCD".into(), true), "prepared anew: {change}");
    }
    // Names that mean another table.
    old.query("SET search_path = qcm1_2").succeeded();
    let mut there = pool.connect();
    there.query("SET search_path = qcm1_2").succeeded();
    prepare(&mut there, read);
    assert_eq!((value(&mut there), value(&mut there)), (("text".into(), false), ("text".into(), true)));
    assert_eq!(old.ask(run()).sqlstate(), "0A000");
    drop((old, new, writer, there, pool));
    make("DROP TABLE qcm1; DROP SCHEMA qcm1_2 CASCADE", "SELECT 1");
}

#[test]
fn literals_are_what_they_were_when_they_were_read() {
    only_ours!("the original keeps one answer for all");
    make("DROP TABLE IF EXISTS qcm2", "CREATE TABLE qcm2 AS SELECT '2020-01-01 00:00Z'::timestamptz AS at");
    let pool = caching().start();
    let read = "SELECT count(*) FROM qcm2 WHERE at <= '2020-01-01 00:00'";
    let mut session = pool.connect();
    session.query("SET timezone = 'UTC'").succeeded();
    prepare(&mut session, read);
    assert_eq!((value(&mut session), value(&mut session)), (("1".into(), false), ("1".into(), true)));
    let tokyo = "SET timezone = 'Asia/Tokyo'";
    session.query(tokyo).succeeded();
    for _ in 0..2 {
        assert!(!value(&mut session).1, "the server compares with what it has read, now or before");
    }
    let mut other = pool.connect();
    other.query(tokyo).succeeded();
    prepare(&mut other, read);
    assert_eq!((value(&mut other), value(&mut other)), (("0".into(), false), ("0".into(), true)));
    assert!(!value(&mut session).1, "what others have prepared is another question");
    // A server that analyses it anew reads the literal by the settings of that moment.
    other.query("ALTER TABLE qcm2 ADD COLUMN b int").succeeded();
    assert_eq!(value(&mut session), ("0".into(), false));
    session.query("SET timezone = 'UTC'").succeeded();
    let mut third = pool.connect();
    third.query("SET timezone = 'UTC'").succeeded();
    prepare(&mut third, read);
    assert_eq!((value(&mut third), value(&mut third)), (("1".into(), false), ("1".into(), true)));
    for _ in 0..2 {
        assert!(!value(&mut session).1);
        assert_eq!(value(&mut third), ("1".into(), true));
    }
    session.query("DEALLOCATE s").succeeded();
    prepare(&mut session, read);
    assert_eq!(value(&mut session), ("1".into(), true), "prepared anew");
}

#[test]
fn a_name_that_is_another_statement_now_is_the_servers_to_answer() {
    only_ours!("other rules");
    make("DROP TABLE IF EXISTS qcm4", "CREATE TABLE qcm4 AS SELECT 1 AS a");
    let pool = caching().start();
    let mut session = pool.connect();
    prepare(&mut session, "SELECT a FROM qcm4");
    assert_eq!((value(&mut session), value(&mut session)), (("1".into(), false), ("1".into(), true)));
    session.query("DEALLOCATE s; PREPARE s AS SELECT a + 1 FROM qcm4").succeeded();
    for _ in 0..2 {
        assert_eq!(value(&mut session), ("2".into(), false));
    }
}

#[test]
fn what_others_define_costs_a_statement_one_answer() {
    only_ours!("other rules");
    make("DROP TABLE IF EXISTS qcm3, qcm3_other", "CREATE TABLE qcm3 AS SELECT 1 AS a");
    let pool = caching().start();
    let (mut session, mut other) = (pool.connect(), pool.connect());
    prepare(&mut session, "SELECT a FROM qcm3");
    prepare(&mut other, "SELECT a FROM qcm3");
    for define in ["CREATE TABLE qcm3_other (a int)", "GRANT SELECT ON qcm3 TO public", "DROP TABLE qcm3_other"] {
        pool.connect().query(define).succeeded();
        assert_eq!((value(&mut session), value(&mut session)), (("1".into(), false), ("1".into(), true)), "{define}");
        // It has to be seen on each server connection.
        assert_eq!((value(&mut other), value(&mut other)), (("1".into(), false), ("1".into(), true)), "{define}");
    }
}

/// Drivers prepare once for the life of a session.
#[test]
fn unknown_settings_cost_a_statement_one_answer() {
    only_ours!("other rules");
    make(
        "DROP TABLE IF EXISTS qcm5; DROP FUNCTION IF EXISTS qcm5_runs()",
        "CREATE TABLE qcm5 AS SELECT 1 AS a; \
         CREATE FUNCTION qcm5_runs() RETURNS int VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    let read = "SELECT a FROM qcm5 WHERE a < 9";
    let forgives = |session: &mut Wire| {
        value(session);
        // It has to be seen on the server first, unless nothing is known to have changed.
        assert_eq!((value(session), value(session)), (("1".into(), true), ("1".into(), true)));
    };
    prepare(&mut session, read);
    forgives(&mut session);
    for (before, after) in [
        ("BEGIN; SET LOCAL statement_timeout = 50000", "COMMIT"),
        ("SET statement_timeout = 50000", "RESET statement_timeout"),
        ("SET statement_timeout = 50000", "SELECT 1"),
        ("BEGIN; SELECT qcm5_runs()", "COMMIT"),
    ] {
        for is_prepared in [true, false] {
            if !is_prepared {
                session.query("DEALLOCATE s").succeeded();
            }
            for part in before.split("; ") {
                session.query(part).succeeded();
            }
            if !is_prepared {
                prepare(&mut session, read);
            }
            assert_eq!(value(&mut session).0, "1");
            session.query(after).succeeded();
            value(&mut session);
            forgives(&mut session);
        }
    }
    // In a pipeline whose beginning nobody has asked anything in.
    let mut session = pool.connect();
    let first = [parse("", "SELECT qcm5_runs()", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    session.send([first, parse("s", read, &[]), sync(), run()].concat());
    for _ in 0..3 {
        session.read_until('Z').succeeded();
    }
    value(&mut session);
    forgives(&mut session);
}
