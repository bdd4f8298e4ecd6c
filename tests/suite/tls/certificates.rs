//! Certificates of clients, lists of revoked ones, pass phrases (auth 17.2, 17.3, 19).

use super::authority::{Authority, Pair};
use super::stage::{connector, handshake, psql, with_tls};
use crate::auth::stage::{ENTRIES, METHODS, prepared_pool, servers, user};
use crate::harness::{Attempt, Config, Outcome, Pgpool, Wire, shared, wait_for};
use crate::{needs_pgpool, only_ours};
use nix::sys::signal::Signal;
use openssl::ssl::SslFiletype;

fn start(config: Config, rules: &str) -> Pgpool {
    let pool = config.set("enable_pool_hba", "on").prepare();
    pool.write("pool_hba.conf", rules);
    pool.started()
}

#[track_caller]
fn login(pool: &Pgpool, user: &str, pair: Option<&Pair>) -> Outcome {
    let files = pair.map(|pair| format!("sslcert={} sslkey={}", pair.certificate, pair.key));
    let files = files.unwrap_or_else(|| "sslcert=/nonexistent".to_owned());
    psql(pool, &format!("sslmode=require user={user} {files}"), "SELECT 40 + 2")
}

#[test]
fn the_common_name_is_the_users() {
    needs_pgpool!();
    let (authority, other) = (Authority::new("ours"), Authority::new("others"));
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).set("ssl_ca_cert", authority.root());
    let pool = start(config, "hostssl all all all cert\n");
    assert_eq!(login(&pool, "postgres", Some(&authority.issue("postgres"))).succeeded(), "42");
    // Whatever its case, as the original has it.
    assert_eq!(login(&pool, "postgres", Some(&authority.issue("Postgres"))).succeeded(), "42");
    let warning = "the certificate of \"Postgres\" is taken for that of user \"postgres\"";
    assert!(crate::harness::foreign() || pool.log().matches("is taken for that").count() == 1, "{}", pool.log());
    assert!(crate::harness::foreign() || pool.log().contains(warning), "{}", pool.log());
    for pair in [None, Some(authority.issue("postgre")), Some(authority.issue("postgres2"))] {
        let refused = login(&pool, "postgres", pair.as_ref());
        assert!(refused.stderr.contains("CERT authentication failed"), "{pair:?} {refused:?}");
    }
    if !crate::harness::foreign() {
        // Up to the zero byte it is the user's.
        let refused = login(&pool, "postgres", Some(&authority.issue("postgres\0.example")));
        assert!(refused.stderr.contains("CERT authentication failed"), "{refused:?}");
    }
    let refused = login(&pool, "postgres", Some(&other.issue("postgres")));
    assert!(!refused.status.success() && !refused.stderr.contains("CERT"), "the handshake fails: {refused:?}");
    let log = pool.log();
    for told in ["is successful", "failed"] {
        let line = format!("SSL certificate authentication for user \"postgres\" with Pgpool-II {told}");
        let line = if told == "failed" { line.replace(" with Pgpool-II", "") } else { line };
        assert!(log.contains(&line), "{line}: {log}");
    }
}

/// The certificate lets in; what logs in to servers is the entry in pool_passwd.
#[test]
fn every_kind_of_entry_with_every_method_of_the_servers() {
    only_ours!("it knows no verifiers");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = prepared_pool(servers(), Some("cert"), |config| {
        with_tls(config, &authority.issue("pgpool")).set("ssl_ca_cert", authority.root())
    });
    #[rustfmt::skip]
    let table = [
        // none text aes md5 ver
        "ok ok ok ok ok",
        "no ok ok no no",
        "no ok ok ok no",
        "no ok ok no no",
    ];
    for (method, line) in METHODS.iter().zip(table) {
        for (entry, expected) in ENTRIES.iter().zip(line.split(' ')) {
            let user = user(method, entry);
            let pair = authority.issue(&user);
            let connector = connector(|builder| {
                builder.set_certificate_file(&pair.certificate, SslFiletype::PEM).expect("certificate");
                builder.set_private_key_file(&pair.key, SslFiletype::PEM).expect("key");
            });
            for round in ["first", "reused"] {
                let wire = Wire::over_tls(handshake(pool.port, &connector));
                let attempt = Attempt::on(wire, &[("user", &user), ("database", "test")], "not asked for");
                let end = if attempt.summary() == "ok" { "ok" } else { "no" };
                assert_eq!(end, expected, "{user} {round}: {:?}\n{}", attempt.outcome.err(), pool.log());
                attempt.outcome.into_iter().for_each(Wire::close);
            }
        }
    }
}

#[test]
fn rules_can_ask_for_a_certificate_beside_their_method() {
    only_ours!("does not know the option");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).set("ssl_ca_cert", authority.root());
    let rules =
        "hostssl test postgres all trust clientcert=verify-full\nhostssl all all all trust clientcert=verify-ca\n";
    let pool = start(config, rules);
    let (mine, other) = (authority.issue("postgres"), authority.issue("somebody"));
    assert_eq!(login(&pool, "postgres", Some(&mine)).succeeded(), "42");
    for (user, pair) in [("postgres", Some(&other)), ("postgres", None), ("somebody", None)] {
        let refused = login(&pool, user, pair);
        assert!(refused.stderr.contains("connection requires a valid client certificate"), "{refused:?}");
    }
    // The server does not know that one; pgpool has let it in.
    assert!(login(&pool, "nobody", Some(&other)).stderr.contains("role \"nobody\" does not exist"));
}

#[test]
fn revoked_certificates_fail_the_handshake() {
    needs_pgpool!();
    let authority = Authority::new("ours");
    let (good, revoked) = (authority.issue("postgres"), authority.issue("postgres"));
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool"));
    let config = config.set("ssl_ca_cert", authority.root()).set("ssl_crl_file", authority.revoke(&[&revoked]));
    let pool = start(config, "hostssl all all all cert\n");
    assert_eq!(login(&pool, "postgres", Some(&good)).succeeded(), "42");
    let is_refused = |pair: &Pair| {
        let refused = login(&pool, "postgres", Some(pair));
        !refused.status.success() && refused.stderr.contains("revoked")
    };
    assert!(is_refused(&revoked));
    if crate::harness::foreign() {
        return;
    }
    // One that is revoked later is refused from the reload on.
    authority.revoke(&[&revoked, &good]);
    assert_eq!(login(&pool, "postgres", Some(&good)).succeeded(), "42");
    pool.signal(Signal::SIGHUP);
    wait_for("the new list", || is_refused(&good));
    assert!((0..8).all(|_| is_refused(&good)), "by every worker");
}

#[test]
fn the_key_may_need_a_pass_phrase() {
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pair = authority.encrypt(&authority.issue("pgpool"), "open sesame");
    let with = |command: &str| with_tls(Pgpool::on(shared()), &pair).set("ssl_passphrase_command", command);
    let mut pool = with("echo open sesame").start();
    psql(&pool, "sslmode=require", "SELECT 1").succeeded();
    if !crate::harness::foreign() {
        // Later it may fail, and nothing changes.
        pool.set("ssl_passphrase_command", "exit 3");
        pool.signal(Signal::SIGHUP);
        wait_for("the refusal in the log", || pool.log().contains("SSL certificates were not reloaded"));
        assert!(pool.log().contains("DETAIL:  It has ended with exit status 3."), "{}", pool.log());
        psql(&pool, "sslmode=require", "SELECT 1").succeeded();
    }
    for (command, told) in [("", "requires a passphrase"), ("echo wrong", "could not load private key file")] {
        let pool = with(command).start();
        assert!(pool.log().contains(told), "{}", pool.log());
        assert!(psql(&pool, "sslmode=require", "SELECT 1").stderr.contains("does not support SSL"));
    }
    let mut pool = with("exit 3").prepare();
    pool.launch(&[]);
    let status = pool.wait_end(crate::harness::PATIENCE).expect("it does not start");
    assert!(!status.success() && pool.log().contains("ssl_passphrase_command failed"), "{status} {}", pool.log());
}
