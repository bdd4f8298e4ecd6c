//! What a write leaves alone: answers from other tables, those of others until it counts, and the servers.

use super::unseen::make_logs;
use super::{caching, is_hit, is_kept, make};
use crate::harness::frontend::{run, sync};
use crate::harness::{Wire, shared};
use crate::only_ours;

/// Whether a write in `writer` leaves the answer to `read` where it is.
fn is_left_alone(reader: &mut Wire, read: &str, write: impl FnOnce()) -> bool {
    assert!(is_kept(reader, read), "{read}");
    write();
    is_hit(reader, read)
}

#[test]
fn a_write_leaves_the_answers_of_other_tables() {
    only_ours!("other rules");
    make_logs("qcu14");
    make(
        "DROP TABLE IF EXISTS qcu14_other, qcu14_plain; DROP FUNCTION IF EXISTS qcu14_touch, qcu14_noop",
        "CREATE TABLE qcu14_other AS SELECT 1 AS a; CREATE TABLE qcu14_plain (a int, b int); \
         CREATE FUNCTION qcu14_noop() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
    );
    let pool = caching().start();
    let (mut writer, mut reader, mut caller) = (pool.connect(), pool.connect(), pool.connect());
    let read = "SELECT a FROM qcu14_other";
    let extended = |sql: &str| [run(sql)].concat();
    let insert = "INSERT INTO qcu14_plain VALUES (1)";
    // Also when its tables were never looked up before, and after something was defined.
    for _ in 0..2 {
        assert!(is_left_alone(&mut reader, read, || {
            writer.ask([extended("BEGIN"), extended(insert), sync()].concat()).succeeded();
            writer.ask([extended("COMMIT"), sync()].concat()).succeeded();
        }));
        assert!(is_left_alone(&mut reader, read, || {
            writer.query(insert).succeeded();
        }));
        caller.query("SELECT qcu14_noop()").succeeded();
    }
    // Two writers in flight while that happens: what follows is not concerned.
    let mut second = pool.connect();
    for session in [&mut writer, &mut second] {
        session.query("BEGIN").succeeded();
        session.query(insert).succeeded();
    }
    caller.query("SELECT qcu14_noop()").succeeded();
    for session in [&mut writer, &mut second] {
        session.query("COMMIT").succeeded();
    }
    assert!(is_left_alone(&mut reader, read, || {
        second.query(insert).succeeded();
    }));
}

#[test]
fn others_keep_their_answers_until_a_transaction_ends() {
    only_ours!("other rules");
    make("DROP TABLE IF EXISTS qcu15", "CREATE TABLE qcu15 AS SELECT 1 AS a");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qcu15";
    assert!(is_kept(&mut reader, read));
    writer.query("BEGIN").succeeded();
    writer.query("UPDATE qcu15 SET a = 2").succeeded();
    for sql in ["SELECT 1", "SHOW port", "SAVEPOINT x"] {
        writer.query(sql).succeeded();
        assert!(is_hit(&mut reader, read), "{sql}");
    }
    writer.query("COMMIT").succeeded();
    assert_eq!(reader.value(read), "2");
    assert!(is_kept(&mut reader, read));
    // What the server has refused, and what only looks like a write.
    for sql in ["SELEC 1", "EXECUTE nothing", "EXPLAIN UPDATE qcu15 SET a = 3", "SELECT pg_advisory_unlock_all()"] {
        writer.query(sql);
        assert!(is_hit(&mut reader, read), "{sql}");
    }
}

#[test]
fn who_holds_a_lock_is_told_what_was_written() {
    only_ours!("the original answers from the cache");
    make("DROP TABLE IF EXISTS qcu16", "CREATE TABLE qcu16 AS SELECT 1 AS a");
    let pool = caching().start();
    let mut session = pool.connect();
    let read = "SELECT a FROM qcu16";
    assert!(is_kept(&mut session, read));
    for lock in ["LOCK TABLE qcu16", "SELECT a FROM qcu16 FOR UPDATE", "SELECT pg_advisory_xact_lock(1)"] {
        session.query("BEGIN").succeeded();
        assert!(is_hit(&mut session, read));
        session.query(lock).succeeded();
        assert!(!is_hit(&mut session, read), "{lock}");
        session.query("COMMIT").succeeded();
        assert!(is_hit(&mut session, read), "{lock}");
    }
    session.query("SELECT pg_advisory_lock(2)").succeeded();
    assert!(!is_hit(&mut session, read));
    session.query("SELECT pg_advisory_unlock_all()").succeeded();
    assert!(is_hit(&mut session, read));
}

#[test]
fn triggers_that_only_touch_rows_cost_no_questions() {
    only_ours!("the original does not know triggers");
    make(
        "DROP TABLE IF EXISTS qcu19; DROP FUNCTION IF EXISTS qcu19_touch",
        "CREATE TABLE qcu19 (a int, changed timestamptz); INSERT INTO qcu19 VALUES (1); \
         CREATE FUNCTION qcu19_touch() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN NEW.changed := now(); PERFORM pg_notify(''qcu19'', ''x''); RETURN NEW; END'; \
         CREATE TRIGGER t BEFORE UPDATE ON qcu19 FOR EACH ROW EXECUTE FUNCTION qcu19_touch()",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    let ours = format!("[{}]", session.value("SELECT pg_backend_pid()"));
    session.query("SET log_statement = 'all'").succeeded();
    for _ in 0..5 {
        session.query("UPDATE qcu19 SET a = a + 1").succeeded();
    }
    let log = shared().primary().log_text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&ours)).collect();
    let asked = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!(asked("UPDATE qcu19"), 5, "{lines:#?}");
    // The tables once, and nothing about the session itself.
    assert_eq!((asked("pg_catalog.pg_inherits"), asked("FROM pg_catalog.pg_settings")), (1, 0), "{lines:#?}");
}
