//! Nobody is given what another one may see and he may not (CVE-2024-45624 and its like).

use super::{caching, is_hit, is_kept, make};
use crate::harness::{Pgpool, Wire, shared, wait_for};
use crate::only_ours;
use nix::sys::signal::Signal;

fn as_user(pool: &Pgpool, user: &str) -> Wire {
    pool.connect_with(&[("user", user), ("database", "test")])
}

#[test]
fn users_and_roles_have_answers_of_their_own() {
    only_ours!("the original cuts the names of users, and does not know what RESET ROLE or GRANT do");
    let long = "qck_a_name_of_more_than_thirty_one_bytes";
    make(
        &format!("DROP TABLE IF EXISTS qck_table; DROP ROLE IF EXISTS qck_may, qck_not, {long}_1, {long}_2"),
        &format!(
            "CREATE TABLE qck_table AS SELECT 'secret' AS a; CREATE ROLE qck_may LOGIN; CREATE ROLE qck_not LOGIN; \
             CREATE ROLE {long}_1 LOGIN; CREATE ROLE {long}_2 LOGIN; GRANT SELECT ON qck_table TO qck_may, {long}_1"
        ),
    );
    let pool = caching().set("num_init_children", 8).start();
    let read = "SELECT a FROM qck_table";
    let mut may = as_user(&pool, "qck_may");
    assert!(is_kept(&mut may, read));
    let mut not = as_user(&pool, "qck_not");
    assert_eq!(not.query(read).sqlstate(), "42501");
    assert!(is_kept(&mut as_user(&pool, &format!("{long}_1")), read));
    assert_eq!(as_user(&pool, &format!("{long}_2")).query(read).sqlstate(), "42501");
    // Roles taken in the session, by whatever means.
    let mut superuser = pool.connect();
    assert!(is_kept(&mut superuser, read));
    for (take, leave) in [
        ("SET ROLE qck_not", "RESET ROLE"),
        ("SET SESSION AUTHORIZATION qck_not", "RESET SESSION AUTHORIZATION"),
        ("SELECT set_config('role', 'qck_not', false)", "SET ROLE NONE"),
        ("DO $$BEGIN PERFORM set_config('role', 'qck_not', false); END$$", "RESET ALL; RESET ROLE"),
    ] {
        superuser.query(take).succeeded();
        assert_eq!(superuser.query(read).sqlstate(), "42501", "{take}");
        superuser.query(leave).succeeded();
        assert_eq!(superuser.value(read), "secret", "{leave}");
        superuser.query("BEGIN").succeeded();
        superuser.query("SET LOCAL ROLE qck_not").succeeded();
        assert_eq!(superuser.query(read).sqlstate(), "42501");
        superuser.query("ROLLBACK").succeeded();
        assert_eq!(superuser.value(read), "secret");
    }
    // Privileges taken away and given.
    assert!(is_kept(&mut may, read));
    superuser.query("REVOKE SELECT ON qck_table FROM qck_may").succeeded();
    assert_eq!(may.query(read).sqlstate(), "42501");
    superuser.query("GRANT qck_may TO qck_not; GRANT SELECT ON qck_table TO qck_may").succeeded();
    assert!(is_kept(&mut not, read));
    superuser.query("REVOKE qck_may FROM qck_not").succeeded();
    assert_eq!(not.query(read).sqlstate(), "42501");
    make("DROP TABLE qck_table", &format!("DROP ROLE qck_may, qck_not, {long}_1, {long}_2"));
}

#[test]
fn settings_that_change_answers_are_part_of_the_key() {
    only_ours!("the original leaves settings out");
    make(
        "DROP SCHEMA IF EXISTS qck_1, qck_2 CASCADE",
        "CREATE SCHEMA qck_1; CREATE SCHEMA qck_2; \
         CREATE TABLE qck_1.t AS SELECT 'one' AS a, '2020-01-01 00:00Z'::timestamptz AS b, 0.1::float8 AS c, '\\x00'::bytea AS d; \
         CREATE TABLE qck_2.t AS SELECT 'two' AS a",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    let read = "SELECT a FROM t";
    for _ in 0..2 {
        for (schema, value) in [("qck_1", "one"), ("qck_2", "two")] {
            session.query(&format!("SET search_path = {schema}")).succeeded();
            assert_eq!(session.value(read), value);
            assert_eq!(session.value(read), value);
            session.query("BEGIN").succeeded();
            session.query("SET LOCAL search_path = qck_1").succeeded();
            assert_eq!(session.value(read), "one");
            session.query("ROLLBACK").succeeded();
            assert_eq!(session.value(read), value);
            let time = session.value("SELECT b FROM qck_1.t");
            session.query("BEGIN; SET LOCAL timezone = 'Asia/Tokyo'").succeeded();
            assert_eq!(session.value("SELECT b FROM qck_1.t"), "2020-01-01 09:00:00+09");
            session.query("COMMIT").succeeded();
            assert_eq!(session.value("SELECT b FROM qck_1.t"), time);
        }
    }
    for (setting, values) in [
        ("timezone", ["UTC", "Asia/Tokyo"]),
        ("datestyle", ["ISO", "German"]),
        ("extra_float_digits", ["1", "-10"]),
        ("bytea_output", ["hex", "escape"]),
    ] {
        for value in values.into_iter().chain(values) {
            session.query(&format!("SET {setting} = '{value}'")).succeeded();
            let read = "SELECT b, c, d FROM qck_1.t";
            let through = session.query(read).rows();
            assert_eq!(session.query(read).rows(), through);
            let mut direct = shared().primary().connect();
            for (setting, _) in [("timezone", ""), ("datestyle", ""), ("extra_float_digits", ""), ("bytea_output", "")]
            {
                let value = session.value(&format!("SHOW {setting}"));
                direct.query(&format!("SET {setting} = '{value}'")).succeeded();
            }
            assert_eq!(direct.query(read).rows(), through, "{setting} = {value}");
        }
    }
    // Said in the startup packet.
    for (schema, value) in [("qck_1", "one"), ("qck_2", "two")] {
        let options = format!("-c search_path={schema}");
        let parameters = [("user", "postgres"), ("database", "test"), ("options", &*options)];
        assert_eq!(pool.connect_with(&parameters).value(read), value);
    }
    // An application's name decides nothing.
    let named =
        |name: &str| pool.connect_with(&[("user", "postgres"), ("database", "test"), ("application_name", name)]);
    assert!(is_kept(&mut named("x"), "SELECT a FROM qck_1.t"));
    assert!(is_hit(&mut named("y"), "SELECT a FROM qck_1.t"));
    make("DROP SCHEMA qck_1, qck_2 CASCADE", "SELECT 1");
}

#[test]
fn a_table_that_gets_row_security_is_not_served_any_more() {
    only_ours!("the original asks for row security once in a process");
    make(
        "DROP TABLE IF EXISTS qck_rows; DROP ROLE IF EXISTS qck_reader",
        "CREATE TABLE qck_rows AS SELECT 1 AS a; CREATE ROLE qck_reader LOGIN; GRANT SELECT ON qck_rows TO qck_reader",
    );
    let pool = caching().start();
    let mut reader = as_user(&pool, "qck_reader");
    let read = "SELECT count(*) FROM qck_rows";
    assert!(is_kept(&mut reader, read));
    let mut owner = pool.connect();
    owner.query("ALTER TABLE qck_rows ENABLE ROW LEVEL SECURITY").succeeded();
    assert_eq!(reader.value(read), "0");
    owner.query("CREATE POLICY p ON qck_rows USING (current_setting('a.b', true) = 'x')").succeeded();
    reader.query("SET a.b = 'x'").succeeded();
    assert_eq!(reader.value(read), "1");
    reader.query("SET a.b = 'y'").succeeded();
    assert_eq!(reader.value(read), "0");
    make("DROP TABLE qck_rows", "DROP ROLE qck_reader");
}

#[test]
fn operators_obey_settings_that_no_server_lists() {
    only_ours!("the original leaves settings out");
    make(
        "DROP TABLE IF EXISTS qck_tenants; DROP OPERATOR IF EXISTS ###(text, text); DROP FUNCTION IF EXISTS qck_is",
        "CREATE TABLE qck_tenants AS SELECT * FROM (VALUES ('one'), ('two')) AS t(name); \
         CREATE FUNCTION qck_is(text, text) RETURNS bool LANGUAGE sql STABLE AS \
         $$SELECT $1 = COALESCE(current_setting('app.tenant', true), 'one')$$; \
         CREATE OPERATOR ### (LEFTARG = text, RIGHTARG = text, FUNCTION = qck_is)",
    );
    let pool = caching().start();
    let read = "SELECT name FROM qck_tenants WHERE name ### ''";
    let (mut plain, mut tenant) = (pool.connect(), pool.connect());
    tenant.query("SET app.tenant = 'two'").succeeded();
    for _ in 0..2 {
        assert_eq!((tenant.value(read), plain.value(read)), ("two".into(), "one".into()));
    }
    assert!(is_hit(&mut tenant, read) && is_hit(&mut plain, read));
    make("DROP OPERATOR ###(text, text); DROP FUNCTION qck_is; DROP TABLE qck_tenants", "SELECT 1");
}

#[test]
fn who_serves_one_tenant_after_the_other_does_not_mix_them_up() {
    only_ours!("the original leaves settings out");
    make(
        "DROP VIEW IF EXISTS qck_shown; DROP TABLE IF EXISTS qck_turn",
        "CREATE TABLE qck_turn AS SELECT * FROM (VALUES ('one'), ('two')) AS t(name); CREATE VIEW qck_shown AS \
         SELECT name FROM qck_turn WHERE name = COALESCE(current_setting('app.tenant', true), 'one')",
    );
    let pool = caching().set("cache_safe_memqcache_table_list", "qck_shown").start();
    let mut session = pool.connect();
    let reads = [
        "SELECT name FROM qck_shown",
        "/*FORCE QUERY CACHE*/ SELECT name FROM qck_turn WHERE name = current_setting('app.tenant')",
    ];
    for set in [
        "SET app.tenant = '{}'",
        "SELECT set_config('app.tenant', '{}', false)",
        "DO $$BEGIN PERFORM set_config('app.tenant', '{}', false); END$$",
    ] {
        for tenant in ["one", "two", "one"] {
            session.query(&set.replace("{}", tenant)).succeeded();
            for read in reads {
                assert_eq!((session.value(read), session.value(read)), (tenant.into(), tenant.into()), "{set}: {read}");
            }
        }
    }
    for (begin, set, end) in
        [("BEGIN", "SET LOCAL app.tenant = 'two'", "COMMIT"), ("BEGIN", "SET app.tenant = 'two'", "ROLLBACK")]
    {
        assert!(is_kept(&mut session, reads[0]));
        session.query(begin).succeeded();
        session.query(set).succeeded();
        assert_eq!(session.value(reads[0]), "two", "{set}");
        session.query(end).succeeded();
        assert_eq!(session.value(reads[0]), "one", "{set}");
    }
    drop((session, pool));
    make("DROP VIEW qck_shown; DROP TABLE qck_turn", "SELECT 1");
}

#[test]
fn a_connection_that_was_not_reset_brings_settings_along() {
    only_ours!("the original leaves settings out");
    make(
        "DROP TABLE IF EXISTS qck_left",
        "CREATE TABLE qck_left AS SELECT * FROM (VALUES ('one'), ('two')) AS t(name)",
    );
    let pool = caching().set("reset_query_list", "ABORT").set("num_init_children", 2).start();
    let read = "/*FORCE QUERY CACHE*/ SELECT name FROM qck_left \
        WHERE name = COALESCE(current_setting('app.tenant', true), 'one')";
    let mut first = pool.connect();
    first.query("SET app.tenant = 'two'").succeeded();
    first.close();
    // One of them has the connection of the first, whichever comes first.
    let mut both = [pool.connect(), pool.connect()];
    let truth = |session: &mut Wire| session.value("SELECT COALESCE(current_setting('app.tenant', true), 'one')");
    let mut tenants = [truth(&mut both[0]), truth(&mut both[1])];
    for _ in 0..2 {
        for (session, tenant) in both.iter_mut().zip(&tenants) {
            assert_eq!(session.value(read), *tenant);
        }
    }
    tenants.sort();
    assert_eq!(tenants, ["one", "two"]);
}

#[test]
fn answers_of_other_rules_are_forgotten() {
    only_ours!("the original keeps them");
    make("DROP TABLE IF EXISTS qck_rules", "CREATE TABLE qck_rules AS SELECT 1 AS a");
    // As many processes as sessions: each takes the file anew when it hears of it.
    let mut pool = caching().set("num_init_children", 2).start();
    let read = "SELECT count(*) FROM qck_rules";
    let (mut session, mut writer) = (pool.connect(), pool.connect());
    let mut change = |sessions: &mut [&mut Wire], name: &str, value: &str| {
        pool.set(name, value);
        pool.signal(Signal::SIGHUP);
        for session in sessions {
            wait_for("the new value to be in force", || session.value(&format!("PGPOOL SHOW {name}")) == value);
        }
    };
    assert!(is_kept(&mut session, read));
    change(&mut [&mut session, &mut writer], "memqcache_auto_cache_invalidation", "off");
    assert!(is_kept(&mut session, read));
    writer.query("INSERT INTO qck_rules VALUES (2)").succeeded();
    assert_eq!(session.value(read), "1", "what is written is not looked at");
    change(&mut [&mut session, &mut writer], "memqcache_auto_cache_invalidation", "on");
    assert_eq!(session.value(read), "2");
    assert!(is_kept(&mut session, read));
    change(&mut [&mut session], "cache_unsafe_memqcache_table_list", "qck_rules");
    assert!(!is_kept(&mut session, read));
}
