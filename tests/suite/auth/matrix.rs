//! The matrix of auth 12: method of the client x method of the servers x kind of entry, each with a wrong and the right
//! password, on a first and on a reused connection.

use super::stage::{ENTRIES, METHODS, SECRET, pool, prepared, prepared_pool, servers, user};
use crate::harness::{Attempt, Pgpool, eventually};
use crate::only_ours;
use std::thread;
use std::time::Duration;

/// What is asked for, and whether the right password is enough: one line per method of the servers, one word per kind of
/// entry. `T`, `M`, `S`: asked for that, then in; with `!` refused whatever the password; `-`: in without being asked;
/// `-!`: refused without being asked.
pub type Table = [&'static str; 4];

/// Goes through one table. `asks_for_nothing`: a wrong password is as good as any.
#[track_caller]
pub fn check(pool: &Pgpool, name: &str, table: Table) {
    for (method, line) in METHODS.iter().zip(table) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells.len(), ENTRIES.len(), "{name}: {line}");
        for (kind, cell) in ENTRIES.iter().zip(cells) {
            let asked = cell.trim_matches(['-', '!']);
            let (open, refused) = (cell == "-", cell.ends_with('!'));
            let user = user(method, kind);
            let place = format!("client {name}, servers {method}, entry {kind}");
            let attempt = |password: &str| {
                let attempt = Attempt::new(pool.port, &user, password);
                assert_eq!(attempt.asked, asked, "{place}, password {password}: {:?}", attempt.outcome.as_ref().err());
                attempt.outcome
            };
            let must_fail = |password: &str| {
                let error = attempt(password).err();
                let error = error.unwrap_or_else(|| panic!("{place}: let in with {password:?}\n{}", pool.log()));
                assert!(error.starts_with("28"), "{place}, password {password:?}: {error}");
            };
            // Only what is refused is refused with a beginning of the password, too (auth 23.3).
            let wrong_ones = || ["wrong", "s"].into_iter().filter(|_| !open).for_each(must_fail);
            wrong_ones();
            if refused {
                must_fail(SECRET);
                must_fail(SECRET);
                continue;
            }
            let mut first = attempt(SECRET).unwrap_or_else(|error| panic!("{place}: {error}\n{}", pool.log()));
            // The second node is logged in to with the same credential, when a statement goes there.
            assert_eq!(
                first.value("SELECT current_setting('cluster_name') FROM ten LIMIT 1"),
                "node1",
                "{place}\n{}",
                pool.log()
            );
            let server = first.pid;
            first.close();
            wrong_ones();
            let again = attempt(SECRET).unwrap_or_else(|error| panic!("{place}, reused: {error}\n{}", pool.log()));
            assert_eq!(again.pid, server, "{place}: the connection was reused");
            again.close();
        }
    }
}

/// Reads go to the standby.
fn with(rule: Option<&str>, name: &str, table: Table) {
    let pool = prepared_pool(servers(), rule, |config| config.weights(&[0.0, 1.0]));
    check(&pool, name, table);
    let log = pool.log();
    assert!(!log.contains(SECRET), "a password is in the log");
}

#[test]
fn trust() {
    only_ours!("it knows no verifiers");
    #[rustfmt::skip]
    with(Some("trust"), "trust", [
        // none text aes md5 ver
        "-  -  -  -  - ",
        "-! -  -  -! -!",
        "-! -  -  -  -!",
        "-! -  -  -! -!",
    ]);
}

#[test]
fn password() {
    only_ours!("trust on the server lets in any password, a prefix is enough");
    #[rustfmt::skip]
    with(Some("password"), "password", [
        "T! T  T  T  T ",
        "T  T  T  T! T ",
        "T  T  T  T  T ",
        "T  T  T  T! T ",
    ]);
}

#[test]
fn md5() {
    only_ours!("unknown users are refused without a challenge");
    #[rustfmt::skip]
    with(Some("md5"), "md5", [
        "M! M  M  M  M!",
        "M! M  M  M! M!",
        "M! M  M  M  M!",
        "M! M  M  M! M!",
    ]);
}

#[test]
fn scram() {
    only_ours!("it knows no verifiers");
    #[rustfmt::skip]
    with(Some("scram-sha-256"), "scram", [
        "S! S  S  S! S ",
        "S! S  S  S! S!",
        "S! S  S  S! S!",
        "S! S  S  S! S ",
    ]);
}

#[test]
fn without_rules() {
    only_ours!("it knows no verifiers");
    #[rustfmt::skip]
    with(None, "off", [
        "-  -  -  -  - ",
        "T  T  T  T! T ",
        "M! M  M  M  M!",
        "S! S  S  S! S ",
    ]);
}

#[test]
fn without_rules_with_clear_text_allowed() {
    only_ours!("it knows no verifiers");
    let pool = prepared_pool(servers(), None, |config| {
        config.weights(&[0.0, 1.0]).set("allow_clear_text_frontend_auth", "on")
    });
    #[rustfmt::skip]
    check(&pool, "off, clear text allowed", [
        "-  -  -  -  - ",
        "T  T  T  T! T ",
        "T  M  M  M  M!",
        "T  S  S  S! S ",
    ]);
}

#[test]
fn clear_text_is_not_asked_for_where_a_rule_decides() {
    only_ours!("asks a second time, and lets in reused connections unasked");
    let set = |config: crate::harness::Config| config.set("allow_clear_text_frontend_auth", "on");
    let pool = prepared_pool(servers(), Some("trust"), set);
    let attempt = Attempt::new(pool.port, &user("password", "none"), SECRET);
    assert_eq!(attempt.summary(), "28000");
}

#[test]
fn servers_may_ask_for_different_methods() {
    only_ours!("all servers must ask for the same");
    let primary = [("trust", "trust"), ("password", "password"), ("md5", "md5"), ("scram", "scram")];
    let standby = [("trust", "scram"), ("password", "scram"), ("md5", "password"), ("scram", "trust")];
    let cluster = prepared(&[&primary, &standby]);
    let set = |config: crate::harness::Config| config.weights(&[0.0, 1.0]);
    for rule in [None, Some("md5"), Some("password")] {
        let pool = prepared_pool(&cluster, rule, set);
        for method in METHODS {
            let attempt = Attempt::new(pool.port, &user(method, "text"), SECRET);
            let mut wire = attempt.outcome.unwrap_or_else(|error| panic!("{rule:?} {method}: {error}"));
            let node = wire.value("SELECT current_setting('cluster_name') FROM ten LIMIT 1");
            assert_eq!(node, "node1", "{rule:?} {method}\n{}", pool.log());
        }
    }
}

#[test]
fn a_password_changed_on_the_server_works_at_once() {
    only_ours!("refuses the new one while the old connection is pooled");
    let cluster = prepared(&[&METHODS.map(|method| (method, method)); 2]);
    for (rule, set) in [(Some("password"), "off"), (None, "on")] {
        let pool = prepared_pool(&cluster, rule, |config| config.set("allow_clear_text_frontend_auth", set));
        let user = user("scram", "none");
        let attempt = |password: &str| Attempt::new(pool.port, &user, password).summary();
        assert_eq!(attempt(SECRET), "T ok");
        cluster.primary().sql(&format!("ALTER ROLE {user} PASSWORD 'changed'"));
        assert_eq!([attempt("changed"), attempt("wrong"), attempt("changed")], ["T ok", "T 28P01", "T ok"]);
        // The old one is forgotten with the connection that was made by it.
        assert_eq!(attempt(SECRET), "T 28P01");
        cluster.primary().sql(&format!("ALTER ROLE {user} PASSWORD '{SECRET}'"));
    }
}

#[test]
fn who_may_not_log_in_any_more_is_out_within_a_minute() {
    only_ours!("lets in reused connections for ever");
    let cluster = prepared(&[&METHODS.map(|method| (method, method)); 2]);
    let pool = pool(&cluster, Some("password"));
    let user = user("scram", "none");
    let attempt = || Attempt::new(pool.port, &user, SECRET);
    let first = attempt().outcome.expect("in");
    let server = first.pid;
    first.close();
    cluster.primary().sql(&format!("ALTER ROLE {user} NOLOGIN"));
    // The pooled connection is still there, and opens no door for longer than that.
    let mut logins = 0;
    let is_out = eventually(Duration::from_secs(120), || {
        thread::sleep(Duration::from_secs(1));
        let attempt = attempt();
        let summary = attempt.summary();
        if let Ok(wire) = attempt.outcome {
            assert_eq!(wire.pid, server, "the connection was reused");
            logins += 1;
            // In order, so that the connection goes back into the pool.
            wire.close();
            return false;
        }
        assert_eq!(summary, "T 28000");
        true
    });
    assert!(is_out && logins > 0, "{logins} logins");
}

#[test]
fn a_client_that_failed_leaves_the_pooled_connection_alone() {
    only_ours!("ends the worker with its connections");
    let pool = pool(servers(), Some("md5"));
    let user = user("md5", "text");
    let first = Attempt::new(pool.port, &user, SECRET).outcome.expect("in");
    let server = first.pid;
    first.close();
    assert_eq!(Attempt::new(pool.port, &user, "wrong").summary(), "M 28P01");
    assert_eq!(Attempt::new(pool.port, "nobody", "wrong").summary(), "M 28P01");
    assert_eq!(Attempt::new(pool.port, &user, SECRET).outcome.expect("in").pid, server);
}
