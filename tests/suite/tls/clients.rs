//! Clients that want TLS, or not: by request, at once, and without.

use super::authority::Authority;
use super::stage::{SSL_REQUEST, ask, connector, psql, session, ssl, tcp, wire, with_tls};
use crate::harness::{Pgpool, Program, Wire, frontend, is_bare_server, shared, target_dir, wait_for};
use crate::{needs_pgpool, only_ours};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use openssl::ssl::SslStream;
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn psql_in_every_mode() {
    needs_pgpool!();
    let (authority, other) = (Authority::new("ours"), Authority::new("others"));
    let pool = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).start();
    let (root, wrong) = (authority.root(), other.root());
    for (options, is_encrypted) in [
        ("sslmode=disable".to_owned(), false),
        ("sslmode=allow".to_owned(), false),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), true),
        (format!("sslmode=verify-ca sslrootcert={root}"), true),
        (format!("sslmode=verify-full sslrootcert={root}"), true),
        ("sslmode=require gssencmode=prefer ssl_max_protocol_version=TLSv1.2".to_owned(), true),
    ] {
        let output = psql(&pool, &options, "\\conninfo\nSELECT 40 + 2").succeeded();
        assert!(output.ends_with("42"), "{options}: {output}");
        let says = output.contains("SSL connection (protocol: TLSv1.") || output.contains("TLSv1.");
        assert_eq!(says, is_encrypted, "{options}: {output}");
    }
    let refused = psql(&pool, &format!("sslmode=verify-full sslrootcert={wrong}"), "SELECT 1");
    assert!(!refused.status.success() && refused.stderr.contains("certificate verify failed"), "{refused:?}");
    // The alert tells why; pgpool says nothing in clear behind it, and the worker serves the next client.
    wait_for("the failed handshake in the log", || pool.log().contains("pool_ssl: \"SSL_accept\": \""));
    psql(&pool, "sslmode=require", "SELECT 1").succeeded();
}

#[test]
fn psql_that_begins_at_once() {
    only_ours!("does not know it");
    needs_pgpool!();
    // Of a newer release there may be the library alone.
    let Some(libraries) =
        [18, 17].map(|major| target_dir().join(format!("pg/{major}/lib"))).into_iter().find(|path| path.exists())
    else {
        println!("skipped: needs the libpq of PostgreSQL 17 or 18: scripts/setup --pg 18");
        return;
    };
    let authority = Authority::new("ours");
    let pool = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).start();
    for direct in ["direct", "postgres"] {
        let options = format!("sslnegotiation={direct} sslmode=verify-full sslrootcert={}", authority.root());
        let psql = Program::client("psql").at_port(pool.port).env("LD_LIBRARY_PATH", &libraries.display().to_string());
        let psql = psql.args(["-X", "-A", "-t", "-q", "-d", &options]).input("\\conninfo\nSELECT 40 + 2");
        let output = psql.run().succeeded();
        assert!(output.ends_with("42") && output.contains("TLSv1.3"), "{output}");
    }
}

/// A handshake without asking first.
fn at_once(pool: &Pgpool, alpn: &[u8]) -> Result<SslStream<std::net::TcpStream>, openssl::ssl::Error> {
    let connector = connector(|builder| builder.set_alpn_protos(alpn).expect("alpn"));
    let mut stream = SslStream::new(ssl(&connector), tcp(pool.port)).expect("ssl");
    stream.connect().map(|()| stream)
}

#[test]
fn a_handshake_at_once_names_the_protocol() {
    only_ours!("does not know it");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).start();
    let mut good = Wire::over_tls(at_once(&pool, b"\x0apostgresql").expect("handshake"));
    good.start(crate::harness::LOGIN).expect("login");
    assert_eq!(good.value("SELECT 40 + 2"), "42");
    good.close();
    // Another protocol gets an alert; none at all is refused behind the handshake, without a word.
    assert!(at_once(&pool, b"\x08http/1.1").is_err());
    let mut builder = openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls_client()).expect("connector");
    builder.set_verify(openssl::ssl::SslVerifyMode::NONE);
    let mut none = SslStream::new(ssl(&builder.build()), tcp(pool.port)).expect("ssl");
    none.connect().expect("handshake");
    let _ = none.write_all(&frontend::startup(0, crate::harness::LOGIN));
    assert_eq!(none.read(&mut [0; 64]).unwrap_or(0), 0);
    wait_for("the refusal in the log", || pool.log().contains("without ALPN protocol negotiation extension"));
    // Behind a handshake nothing is left to be asked for.
    let mut again = Wire::over_tls(at_once(&pool, b"\x0apostgresql").expect("handshake"));
    again.send(SSL_REQUEST);
    assert!(again.is_closed_within(Duration::from_secs(30)));
}

#[test]
fn without_a_usable_certificate_there_is_no_tls() {
    needs_pgpool!();
    let pool =
        Pgpool::on(shared()).set("ssl", "on").set("ssl_cert", "/nonexistent").set("ssl_key", "/nonexistent").start();
    assert!(pool.log().contains("WARNING:  could not load server certificate file \"/nonexistent\""), "{}", pool.log());
    assert_eq!(ask(&mut tcp(pool.port), &SSL_REQUEST).expect("an answer"), Some(b'N'));
    psql(&pool, "sslmode=prefer", "SELECT 1").succeeded();
    assert!(psql(&pool, "sslmode=require", "SELECT 1").stderr.contains("server does not support SSL"));
    let off = Pgpool::on(shared()).start();
    assert_eq!(ask(&mut tcp(off.port), &SSL_REQUEST).expect("an answer"), Some(b'N'));
    if !crate::harness::foreign() {
        assert!(at_once(&off, b"\x0apostgresql").is_err());
    }
}

#[test]
fn rules_tell_encrypted_connections_from_others() {
    needs_pgpool!();
    let authority = Authority::new("ours");
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).set("enable_pool_hba", "on");
    let pool = config.prepare();
    pool.write(
        "pool_hba.conf",
        "hostssl all postgres all trust\nhostnossl all plain all trust\nhost all all all reject\n",
    );
    let pool = pool.started();
    psql(&pool, "sslmode=require user=postgres", "SELECT 1").succeeded();
    let refused = |options: &str| psql(&pool, options, "SELECT 1").stderr;
    assert!(refused("sslmode=disable user=postgres").contains("client authentication failed"));
    assert!(refused("sslmode=require user=plain").contains("client authentication failed"));
    assert!(!refused("sslmode=disable user=plain").contains("client authentication failed"));
    for state in ["SSL on", "SSL off"] {
        assert!(pool.log().contains(state), "{state}");
    }
}

#[test]
fn a_statement_is_cancelled_through_tls() {
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).start();
    let mut busy = session(&pool);
    busy.send(frontend::query("SELECT pg_sleep(600) -- through tls"));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600) -- through tls' AND pid <> pg_backend_pid()";
    wait_for("the statement to run", || shared().nodes().iter().any(|node| node.sql(running) == "1"));
    let mut request = wire(&pool);
    request.send(frontend::cancel(busy.pid, &busy.key));
    assert!(request.is_closed_within(Duration::from_secs(30)));
    let reply = busy.read_until('Z');
    assert!(format!("{reply:?}").contains("57014"), "{reply:?}");
}

/// What `openssl s_client` says of its session: `New` or `Reused`.
fn resume(pool: &Pgpool, options: &[&str]) -> String {
    let target = format!("127.0.0.1:{}", pool.port);
    let args = ["s_client", "-connect", &target, "-starttls", "postgres", "-tls1_2"];
    let output = Program::new("openssl").args(args).args(options).run().stdout;
    let line = output.lines().find(|line| line.contains(", Cipher is")).unwrap_or_else(|| panic!("{output}"));
    line.split(',').next().unwrap_or_default().to_owned()
}

#[test]
fn sessions_of_tls_are_resumed_by_every_worker() {
    only_ours!("has no tickets");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool"));
    let pool = config.set("log_min_messages", "debug1").start();
    let kept = authority.path("session");
    assert_eq!(resume(&pool, &["-sess_out", &kept]), "New");
    // Those who have served so far are replaced, so that others resume what they have begun.
    let served = || {
        let log = pool.log();
        let lines = log.lines().filter(|line| line.contains("SSL connection from client"));
        lines.filter_map(|line| line.split(" pid ").nth(1)?.split(':').next()?.parse().ok()).collect::<Vec<i32>>()
    };
    wait_for("the log", || !served().is_empty());
    let before = served();
    before.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGTERM).expect("kill"));
    wait_for("other workers", || {
        let workers = pool.children("wait for connection request");
        workers.len() == 4 && before.iter().all(|pid| !workers.contains(&Pid::from_raw(*pid)))
    });
    assert_eq!(resume(&pool, &["-sess_in", &kept]), "Reused");
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("reload SSL certificates."));
    assert_eq!(resume(&pool, &["-sess_in", &kept]), "Reused");
    assert!(served().last().is_some_and(|pid| !before.contains(pid)), "{:?} {before:?}", served());
    // Where clients may have certificates each handshake is a whole one: they may have been revoked meanwhile.
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool"));
    let pool = config.set("ssl_ca_cert", authority.root()).start();
    assert_eq!([resume(&pool, &["-sess_out", &kept]), resume(&pool, &["-sess_in", &kept])], ["New"; 2]);
}

#[test]
fn drivers() {
    only_ours!("does not describe the server-side cursors of psycopg 3");
    needs_pgpool!();
    assert!(!is_bare_server());
    let authority = Authority::new("ours");
    let config = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]);
    let pool = with_tls(config, &authority.issue("pgpool")).set("enable_pool_hba", "on");
    let pool = pool.prepare();
    pool.write("pool_hba.conf", "hostssl all all all trust\n");
    let pool = pool.started();
    let run = |program: Program| {
        let program = program.at_port(pool.port).env("PGSSLMODE", "require").patience(Duration::from_secs(180));
        assert_eq!(program.run().succeeded(), "ok");
    };
    let client = |name: &str| format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"));
    for name in ["psycopg2_smoke.py", "psycopg3_smoke.py", "psycopg3_pipeline.py", "asyncpg_smoke.py"] {
        run(Program::new("/usr/bin/python3").args([client(name)]));
    }
    let java = ["-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar"];
    run(Program::new("java").args(java).args([client("JdbcSmoke.java")]));
}
