//! The method `ldap` against a real directory (auth 21).

use super::directory::{ADMIN, ADMIN_SECRET, Directory, HOST, ODD, PEOPLE, REFERRED};
use super::matrix::{Table, check};
use super::stage::{SECRET, pool_with_names, prepared_pool, refusal, servers, started, unstarted_pool, user};
use crate::harness::{Attempt, Config, Names, Pgpool, Program, Record, free_port, process_title, wait_for};
use crate::{needs_namespaces, needs_slapd, only_ours};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// One for all tests that leave it alone.
fn directory() -> &'static Directory {
    static DIRECTORY: OnceLock<Directory> = OnceLock::new();
    DIRECTORY.get_or_init(Directory::start)
}

/// A pgpool whose rule asks the directory with these options.
fn pool(options: &str) -> Pgpool {
    let rule = format!("ldap ldapserver={HOST} ldapport={} {options}", directory().port);
    prepared_pool(servers(), Some(&rule), |config| config.weights(&[0.0, 1.0]))
}

/// Options of a simple bind.
fn simple() -> String {
    format!("ldapprefix=\"uid=\" ldapsuffix=\",{PEOPLE}\"")
}

const REFUSED: &str = "28000 client authentication failed: LDAP authentication with pgpool failed for user";

fn with(options: &str, name: &str, table: Table) {
    let pool = pool(&format!("{} {options}", simple()));
    check(&pool, name, table);
    assert!(!pool.log().contains(SECRET), "a password is in the log");
}

#[test]
fn the_directory_decides_and_pool_passwd_logs_in() {
    only_ours!("asks a second time");
    needs_slapd!();
    #[rustfmt::skip]
    with("", "ldap", [
        // none text aes md5 ver
        "T  T  T  T  T ",
        "T! T  T  T! T!",
        "T! T  T  T  T!",
        "T! T  T  T! T!",
    ]);
}

#[test]
fn the_password_can_log_in_to_servers() {
    only_ours!("asks a second time");
    needs_slapd!();
    #[rustfmt::skip]
    with("backend_use_passwd=1", "ldap with backend_use_passwd", [
        "T  T  T  T  T ",
        "T  T  T  T! T ",
        "T  T  T  T  T ",
        "T  T  T  T! T ",
    ]);
}

#[test]
fn real_clients() {
    only_ours!("asks a second time");
    needs_slapd!();
    let pool = pool(&format!("{} backend_use_passwd=1", simple()));
    let user = user("scram", "none");
    let psql = |password: &str| {
        let program = Program::client("psql").args(["-X", "-A", "-t", "-c", "SELECT count(*) FROM ten"]);
        program.at_port(pool.port).env("PGUSER", &user).env("PGPASSWORD", password).run()
    };
    assert_eq!([psql(SECRET).succeeded(), psql(SECRET).succeeded()], ["10", "10"]);
    let wrong = psql("wrong");
    assert!(wrong.stderr.contains("LDAP authentication with pgpool failed"), "{wrong:?}");
}

/// Every way to say where users are, and what the log says of those who are not there.
#[test]
fn searches() {
    only_ours!("says less");
    needs_slapd!();
    let base = "dc=example,dc=com";
    let port = directory().port;
    let admin = format!("ldapbinddn=\"{ADMIN}\" ldapbindpasswd=\"{ADMIN_SECRET}\"");
    let user = user("trust", "none");
    for options in [
        format!("ldapbasedn=\"{base}\""),
        format!("ldapbasedn=\"{base}\" {admin} ldapsearchattribute=cn"),
        format!("ldapbasedn=\"{base}\" ldapsearchfilter=\"(|(uid=$username)(mail=$username))\""),
        format!(
            "ldapurl=\"ldap://{HOST}:{port}/{base}?mail?sub?(mail=$username@example.com)\" ldapsearchattribute=\"\""
        ),
        format!("ldapurl=\"ldap://{HOST}:{port}/{PEOPLE}?uid?one\" ldaptls=0"),
    ] {
        let pool = pool(&options);
        assert_eq!(Attempt::new(pool.port, &user, SECRET).summary(), "T ok", "{options}\n{}", pool.log());
        assert!(refusal(&pool, &user, "wrong").starts_with(REFUSED), "{options}");
        assert!(refusal(&pool, "nobody", SECRET).starts_with(REFUSED), "{options}");
        let log = pool.log();
        let server = format!("on server \"{HOST}:{port}\"");
        let wrong = format!("LOG:  LDAP login failed for user \"uid={user},{PEOPLE}\" {server}: Invalid credentials");
        assert!(log.contains(&wrong), "{wrong}\n{log}");
        assert!(
            log.contains("LOG:  LDAP user \"nobody\" does not exist") && log.contains("returned no entries."),
            "{log}"
        );
        assert!(log.contains("CONTEXT:  method ldap by line 2 of"), "{log}");
        assert!(!log.contains(SECRET) && !log.contains(ADMIN_SECRET), "{log}");
    }
}

#[test]
fn searches_that_fail() {
    only_ours!("says less");
    needs_slapd!();
    let base = "ldapbasedn=\"dc=example,dc=com\"";
    for (options, user, said) in [
        (base.to_owned(), "twin", "LDAP user \"twin\" is not unique"),
        (base.to_owned(), "secretive", "LDAP user \"secretive\" does not exist"),
        (
            format!("{base} ldapbinddn=\"{ADMIN}\" ldapbindpasswd=guessed"),
            "twin",
            "could not perform initial LDAP bind for ldapbinddn \"cn=admin,dc=example,dc=com\" on server",
        ),
        ("ldapbasedn=\"dc=nowhere\"".to_owned(), "twin", "could not search LDAP for filter \"(uid=twin)\" on server"),
        (
            format!("{base} ldapsearchfilter=\"(uid=$username\""),
            "twin",
            "could not search LDAP for filter \"(uid=twin\" on server",
        ),
        (format!("{} ldaptls=1", simple()), "twin", "could not start LDAP TLS session"),
    ] {
        let pool = pool(&options);
        assert!(refusal(&pool, user, SECRET).starts_with(REFUSED), "{options}");
        assert!(pool.log().contains(said), "{said}\n{}", pool.log());
    }
}

/// Another directory that this one names is not asked: neither for its entries, nor whether a password is right.
#[test]
fn the_name_service_knows_the_servers_of_a_domain() {
    only_ours!("says less");
    needs_slapd!();
    needs_namespaces!();
    let rule = format!("ldap ldapbasedn=\"{PEOPLE}\" backend_use_passwd=1");
    let names = Names::served(vec![
        ("_ldap._tcp.example.com", Record::Service(directory().port, "ldap1.example.com")),
        ("ldap1.example.com", Record::Address(Ipv4Addr::LOCALHOST)),
    ]);
    let pool = pool_with_names(servers(), Some(&rule), &Arc::new(names));
    assert_eq!(Attempt::new(pool.port, &user("scram", "none"), SECRET).summary(), "T ok", "{}", pool.log());
    assert!(refusal(&pool, "nobody", SECRET).starts_with(REFUSED));
    let server = format!("on server \"ldap1.example.com:{}\"", directory().port);
    assert!(pool.log().contains(&server), "{}", pool.log());
    // A domain that has none.
    let pool = pool_with_names(servers(), Some(&rule), &Arc::new(Names::served(Vec::new())));
    assert!(refusal(&pool, &user("scram", "none"), SECRET).starts_with(REFUSED));
    assert!(pool.log().contains("could not find DNS SRV records for \"example.com\""), "{}", pool.log());
}

#[test]
fn referrals_are_not_followed() {
    only_ours!("follows them");
    needs_slapd!();
    let elsewhere = TcpListener::bind((HOST, directory().elsewhere)).expect("a listener");
    elsewhere.set_nonblocking(true).expect("a listener that does not wait");
    let user = user("trust", "none");
    for (options, in_or_out) in [
        // A search of the whole directory answers with its own entries and the reference.
        ("ldapbasedn=\"dc=example,dc=com\"".to_owned(), "T ok"),
        // One that begins there, and a bind, are told to go there altogether.
        (format!("ldapbasedn=\"{REFERRED}\""), "T 28000"),
        (format!("ldapprefix=\"uid=\" ldapsuffix=\",{REFERRED}\""), "T 28000"),
    ] {
        let pool = pool(&options);
        let summary = Attempt::new(pool.port, &user, SECRET).summary();
        assert_eq!(summary, in_or_out, "{options}\n{}", pool.log());
        assert!(elsewhere.accept().is_err(), "{options}: the other directory was asked");
    }
}

#[test]
fn a_name_stays_a_name() {
    only_ours!("lets in by other names in a simple bind, and no odd ones in a search");
    needs_slapd!();
    servers().primary().sql(&format!(
        "DO $$ BEGIN IF to_regrole('\"{ODD}\"') IS NULL THEN CREATE ROLE \"{ODD}\" LOGIN IN ROLE ask_trust; END IF; END $$"
    ));
    servers().wait_replayed();
    let elsewhere = "ldapprefix=\"uid=\" ldapsuffix=\",dc=example,dc=com\"".to_owned();
    let search = "ldapbasedn=\"dc=example,dc=com\"".to_owned();
    for (options, odd_is_there, tricks) in [
        (simple(), true, &["nobody+uid=trust_none"][..]),
        (elsewhere, false, &["trust_none,ou=people"][..]),
        (search, true, &["*", "trust_n*", "nobody)(uid=trust_none", "trust_none)(objectClass=*", "trust_\\6eone"][..]),
    ] {
        let pool = pool(&options);
        if odd_is_there {
            assert_eq!(Attempt::new(pool.port, ODD, SECRET).summary(), "T ok", "{options}\n{}", pool.log());
        }
        for trick in tricks {
            let told = refusal(&pool, trick, SECRET);
            assert!(told.starts_with(REFUSED), "{options}, {trick}: {told}\n{}", pool.log());
        }
    }
}

#[test]
fn a_name_without_a_password_is_nobody() {
    only_ours!("lets in everybody whose directory takes it");
    needs_slapd!();
    let pool = pool(&simple());
    let user = user("trust", "none");
    assert!(refusal(&pool, &user, "").starts_with("28P01"));
    assert_eq!(Attempt::new(pool.port, &user, SECRET).summary(), "T ok");
    assert!(refusal(&pool, &user, "").starts_with("28P01"));
}

#[test]
fn tls_with_a_trusted_certificate_only() {
    only_ours!("the environment of Debian's is another");
    needs_slapd!();
    let directory = directory();
    let (port, tls_port) = (directory.port, directory.tls_port);
    let user = user("trust", "none");
    for (options, complaint) in [
        (format!("ldapport={port} ldaptls=1 {}", simple()), "could not start LDAP TLS session"),
        (format!("ldapport={tls_port} ldapscheme=ldaps {}", simple()), "Can't contact LDAP server"),
        (format!("ldapurl=\"ldaps://{HOST}:{tls_port}/dc=example,dc=com??sub\""), "Can't contact LDAP server"),
    ] {
        let rule = format!("ldap ldapserver={HOST} {options}");
        let trusting = |config: Config| config.env("LDAPTLS_CACERT", directory.authority());
        let pool = prepared_pool(servers(), Some(&rule), trusting);
        assert_eq!(Attempt::new(pool.port, &user, SECRET).summary(), "T ok", "{options}\n{}", pool.log());
        assert!(refusal(&pool, &user, "wrong").starts_with(REFUSED), "{options}");
        // Without the authority nothing is sent.
        let pool = prepared_pool(servers(), Some(&rule), |config| config);
        assert!(refusal(&pool, &user, SECRET).starts_with(REFUSED), "{options}");
        assert!(pool.log().contains(complaint), "{}", pool.log());
    }
}

/// OpenLDAP reads a file `ldaprc` in the working directory: not the one that pgpool was started from.
#[test]
fn no_file_in_the_working_directory_turns_off_the_checks() {
    only_ours!("the environment of Debian's is another");
    needs_slapd!();
    let tls_port = directory().tls_port;
    let rule = format!("ldap ldapserver={HOST} ldapport={tls_port} ldapscheme=ldaps {}", simple());
    let mut pool = unstarted_pool(servers(), Some(&rule), |config| config);
    pool.write("ldaprc", "TLS_REQCERT never\n");
    let here = pool.path("").display().to_string();
    pool.run_by(&["sh", "-c", &format!("cd {here} && exec \"$@\""), "sh"]);
    let pool = started(pool);
    assert!(refusal(&pool, &user("trust", "none"), SECRET).starts_with(REFUSED));
    assert!(pool.log().contains("Can't contact LDAP server"), "{}", pool.log());
}

#[test]
fn another_server_is_asked_when_one_cannot_answer() {
    only_ours!("waits for the one that hangs");
    needs_slapd!();
    let Directory { port, tls_port, .. } = *directory();
    // Connections are made, and nobody speaks.
    let _hanging = [port, tls_port].map(|port| TcpListener::bind(("127.0.0.2", port)).expect("a listener"));
    let user = user("trust", "none");
    let pool_of = |servers_of: &str| {
        let rule = format!("ldap ldapserver=\"{servers_of}\" ldapport={port} {}", simple());
        prepared_pool(servers(), Some(&rule), |config| config.set("authentication_timeout", 6))
    };
    let pool = pool_of(&format!("127.0.0.3 127.0.0.2 {HOST} 127.0.0.2"));
    assert_eq!(Attempt::new(pool.port, &user, SECRET).summary(), "T ok", "{}", pool.log());
    let log = pool.log();
    assert!(log.contains("on server \"127.0.0.3") && log.contains("Can't contact LDAP server"), "{log}");
    assert!(log.contains("on server \"127.0.0.2") && log.contains("Timed out"), "{log}");
    // A wrong password is one everywhere: nobody else is asked.
    let before = pool.log().matches("127.0.0.2").count();
    assert!(refusal(&pool, &user, "wrong").starts_with(REFUSED));
    assert_eq!(pool.log().matches("127.0.0.2").count(), before + 1, "{}", pool.log());

    // Nor does one that hangs in the handshake of TLS hold up the next.
    let rule = format!("ldap ldapserver=\"127.0.0.2 {HOST}\" ldapscheme=ldaps ldapport={tls_port} {}", simple());
    let pool = prepared_pool(servers(), Some(&rule), |config| {
        config.set("authentication_timeout", 6).env("LDAPTLS_CACERT", directory().authority())
    });
    assert_eq!(Attempt::new(pool.port, &user, SECRET).summary(), "T ok", "{}", pool.log());

    let pool = pool_of("127.0.0.2");
    let started = Instant::now();
    assert!(refusal(&pool, &user, SECRET).starts_with(REFUSED));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());

    let pool = pool_of("127.0.0.3");
    assert!(refusal(&pool, &user, SECRET).starts_with(REFUSED));
}

/// The next connection.
fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let mut asked = None;
    wait_for("a connection", || {
        asked = listener.accept().ok();
        asked.is_some()
    });
    let (asked, _) = asked.expect("a connection");
    asked.set_nonblocking(false).expect("a connection that waits");
    asked
}

/// Whoever is asked by `ldaps`, however it is written, sees nothing before a handshake.
#[test]
fn no_spelling_of_ldaps_sends_anything_in_clear() {
    only_ours!("the environment of Debian's is another");
    for options in ["ldapscheme=ldaps", "ldapscheme=LDAPS", "ldapurl=LDAPS://HOST"] {
        let port = free_port();
        let clear = TcpListener::bind((HOST, port)).expect("a listener");
        let options = options.replace("HOST", &format!("{HOST}:{port}/dc=x"));
        let name = if options.contains("url") { String::new() } else { "ldapprefix=uid=".to_owned() };
        let rule = format!("ldap ldapserver={HOST} ldapport={port} {name} {options}");
        let pool = prepared_pool(servers(), Some(&rule), |config| config.set("authentication_timeout", 10));
        let pool_port = pool.port;
        let client = std::thread::spawn(move || Attempt::new(pool_port, "trust_none", SECRET).summary());
        let mut first = [0];
        let mut asked = accepted(&clear);
        asked.set_read_timeout(Some(Duration::from_secs(30))).expect("patience");
        std::io::Read::read_exact(&mut asked, &mut first).expect("a byte");
        // The record type of a handshake; requests of LDAP begin with 0x30.
        assert_eq!(first, [0x16], "{options}");
        drop((asked, clear));
        assert_eq!(client.join().expect("a client"), "T 28000", "{options}\n{}", pool.log());
    }
}

/// The processes that this one has started.
fn children(of: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

#[test]
fn the_process_that_asks_has_nothing_else_and_ends_with_its_worker() {
    only_ours!("asks in the worker");
    let port = free_port();
    let hanging = TcpListener::bind((HOST, port)).expect("a listener");
    let rule = format!("ldap ldapserver={HOST} ldapport={port} {}", simple());
    let pool = prepared_pool(servers(), Some(&rule), |config| config);
    let pool_port = pool.port;
    let client = std::thread::spawn(move || Attempt::new(pool_port, "trust_none", "unmistakable").summary());
    let mut found = None;
    // It listens to nobody but the directory now.
    let _asked = hanging.accept().expect("asked");
    wait_for("the process", || {
        let all = pool.children("");
        found = all.iter().find_map(|worker| children(*worker).first().map(|asking| (*worker, *asking)));
        found.is_some_and(|(_, asking)| process_title(asking.as_raw()).contains("LDAP authentication of trust_none"))
    });
    let (worker, asking) = found.expect("a process");
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{asking}/fd"))
        .expect("descriptors")
        .flatten()
        .map(|entry| fs::read_link(entry.path()).expect("link").display().to_string())
        .collect();
    open.sort();
    // A line to the worker, and one to its own copy that speaks to the directory.
    let log = pool.path("pgpool.log").display().to_string();
    open.retain(|at| *at != log && at != "/dev/null");
    let kinds: Vec<&str> = open.iter().filter_map(|at| at.split(':').next()).collect();
    assert_eq!(kinds, ["pipe", "socket"], "{open:?}");
    let copy = *children(asking).first().expect("a copy");
    for file in ["cmdline", "environ"] {
        let content = fs::read(format!("/proc/{asking}/{file}")).expect(file);
        assert!(!String::from_utf8_lossy(&content).contains("unmistakable"), "{file}");
    }
    kill(worker, Signal::SIGKILL).expect("kill");
    wait_for("the processes to end with the worker", || {
        [asking, copy].iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    assert!(client.join().expect("a client").starts_with("T "));
    assert!(!pool.log().contains("unmistakable"));
}
