//! No secret is told by anybody: the log at its most talkative, the tables, PCP, the status page.

use super::stage::{SECRET, prepared, prepared_pool};
use crate::harness::{Attempt, Config, Pgpool, Program, wait_for};
use crate::only_ours;
use crate::tls::authority::Authority;
use crate::tls::stage::{psql, with_tls};
use nix::sys::signal::Signal;
use pgpool::auth::aes;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Each secret of its own, so that it is known which one was told.
const TYPED: &str = "wormwood typed";
const GUESSED: &str = "wormwood guessed";
const IN_FILE: &str = "wormwood in the file";
const ENCRYPTED: &str = "wormwood encrypted";
const AES_KEY: &str = "wormwood key of the file";
const PHRASE: &str = "wormwood phrase";
const BIND: &str = "wormwood of the directory";
/// Parameters that hold passwords.
const PARAMETERS: [&str; 6] = [
    "sr_check_password",
    "health_check_password",
    "health_check_password1",
    "recovery_password",
    "wd_lifecheck_password",
    "wd_authkey",
];

/// Everything begins with this word.
const ALL: &str = "wormwood";

/// A status page, with its metrics.
fn pages(pool: &Pgpool) -> String {
    let page = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", pool.metrics_port())).expect("connect");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a page");
        assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        text
    };
    ["/metrics", "/status.json", "/"].map(page).concat()
}

/// What PCP tells of the configuration and of everybody's sessions.
fn pcp(pool: &Pgpool) -> String {
    let port = pool.pcp_port().to_string();
    let passwords = pool.path("pcppass");
    pool.write("pcppass", &format!("*:{port}:admin:secret\n"));
    std::fs::set_permissions(&passwords, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    let ask = |command: &str, more: &[&str]| {
        let program = Program::new(env!("CARGO_BIN_EXE_pcp")).args([command, "-h", "127.0.0.1", "-p", &port, "-w"]);
        let program = program.args(["-U", "admin"]).args(more);
        program.env("PCPPASSFILE", &passwords.display().to_string()).run().succeeded()
    };
    [ask("pool_status", &[]), ask("proc_info", &["-a", "-v"]), ask("node_info", &["-a", "-v"])].concat()
}

#[test]
fn no_secret_is_told() {
    only_ours!("tells many");
    let cluster = prepared(&[&super::stage::METHODS.map(|method| (method, method)); 2]);
    for (role, password) in [("scram_none", TYPED), ("scram_text", IN_FILE), ("scram_aes", ENCRYPTED)] {
        cluster.primary().sql(&format!("ALTER ROLE {role} PASSWORD '{password}'"));
    }
    cluster.wait_replayed();
    let authority = Authority::new("ours");
    let pair = authority.encrypt(&authority.issue("pgpool"), PHRASE);
    let config = |config: Config| {
        let config = PARAMETERS.iter().fold(config, |config, name| config.set(name, format!("{ALL} {name}")));
        with_tls(config, &pair)
            .set("ssl_passphrase_command", format!("echo {PHRASE}"))
            .set("log_min_messages", "debug5")
            .set("log_error_verbosity", "verbose")
            .set("log_client_messages", "on")
            .set("log_backend_messages", "verbose")
            .set("log_per_node_statement", "on")
            .set("log_connections", "on")
            .set("log_disconnections", "on")
            .set("num_init_children", 4)
            .set("auth_query", "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND rolname LIKE '%md5'")
            .with_metrics()
    };
    let mut pool = prepared_pool(&cluster, Some("scram-sha-256"), config);
    pool.write("pcp.conf", "admin:5ebe2294ecd0e0f08eab7690d2a6ee69\n");
    pool.write("key", &format!("{AES_KEY}\n"));
    let encrypted = aes::encrypt(ENCRYPTED.as_bytes(), AES_KEY.as_bytes()).expect("encrypted");
    let verifier = cluster.primary().sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_ver'");
    let entries = [
        format!("scram_text:TEXT{IN_FILE}"),
        format!("scram_aes:AES{encrypted}"),
        format!("scram_ver:{verifier}"),
        format!("bad:AES{ALL} that cannot be decrypted"),
        format!("worse:SCRAM-SHA-256${ALL}"),
        format!("cr:{ALL} with a return\r"),
    ];
    pool.write("pool_passwd", &format!("{}\n", entries.join("\n")));
    pool.write(
        "pool_hba.conf",
        &format!(
            "host all nobody all ldap ldapserver=127.0.0.1 ldapport=1 ldapbasedn=dc=x ldapbinddn=cn=x ldapbindpasswd=\"{BIND}\"\n\
             host all scram_none all password\nhost all all all scram-sha-256\n"
        ),
    );
    pool.signal(Signal::SIGHUP);
    let attempt = |user: &str, password: &str| Attempt::new(pool.port, user, password);
    wait_for("the rule for the typed password", || attempt("scram_none", TYPED).summary() == "T ok");
    for (user, password, end) in [
        ("scram_text", IN_FILE, "S ok"),
        ("scram_aes", ENCRYPTED, "S ok"),
        ("scram_ver", SECRET, "S ok"),
        ("scram_none", GUESSED, "T 28P01"),
        ("scram_text", GUESSED, "S 28P01"),
        ("scram_aes", GUESSED, "S 28P01"),
        ("scram_ver", GUESSED, "S 28P01"),
        ("bad", GUESSED, "S 28P01"),
        ("worse", GUESSED, "S 28P01"),
        ("cr", GUESSED, "S 28P01"),
        ("stranger", GUESSED, "S 28P01"),
        ("nobody", GUESSED, "T 28000"),
    ] {
        assert_eq!(attempt(user, password).summary(), end, "{user}");
    }
    let options = format!("sslmode=require user=scram_text password='{IN_FILE}'");
    assert_eq!(psql(&pool, &options, "SELECT 40 + 2").succeeded(), "42");
    let mut session = attempt("scram_text", IN_FILE).outcome.expect("in");
    let mut told = String::new();
    for table in ["BACKEND_STATS", "CACHE", "HEALTH_CHECK_STATS", "NODES", "POOLS", "PROCESSES", "STATUS", "VERSION"] {
        told.push_str(&format!("{:?}", session.query(&format!("SHOW POOL_{table}")).rows()));
    }
    told.push_str(&format!("{:?}", session.query("PGPOOL SHOW ALL").rows()));
    for name in PARAMETERS.iter().chain(["ssl_passphrase_command"].iter()) {
        told.push_str(&format!("{:?}", session.query(&format!("PGPOOL SHOW {name}"))));
    }
    assert!(told.contains("wd_authkey") && told.contains("*****"), "{told}");
    told.push_str(&pages(&pool));
    told.push_str(&pcp(&pool));
    // Changes are told by their names; and what cannot be used is told, too.
    for name in PARAMETERS {
        pool.set(name, format!("{ALL} {name} anew"));
    }
    pool.set("ssl_passphrase_command", format!("echo {PHRASE} which is wrong; exit 1"));
    pool.signal(Signal::SIGHUP);
    wait_for("the failure of the command", || pool.log().contains("ssl_passphrase_command failed"));
    session.close();
    let log = pool.log();
    assert!(
        log.contains("DEBUG") && log.contains("connection authenticated") && log.contains("\"wd_authkey\""),
        "{log}"
    );
    told.push_str(&log);
    let lines: Vec<&str> = told.lines().filter(|line| line.contains(ALL)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    let (stored, keys) = verifier.split_once('$').expect("a verifier");
    for secret in [&encrypted, keys, &format!("{stored}$4096:")] {
        assert!(!told.contains(secret), "{secret}");
    }
}
