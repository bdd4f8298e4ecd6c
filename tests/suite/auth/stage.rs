//! Servers that ask each user for another method, and a pgpool in front of them with an entry of another kind for each.

use crate::harness::{Attempt, Cluster, Config, Names, Pgpool};
use pgpool::auth::scram::LoginKeys;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// The password of every user.
pub const SECRET: &str = "secret";
/// The key of the encrypted entry, and the entry (auth 5.3).
pub const KEY: &str = "k1";
pub const ENCRYPTED: &str = "AESktnnupnBYqgsDxkbzSUsAQ==";

/// What servers ask for.
pub const METHODS: [&str; 4] = ["trust", "password", "md5", "scram"];
/// Kinds of entries in pool_passwd.
pub const ENTRIES: [&str; 5] = ["none", "text", "aes", "md5", "ver"];

/// The user of whom the servers ask `method`, and of whom pool_passwd has an entry of this kind.
pub fn user(method: &str, entry: &str) -> String {
    format!("{method}_{entry}")
}

/// Where servers ask for what: rules for the groups of users.
pub fn server_rules(methods: &[(&str, &str)]) -> String {
    let mut rules =
        "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
            .to_owned();
    for (group, method) in methods {
        let method = if *method == "scram" { "scram-sha-256" } else { method };
        let _ = writeln!(rules, "host all +ask_{group} 127.0.0.1/32 {method}");
    }
    rules
}

/// A primary and a standby, started on first use.
pub fn servers() -> &'static Cluster {
    static SERVERS: OnceLock<Cluster> = OnceLock::new();
    SERVERS.get_or_init(|| prepared(&[&METHODS.map(|method| (method, method)); 2]))
}

/// A primary and a standby that ask the users of the groups for these methods.
pub fn prepared(methods: &[&[(&str, &str)]; 2]) -> Cluster {
    let cluster = Cluster::streaming(2).start();
    let mut sql = String::new();
    for method in METHODS {
        let encryption = if method == "md5" { "md5" } else { "scram-sha-256" };
        let _ = write!(sql, "SET password_encryption = '{encryption}'; CREATE ROLE ask_{method};");
        for entry in ENTRIES {
            let user = user(method, entry);
            let _ = write!(
                sql,
                "CREATE ROLE {user} LOGIN PASSWORD '{SECRET}' IN ROLE ask_{method}; GRANT SELECT ON ten TO {user};"
            );
        }
    }
    cluster.primary().sql(&sql);
    cluster.wait_replayed();
    for (node, methods) in cluster.nodes().iter().zip(methods) {
        let (group, _) = methods.iter().find(|(_, method)| *method != "trust").expect("a method");
        node.set_hba(&server_rules(methods), &user(group, "none"));
    }
    cluster
}

/// The entry of a user, as it stands in pool_passwd; empty for `none`.
pub fn entry(cluster: &Cluster, method: &str, kind: &str) -> String {
    let user = user(method, kind);
    let text = match kind {
        "none" => return String::new(),
        "text" => format!("TEXT{SECRET}"),
        "aes" => ENCRYPTED.to_owned(),
        "md5" => postgres_protocol::password::md5(SECRET.as_bytes(), &user),
        // The server's own verifier, where it has one.
        _ if method == "md5" => LoginKeys::derive(SECRET.as_bytes(), b"a salt", 4096).verifier().to_string(),
        _ => cluster.primary().sql(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")),
    };
    format!("{user}:{text}\n")
}

/// A pgpool with one worker, so that the second session of a user gets the connections of the first; `rule` is the only
/// line of pool_hba.conf, `None` turns it off.
pub fn pool(cluster: &Cluster, rule: Option<&str>) -> Pgpool {
    prepared_pool(cluster, rule, |config| config)
}

/// As [`pool`], with other settings.
pub fn prepared_pool(cluster: &Cluster, rule: Option<&str>, set: impl FnOnce(Config) -> Config) -> Pgpool {
    started(unstarted_pool(cluster, rule, set))
}

/// As [`pool`], with these names only.
pub fn pool_with_names(cluster: &Cluster, rule: Option<&str>, names: &Arc<Names>) -> Pgpool {
    let mut pool = unstarted_pool(cluster, rule, |config| config);
    pool.use_names(names);
    started(pool)
}

/// As [`prepared_pool`], not started yet.
pub fn unstarted_pool(cluster: &Cluster, rule: Option<&str>, set: impl FnOnce(Config) -> Config) -> Pgpool {
    let config = Pgpool::on(cluster)
        .set("num_init_children", 1)
        .set("max_pool", METHODS.len() * ENTRIES.len())
        .set("log_connections", "on")
        .set("enable_pool_hba", if rule.is_some() { "on" } else { "off" })
        .set("pool_passwd", "pool_passwd");
    let pool = set(config).prepare();
    let entries = METHODS.iter().flat_map(|method| ENTRIES.map(|kind| entry(cluster, method, kind)));
    pool.write("pool_passwd", &entries.collect::<String>());
    pool.write("key", &format!("{KEY}\n"));
    if let Some(rule) = rule {
        pool.write("pool_hba.conf", &format!("# rules\nhost all all all {rule}\n"));
    }
    pool
}

/// Starts it.
pub fn started(mut pool: Pgpool) -> Pgpool {
    let key = pool.path("key").display().to_string();
    pool.launch(&["-k", &key]);
    pool.wait_ready();
    pool
}

/// What a client hears that is asked for its password and is not let in.
#[track_caller]
pub fn refusal(pool: &Pgpool, user: &str, password: &str) -> String {
    let attempt = Attempt::new(pool.port, user, password);
    assert_eq!(attempt.asked, "T", "{user}");
    attempt.outcome.err().unwrap_or_else(|| panic!("{user} was let in\n{}", pool.log()))
}
