//! Whatever writes a table makes the answers from it disappear, for everybody, before its client hears that it is done.

use super::{caching, is_hit, is_kept, make};
use crate::harness::frontend::{bind, copy_data, copy_done, execute, parse, query, sync};
use crate::harness::{Wire, shared};
use crate::{needs_pgpool, only_ours};

/// Two sessions of one pgpool and the answer to `read`, which is in the cache.
fn assert_seen(writer: &mut Wire, reader: &mut Wire, read: &str, write: &str) {
    assert!(is_kept(reader, read) && is_kept(writer, read), "{read}");
    let replies = writer.query(write).succeeded();
    assert_eq!(replies.state(), 'I', "{write}");
    for session in [reader, writer] {
        let direct = shared().primary().sql(read);
        assert_eq!(session.value(read), direct, "after {write}");
    }
}

#[test]
fn every_kind_of_write_is_seen() {
    only_ours!("the original misses functions, triggers, cascades, partitions and texts of several statements");
    make(
        "DROP TABLE IF EXISTS qcw_a, qcw_log, qcw_child, qcw_parent, qcw_part CASCADE; DROP FUNCTION IF EXISTS qcw_f, qcw_t; \
         DROP PROCEDURE IF EXISTS qcw_p; DROP VIEW IF EXISTS qcw_v",
        "CREATE TABLE qcw_a (a int); INSERT INTO qcw_a VALUES (1); CREATE TABLE qcw_log (a int); \
         CREATE TABLE qcw_parent (a int PRIMARY KEY); INSERT INTO qcw_parent SELECT generate_series(1, 9); \
         CREATE TABLE qcw_child (a int REFERENCES qcw_parent ON DELETE CASCADE ON UPDATE CASCADE); \
         INSERT INTO qcw_child SELECT generate_series(1, 9); \
         CREATE TABLE qcw_part (a int, b int) PARTITION BY LIST (a); \
         CREATE TABLE qcw_part1 PARTITION OF qcw_part FOR VALUES IN (1); \
         CREATE TABLE qcw_part2 PARTITION OF qcw_part FOR VALUES IN (2); \
         CREATE FUNCTION qcw_f() RETURNS void LANGUAGE sql AS 'INSERT INTO qcw_a VALUES (1)'; \
         CREATE PROCEDURE qcw_p() LANGUAGE sql AS 'INSERT INTO qcw_a VALUES (1)'; \
         CREATE FUNCTION qcw_t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO qcw_a VALUES (1); RETURN NULL; END'; \
         CREATE TRIGGER t AFTER INSERT ON qcw_log FOR EACH ROW EXECUTE FUNCTION qcw_t(); \
         CREATE VIEW qcw_v AS SELECT * FROM qcw_a",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let a = "SELECT count(*), sum(a) FROM qcw_a";
    for write in [
        "INSERT INTO qcw_a VALUES (2)",
        "UPDATE qcw_a SET a = a + 1",
        "DELETE FROM qcw_a WHERE a = 2",
        "WITH x AS (INSERT INTO qcw_a VALUES (3) RETURNING a) SELECT * FROM x",
        "SELECT 1; INSERT INTO qcw_a VALUES (4)",
        "BEGIN; INSERT INTO qcw_a VALUES (4); COMMIT",
        "EXPLAIN ANALYZE INSERT INTO qcw_a VALUES (5)",
        "SELECT qcw_f()",
        "CALL qcw_p()",
        "DO 'BEGIN INSERT INTO qcw_a VALUES (6); END'",
        "INSERT INTO qcw_log VALUES (1)",
        "INSERT INTO qcw_v VALUES (7)",
        "TRUNCATE qcw_a",
        "DROP VIEW qcw_v",
        "ALTER TABLE qcw_a ALTER a TYPE bigint USING a + 1",
        "INSERT INTO public.qcw_a VALUES (7)",
        "INSERT INTO \"qcw_a\" SELECT 8",
        "PREPARE p AS INSERT INTO qcw_a VALUES (9)",
        "EXECUTE p",
    ] {
        assert_seen(&mut writer, &mut reader, a, write);
    }
    for (read, write) in [
        ("SELECT count(*) FROM qcw_child", "DELETE FROM qcw_parent WHERE a = 1"),
        ("SELECT sum(a) FROM qcw_child", "UPDATE qcw_parent SET a = 100 WHERE a = 2"),
        ("SELECT count(*) FROM qcw_part", "INSERT INTO qcw_part1 VALUES (1, 1)"),
        ("SELECT count(*) FROM qcw_part1", "INSERT INTO qcw_part VALUES (1, 1)"),
        ("SELECT count(*) FROM qcw_part2", "UPDATE qcw_part SET a = 2"),
        ("SELECT count(*) FROM qcw_part", "ALTER TABLE qcw_part DETACH PARTITION qcw_part2"),
        ("SELECT count(*) FROM qcw_child", "TRUNCATE qcw_parent CASCADE"),
    ] {
        assert_seen(&mut writer, &mut reader, read, write);
    }
}

#[test]
fn copy_and_the_extended_protocol_write_too() {
    needs_pgpool!();
    make("DROP TABLE IF EXISTS qcx", "CREATE TABLE qcx (a int)");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcx";
    assert!(is_kept(&mut reader, read));
    writer.send([query("COPY qcx FROM STDIN"), copy_data(b"1\n2\n"), copy_done()].concat());
    writer.read_until('Z').succeeded();
    assert_eq!(reader.value(read), "2");
    assert!(is_kept(&mut reader, read));
    let insert =
        [parse("s", "INSERT INTO qcx VALUES ($1)", &[23]), bind("", "s", &[Some("3")]), execute("", 0), sync()];
    writer.ask(insert.concat()).succeeded();
    assert_eq!(reader.value(read), "3");
    // In force with the Sync only: what was read in between does not stay.
    assert!(is_kept(&mut reader, read));
    writer.send([bind("", "s", &[Some("4")]), execute("", 0), crate::harness::frontend::flush()].concat());
    writer.read_until('C');
    assert_eq!(reader.value(read), "3");
    assert_eq!(reader.value(read), "3");
    writer.ask(sync()).succeeded();
    assert_eq!(reader.value(read), "4");
}

#[test]
fn a_transaction_sees_what_it_has_written_and_others_do_not() {
    needs_pgpool!();
    make("DROP TABLE IF EXISTS qct", "CREATE TABLE qct AS SELECT 1 AS a");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qct";
    for (end, after) in [("ROLLBACK", "1"), ("COMMIT", "2"), ("COMMIT AND CHAIN", "2")] {
        assert!(is_kept(&mut reader, read));
        writer.query("BEGIN").succeeded();
        assert!(is_hit(&mut writer, read), "nothing is written yet");
        writer.query("UPDATE qct SET a = 2").succeeded();
        assert_eq!(writer.value(read), "2");
        assert_eq!(writer.value(read), "2");
        let before = if after == "1" { "1" } else { reader.value(read).leak() };
        assert_eq!(reader.value(read), before);
        writer.query(end).succeeded();
        assert_eq!((reader.value(read), writer.value(read)), (after.to_owned(), after.to_owned()), "{end}");
    }
    writer.query("ROLLBACK").succeeded();
    // A failed transaction ends with ROLLBACK whatever its client asks for.
    writer.query("BEGIN").succeeded();
    writer.query("UPDATE qct SET a = 3").succeeded();
    writer.query(read).succeeded();
    writer.query("SELECT 1 / 0");
    assert_eq!(writer.query("COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!((reader.value(read), writer.value(read)), ("2".to_owned(), "2".to_owned()));
}

#[test]
fn a_snapshot_that_stays_is_not_served_and_not_kept() {
    only_ours!("the original serves and stores in REPEATABLE READ");
    make("DROP TABLE IF EXISTS qcr", "CREATE TABLE qcr AS SELECT 1 AS a");
    let pool = caching().start();
    let (mut old, mut writer) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qcr";
    old.query("BEGIN ISOLATION LEVEL REPEATABLE READ").succeeded();
    assert_eq!(old.value("SELECT a FROM qcr"), "1");
    writer.query("UPDATE qcr SET a = 2").succeeded();
    assert_eq!(old.value(read), "1");
    assert_eq!(writer.value(read), "2");
    assert_eq!(old.value(read), "1");
    old.query("COMMIT").succeeded();
    assert_eq!(old.value(read), "2");
}

#[test]
fn functions_are_what_the_lists_say() {
    only_ours!("a function that is declared IMMUTABLE is not called again there");
    make(
        "DROP FUNCTION IF EXISTS qw_secret, qw_writer, qw_reader; DROP TABLE IF EXISTS qw_listed",
        "CREATE TABLE qw_listed AS SELECT 0 AS a; \
         CREATE FUNCTION qw_writer() RETURNS int LANGUAGE sql AS 'UPDATE qw_listed SET a = a + 1 RETURNING a'; \
         CREATE FUNCTION qw_secret() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN qw_writer(); END'; \
         CREATE FUNCTION qw_reader() RETURNS int LANGUAGE sql AS 'SELECT max(a) FROM qw_listed'",
    );
    let pool = caching().set("write_function_list", "qw_secret").start();
    let mut session = pool.connect();
    let read = "SELECT a FROM qw_listed";
    for value in 1..4 {
        assert!(is_kept(&mut session, read));
        assert_eq!(session.value("SELECT qw_secret()"), value.to_string());
        assert_eq!(session.value(read), value.to_string());
    }
    let pool = caching().set("read_only_function_list", "qw_reader").start();
    let mut session = pool.connect();
    assert!(is_kept(&mut session, read));
    session.value("SELECT qw_reader()");
    assert!(is_hit(&mut session, read), "it is said to read only");
    assert!(!is_kept(&mut session, "SELECT qw_reader()"), "which is not to answer the same for ever");
}
