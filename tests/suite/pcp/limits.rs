//! What no client of PCP can do to others.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};

use super::raw::{Raw, md5_hex, report};
use super::{PASSWORD, USER, login, start};
use crate::harness::{Pgpool, Stop, process_title, shared, wait_for};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(20);

/// The PCP main process.
fn main_process(pool: &Pgpool) -> nix::unistd::Pid {
    pool.children("PCP: wait for connection request")[0]
}

/// The PCP workers.
fn all_workers(pool: &Pgpool) -> Vec<i32> {
    let main = main_process(pool);
    let pids = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// How many PCP workers have this in their title.
pub fn workers(pool: &Pgpool, title: &str) -> usize {
    all_workers(pool).into_iter().filter(|pid| process_title(*pid).contains(title)).count()
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out_and_cost_no_process() {
    only_ours!("each costs a process");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).expect("limit");
    let pool = start(Pgpool::on(shared()));
    let silent: Vec<Raw> = (0..1000)
        .map(|number| {
            let mut raw = Raw::open(pool.pcp_port());
            match number % 3 {
                0 => raw.send(b"M\0\0"),
                1 => raw.send(b"M"),
                _ => {}
            }
            raw
        })
        .collect();
    let begun = Instant::now();
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b'L', b"").0, b'l');
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(workers(&pool, "PCP: "), 1);
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    drop(silent);
}

#[test]
fn the_time_for_a_login_ends() {
    only_ours!("it never does");
    let pool = start(Pgpool::on(shared()).set("authentication_timeout", 1));
    for half in [&b""[..], b"M", b"M\0\0\0\x04R\0\0"] {
        let mut raw = Raw::open(pool.pcp_port());
        raw.send(half);
        let mut last = None;
        while let Some(frame) = raw.frame() {
            last = Some(frame);
        }
        let last = last.expect("a last word");
        assert_eq!(report(&last), "FATAL|authentication failed for new PCP connection|it took too long");
    }
}

#[test]
fn the_time_between_requests_ends() {
    only_ours!("it never does");
    let pool = start(Pgpool::on(shared()).set("pcp_idle_limit", 1));
    for half in [&b""[..], b"L\0\0"] {
        let mut raw = login(&pool);
        raw.send(half);
        let last = raw.frame().expect("a last word");
        assert!(report(&last).starts_with("FATAL|terminating PCP connection|"), "{last:?}");
        assert_eq!(raw.frame(), None);
    }
    wait_for("the workers to end", || all_workers(&pool).is_empty());
}

#[test]
fn the_time_for_a_request_ends_also_if_it_begins_with_the_login() {
    only_ours!("it never does");
    let pool = start(Pgpool::on(shared()).set("pcp_idle_limit", 0));
    let mut raw = Raw::open(pool.pcp_port());
    let mut login = raw.answer(USER, PASSWORD);
    login.extend_from_slice(b"I\0\0");
    raw.send(&login);
    assert_eq!(raw.frame().map(|(kind, _)| kind), Some(b'r'));
    let last = raw.frame().expect("a last word");
    assert!(report(&last).starts_with("FATAL|terminating PCP connection|a request has begun "), "{last:?}");
    assert_eq!(raw.frame(), None);
}

#[test]
fn there_are_so_many_workers_and_no_more() {
    only_ours!("there is no limit");
    let mut pool = start(Pgpool::on(shared()).set("pcp_max_connections", 1).set("log_pcp_processes", "on"));
    let mut first = login(&pool);
    // Told instead of the login's success, so that programs end with the status of a login that has failed.
    let refused = Raw::open(pool.pcp_port()).log_in(USER, PASSWORD);
    assert!(report(&refused).starts_with("FATAL|too many PCP connections|"), "{refused:?}");
    // A worker answers with the settings of the moment, and a reload raises the limit.
    pool.set("pcp_max_connections", 2);
    assert_eq!(first.ask(b'Z', b"l"), (b'z', b"CommandComplete\0".to_vec()));
    wait_for("room for a second one", || {
        let mut raw = Raw::open(pool.pcp_port());
        raw.log_in(USER, PASSWORD).0 == b'r' && raw.ask(b'L', b"").0 == b'l'
    });
    first.request(b'X', b"");
    wait_for("the workers to end", || all_workers(&pool).is_empty());
    let log = pool.log();
    for line in ["forked new pcp worker, pid=", "exit with SUCCESS."] {
        assert!(log.contains(line), "{line}:\n{log}");
    }
}

#[test]
fn a_client_that_takes_no_answer_or_vanishes_does_not_disturb_others() {
    only_ours!("a worker that is killed leaves its client waiting");
    let pool = start(Pgpool::on(shared()));
    let mut greedy = login(&pool);
    let many: Vec<u8> = b"B\0\0\0\x04".repeat(40_000);
    // It never reads, and the kernel's buffers are full before all is sent.
    let sender = std::thread::spawn(move || {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| greedy.send(&many)));
    });
    assert_eq!(login(&pool).ask(b'L', b"").0, b'l');
    let others = all_workers(&pool);
    let mut victim = login(&pool);
    assert_eq!(victim.ask(b'L', b"").0, b'l');
    let newest = all_workers(&pool).into_iter().find(|pid| !others.contains(pid)).expect("a worker");
    kill(nix::unistd::Pid::from_raw(newest), Signal::SIGKILL).expect("kill");
    wait_for("a killed worker to be told of", || pool.log().contains("was terminated by signal 9"));
    let _ = victim.frame();
    assert_eq!(login(&pool).ask(b'L', b"").0, b'l');
    drop(pool);
    sender.join().expect("sender");
}

#[test]
fn the_main_process_is_replaced_and_goes_with_the_parent() {
    only_ours!("a smart stop is not waited for by a PCP session");
    let mut pool = start(Pgpool::on(shared()));
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b'L', b"").0, b'l');
    let (before, worker) = (main_process(&pool), all_workers(&pool)[0]);
    wait_for("the worker to wait", || process_title(worker).contains("PCP: wait for request"));
    kill(before, Signal::SIGKILL).expect("kill");
    assert_eq!(raw.frame(), None, "its worker goes with it");
    wait_for("another one", || {
        pool.children("PCP: wait for connection request").first().is_some_and(|pid| *pid != before)
    });
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b'L', b"").0, b'l');
    assert_eq!(pool.stop(Stop::Smart).code(), Some(0));
    assert_eq!(raw.frame(), None);
    assert!(!pool.path(&format!(".s.PGSQL.{}", pool.pcp_port())).exists());
    assert!(pool.wait_end(PATIENCE).is_some());
}

#[test]
fn a_user_without_a_hash_is_not_let_in() {
    only_ours!("an empty hash needs no password");
    let pool = start(Pgpool::on(shared()));
    let good = fs::read_to_string(pool.path("pcp.conf")).expect("pcp.conf");
    fs::write(pool.path("pcp.conf"), format!("{good}bob:\neve:   \n")).expect("pcp.conf");
    for user in ["bob", "eve"] {
        let mut raw = Raw::open(pool.pcp_port());
        let (_, salt) = raw.ask(b'M', b"");
        let answer = md5_hex(&[md5_hex(&[user.as_bytes()]).as_bytes(), &salt]);
        let refused = raw.ask(b'R', format!("{user}\0{answer}\0").as_bytes());
        assert!(report(&refused).starts_with(&format!("FATAL|authentication failed for user \"{user}\"|")));
    }
    assert!(pool.log().contains("line 3 of "), "{}", pool.log());
    drop(login(&pool));
}

#[test]
fn bad_lines_and_a_missing_file_are_told_of() {
    only_ours!("a line without a colon locks out the users behind it");
    let pool = start(Pgpool::on(shared()));
    let good = fs::read_to_string(pool.path("pcp.conf")).expect("pcp.conf");
    fs::write(pool.path("pcp.conf"), format!("no colon\n{good}")).expect("pcp.conf");
    drop(login(&pool));
    assert!(pool.log().contains("line 1 of "), "{}", pool.log());
    fs::remove_file(pool.path("pcp.conf")).expect("remove");
    let answer = Raw::open(pool.pcp_port()).log_in(USER, PASSWORD);
    assert!(report(&answer).starts_with("FATAL|failed to authenticate PCP user|could not open "), "{answer:?}");
}
