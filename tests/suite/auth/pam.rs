//! The method `pam` against a service whose module runs a script of the test (auth 20).

use super::matrix::{Table, check};
use super::stage::{ENTRIES, METHODS, SECRET, pool_with_names, prepared_pool, refusal, servers, user};
use crate::harness::{Attempt, NameServer, Names, Pgpool, Scratch, Wire, server_user, wait_for};
use crate::{needs_namespaces, only_ours};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Reads the password; `users` beside it has those who may come in, `expired` those whose accounts may not be used.
const SCRIPT: &str = r#"#!/bin/sh
cd "${0%/*}" || exit 1
echo "$PAM_TYPE $PAM_USER $PAM_RHOST" >>asked
if [ "$PAM_TYPE" = account ]; then
    ! grep -qxF "$PAM_USER" expired
    exit
fi
password=$(tr -d '\0')
case $password in
hang) setsid sh -c 'echo $$ >hiding; exec sleep 300' & echo $$ >hanging; exec sleep 300 ;;
leave) setsid sh -c 'echo $$ >left; exec sleep 300' & exit 1 ;;
crash) kill -ABRT $PPID; exit 1 ;;
esac
grep -qxF "$PAM_USER:$password" users
"#;

/// What the script starts and does not wait for, by the files with their process ids.
const STARTED: [&str; 3] = ["hanging", "hiding", "left"];

/// A service in /etc/pam.d; gone when dropped.
struct PamService {
    name: String,
    scratch: Scratch,
}

impl PamService {
    fn new() -> PamService {
        PamService::behind("")
    }

    /// With other modules in front.
    fn behind(modules: &str) -> PamService {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pgpool-suite-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::new("pam");
        let script = scratch.path().join("script");
        fs::write(&script, SCRIPT).expect("script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("permissions");
        let service = PamService { name, scratch };
        let mut users = String::new();
        for method in METHODS {
            for kind in ENTRIES {
                let _ = writeln!(users, "{}:{SECRET}", user(method, kind));
            }
        }
        service.write("users", &users);
        service.write("expired", "");
        service.write("asked", "");
        let script = script.display();
        let rules = format!(
            "{modules}auth required pam_exec.so quiet expose_authtok {script}\naccount required pam_exec.so quiet {script}\n"
        );
        fs::write(service.file(), rules).expect("service");
        service
    }

    fn file(&self) -> PathBuf {
        Path::new("/etc/pam.d").join(&self.name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.scratch.path().join(name);
        fs::write(&path, content).expect(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("permissions");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path().join(name)).unwrap_or_default()
    }

    /// A pgpool whose rule asks this service.
    fn pool(&self, options: &str) -> Pgpool {
        let rule = format!("pam pamservice={} {options}", self.name);
        prepared_pool(servers(), Some(&rule), |config| config.weights(&[0.0, 1.0]).set("authentication_timeout", 5))
    }
}

impl Drop for PamService {
    fn drop(&mut self) {
        for name in STARTED {
            if let Ok(pid) = self.read(name).trim().parse() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let _ = fs::remove_file(self.file());
    }
}

macro_rules! needs_root {
    () => {
        if server_user().is_none() {
            println!("skipped: only root may make services of PAM");
            return;
        }
    };
}

const REFUSED: &str = "28000 failed authentication against PAM: PAM authentication with pgpool failed for user";

fn with(options: &str, name: &str, table: Table) {
    let service = PamService::new();
    let pool = service.pool(options);
    check(&pool, name, table);
    assert!(!pool.log().contains(SECRET), "a password is in the log");
}

#[test]
fn pam_decides_and_pool_passwd_logs_in() {
    only_ours!("asks a second time");
    needs_root!();
    #[rustfmt::skip]
    with("", "pam", [
        // none text aes md5 ver
        "T  T  T  T  T ",
        "T! T  T  T! T!",
        "T! T  T  T  T!",
        "T! T  T  T! T!",
    ]);
}

#[test]
fn the_password_can_log_in_to_servers() {
    only_ours!("has no such option for pam");
    needs_root!();
    #[rustfmt::skip]
    with("backend_use_passwd=1", "pam with backend_use_passwd", [
        "T  T  T  T  T ",
        "T  T  T  T! T ",
        "T  T  T  T  T ",
        "T  T  T  T! T ",
    ]);
}

#[test]
fn pam_is_told_who_and_from_where_and_the_log_why() {
    only_ours!("does not tell from where");
    needs_root!();
    let service = PamService::new();
    service.write("expired", "trust_text\n");
    let pool = service.pool("");
    assert_eq!(Attempt::new(pool.port, "trust_none", SECRET).summary(), "T ok", "{}", pool.log());
    assert_eq!(service.read("asked"), "auth trust_none 127.0.0.1\naccount trust_none 127.0.0.1\n");
    let heard = |user: &str, password: &str| refusal(&pool, user, password).replace(user, "USER");
    let told = heard("trust_none", "wrong");
    assert!(told.starts_with(REFUSED), "{told}");
    assert_eq!([heard("nobody_at_all", SECRET), heard("trust_text", SECRET)], [told.clone(), told]);
    assert!(heard("trust_none", "").starts_with("28P01"));
    let log = pool.log();
    assert!(log.contains("LOG:  failed authentication against PAM"), "{log}");
    for text in ["pam_authenticate failed: ", "system call pam_acct_mgmt failed : "] {
        assert!(log.contains(&format!("DETAIL:  {text}")), "{text}\n{log}");
    }
    assert!(log.contains("CONTEXT:  method pam by line 2 of"), "{log}");
    for secret in [SECRET, "wrong"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Modules were written for 511 bytes.
#[test]
fn modules_get_no_longer_password_than_pam_has_them() {
    only_ours!("hands on what it gets");
    needs_root!();
    let service = PamService::new();
    let [just, longer] = [511, 512].map(|length| "x".repeat(length));
    service.write("users", &format!("trust_none:{just}\ntrust_none:{longer}\n"));
    let pool = service.pool("");
    assert_eq!(Attempt::new(pool.port, "trust_none", &just).summary(), "T ok", "{}", pool.log());
    assert!(refusal(&pool, "trust_none", &longer).starts_with(REFUSED));
    assert!(pool.log().contains("DETAIL:  the password is longer than PAM takes (511 bytes)"), "{}", pool.log());
}

/// A client names its own address; only a name that leads back to it reaches a module.
#[test]
fn a_name_that_a_client_has_made_up_is_not_told() {
    only_ours!("does not tell from where");
    needs_root!();
    needs_namespaces!();
    // 127.0.0.9 says that it is 127.0.0.1, and 127.0.0.7 what is no name.
    let names = Names::new("\n127.0.0.8 honest.example.com\n127.0.0.9 127.0.0.1\n127.0.0.7 a;reboot", NameServer::None);
    let service = PamService::new();
    let rule = format!("pam pamservice={} pam_use_hostname=1", service.name);
    let pool = pool_with_names(servers(), Some(&rule), &Arc::new(names));
    for (address, told) in [("127.0.0.8", "honest.example.com"), ("127.0.0.9", "127.0.0.9"), ("127.0.0.7", "127.0.0.7")]
    {
        let wire = Wire::open_from(address, pool.port).expect("a connection");
        let attempt = Attempt::on(wire, &[("user", "trust_none"), ("database", "test")], SECRET);
        assert_eq!(attempt.summary(), "T ok", "{}", pool.log());
        let asked = service.read("asked");
        assert!(asked.ends_with(&format!("account trust_none {told}\n")), "{address}: {asked}");
    }
}

#[test]
fn a_local_client_is_from_nowhere() {
    only_ours!("does not tell from where");
    needs_root!();
    let service = PamService::new();
    let pool = service.pool("");
    let rule = format!("local all all pam pamservice={}\n", service.name);
    pool.write("pool_hba.conf", &rule);
    pool.signal(nix::sys::signal::Signal::SIGHUP);
    let attempt = || {
        let wire = Wire::open_unix(&pool.socket()).expect("socket");
        Attempt::on(wire, &[("user", "trust_none"), ("database", "test")], SECRET).summary()
    };
    wait_for("the new rule to count", || attempt() == "T ok");
    assert!(service.read("asked").starts_with("auth trust_none \n"), "{}", service.read("asked"));
}

#[test]
fn modules_may_ask_again_and_tell() {
    only_ours!("does not know what to do with a text");
    needs_root!();
    // Asks these users for their address, and keeps no password for the next module.
    let service = PamService::behind(
        "auth [success=ok default=ignore] pam_ftp.so users=trust_none,scram_none\nauth optional pam_echo.so all is well\n",
    );
    let pool = service.pool("backend_use_passwd=1");
    let attempt = |user: &str, password: &str| Attempt::new(pool.port, user, password).summary();
    assert_eq!(attempt("trust_none", SECRET), "TT ok", "{}", pool.log());
    assert_eq!(attempt("trust_none", "wrong"), "TT 28000");
    assert_eq!(attempt("scram_none", SECRET), "TT ok", "{}", pool.log());
    assert!(pool.log().contains("LOG:  PAM says: all is well"), "{}", pool.log());
}

#[test]
fn modules_that_crash_or_hang_harm_nobody() {
    only_ours!("loses the worker");
    needs_root!();
    let service = PamService::new();
    let pool = service.pool("");
    let first = Attempt::new(pool.port, "trust_none", SECRET).outcome.expect("in");
    let server = first.pid;
    first.close();
    assert!(refusal(&pool, "trust_none", "crash").starts_with(REFUSED));
    assert!(pool.log().contains("the process that asked PAM has ended without an answer"), "{}", pool.log());
    let started = Instant::now();
    let told = refusal(&pool, "trust_none", "hang");
    assert!(told.contains("authentication timeout") && started.elapsed() < Duration::from_secs(20), "{told}");
    assert!(pool.log().contains("PAM did not answer in time"), "{}", pool.log());
    // Nor does the module's program, or what it has started, stay.
    let is_there = |name: &str| Path::new("/proc").join(service.read(name).trim()).exists();
    for name in ["hanging", "hiding"] {
        assert!(!service.read(name).is_empty(), "{name}");
        wait_for(name, || !is_there(name));
    }
    // What a module leaves behind having answered is its own affair.
    assert!(refusal(&pool, "trust_none", "leave").starts_with(REFUSED));
    wait_for("what it has left", || !service.read("left").trim().is_empty());
    assert!(is_there("left"));
    assert_eq!(Attempt::new(pool.port, "trust_none", SECRET).outcome.expect("in").pid, server);
}

#[test]
fn a_service_that_is_not_there_lets_in_nobody() {
    only_ours!("says less");
    needs_root!();
    // Where there is a service "other", it decides: nobody but it knows the password.
    let pool = prepared_pool(servers(), Some("pam pamservice=pgpool-suite-nowhere"), |config| config);
    let attempt = Attempt::new(pool.port, "trust_none", SECRET);
    let told = attempt.outcome.err().expect("refused");
    assert!(told.starts_with(REFUSED), "{told}");
}
