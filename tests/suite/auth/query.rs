//! `auth_query`: passwords that the primary tells.

use super::hostile::challenge;
use super::stage::{METHODS, SECRET, prepared};
use crate::harness::{Attempt, Cluster, Pgpool, frontend, wait_for};
use crate::only_ours;

const QUERY: &str = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1";

/// Servers with a role `asker`, and a pgpool that knows nobody else's password.
fn stage(query: &str, rule: Option<&str>) -> (Cluster, Pgpool) {
    let cluster = prepared(&[&METHODS.map(|method| (method, method)); 2]);
    cluster.primary().sql(&format!("CREATE ROLE asker SUPERUSER LOGIN PASSWORD '{SECRET}' IN ROLE ask_scram"));
    cluster.wait_replayed();
    let pool = Pgpool::on(&cluster)
        .weights(&[0.0, 1.0])
        .set("num_init_children", 1)
        .set("enable_pool_hba", if rule.is_some() { "on" } else { "off" })
        .set("auth_query", query)
        .set("auth_user", "asker")
        .set("auth_dbname", "test")
        .prepare();
    pool.write("pool_passwd", &format!("asker:{SECRET}\n"));
    pool.write("pool_hba.conf", &format!("host all all all {}\n", rule.unwrap_or_default()));
    let pool = pool.started();
    (cluster, pool)
}

#[test]
fn the_primary_tells_what_no_file_knows() {
    only_ours!("has no auth_query");
    let (cluster, pool) = stage(QUERY, Some("scram-sha-256"));
    let attempt = |user: &str, password: &str| Attempt::new(pool.port, user, password);
    let summary = |user: &str, password: &str| attempt(user, password).summary();
    assert_eq!([summary("scram_none", "wrong"), summary("nobody", SECRET)], ["S 28P01", "S 28P01"]);
    // The client's own key logs in to both servers.
    let mut wire = attempt("scram_none", SECRET).outcome.unwrap_or_else(|error| panic!("{error}\n{}", pool.log()));
    assert_eq!(wire.value("SELECT current_setting('cluster_name') FROM ten LIMIT 1"), "node1", "{}", pool.log());
    wire.close();
    assert!(pool.log().contains("auth_query: no entry for the user"), "{}", pool.log());
    // What changes on the server counts, reused connection or not, with no file touched.
    let sql = |sql: &str| cluster.primary().sql(sql);
    sql("ALTER ROLE scram_none PASSWORD 'changed'");
    wait_for("the new password", || summary("scram_none", "changed") == "S ok");
    assert_eq!(summary("scram_none", SECRET), "S 28P01");
    for (change, back) in [
        ("VALID UNTIL '2020-01-01'", "VALID UNTIL 'infinity'"),
        ("NOLOGIN", "LOGIN"),
        ("PASSWORD NULL", "PASSWORD 'changed'"),
    ] {
        sql(&format!("ALTER ROLE scram_none {change}"));
        wait_for(change, || summary("scram_none", "changed") == "S 28P01");
        sql(&format!("ALTER ROLE scram_none {back}"));
        wait_for(back, || summary("scram_none", "changed") == "S ok");
    }
    assert!(!pool.log().contains("SCRAM-SHA-256$"), "a verifier is in the log");
}

#[test]
fn no_search_path_leads_the_query_astray() {
    only_ours!("has no auth_query");
    let (cluster, pool) = stage(QUERY, Some("scram-sha-256"));
    let verifier = pgpool::auth::scram::LoginKeys::derive(b"evil", b"salt", 4096).verifier();
    cluster.primary().sql(&format!(
        "CREATE SCHEMA evil; CREATE TABLE evil.pg_authid AS SELECT name 'scram_none' AS rolname, text '{verifier}' AS rolpassword; \
         GRANT USAGE ON SCHEMA evil TO PUBLIC; GRANT SELECT ON evil.pg_authid TO PUBLIC"
    ));
    cluster.primary().sql("CREATE DATABASE evil TEMPLATE template1");
    cluster.primary().sql("ALTER ROLE asker SET search_path = evil, pg_catalog");
    cluster.primary().sql("ALTER DATABASE test SET search_path = evil, pg_catalog");
    let attempt = |password: &str| {
        let startup = [
            ("user", "scram_none"),
            ("database", "test"),
            ("search_path", "evil, pg_catalog"),
            ("options", "-c search_path=evil,pg_catalog"),
        ];
        Attempt::on(pool.open(), &startup, password).summary()
    };
    assert_eq!([attempt("evil"), attempt(SECRET)], ["S 28P01", "S ok"]);
}

#[test]
fn without_rules_the_server_s_method_is_served_too() {
    only_ours!("has no auth_query");
    let (_cluster, pool) = stage(QUERY, None);
    for (user, right, wrong) in [
        ("trust_none", "ok", "ok"),
        ("password_none", "T ok", "T 28P01"),
        ("md5_none", "M ok", "M 28P01"),
        ("scram_none", "S ok", "S 28P01"),
    ] {
        let attempt = |password: &str| Attempt::new(pool.port, user, password).summary();
        assert_eq!(
            [attempt("wrong"), attempt(SECRET), attempt("wrong"), attempt(SECRET)],
            [wrong, right, wrong, right]
        );
    }
}

#[test]
fn a_query_that_fails_is_told_to_the_log_and_not_to_the_client() {
    only_ours!("has no auth_query");
    let (_cluster, pool) = stage("SELECT 1/0 FROM pg_authid WHERE rolname = $1", Some("md5"));
    let refused = Attempt::new(pool.port, "md5_none", SECRET);
    assert_eq!(
        (refused.asked.as_str(), refused.outcome.err().as_deref()),
        ("", Some("57P03 password could not be looked up: "))
    );
    assert!(
        pool.log().contains("auth_query: DB node id: 0 answered with an error: division by zero"),
        "{}",
        pool.log()
    );
    // Who is in pool_passwd needs no query.
    assert_eq!(Attempt::new(pool.port, "asker", SECRET).summary(), "M ok");
}

#[test]
fn made_up_names_cost_no_logins() {
    only_ours!("has no auth_query");
    let (cluster, pool) = stage(QUERY, Some("scram-sha-256"));
    let askers = || {
        cluster
            .primary()
            .sql("SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity WHERE usename = 'asker'")
    };
    let attempt = |user: &str| Attempt::new(pool.port, user, "wrong").summary();
    assert_eq!(attempt("nobody"), "S 28P01");
    let first = askers();
    assert!(first.parse::<u32>().is_ok(), "one connection: {first:?}");
    let names: Vec<_> = (0..20).map(|number| format!("nobody{number}")).collect();
    names.iter().for_each(|name| assert_eq!(attempt(name), "S 28P01"));
    assert_eq!(askers(), first);
    // Nor do those that no server can have, being no text in its encoding; they hear the same.
    for number in 0..20 {
        let name = format!("nobody?{number}");
        let startup = frontend::startup(0, &[("user", &name), ("database", "test")]);
        let mut wire = pool.open();
        wire.send(startup.iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect::<Vec<_>>());
        let asked = wire.read();
        assert_eq!((asked.kind, asked.body.get(..4)), (b'R', Some(&[0, 0, 0, 10][..])), "{asked:?}\n{}", pool.log());
    }
    assert_eq!(askers(), first);
    // A connection that the server has ended is no reason to refuse anybody, and one that is not needed does not stay.
    cluster.primary().sql(&format!("SELECT pg_terminate_backend({first})"));
    wait_for("its end", || askers().is_empty());
    assert_eq!(Attempt::new(pool.port, "scram_none", SECRET).summary(), "S ok");
    wait_for("the connection to be closed", || askers().is_empty());
}

#[test]
fn strangers_look_as_those_of_whom_the_server_tells() {
    only_ours!("has no auth_query");
    let (cluster, pool) = stage(QUERY, Some("scram-sha-256"));
    let verifier = pgpool::auth::scram::LoginKeys::derive(SECRET.as_bytes(), b"a salt", 5000).verifier();
    cluster.primary().sql(&format!("ALTER ROLE scram_none PASSWORD '{verifier}'"));
    assert_eq!(challenge(&pool, "scram_none").1, "5000");
    assert_eq!(challenge(&pool, "stranger").1, "5000");
}

#[test]
fn a_user_who_may_call_one_function_is_enough() {
    only_ours!("has no auth_query");
    let (cluster, pool) = stage("SELECT * FROM pgpool_auth.password_of($1)", Some("scram-sha-256"));
    // As docs/authentication.md has it.
    cluster.primary().sql(
        "ALTER ROLE asker NOSUPERUSER; CREATE SCHEMA pgpool_auth;
         CREATE FUNCTION pgpool_auth.password_of(name) RETURNS TABLE (name name, password text) LANGUAGE sql SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND NOT rolsuper';
         REVOKE ALL ON FUNCTION pgpool_auth.password_of(name) FROM PUBLIC;
         GRANT USAGE ON SCHEMA pgpool_auth TO asker;
         GRANT EXECUTE ON FUNCTION pgpool_auth.password_of(name) TO asker",
    );
    let attempt = |user: &str, password: &str| Attempt::new(pool.port, user, password).summary();
    assert_eq!([attempt("scram_none", SECRET), attempt("scram_none", "wrong")], ["S ok", "S 28P01"], "{}", pool.log());
    assert_eq!(attempt("postgres", SECRET), "S 28P01");
}
