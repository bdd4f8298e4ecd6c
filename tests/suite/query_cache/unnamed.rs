//! Writes by what a statement does not name: functions behind views, policies, columns and names of PostgreSQL's, and prepared
//! statements under names that have changed their meaning.

use super::{caching, is_hit, is_kept, make};
use crate::harness::frontend::{bind, execute, parse, query, sync};
use crate::harness::{Wire, shared};
use crate::only_ours;

/// What `writer` does with `sql` is seen by `reader`, who is given the answer to `read` from the cache before.
fn assert_seen(writer: &mut Wire, reader: &mut Wire, read: &str, sql: &str) {
    let before = reader.value(read);
    assert!(is_kept(reader, read), "before {sql}");
    writer.query(sql).succeeded();
    let now = shared().primary().sql(read);
    assert_ne!(now, before, "{sql} does nothing");
    assert_eq!(reader.value(read), now, "after {sql}");
}

/// Makes a table and a function that writes it.
fn make_writer(name: &str, undo: &str, sql: &str) {
    let writer = format!(
        "CREATE TABLE {name}_log (a int); CREATE FUNCTION {name}_write(int) RETURNS int LANGUAGE sql AS \
         'INSERT INTO {name}_log VALUES ($1) RETURNING a'; {sql}"
    );
    make(
        &format!("{undo}; DROP TABLE IF EXISTS {name}_log CASCADE; DROP FUNCTION IF EXISTS {name}_write CASCADE"),
        &writer,
    );
}

#[test]
fn views_and_columns_that_call_writing_functions() {
    only_ours!("the original looks at the names in the statement");
    make_writer(
        "qch1",
        "DROP VIEW IF EXISTS qch1_view CASCADE; DROP TABLE IF EXISTS qch1_t CASCADE; \
         DROP FUNCTION IF EXISTS width_bucket(boolean)",
        "CREATE VIEW qch1_view AS SELECT qch1_write(1) AS a; CREATE VIEW qch1_outer AS SELECT a + 1 AS a FROM qch1_view; \
         CREATE TABLE qch1_t AS SELECT 1 AS id; \
         CREATE FUNCTION qch1_touch(qch1_t) RETURNS int LANGUAGE sql AS 'SELECT qch1_write($1.id)'; \
         CREATE FUNCTION width_bucket(boolean) RETURNS int LANGUAGE sql AS 'SELECT qch1_write(2)'",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qch1_log";
    for sql in [
        "SELECT * FROM qch1_view",
        "SELECT * FROM public.qch1_outer",
        "COPY (SELECT a FROM qch1_outer) TO STDOUT",
        "SELECT t.qch1_touch FROM qch1_t AS t",
        "SELECT (t).\"qch1_touch\" FROM qch1_t AS t",
        "SELECT t.U&\"qch1_touc\\0068\" FROM qch1_t AS t",
        "SELECT width_bucket(true)",
        "SELECT 1 FROM qch1_t WHERE public.width_bucket(id = 1) > 0",
    ] {
        assert_seen(&mut writer, &mut reader, read, sql);
    }
    // What only looks alike is nobody's concern.
    for sql in ["SELECT id FROM qch1_t", "SELECT width_bucket(1, 0, 2, 3)", "EXPLAIN SELECT * FROM qch1_view"] {
        assert!(is_kept(&mut reader, read));
        writer.query(sql).succeeded();
        assert_eq!(is_hit(&mut reader, read), !sql.contains("bucket"), "{sql}");
    }
    // It is defined while everybody knows that there is none.
    let mut owner = pool.connect();
    owner.query("CREATE VIEW qch1_late AS SELECT qch1_write(3) AS a").succeeded();
    assert_seen(&mut writer, &mut reader, read, "SELECT * FROM qch1_late");
    make("DROP FUNCTION width_bucket(boolean)", "SELECT 1");
}

#[test]
fn policies_that_call_writing_functions() {
    only_ours!("the original does not know policies");
    let undo =
        "DROP TABLE IF EXISTS qch2_t CASCADE; DROP FUNCTION IF EXISTS qch2_may CASCADE; DROP ROLE IF EXISTS qch2_joe";
    make_writer(
        "qch2",
        undo,
        "CREATE ROLE qch2_joe LOGIN; CREATE TABLE qch2_t AS SELECT 1 AS a; ALTER TABLE qch2_t ENABLE ROW LEVEL SECURITY; \
         CREATE FUNCTION qch2_may() RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS \
         'BEGIN PERFORM qch2_write(1); RETURN true; END'; \
         CREATE POLICY p ON qch2_t USING (qch2_may()); CREATE VIEW qch2_view AS SELECT * FROM qch2_t; \
         ALTER VIEW qch2_view OWNER TO qch2_joe; GRANT ALL ON qch2_t, qch2_view TO qch2_joe",
    );
    let pool = caching().start();
    let mut writer = pool.connect_with(&[("user", "qch2_joe"), ("database", "test")]);
    let mut reader = pool.connect();
    let read = "SELECT count(*) FROM qch2_log";
    for sql in [
        "SELECT * FROM qch2_t",
        "SELECT * FROM qch2_view",
        "INSERT INTO qch2_t VALUES (2)",
        "UPDATE qch2_t SET a = 3",
        "DELETE FROM qch2_t",
    ] {
        assert_seen(&mut writer, &mut reader, read, sql);
    }
    drop((writer, reader));
    make(undo, "SELECT 1");
}

#[test]
fn what_reads_only_by_the_list_does_so_behind_a_view() {
    only_ours!("the original looks at the names in the statement");
    make(
        "DROP TABLE IF EXISTS qch3; DROP FUNCTION IF EXISTS qch3_price CASCADE",
        "CREATE TABLE qch3 AS SELECT 1 AS a; CREATE FUNCTION qch3_price() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE VIEW qch3_view AS SELECT qch3_price() AS price",
    );
    let read = "SELECT a FROM qch3";
    for (list, is_left) in [("", false), ("qch3_price", true), ("public\\.qch3_price", true)] {
        let pool = caching().set("read_only_function_list", list).start();
        let mut session = pool.connect();
        assert!(is_kept(&mut session, read));
        session.query("SELECT price FROM qch3_view").succeeded();
        assert_eq!(is_hit(&mut session, read), is_left, "{list}");
    }
}

#[test]
fn what_execute_is_given_and_what_it_makes() {
    only_ours!("the original does not look into EXECUTE");
    make_writer("qch4", "SELECT 1", "SELECT 1");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qch4_log";
    for sql in [
        "PREPARE p(int) AS SELECT $1",
        "PREPARE i AS INSERT INTO qch4_log VALUES (1)",
        "PREPARE w AS SELECT qch4_write(1)",
    ] {
        writer.query(sql).succeeded();
    }
    for sql in [
        "EXECUTE p(qch4_write(1))",
        "EXPLAIN EXECUTE p(qch4_write(1))",
        "EXPLAIN ANALYZE EXECUTE p(qch4_write(1))",
        "EXECUTE i",
        "EXECUTE p(1); INSERT INTO qch4_log VALUES (1)",
        "EXECUTE p(1); EXECUTE i",
        "CREATE TEMP TABLE qch4_temp AS EXECUTE w",
    ] {
        assert_seen(&mut writer, &mut reader, read, sql);
    }
}

#[test]
fn names_of_prepared_statements_change_their_meaning_unseen() {
    only_ours!("the original does not look into EXECUTE");
    make(
        "DROP TABLE IF EXISTS qch5; DROP FUNCTION IF EXISTS qch5_prepare",
        "CREATE TABLE qch5 (a int); CREATE FUNCTION qch5_prepare() RETURNS void LANGUAGE plpgsql AS \
         $$BEGIN EXECUTE 'DEALLOCATE z'; EXECUTE 'PREPARE z AS INSERT INTO qch5 VALUES (1)'; END$$",
    );
    let pool = caching().start();
    let mut reader = pool.connect();
    let read = "SELECT count(*) FROM qch5";
    for sql in [
        "DEALLOCATE z; PREPARE z AS INSERT INTO qch5 VALUES (1)",
        "DEALLOCATE ALL; PREPARE z AS INSERT INTO qch5 VALUES (1)",
        "DEALLOCATE z; PREPARE z AS INSERT INTO qch5 VALUES (1); SELECT 1 / 0",
        "SELECT qch5_prepare()",
        "DO $$BEGIN PERFORM qch5_prepare(); END$$",
    ] {
        for run in [query("EXECUTE z"), [bind("", "z", &[]), execute("", 0), sync()].concat()] {
            // By its message a name is what it was, unless the text of a Query says otherwise.
            if run[0] == b'B' && !sql.starts_with("DEALLOCATE") {
                continue;
            }
            let mut writer = pool.connect();
            writer.query("PREPARE z AS SELECT 1").succeeded();
            writer.query(sql);
            let before = reader.value(read);
            assert!(is_kept(&mut reader, read), "before {sql}");
            writer.ask(run).succeeded();
            let now = shared().primary().sql(read);
            assert_ne!(now, before, "{sql}");
            assert_eq!(reader.value(read), now, "after {sql}");
        }
    }
}

#[test]
fn a_table_made_by_select_into_stands_in_front_of_another() {
    only_ours!("the original does not know the search path");
    make(
        "DROP SCHEMA IF EXISTS qch6 CASCADE; DROP TABLE IF EXISTS qch6_t",
        "CREATE SCHEMA qch6; CREATE TABLE qch6_t AS SELECT 1 AS a",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    reader.query("SET search_path = qch6, public").succeeded();
    let read = "SELECT a FROM qch6_t";
    let extended = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    let into = "SELECT 2 AS a INTO qch6.qch6_t";
    for message in [query(into), extended(into)] {
        assert!(is_kept(&mut reader, read));
        writer.ask(message).succeeded();
        assert_eq!(reader.value(read), "2");
        writer.query("DROP TABLE qch6.qch6_t").succeeded();
        assert_eq!(reader.value(read), "1");
    }
}

#[test]
fn a_pipeline_waits_for_what_is_to_be_known_and_goes_on() {
    only_ours!("other rules");
    make("DROP TABLE IF EXISTS qch7", "CREATE TABLE qch7 AS SELECT 1 AS a");
    // Each worker has to ask for itself.
    let pool = caching().set("enable_shared_relcache", "off").start();
    let (mut session, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qch7";
    assert!(is_kept(&mut reader, read));
    let extended = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    for batch in [
        ["SHOW port", "SELECT a + random() FROM qch7", "SHOW port"].map(query),
        ["SHOW port", "SELECT a + random() FROM qch7", "SHOW port"].map(extended),
    ] {
        // Somebody defines something: all is to be learnt anew.
        make("DROP TABLE IF EXISTS qch7_new", "SELECT 1");
        reader.query("CREATE TABLE qch7_new (a int)").succeeded();
        assert!(is_kept(&mut reader, read));
        session.send(batch.concat());
        for _ in 0..3 {
            session.read_until('Z').succeeded();
        }
        assert!(is_hit(&mut reader, read), "a read leaves all answers");
    }
}

#[test]
fn what_one_worker_has_asked_no_other_asks() {
    only_ours!("other rules");
    make("DROP TABLE IF EXISTS qch8", "CREATE TABLE qch8 AS SELECT 1 AS a");
    let pool = caching().start();
    let mut sessions = [pool.connect(), pool.connect()];
    let questions = sessions.each_mut().map(|session| {
        let ours = format!("[{}]", session.value("SELECT pg_backend_pid()"));
        session.query("SET log_statement = 'all'").succeeded();
        for _ in 0..3 {
            session.query("SELECT random() FROM qch8").succeeded();
        }
        let log = shared().primary().log_text();
        log.lines().filter(|line| line.contains(&ours) && line.contains("'namesake'")).count()
    });
    assert!(questions[1] == 0, "{questions:?}");
}

#[test]
fn defaults_of_parameters_are_for_the_caller_to_compute() {
    only_ours!("the original looks at the function alone");
    make_writer(
        "qch9",
        "DROP VIEW IF EXISTS qch9_view; DROP FUNCTION IF EXISTS qch9_age, qch9_clock, qch9_plain, qch9_log",
        "CREATE FUNCTION qch9_age(a date, b date DEFAULT current_date) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT b - a'; \
         CREATE FUNCTION qch9_clock(a timestamptz DEFAULT clock_timestamp()) RETURNS text IMMUTABLE LANGUAGE sql AS \
         'SELECT ''x'''; \
         CREATE FUNCTION qch9_plain(a int DEFAULT 1 + 1, b text DEFAULT 'x') RETURNS int IMMUTABLE LANGUAGE sql AS \
         'SELECT a'; \
         CREATE FUNCTION qch9_log(a int DEFAULT qch9_write(1)) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a'; \
         CREATE VIEW qch9_view AS SELECT qch9_log() AS a",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    for (kept, sql) in [
        (true, "SELECT qch9_plain()"),
        (false, "SELECT qch9_age('2000-01-01')"),
        (false, "SELECT qch9_clock()"),
        (false, "SELECT qch9_log()"),
    ] {
        assert_eq!(is_kept(&mut reader, sql), kept, "{sql}");
    }
    for sql in ["SELECT qch9_log()", "SELECT * FROM qch9_view"] {
        assert_seen(&mut writer, &mut reader, "SELECT count(*) FROM qch9_log", sql);
    }
}

#[test]
fn functions_of_any_row_are_not_kept_as_columns() {
    only_ours!("the original keeps them");
    make(
        "DROP TABLE IF EXISTS qch10_user; DROP FUNCTION IF EXISTS qch10_any; DROP TYPE IF EXISTS qch10_address CASCADE; \
         DROP TABLE IF EXISTS qch10_zone",
        "CREATE TABLE qch10_zone AS SELECT 1 AS zone; CREATE TYPE qch10_address AS (city text); \
         CREATE TABLE qch10_user (id int, home qch10_address); \
         CREATE FUNCTION qch10_zone(qch10_address) RETURNS int STABLE LANGUAGE sql AS 'SELECT zone FROM qch10_zone'; \
         CREATE FUNCTION qch10_any(record) RETURNS int STABLE LANGUAGE plpgsql AS \
         'BEGIN RETURN (SELECT zone FROM qch10_zone); END'; \
         INSERT INTO qch10_user VALUES (1, ROW('x'))",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    for (kept, sql) in [
        (false, "SELECT (u.home).qch10_zone FROM qch10_user AS u"),
        (false, "SELECT u.qch10_any FROM qch10_user AS u"),
        (true, "SELECT id, (u.home).city FROM qch10_user AS u"),
    ] {
        assert_eq!(is_kept(&mut session, sql), kept, "{sql}");
    }
}
