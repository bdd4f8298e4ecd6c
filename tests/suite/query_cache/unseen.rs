//! What changes what names and writes mean where nobody sees it: in other sessions, in functions and triggers, between a
//! look and a write.

use super::{assert_true, caching, is_hit, is_kept, make};
use crate::harness::frontend::query;
use crate::harness::{Wire, shared, wait_for};
use crate::only_ours;

const LOGS: &str = "CREATE FUNCTION qcu_log() RETURNS trigger LANGUAGE plpgsql AS \
    'BEGIN INSERT INTO qcu_tail VALUES (1); RETURN NEW; END'; ";

const UNDO_LOGS: &str = "DROP TABLE IF EXISTS qcu_head, qcu_tail; DROP FUNCTION IF EXISTS qcu_log";

/// Makes two tables, and what lets a write of the first write the second.
pub fn make_logs(tables: &str) {
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
