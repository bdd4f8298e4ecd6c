//! What tries cost, and what is left of them in the log.

use super::stage::{SECRET, prepared_pool, servers, user};
use crate::harness::{Attempt, Pgpool, wait_for};
use crate::only_ours;
use std::time::{Duration, Instant};

/// As docs/authentication.md has it.
const PENALTY: Duration = Duration::from_secs(1);

/// With room for another client beside the one that fails.
fn pool(rule: Option<&str>) -> Pgpool {
    prepared_pool(servers(), rule, |config| config.set("num_init_children", 2))
}

/// How long a wrong password takes.
fn time_of_a_try(pool: &Pgpool, user: &str) -> Duration {
    let begun = Instant::now();
    assert!(Attempt::new(pool.port, user, "wrong").outcome.is_err(), "{user}");
    begun.elapsed()
}

#[test]
fn a_wrong_password_costs_a_second_whoever_finds_it_wrong() {
    only_ours!("costs nothing");
    for (rule, user) in [
        (Some("scram-sha-256"), user("trust", "text")),
        (Some("scram-sha-256"), "stranger".to_owned()),
        (Some("reject"), user("trust", "text")),
        // The server.
        (Some("password"), user("scram", "none")),
    ] {
        let pool = pool(rule);
        assert!(time_of_a_try(&pool, &user) >= PENALTY, "{rule:?} {user}");
    }
}

#[test]
fn nobody_is_held_at_the_expense_of_others() {
    only_ours!("costs nothing");
    let pool = pool(Some("md5"));
    let user = user("md5", "text");
    let _other = Attempt::new(pool.port, &user, SECRET).outcome.expect("in");
    // The last free worker is left to the next client; some try is not slowed down by anything else.
    wait_for("a quick refusal", || time_of_a_try(&pool, &user) < PENALTY);
}

#[test]
fn the_log_has_the_address_of_who_is_refused() {
    only_ours!("says less");
    let pool = prepared_pool(servers(), Some("password"), |config| config.set("log_connections", "off"));
    for (user, said) in [
        (user("trust", "text"), "clear text authentication failed"),
        (user("scram", "none"), "the server has refused the login of user \"scram_none\""),
    ] {
        assert_eq!(Attempt::new(pool.port, &user, "wrong").summary(), "T 28P01");
        let log = pool.log();
        let told = log.split(said).nth(1).unwrap_or_else(|| panic!("{said}\n{log}"));
        let context = told.lines().find(|line| line.contains("CONTEXT:  ")).unwrap_or_default();
        let (_, port) = context.rsplit_once("host=127.0.0.1 port=").unwrap_or_else(|| panic!("{said}\n{log}"));
        assert!(port.parse::<u16>().is_ok(), "{context}");
        assert!(!log.contains("wrong"), "{log}");
    }
}
