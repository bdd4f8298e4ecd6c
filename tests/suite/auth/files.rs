//! pool_hba.conf and pool_passwd while pgpool runs (auth 3, 4.5), and what the log tells.

use super::stage::{SECRET, pool, prepared_pool, servers, user};
use crate::harness::{Attempt, Pgpool, Stop, Wire, frontend, wait_for};
use crate::only_ours;
use nix::sys::signal::Signal;
use std::time::Duration;

/// Writes pool_hba.conf, reloads, and waits until the log says this once more than before.
fn reload(pool: &Pgpool, rules: &str, said: &str) {
    let count = |pool: &Pgpool| pool.log().matches(said).count();
    let before = count(pool);
    pool.write("pool_hba.conf", rules);
    pool.signal(Signal::SIGHUP);
    wait_for(said, || count(pool) > before);
}

#[test]
fn bad_rules_refuse_the_start() {
    only_ours!("starts, and refuses every client");
    for (rules, text) in [
        (Some("local all all trust\nhost all all all nonsense\n"), "invalid authentication method \"nonsense\""),
        (Some("# nothing\n"), "contains no entries"),
        (None, "could not open configuration file"),
    ] {
        let mut pool = Pgpool::on(servers()).set("enable_pool_hba", "on").prepare();
        match rules {
            Some(rules) => pool.write("pool_hba.conf", rules),
            None => std::fs::remove_file(pool.path("pool_hba.conf")).expect("removed"),
        }
        pool.launch(&[]);
        let status = pool.wait_end(Duration::from_secs(30)).unwrap_or_else(|| panic!("started:\n{}", pool.log()));
        assert_eq!(status.code(), Some(3));
        assert!(pool.log().contains(text) && pool.log().contains("could not load"), "{}", pool.log());
        if rules.is_some_and(|rules| rules.contains("nonsense")) {
            assert!(pool.log().contains("CONTEXT:  line 2 of configuration file"), "{}", pool.log());
        }
    }
}

#[test]
fn rules_are_taken_at_a_reload_and_bad_ones_are_not() {
    only_ours!("the process that serves may be late");
    let pool = pool(servers(), Some("md5"));
    let user = user("md5", "text");
    let attempt = || Attempt::new(pool.port, &user, SECRET).summary();
    assert_eq!(attempt(), "M ok");
    reload(&pool, "host all all all scram-sha-256\n", "reload config files.");
    wait_for("the new rule to count", || attempt() == "S ok");
    reload(&pool, "host all all all reject\nhost all all 1.2.3.4 reject\n", "the old rules stay in force");
    assert!(pool.log().contains("invalid IP mask \"reject\"") && pool.log().contains("line 2 of"), "{}", pool.log());
    assert_eq!([attempt(), attempt()], ["S ok", "S ok"]);
    // A whole new process keeps them, too.
    let mut worker = None;
    wait_for("the worker to be idle", || {
        worker = pool.children("wait for connection request").first().copied();
        worker.is_some()
    });
    let worker = worker.expect("a worker");
    nix::sys::signal::kill(worker, Signal::SIGTERM).expect("kill");
    wait_for("another worker", || !pool.children("wait for connection").contains(&worker) && attempt() == "S ok");
}

#[test]
fn rules_can_be_turned_on_and_off() {
    only_ours!("the process that serves may be late");
    let mut pool = pool(servers(), None);
    let user = user("trust", "none");
    let attempt = || Attempt::new(pool.port, &user, SECRET);
    assert_eq!(attempt().summary(), "ok");
    let port = pool.port;
    pool.set("enable_pool_hba", "on");
    reload(&pool, "host all all all nonsense\n", "the configuration was not reloaded");
    assert_eq!(Attempt::new(port, &user, SECRET).summary(), "ok");
    reload(&pool, "host test trust_none 127.0.0.0/8 reject\n", "parameter \"enable_pool_hba\" changed");
    wait_for("the rules to count", || Attempt::new(port, &user, SECRET).summary() == "28000");
    pool.set("enable_pool_hba", "off");
    reload(&pool, "nonsense", "parameter \"enable_pool_hba\" changed");
    wait_for("the rules to be gone", || Attempt::new(port, &user, SECRET).summary() == "ok");
}

#[test]
fn a_changed_pool_passwd_counts_at_the_next_login() {
    only_ours!("needs a reload");
    let pool = pool(servers(), Some("scram-sha-256"));
    let attempt = |password: &str| Attempt::new(pool.port, "trust_none", password).summary();
    assert_eq!(attempt(SECRET), "S 28P01");
    for password in ["first", "other", "third"] {
        pool.write("pool_passwd", &format!("trust_none:{password}\ntrust_none:{SECRET}\n"));
        assert_eq!([attempt(password), attempt(SECRET)], ["S ok", "S 28P01"], "{password}");
    }
    std::fs::remove_file(pool.path("pool_passwd")).expect("removed");
    assert_eq!(attempt("third"), "S 28P01");
    assert!(pool.log().contains("WARNING:  could not read file"), "{}", pool.log());
}

#[test]
fn entries_that_cannot_be_meant_are_warned_of() {
    only_ours!("says nothing");
    let pool = Pgpool::on(servers()).set("pool_passwd", "pool_passwd").set("enable_pool_hba", "on").prepare();
    pool.write("pool_hba.conf", "host all all all scram-sha-256\n");
    pool.write("pool_passwd", "a:unmistakable\r\ntrust_none:TEXT\n");
    let check = pool.command().arg("check").output().expect("pgpool check").stdout;
    let check = String::from_utf8_lossy(&check).into_owned();
    let pool = pool.started();
    for text in ["entries end in a carriage return", "entries are empty passwords"] {
        assert!(pool.log().matches(text).count() == 1 && check.contains(text), "{} {check}", pool.log());
    }
    assert!(!pool.log().contains("unmistakable"));
    // An empty password is none, by no method.
    assert_eq!(Attempt::new(pool.port, "trust_none", "").summary(), "S 28P01");
    reload(&pool, "host all all all md5\n", "entries are empty passwords");
    wait_for("the new rule to count", || Attempt::new(pool.port, "trust_none", "").summary() == "M 28P01");
}

#[test]
fn the_log_tells_what_decided_and_no_secret() {
    only_ours!("says less");
    let pool = prepared_pool(servers(), Some("md5"), |config| {
        let config = config.set("log_min_messages", "debug5").set("log_client_messages", "on");
        config.set("sr_check_password", "unmistakable").set("health_check_password0", "unmistakable")
    });
    let text = user("md5", "text");
    assert_eq!(Attempt::new(pool.port, &text, SECRET).summary(), "M ok");
    assert_eq!(Attempt::new(pool.port, &text, "guessed").summary(), "M 28P01");
    assert_eq!(Attempt::new(pool.port, &user("md5", "ver"), "guessed").summary(), "M 28P01");
    assert_eq!(Attempt::new(pool.port, "stranger", "guessed").summary(), "M 28P01");
    let log = pool.log();
    let hba = pool.path("pool_hba.conf").display().to_string();
    for (kind, line) in
        [("a password in clear text", "DETAIL"), ("a SCRAM verifier", "CONTEXT"), ("no entry", "CONTEXT")]
    {
        let expected = format!("{line}:  method md5 by line 2 of \"{hba}\"; pool_passwd: {kind} for the user");
        assert!(log.contains(&expected), "{expected}\n{log}");
    }
    for secret in [SECRET, "guessed", "unmistakable", "SCRAM-SHA-256$"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    // Nor does any table show it.
    let mut wire = Attempt::new(pool.port, &text, SECRET).outcome.expect("in");
    for command in ["SHOW POOL_STATUS", "SHOW POOL_POOLS", "SHOW POOL_PROCESSES", "PGPOOL SHOW ALL"] {
        let shown = format!("{:?}", wire.query(command));
        assert!(!shown.contains("unmistakable") && !shown.contains("TEXTsecret"), "{command}: {shown}");
    }
}

#[test]
fn clients_hear_the_same_whether_the_user_exists_or_not() {
    only_ours!("tells them apart");
    for (rule, asked) in [("md5", "M"), ("scram-sha-256", "S")] {
        let pool = pool(servers(), Some(rule));
        let told = |user: &str| {
            let attempt = Attempt::new(pool.port, user, "guessed");
            assert_eq!(attempt.asked, asked);
            attempt.outcome.err().expect("refused").replace(user, "USER")
        };
        assert_eq!(told("nobody_at_all"), told("trust_text"));
    }
}

#[test]
fn sockets_and_addresses_have_rules_of_their_own() {
    only_ours!("says less");
    let pool = pool(servers(), Some("trust"));
    let rules = "local all trust_none reject\nhost all trust_none samehost trust\n";
    reload(&pool, rules, "reload config files.");
    let local = || {
        let wire = Wire::open_unix(&pool.socket()).expect("socket");
        Attempt::on(wire, &[("user", "trust_none"), ("database", "test")], SECRET).outcome.err().unwrap_or_default()
    };
    let expected = "28000 client authentication failed: no pool_hba.conf entry for host \"[local]\", user \"trust_none\", \
                    database \"test\", SSL off";
    let other = || Attempt::new(pool.port, "trust_text", SECRET).outcome.err().unwrap_or_default();
    let expected_there = "no pool_hba.conf entry for host \"127.0.0.1\", user \"trust_text\"";
    wait_for("the rules to count", || other().contains(expected_there));
    assert_eq!(local(), expected);
    assert_eq!(Attempt::new(pool.port, "trust_none", SECRET).summary(), "ok");
}

#[test]
fn salts_do_not_tell_strangers_from_others_after_a_restart() {
    only_ours!("refuses strangers unasked");
    let mut pool = pool(servers(), Some("scram-sha-256"));
    let salt = |pool: &Pgpool, user: &str| {
        let mut wire = Wire::open(pool.port).ok()?;
        wire.send(frontend::startup(0, &[("user", user), ("database", "test")]));
        wire.try_read().ok()??;
        let first = b"n,,n=,r=abc";
        let content = [&b"SCRAM-SHA-256\0"[..], &(first.len() as u32).to_be_bytes(), first].concat();
        wire.send(frontend::message('p', &content));
        let challenge = String::from_utf8(wire.try_read().ok()??.body).ok()?;
        challenge.split(',').find_map(|part| part.strip_prefix("s=").map(str::to_owned))
    };
    let users = ["trust_ver", "trust_text", "stranger"];
    let before = users.map(|user| salt(&pool, user).expect("a salt"));
    assert_ne!(before[1], before[2]);
    pool.stop(Stop::Fast);
    let key = pool.path("key").display().to_string();
    pool.launch(&["-k", &key]);
    wait_for("pgpool to serve again", || salt(&pool, users[0]).is_some());
    assert_eq!(users.map(|user| salt(&pool, user).expect("a salt")), before);
}
