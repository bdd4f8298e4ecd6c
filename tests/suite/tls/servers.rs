//! TLS towards servers, as `backend_sslmode` wants it (auth 18).

use super::authority::{Authority, Pair};
use super::stage::{Gatekeeper, servers};
use crate::harness::{Cluster, Config, Pgpool, frontend, server_version, shared, wait_for};
use crate::{needs_pgpool, only_ours};
use nix::sys::signal::Signal;

const IS_ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

fn on(cluster: &Cluster, mode: &str) -> Config {
    Pgpool::on(cluster).weights(&[1.0, 0.0]).set("backend_sslmode", mode)
}

#[test]
fn sessions_are_encrypted_as_the_mode_says() {
    only_ours!("has no such parameter");
    needs_pgpool!();
    let (authority, cluster) = servers();
    for (mode, root, is_encrypted) in [
        ("auto", "", "f"),
        ("disable", "", "f"),
        ("prefer", "", "t"),
        ("require", "", "t"),
        ("verify-ca", authority.root().as_str(), "t"),
        ("verify-full", authority.root().as_str(), "t"),
    ] {
        let pool = on(cluster, mode).set("backend_sslrootcert", root).start();
        assert_eq!(pool.connect().value(IS_ENCRYPTED), is_encrypted, "{mode}: {}", pool.log());
    }
    // As the original: prefer with ssl = on, verify-ca with a CA.
    let other = Authority::new("others");
    let config = || on(cluster, "auto").set("ssl", "on");
    assert_eq!(config().start().connect().value(IS_ENCRYPTED), "t");
    assert_eq!(config().set("ssl_ca_cert", authority.root()).start().connect().value(IS_ENCRYPTED), "t");
    refused(config().set("ssl_ca_cert", other.root()), "certificate verify failed");
}

/// The session is refused, the log says `why` with a hint, and nothing was sent in clear.
#[track_caller]
fn refused(config: Config, why: &str) {
    let pool = config.start();
    let error = crate::harness::Wire::login(pool.port).map(drop).expect_err("refused").to_string();
    assert!(error.contains("failed to create a backend 0 connection"), "{error}");
    let log = pool.log();
    assert!(log.contains(why) && log.contains("HINT:  "), "{why}: {log}");
}

#[test]
fn what_is_less_secure_than_wanted_is_refused() {
    only_ours!("goes on in clear");
    needs_pgpool!();
    let (authority, cluster) = servers();
    let other = Authority::new("others");
    refused(on(cluster, "verify-ca").set("backend_sslrootcert", other.root()), "certificate verify failed");
    refused(on(cluster, "verify-full").set("backend_sslrootcert", other.root()), "certificate verify failed");
    refused(
        on(cluster, "verify-ca").set("backend_sslrootcert", "/nonexistent"),
        "could not load root certificate file",
    );
    // A server without TLS.
    let pool = on(shared(), "prefer").start();
    assert_eq!(pool.connect().value(IS_ENCRYPTED), "f");
    refused(on(shared(), "require"), "the server does not support TLS, but backend_sslmode asks for it");
    // Its certificate is for another name.
    let pair = authority.for_server(&authority.issue_for("server", "db.example"));
    let plan = Cluster::streaming(1).set("ssl", "on").set("ssl_cert_file", &pair.certificate);
    let cluster = plan.set("ssl_key_file", &pair.key).start();
    let config = |mode| on(&cluster, mode).set("backend_sslrootcert", authority.root());
    assert_eq!(config("verify-ca").start().connect().value(IS_ENCRYPTED), "t");
    refused(config("verify-full"), "IP address mismatch");
}

#[test]
fn a_revoked_certificate_of_a_server_is_refused() {
    only_ours!("does not look at lists of revoked certificates");
    needs_pgpool!();
    let authority = Authority::new("authority of servers");
    let (good, revoked) = (authority.for_server(&authority.issue("server")), authority.issue("server"));
    let revoked = authority.for_server(&revoked);
    let list = authority.revoke(&[&revoked]);
    let start = |pair: &Pair| {
        let plan = Cluster::streaming(1).set("ssl", "on").set("ssl_cert_file", &pair.certificate);
        plan.set("ssl_key_file", &pair.key).start()
    };
    let (good, revoked) = (start(&good), start(&revoked));
    let with = |cluster: &Cluster, mode: &str, list: &str| {
        on(cluster, mode).set("backend_sslrootcert", authority.root()).set("backend_sslcrl", list)
    };
    for mode in ["verify-ca", "verify-full"] {
        assert_eq!(with(&good, mode, &list).start().connect().value(IS_ENCRYPTED), "t");
        assert_eq!(with(&revoked, mode, "").start().connect().value(IS_ENCRYPTED), "t");
        refused(with(&revoked, mode, &list), "certificate verify failed: certificate revoked");
    }
    refused(with(&good, "verify-full", "/nonexistent"), "could not load SSL certificate revocation list file");
    // Others could read the key that pgpool shows to servers.
    let mine = authority.issue("postgres");
    let key = authority.write("open.key", &std::fs::read(&mine.key).expect("key"), 0o644);
    let pool = on(&good, "require").set("backend_sslcert", &mine.certificate).set("backend_sslkey", &key).start();
    let warning = format!("WARNING:  private key file \"{key}\" has group or world access");
    assert_eq!(pool.log().matches(&warning).count(), 1, "{}", pool.log());
}

#[test]
fn a_server_that_asks_for_a_method_that_is_not_allowed_gets_no_password() {
    only_ours!("has no such parameter");
    needs_pgpool!();
    let cluster = Cluster::streaming(1).start();
    cluster.primary().sql("CREATE ROLE asker LOGIN PASSWORD 'secret'");
    let start = |server: &str, allowed: &str| {
        // Who is new in these rules shows that the server goes by them.
        let mark = format!("{server}-{allowed}");
        let rules = format!(
            "host test postgres 127.0.0.1/32 trust\nhost all asker 127.0.0.1/32 {server}\n\
             host all \"{mark}\" 127.0.0.1/32 password\n"
        );
        cluster.primary().set_hba(&rules, &mark);
        let pool = Pgpool::on(&cluster).set("backend_require_auth", allowed).set("enable_pool_hba", "on").prepare();
        pool.write("pool_hba.conf", "host all all all trust\n");
        pool.write("pool_passwd", "asker:TEXTsecret\n");
        pool.started()
    };
    let login = |pool: &Pgpool| {
        let login = crate::harness::Wire::login_with(pool.port, &[("user", "asker"), ("database", "test")]).map(drop);
        login.map_err(|error| error.to_string())
    };
    for (server, allowed) in
        [("password", ""), ("scram-sha-256", "scram-sha-256,none"), ("password", "!md5"), ("trust", "none,md5")]
    {
        let pool = start(server, allowed);
        assert_eq!(login(&pool), Ok(()), "{server} {allowed}: {}", pool.log());
    }
    for (server, allowed) in [
        ("password", "scram-sha-256,none"),
        ("password", "!password"),
        ("trust", "scram-sha-256"),
        ("scram-sha-256", "md5,none"),
    ] {
        let mut pool = start(server, allowed);
        let told = format!("asks for \"{server}\", which backend_require_auth does not allow");
        let refused = login(&pool).expect_err("refused");
        assert!(refused.contains("failed to create a backend 0 connection") && pool.log().contains(&told), "{refused}");
        // Nothing weaker comes by a reload that cannot be understood.
        pool.set("backend_require_auth", "no-such-method");
        pool.signal(Signal::SIGHUP);
        wait_for("the refusal in the log", || pool.log().contains("the configuration was not reloaded"));
        assert!(pool.log().contains("\"no-such-method\" is no method"), "{}", pool.log());
        login(&pool).expect_err("refused as before");
    }
}

#[test]
fn every_connection_to_a_server_is_encrypted() {
    only_ours!("cancels in clear");
    needs_pgpool!();
    let authority = Authority::new("authority of servers");
    let pair = authority.for_server(&authority.issue("server"));
    let mine = authority.issue("postgres");
    let plan = Cluster::streaming(2).set("ssl", "on").set("ssl_cert_file", &pair.certificate);
    let plan = plan.set("ssl_key_file", &pair.key).set("ssl_ca_file", &authority.root()).set("log_connections", "on");
    let cluster = plan.start();
    cluster.primary().sql("CREATE ROLE asker LOGIN PASSWORD 'x'");
    cluster.wait_replayed();
    // From pgpool's side nothing comes in without TLS and a certificate but the tests' own.
    let rules = "host replication all 127.0.0.1/32 trust\nhostssl all postgres 127.0.0.1/32 cert\n\
                 hostnossl test postgres 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 password\n";
    cluster.nodes().iter().for_each(|node| node.set_hba(rules, "asker"));
    let gates: Vec<_> = cluster.nodes().iter().map(|node| Gatekeeper::before(node.port)).collect();
    let config = on(&cluster, "verify-full")
        .set("backend_port0", gates[0].port)
        .set("backend_port1", gates[1].port)
        .set("backend_sslrootcert", authority.root())
        .set("backend_sslcert", &mine.certificate)
        .set("backend_sslkey", &mine.key)
        .set("enable_pool_hba", "on")
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("sr_check_period", 1)
        .set("failover_on_backend_error", "on")
        .set("failover_command", "false");
    let pool = config.start();
    let mut session = pool.connect();
    assert_eq!(session.value(IS_ENCRYPTED), "t");
    // The primary was found, the standby's delay is known, and the health checks are content.
    wait_for("the health checks", || {
        let rows = session.query("SHOW POOL_HEALTH_CHECK_STATS").rows();
        let successes = |row: &Vec<Option<String>>| row[6].as_deref().unwrap_or("0") != "0";
        rows.len() == 2 && rows.iter().all(successes)
    });
    wait_for("the roles and the state of the standby", || {
        let nodes = session.query("SHOW POOL_NODES").rows();
        let has = |node: usize, text: &str| nodes[node].iter().flatten().any(|value| value == text);
        has(0, "primary") && has(1, "standby") && has(1, "streaming")
    });
    session.send(frontend::query("SELECT pg_sleep(600)"));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    wait_for("the statement to run", || cluster.nodes().iter().any(|node| node.sql(running) == "1"));
    let mut request = pool.open();
    request.send(frontend::cancel(session.pid, &session.key));
    assert!(format!("{:?}", session.read_until('Z')).contains("57014"));
    session.close();
    for node in cluster.nodes() {
        let log = node.log_text();
        assert!(!log.contains("no pg_hba.conf entry"), "{log}");
        let clear = log.lines().filter(|line| line.contains("authorized: ") && !line.contains("SSL enabled"));
        let ours: Vec<_> = clear.filter(|line| line.contains("application_name=pgpool")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    for gate in gates {
        assert_eq!(gate.refused(), Vec::<[u8; 8]>::new(), "in clear, the request to cancel as well as the others");
    }
}

#[test]
fn the_certificate_of_pgpool_lets_nobody_in() {
    only_ours!("has no such parameter");
    needs_pgpool!();
    let authority = Authority::new("authority of servers");
    let pair = authority.for_server(&authority.issue("server"));
    let mine = authority.issue("postgres");
    let plan = Cluster::streaming(1).set("ssl", "on").set("ssl_cert_file", &pair.certificate);
    let cluster = plan.set("ssl_key_file", &pair.key).set("ssl_ca_file", &authority.root()).start();
    cluster.primary().sql("CREATE ROLE asker LOGIN PASSWORD 'x'");
    let rules = "hostssl all postgres 127.0.0.1/32 cert\nhostnossl test postgres 127.0.0.1/32 trust\n\
                 host all asker 127.0.0.1/32 password\n";
    cluster.primary().set_hba(rules, "asker");
    let config = |rules: &str| {
        let config = Pgpool::on(&cluster).set("backend_sslmode", "require").set("num_init_children", 1);
        let config = config.set("backend_sslcert", &mine.certificate).set("backend_sslkey", &mine.key);
        config.set("enable_pool_hba", rules)
    };
    let pool = config("off").start();
    let error = crate::harness::Wire::login(pool.port).map(drop).expect_err("refused").to_string();
    assert!(error.contains("client authentication failed"), "{error}");
    assert!(pool.log().contains("nothing tells who the client is"), "{}", pool.log());
    // A rule decides, and a reload that takes it away leaves no door open in the pool.
    let mut pool = config("on").start();
    pool.connect().close();
    pool.set("enable_pool_hba", "off");
    pool.signal(Signal::SIGHUP);
    wait_for("the refusal", || crate::harness::Wire::login(pool.port).is_err());
    assert!(pool.log().contains("nothing tells who the client is"), "{}", pool.log());
}

#[test]
fn a_reload_changes_what_is_wanted() {
    only_ours!("has no such parameter");
    needs_pgpool!();
    let (authority, cluster) = servers();
    let mut pool = on(cluster, "disable").set("connection_cache", "off").start();
    let mut old = pool.connect();
    let reload = |pool: &mut Pgpool, mode: &str, root: &str| {
        pool.set("backend_sslmode", mode);
        pool.set("backend_sslrootcert", root);
        pool.signal(Signal::SIGHUP);
    };
    reload(&mut pool, "verify-ca", &authority.root());
    wait_for("new sessions to be encrypted", || pool.connect().value(IS_ENCRYPTED) == "t");
    assert_eq!(old.value(IS_ENCRYPTED), "f");
    // A CA that is not there: what was in force stays, and is what is shown.
    reload(&mut pool, "verify-full", "/nonexistent");
    wait_for("the refusal in the log", || pool.log().contains("the configuration was not reloaded"));
    assert!(pool.log().contains("could not load root certificate file \"/nonexistent\""), "{}", pool.log());
    let mut session = pool.connect();
    assert_eq!(
        (session.value(IS_ENCRYPTED), session.value("PGPOOL SHOW backend_sslmode")),
        ("t".into(), "verify-ca".into())
    );
    session.close();
    reload(&mut pool, "disable", "");
    wait_for("new sessions to be clear", || pool.connect().value(IS_ENCRYPTED) == "f");
}

#[test]
fn a_handshake_without_asking() {
    only_ours!("does not know it");
    needs_pgpool!();
    let (_, cluster) = servers();
    let config = || on(cluster, "require").set("backend_sslnegotiation", "direct");
    if server_version() >= 17 {
        assert_eq!(config().start().connect().value(IS_ENCRYPTED), "t");
    } else {
        // An older server takes it for a packet of a strange length, and closes.
        let pool = config().set("failover_on_backend_error", "off").start();
        assert!(crate::harness::Wire::login(pool.port).is_err());
        assert!(pool.log().contains("failed to create a backend 0 connection"), "{}", pool.log());
    }
}

#[test]
fn check_tells_what_is_wrong_and_asks_as_pgpool_would() {
    only_ours!("has no such command");
    needs_pgpool!();
    let (authority, cluster) = servers();
    let check = |config: Config| {
        let pool = config.prepare();
        let output = pool.command().arg("check").output().expect("pgpool check");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let verified = |root: &str| on(cluster, "verify-full").set("backend_sslrootcert", root);
    let (status, text) = check(verified(&authority.root()));
    assert!(status == Some(0) && text.contains("allows max_connections"), "{text}");
    // It does not ask who cannot be verified.
    let other = Authority::new("others");
    let (status, text) = check(verified(&other.root()));
    assert!(status == Some(0) && !text.contains("allows max_connections"), "{text}");
    let broken = verified("/nonexistent").set("ssl", "on").set("ssl_cert", "/nonexistent");
    let (status, text) = check(broken);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("ERROR:  TLS to servers cannot be used: could not load root certificate file"), "{text}");
    assert!(text.contains("WARNING:  could not load server certificate file \"/nonexistent\""), "{text}");
}
