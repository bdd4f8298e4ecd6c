//! pgpool's own users log in to servers that ask for passwords (auth 9).

use super::stage::{ENCRYPTED, SECRET, prepared_pool, servers, user};
use crate::harness::{Attempt, Config, Pgpool, wait_for};
use crate::only_ours;

/// A pgpool whose checks use this user and this password.
fn checking_as(user: &str, password: &str) -> Pgpool {
    prepared_pool(servers(), None, |config: Config| {
        let config = config.set("sr_check_user", user).set("sr_check_password", password).set("sr_check_period", 1);
        let config = config.set("health_check_user", user).set("health_check_password", password);
        let config = config.set("sr_check_database", "test").set("health_check_database", "test");
        // A refused login is no dead server here, so that the nodes stay.
        config.set("health_check_period", 1).set("failover_on_login_refused", "off")
    })
}

/// Status and role of each node, as pgpool has them and as the servers tell.
fn nodes(pool: &Pgpool) -> Vec<[String; 4]> {
    let attempt = Attempt::new(pool.port, "trust_text", SECRET);
    let rows = attempt.outcome.expect("in").query("SHOW POOL_NODES").rows();
    let part = |row: &[Option<String>], at: usize| row[at].clone().unwrap_or_default();
    // status, pg_status, role, pg_role
    rows.iter().map(|row| [part(row, 3), part(row, 4), part(row, 6), part(row, 7)]).collect()
}

#[test]
fn they_log_in_with_what_is_known_of_them() {
    only_ours!("waits for the next check");
    let well = [["up", "up", "primary", "primary"], ["up", "up", "standby", "standby"]];
    for (method, kind, password) in [
        ("scram", "none", SECRET),
        ("scram", "none", "TEXTsecret"),
        ("scram", "none", ENCRYPTED),
        ("scram", "aes", ""),
        ("scram", "text", ""),
        ("md5", "md5", ""),
        ("password", "text", ""),
    ] {
        let pool = checking_as(&user(method, kind), password);
        wait_for("the nodes to be well", || nodes(&pool) == well);
        let log = pool.log();
        assert!(!log.contains("does not tell whether it is the primary"), "{method} {kind} {password}:\n{log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

#[test]
fn without_a_password_that_serves_they_do_not_and_the_log_says_why() {
    only_ours!("says less");
    for (kind, password, why) in [
        ("none", "", "valid password not found"),
        ("md5", "", "valid password not found"),
        ("ver", "", "valid password not found"),
        ("text", "wrong", "password authentication failed for user"),
        ("none", "AESnonsense", "unable to decrypt password from pool_passwd"),
    ] {
        let pool = checking_as(&user("scram", kind), password);
        wait_for(why, || pool.log().contains(why));
        // The servers are alive all the same.
        assert!(nodes(&pool).iter().all(|node| node[0] == "up"), "{kind} {password}:\n{}", pool.log());
    }
}
