//! What changes what names and writes mean where nobody sees it: in other sessions, in functions and triggers, between a
//! look and a write.

use super::{caching, is_hit, is_kept, make};
use crate::harness::frontend::{bind, close_statement, execute, parse, query, sync};
use crate::harness::{Wire, shared, wait_for};
use crate::only_ours;

/// The answer to `read`, which has just been written through pgpool, is the server's.
fn assert_true(session: &mut Wire, read: &str) {
    assert_eq!(session.value(read), shared().primary().sql(read), "{read}");
}

const LOGS: &str = "CREATE FUNCTION qcu_log() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN INSERT INTO qcu_tail VALUES (1); RETURN NEW; END'; ";
const UNDO_LOGS: &str = "DROP TABLE IF EXISTS qcu_head, qcu_tail; DROP FUNCTION IF EXISTS qcu_log";

/// Makes two tables, and what lets a write of the first write the second.
fn make_logs(tables: &str) {
    make(
        &UNDO_LOGS.replace("qcu", tables),
        &format!("{LOGS} CREATE TABLE qcu_head (a int); CREATE TABLE qcu_tail (a int)").replace("qcu", tables),
    );
}

#[test]
fn a_session_that_only_writes_hears_of_new_triggers() {
    only_ours!("the original does not know triggers");
    make_logs("qcu1");
    let pool = caching().start();
    let (mut writer, mut reader, mut owner) = (pool.connect(), pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcu1_tail";
    let write = "INSERT INTO qcu1_head VALUES (1)";
    writer.query(write).succeeded();
    owner.query("CREATE TRIGGER t AFTER INSERT ON qcu1_head FOR EACH ROW EXECUTE FUNCTION qcu1_log()").succeeded();
    assert!(is_kept(&mut reader, read));
    writer.query(write).succeeded();
    assert_true(&mut reader, read);
    assert_eq!(reader.value(read), "1");
}

#[test]
fn a_write_that_had_to_wait_may_do_more_than_was_known() {
    only_ours!("the original does not know triggers");
    make_logs("qcu2");
    let pool = caching().start();
    let (mut writer, mut reader, mut owner) = (pool.connect(), pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcu2_tail";
    writer.query("INSERT INTO qcu2_head VALUES (1)").succeeded();
    owner.query("BEGIN").succeeded();
    owner.query("CREATE TRIGGER t AFTER INSERT ON qcu2_head FOR EACH ROW EXECUTE FUNCTION qcu2_log()").succeeded();
    writer.query("BEGIN").succeeded();
    writer.send(query("INSERT INTO qcu2_head VALUES (2)"));
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%qcu2_head VALUES (2)%'";
    wait_for("the write to wait", || shared().primary().sql(waits) == "1");
    owner.query("COMMIT").succeeded();
    writer.read_until('Z').succeeded();
    assert!(is_kept(&mut reader, read));
    writer.query("COMMIT").succeeded();
    assert_true(&mut reader, read);
    assert_eq!(reader.value(read), "1");
}

#[test]
fn what_a_function_defines_is_looked_up_anew() {
    only_ours!("the original does not know partitions");
    make(
        "DROP TABLE IF EXISTS qcu3 CASCADE; DROP FUNCTION IF EXISTS qcu3_extend",
        "CREATE TABLE qcu3 (a int, b int) PARTITION BY LIST (a); CREATE TABLE qcu3_1 PARTITION OF qcu3 FOR VALUES IN (1); \
         CREATE FUNCTION qcu3_extend() RETURNS void LANGUAGE plpgsql AS \
         $$BEGIN EXECUTE 'CREATE TABLE qcu3_2 PARTITION OF qcu3 FOR VALUES IN (2)'; END$$",
    );
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let (all, part) = ("SELECT count(*) FROM qcu3", "SELECT count(*) FROM qcu3_2");
    assert!(is_kept(&mut reader, all));
    writer.query("INSERT INTO qcu3 VALUES (1, 1)").succeeded();
    writer.query("SELECT qcu3_extend()").succeeded();
    for write in ["INSERT INTO qcu3_2 VALUES (2, 2)", "INSERT INTO qcu3 VALUES (2, 3)"] {
        assert!(is_kept(&mut reader, all) && is_kept(&mut reader, part), "{write}");
        writer.query(write).succeeded();
        assert_true(&mut reader, all);
        assert_true(&mut reader, part);
    }
}

/// Two schemas with a table of the same name each, and a function that chooses between them.
fn make_schemas(name: &str) {
    let sql = "CREATE SCHEMA qcu_1; CREATE SCHEMA qcu_2; CREATE TABLE qcu_1.t AS SELECT 1 AS a; \
        CREATE TABLE qcu_2.t AS SELECT 2 AS a; CREATE TABLE qcu_1.tenants (name text DEFAULT 'x'); \
        CREATE FUNCTION qcu_1.choose(name text) RETURNS text LANGUAGE sql AS $$SELECT set_config('search_path', name, false)$$; \
        CREATE FUNCTION qcu_1.enter() RETURNS trigger LANGUAGE plpgsql AS \
        $$BEGIN PERFORM set_config('search_path', 'qcu_2', false); RETURN NEW; END$$; \
        CREATE TRIGGER t AFTER INSERT ON qcu_1.tenants FOR EACH ROW EXECUTE FUNCTION qcu_1.enter(); \
        GRANT USAGE ON SCHEMA qcu_1, qcu_2 TO public; GRANT SELECT ON ALL TABLES IN SCHEMA qcu_1, qcu_2 TO public";
    make(&"DROP SCHEMA IF EXISTS qcu_1, qcu_2 CASCADE".replace("qcu", name), &sql.replace("qcu", name));
}

#[test]
fn a_path_set_within_a_text_counts_for_its_writes() {
    only_ours!("the original looks at the first statement");
    make_schemas("qcu4");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    writer.query("SET search_path = qcu4_1").succeeded();
    let read = "SELECT count(*) FROM qcu4_2.t";
    for write in [
        "SET search_path = qcu4_2; INSERT INTO t VALUES (1); SET search_path = qcu4_1",
        "BEGIN; SET LOCAL search_path = qcu4_2; INSERT INTO t VALUES (1); COMMIT",
    ] {
        assert!(is_kept(&mut reader, read), "{write}");
        writer.query(write).succeeded();
        assert_true(&mut reader, read);
    }
}

#[test]
fn a_path_set_by_a_function_counts_for_reads_and_writes() {
    only_ours!("the original leaves search_path out");
    make_schemas("qcu5");
    let pool = caching().start();
    let (mut session, mut other) = (pool.connect(), pool.connect());
    let choose =
        |session: &mut Wire, schema: &str| session.query(&format!("SELECT qcu5_1.choose('{schema}')")).succeeded();
    choose(&mut session, "qcu5_1");
    session.query("INSERT INTO t VALUES (3)").succeeded();
    assert!(is_kept(&mut session, "SELECT count(*) FROM t"));
    let read = "SELECT count(*) FROM qcu5_2.t";
    choose(&mut session, "qcu5_2");
    assert!(is_kept(&mut other, read));
    session.query("INSERT INTO t VALUES (4)").succeeded();
    assert_true(&mut other, read);
    // What is kept of the unqualified name depends on the right table.
    assert!(is_kept(&mut session, "SELECT count(*) FROM t"));
    other.query("INSERT INTO qcu5_2.t VALUES (9)").succeeded();
    assert_eq!(session.value("SELECT count(*) FROM t"), other.value(read));
}

#[test]
fn row_security_of_the_table_that_a_function_chose_holds() {
    only_ours!("the original leaves search_path out");
    make_schemas("qcu6");
    make(
        "DROP ROLE IF EXISTS qcu6_joe",
        "CREATE ROLE qcu6_joe LOGIN; ALTER TABLE qcu6_2.t ENABLE ROW LEVEL SECURITY; INSERT INTO qcu6_2.t VALUES (1); \
         CREATE POLICY p ON qcu6_2.t USING (a = coalesce(current_setting('app.tenant', true), '1')::int)",
    );
    let pool = caching().start();
    let tenant = |number: &str| {
        let mut session = pool.connect_with(&[("user", "qcu6_joe"), ("database", "test")]);
        session.query("SELECT qcu6_1.choose('qcu6_1')").succeeded();
        assert!(is_kept(&mut session, "SELECT a FROM t"));
        session.query("SELECT qcu6_1.choose('qcu6_2')").succeeded();
        session.query(&format!("SET app.tenant = {number}")).succeeded();
        let values = [session.value("SELECT a FROM t"), session.value("SELECT a FROM t")];
        assert_eq!(values, [number, number]);
        session
    };
    let _sessions = [tenant("1"), tenant("2")];
    make("DROP SCHEMA qcu6_1, qcu6_2 CASCADE", "DROP ROLE qcu6_joe");
}

#[test]
fn a_trigger_that_sets_something_is_heeded() {
    only_ours!("the original does not know triggers");
    make_schemas("qcu7");
    let pool = caching().start();
    let (mut session, mut other) = (pool.connect(), pool.connect());
    for session in [&mut session, &mut other] {
        session.query("SET search_path = qcu7_1").succeeded();
        assert_eq!(session.value("SELECT a FROM t"), "1");
    }
    session.query("INSERT INTO tenants VALUES ('x')").succeeded();
    assert_eq!((session.value("SELECT a FROM t"), session.value("SELECT a FROM t")), ("2".into(), "2".into()));
    assert_eq!(other.value("SELECT a FROM t"), "1");
}

#[test]
fn settings_that_no_server_lists_are_told_apart() {
    only_ours!("the original leaves settings out");
    make(
        "DROP TABLE IF EXISTS qcu8 CASCADE; DROP ROLE IF EXISTS qcu8_given",
        "CREATE TABLE qcu8 AS SELECT 1 AS tenant, 'one' AS name UNION ALL SELECT 2, 'two'; CREATE ROLE qcu8_given LOGIN; \
         CREATE VIEW qcu8_view AS SELECT name FROM qcu8 WHERE tenant = current_setting('app.tenant')::int; \
         ALTER ROLE qcu8_given SET app.tenant = 1; GRANT SELECT ON qcu8_view, qcu8 TO qcu8_given",
    );
    let pool = caching().set("cache_safe_memqcache_table_list", "qcu8_view").start();
    let reads = [
        "SELECT name FROM qcu8_view",
        "/*FORCE QUERY CACHE*/ SELECT name FROM qcu8 WHERE tenant = current_setting('app.tenant')::int",
    ];
    let ways = [
        "SET app.tenant = {}",
        "SELECT set_config('app.tenant', '{}', false)",
        "DO $$BEGIN PERFORM set_config('app.tenant', '{}', false); END$$",
    ];
    for way in ways {
        let mut sessions = [pool.connect(), pool.connect()];
        for (session, (tenant, name)) in sessions.iter_mut().zip([("1", "one"), ("2", "two")]) {
            session.query(&way.replace("{}", tenant)).succeeded();
            for read in reads {
                assert_eq!(session.value(read), name, "{way}: {read}");
                assert!(is_hit(session, read), "a session has answers of its own: {way}: {read}");
            }
        }
    }
    // What a role is given when it logs in.
    let given = || pool.connect_with(&[("user", "qcu8_given"), ("database", "test")]);
    let mut old = given();
    assert_eq!(old.value(reads[0]), "one");
    pool.connect().query("ALTER ROLE qcu8_given SET app.tenant = 2").succeeded();
    assert_eq!(old.value(reads[0]), "one");
    make("DROP VIEW qcu8_view; DROP TABLE qcu8", "DROP ROLE qcu8_given");
}

#[test]
fn a_role_is_not_its_name() {
    only_ours!("the original knows names only");
    let undo = "DROP TABLE IF EXISTS qcu9; DROP ROLE IF EXISTS qcu9_old, qcu9_new";
    make(
        undo,
        "CREATE TABLE qcu9 AS SELECT 'secret' AS a; CREATE ROLE qcu9_old LOGIN; GRANT SELECT ON qcu9 TO qcu9_old",
    );
    let pool = caching().start();
    let login = || pool.connect_with(&[("user", "qcu9_old"), ("database", "test")]);
    let (mut first, mut owner) = (login(), pool.connect());
    let read = "SELECT a FROM qcu9";
    assert!(is_kept(&mut first, read));
    owner.query("ALTER ROLE qcu9_old RENAME TO qcu9_new").succeeded();
    owner.query("CREATE ROLE qcu9_old LOGIN").succeeded();
    assert!(is_kept(&mut first, read));
    assert_eq!(login().query(read).sqlstate(), "42501");
    drop((first, owner));
    make(undo, "SELECT 1");
}

#[test]
fn privileges_taken_away_by_two_phases_are_gone_everywhere() {
    only_ours!("the original does not know two-phase commit");
    let undo = "DROP TABLE IF EXISTS qcu10; DROP ROLE IF EXISTS qcu10_group, qcu10_member";
    make(
        undo,
        "CREATE TABLE qcu10 AS SELECT 'secret' AS a; CREATE ROLE qcu10_group; \
         CREATE ROLE qcu10_member LOGIN IN ROLE qcu10_group; GRANT SELECT ON qcu10 TO qcu10_group",
    );
    let pool = caching().start();
    let mut member = pool.connect_with(&[("user", "qcu10_member"), ("database", "test")]);
    let mut owner = pool.connect_with(&[("user", "postgres"), ("database", "postgres")]);
    let read = "SELECT a FROM qcu10";
    for sql in ["BEGIN", "REVOKE qcu10_group FROM qcu10_member", "PREPARE TRANSACTION 'qcu10'"] {
        owner.query(sql).succeeded();
    }
    assert!(is_kept(&mut member, read));
    owner.query("COMMIT PREPARED 'qcu10'").succeeded();
    assert_eq!(member.query(read).sqlstate(), "42501");
    make(undo, "SELECT 1");
}

#[test]
fn functions_written_as_columns_and_times_within_literals_are_not_kept() {
    only_ours!("the original keeps them");
    make(
        "DROP TABLE IF EXISTS qcu11_user, qcu11_order CASCADE",
        "CREATE TABLE qcu11_user AS SELECT 1 AS id; CREATE TABLE qcu11_order (customer int); \
         CREATE FUNCTION qcu11_orders(qcu11_user) RETURNS bigint LANGUAGE sql STABLE AS \
         'SELECT count(*) FROM qcu11_order WHERE customer = $1.id'",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    for (kept, sql) in [
        (false, "SELECT u.id, u.qcu11_orders FROM qcu11_user AS u"),
        (true, "SELECT count(*) FROM qcu11_order"),
        (false, "SELECT '[today,tomorrow)'::daterange"),
        (false, "SELECT '{now}'::timestamp[]"),
        (false, "SELECT 'today,10:00'::timestamp"),
        (true, "SELECT 'nowhere', 'yesterdays'"),
    ] {
        assert_eq!(is_kept(&mut session, sql), kept, "{sql}");
    }
}

#[test]
fn a_portal_runs_what_it_was_bound_to() {
    only_ours!("the original looks at the name of the statement");
    make("DROP TABLE IF EXISTS qcu12", "CREATE TABLE qcu12 (a int)");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcu12";
    let write = "INSERT INTO qcu12 VALUES (1)";
    for messages in [
        vec![
            parse("", write, &[]),
            bind("p1", "", &[]),
            parse("", "SELECT 1", &[]),
            bind("p2", "", &[]),
            execute("p1", 0),
            execute("p2", 0),
        ],
        vec![parse("", write, &[]), bind("", "", &[]), parse("", "SELECT 1", &[]), execute("", 0)],
        vec![
            parse("n", write, &[]),
            bind("p1", "n", &[]),
            close_statement("n"),
            parse("n", "SELECT 1", &[]),
            execute("p1", 0),
            close_statement("n"),
        ],
    ] {
        assert!(is_kept(&mut reader, read));
        writer.ask([messages.concat(), sync()].concat()).succeeded();
        assert_true(&mut reader, read);
    }
    assert_eq!(reader.value(read), "3");
}

#[test]
fn statements_that_no_server_has_seen_can_be_named_anywhere() {
    only_ours!("in the original each of them is prepared on a server");
    make("DROP TABLE IF EXISTS qcu13", "CREATE TABLE qcu13 AS SELECT 1 AS a");
    let pool = caching().start();
    let batch =
        |name: &str| [parse(name, "SELECT a FROM qcu13", &[]), bind("", name, &[]), execute("", 0), sync()].concat();
    for sql in [
        "CREATE TEMP TABLE x AS EXECUTE s",
        "EXPLAIN ANALYZE CREATE TEMP TABLE x AS EXECUTE s",
        "SELECT 1; EXECUTE s",
        "BEGIN; EXECUTE s; COMMIT",
        "DO $$BEGIN EXECUTE 'EXECUTE s'; END$$",
    ] {
        let mut session = pool.connect();
        // Anew each time: what EXECUTE runs among several statements may write.
        session.ask(batch("")).succeeded();
        let before = super::counts(&mut session).0;
        session.ask(batch("s")).succeeded();
        assert_eq!(super::counts(&mut session).0, before + 1, "the server does not know the statement");
        session.query(sql).succeeded();
    }
}

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
    let extended = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
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
fn a_statement_outlives_a_failure_to_prepare_it_elsewhere() {
    only_ours!("in the original each of them is prepared on a server");
    make("DROP TABLE IF EXISTS qcu17, qcu17_away", "CREATE TABLE qcu17 AS SELECT 1 AS a");
    let pool = caching().start();
    let mut session = pool.connect();
    let batch =
        |name: &str| [parse(name, "SELECT a FROM qcu17", &[]), bind("", name, &[]), execute("", 0), sync()].concat();
    for name in ["", "s"] {
        session.ask(batch(name)).succeeded();
    }
    shared().primary().sql("ALTER TABLE qcu17 RENAME TO qcu17_away");
    let describe = [crate::harness::frontend::describe_statement("s"), sync()].concat();
    assert_eq!(session.ask(&describe).sqlstate(), "42P01");
    shared().primary().sql("ALTER TABLE qcu17_away RENAME TO qcu17");
    session.ask(&describe).succeeded();
    session.ask([bind("p", "s", &[]), execute("p", 0), sync()].concat()).succeeded();
}

#[test]
fn aggregates_are_what_they_are_made_of() {
    only_ours!("the original looks at the aggregate alone");
    make(
        "DROP AGGREGATE IF EXISTS qcu18_sum(int); DROP FUNCTION IF EXISTS qcu18_add; DROP TABLE IF EXISTS qcu18, qcu18_rate",
        "CREATE TABLE qcu18 AS SELECT 1 AS a; CREATE TABLE qcu18_rate AS SELECT 2 AS rate; \
         CREATE FUNCTION qcu18_add(int, int) RETURNS int LANGUAGE sql STABLE AS \
         'SELECT $1 + $2 * (SELECT rate FROM qcu18_rate)'; \
         CREATE AGGREGATE qcu18_sum(int) (sfunc = qcu18_add, stype = int, initcond = '0')",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    assert!(!is_kept(&mut session, "SELECT qcu18_sum(a) FROM qcu18"));
    assert!(is_kept(&mut session, "SELECT array_agg(a), sum(a) FROM qcu18"));
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
