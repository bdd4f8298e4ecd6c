//! What the machine may run out of, and clocks that jump: one session may be lost, never the service; the log names the cause
//! and what to do; and nothing is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::frontend::{query, startup};
use crate::harness::{Cluster, Config, LOGIN, Pgpool, Program, Stop, Wire, eventually, server_user, shared, wait_for};
use crate::only_ours;

const WAITING: &str = "pgpool: wait for connection request";
const PATIENCE: Duration = Duration::from_secs(20);

/// Sets the soft limit of a process, `"unlimited"` to what it may have at most.
fn limit(pid: Pid, resource: &str, most: &str) {
    // Name, soft limit, hard limit, unit.
    let hard = |line: &str| line.split_whitespace().rev().nth(1).map(str::to_owned);
    let most = match most {
        "unlimited" => {
            let name = if resource == "nproc" { "Max processes" } else { "Max open files" };
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
            limits.lines().find(|line| line.starts_with(name)).and_then(hard).expect("a hard limit")
        }
        most => most.to_owned(),
    };
    // Root in a container may not touch the limits of others; they themselves may.
    let mut command = match unprivileged().filter(|_| resource == "nproc") {
        Some(runner) => {
            let mut command = Command::new(&runner[0]);
            command.args(&runner[1..]).arg("prlimit");
            command
        }
        None => Command::new("prlimit"),
    };
    let status = command.args([format!("--pid={pid}"), format!("--{resource}={most}:")]).status().expect("prlimit");
    assert!(status.success());
}

/// What runs a command as the servers' user, for root.
fn unprivileged() -> Option<[String; 5]> {
    let user = server_user()?;
    let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
    Some(["setpriv".to_owned(), "--clear-groups".to_owned(), uid, gid, "--".to_owned()])
}

/// Starts it as a user whom limits of processes bind. `None`: that cannot be done here.
fn start_unprivileged(config: Config) -> Option<Pgpool> {
    let mut pool = config.prepare();
    if let Some(runner) = unprivileged() {
        let mut program = Command::new(&runner[0]);
        program.args(&runner[1..]).arg(env!("CARGO_BIN_EXE_pgpool")).arg("-v");
        if !program.output().is_ok_and(|output| output.status.success()) {
            println!("skipped: the servers' user cannot run what was built");
            return None;
        }
        pool.run_by(&runner.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let pool = pool.started();
    Some(pool)
}

#[test]
fn without_processes_for_a_while_those_that_are_there_serve() {
    only_ours!("a failed fork ends it");
    let config = Pgpool::on(shared()).set("num_init_children", 3);
    let Some(pool) = start_unprivileged(config) else { return };
    let mut session = pool.connect();
    limit(pool.pid(), "nproc", "1");
    let victim = pool.children(WAITING)[0];
    kill(victim, Signal::SIGKILL).expect("kill");
    wait_for("the failure", || pool.log().contains("could not fork: 1 child processes have to wait"));
    let log = pool.log();
    assert!(log.contains("HINT:  Raise the limit of processes of this user, add memory, or reduce"), "{log}");
    assert_eq!(session.value("SELECT 1"), "1");
    assert_eq!(pool.connect().value("SELECT 2"), "2");
    limit(pool.pid(), "nproc", "unlimited");
    wait_for("the replacement", || pool.children(WAITING).len() == 2);
    assert!(pool.log().matches("could not fork").count() < 10, "{}", pool.log());
}

#[test]
fn a_failover_without_processes_goes_its_way() {
    only_ours!("a failed fork ends it");
    let cluster = Cluster::streaming(2).start();
    let config = Pgpool::checking(&cluster).set("failover_command", "true");
    let Some(pool) = start_unprivileged(config) else { return };
    let mut session = pool.connect();
    limit(pool.pid(), "nproc", "1");
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the failover", || pool.log().contains("Failover done. shutdown host"));
    assert!(pool.log().contains("the command could not be run"), "{}", pool.log());
    assert_eq!(session.value("SELECT 1"), "1");
    limit(pool.pid(), "nproc", "unlimited");
    assert_eq!(pool.connect().value("SELECT 2"), "2");
}

#[test]
fn in_dynamic_mode_a_failed_fork_is_made_up_for() {
    only_ours!("a failed fork ends it");
    let config = Pgpool::on(shared())
        .set("process_management_mode", "dynamic")
        .set("num_init_children", 6)
        .set("min_spare_children", 1)
        .set("max_spare_children", 2);
    let Some(pool) = start_unprivileged(config) else { return };
    limit(pool.pid(), "nproc", "1");
    let _session = pool.connect();
    let mut late = pool.open();
    late.send(startup(0, LOGIN));
    wait_for("the failure", || pool.log().contains("could not fork"));
    limit(pool.pid(), "nproc", "unlimited");
    late.read_until('Z').succeeded();
    assert_eq!(late.value("SELECT 1"), "1");
}

#[test]
fn an_upgrade_without_processes_changes_nothing() {
    only_ours!("it has to be stopped");
    let cluster = Cluster::streaming(2).start();
    let Some(mut pool) = start_unprivileged(Pgpool::on(&cluster)) else { return };
    let mut session = pool.connect();
    let new = crate::upgrade::start::waiting(&mut pool, &cluster);
    limit(new, "nproc", "1");
    cluster.node(1).resume();
    let failure = "upgrade failed: the new process has ended with status 1: there is no room for its processes";
    wait_for("the failure", || pool.log().contains(failure));
    assert_eq!(session.value("SELECT 1"), "1");
    assert_eq!(pool.connect().value("SELECT 2"), "2");
}

#[test]
fn a_parent_without_descriptors_goes_on() {
    only_ours!("other texts");
    let mut pool = Pgpool::on(shared()).set("num_init_children", 3).start();
    let mut session = pool.connect();
    limit(pool.pid(), "nofile", "3");
    pool.set("log_statement", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the refusal", || pool.log().contains("the configuration was not reloaded; the old one stays in force"));
    // Its children have the same limit.
    kill(pool.children(WAITING)[0], Signal::SIGKILL).expect("kill");
    wait_for("the failure", || pool.log().contains("a worker process could not prepare itself"));
    assert_eq!(session.value("SELECT 1"), "1");
    assert_eq!(pool.connect().value("SELECT 2"), "2");
    limit(pool.pid(), "nofile", "unlimited");
    wait_for("the replacement", || pool.children(WAITING).len() == 2);
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("parameter \"log_statement\" changed"));
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
}

#[test]
fn the_protection_of_the_parent_is_not_its_childrens() {
    only_ours!("its children have it as well");
    let mut pool = Pgpool::on(shared()).prepare();
    pool.run_by(&["choom", "-n", "-500", "--"]);
    let may_protect = Command::new("choom").args(["-n", "-500", "--", "true"]).status();
    if !may_protect.is_ok_and(|done| done.success()) {
        println!("skipped: only root may protect a process");
        return;
    }
    let pool = pool.started();
    let score = |pid| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    assert_eq!(score(pool.pid()).trim(), "-500");
    wait_for("workers", || !pool.children(WAITING).is_empty());
    wait_for("their scores", || pool.children("pgpool: ").into_iter().all(|child| score(child).trim() == "0"));
}

#[test]
fn a_worker_that_cannot_accept_makes_room_for_one_that_can() {
    only_ours!("it tries again and again");
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let worker = pool.children(WAITING)[0];
    let used = fs::read_dir(format!("/proc/{worker}/fd")).expect("descriptors").flatten();
    let used: Vec<usize> = used.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let free = (0..).find(|descriptor| !used.contains(descriptor)).expect("a free one");
    limit(worker, "nofile", &free.to_string());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    let log = pool.log();
    assert!(log.contains("ERROR:  failed to accept user connection"), "{log}");
    assert!(log.contains("HINT:  Check the limits of open files and of memory."), "{log}");
}

#[test]
fn a_start_without_means_says_what_is_missing() {
    only_ours!("other texts");
    let dear = |pool: Config| pool.set("num_init_children", 20_000).set("max_pool", 60);
    for (resource, config, message, hint) in [
        ("--nofile=5", Pgpool::on(shared()), "Too many open files", "Raise the limit of open files: ulimit -n"),
        ("--nofile=10", Pgpool::on(shared()), "Too many open files", "Raise the limit of open files: ulimit -n"),
        ("--fsize=100000", Pgpool::on(shared()), "File too large", "ulimit -v and -f"),
        ("--as=600000000", dear(Pgpool::on(shared())), "could not create shared memory", "Reduce num_init_children"),
    ] {
        let mut pool = config.prepare();
        pool.run_by(&["prlimit", resource, "--"]);
        pool.launch(&[]);
        assert_eq!(pool.wait_end(PATIENCE).and_then(|status| status.code()), Some(3), "{}", pool.log());
        let log = pool.log();
        assert!(log.contains("FATAL:  ") && log.contains(message) && log.contains(hint), "{resource}: {log}");
        assert!(!pool.path("pgpool.pid").exists() && !pool.socket().exists());
    }
}

#[test]
fn a_log_that_may_not_grow_ends_nobody() {
    only_ours!("it is killed by the signal");
    let pool = Pgpool::on(shared()).set("num_init_children", 2).set("log_statement", "on").start();
    let mut session = pool.connect();
    wait_for("the other worker", || pool.children(WAITING).len() == 1);
    let everybody: Vec<Pid> = [vec![pool.pid()], pool.children("pgpool: ")].concat();
    everybody.iter().for_each(|pid| limit(*pid, "fsize", "1"));
    for number in 0..20 {
        assert_eq!(session.value(&format!("SELECT {number}")), number.to_string());
    }
    pool.signal(Signal::SIGHUP);
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(everybody.iter().all(|pid| kill(*pid, None).is_ok()));
}

#[test]
fn a_session_without_memory_is_alone_in_that() {
    only_ours!("other texts");
    let pool = Pgpool::on(shared()).set("num_init_children", 2).start();
    let mut bystander = pool.connect();
    assert_eq!(bystander.value("SELECT 1"), "1");
    let before = pool.children("pgpool: postgres test");
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    let worker =
        pool.children("pgpool: postgres test").into_iter().find(|pid| !before.contains(pid)).expect("a worker");
    limit(worker, "as", "1");
    // Statements of many shapes: each is remembered, some memory is needed soon.
    let ended = (0..10_000).any(|number| {
        let text = format!("SELECT '{}' -- {number}", "x".repeat(900_000));
        session.try_send(&query(&text)).is_err() || session.try_read().map_or(true, |message| message.is_none())
    });
    assert!(ended, "it had memory all the time");
    wait_for("the replacement", || pool.children(WAITING).len() == 1);
    let log = pool.log();
    assert!(log.contains("memory allocation of ") && log.contains("was terminated by signal 6 (SIGABRT)"), "{log}");
    assert!(log.contains("raise its limit or add memory"), "{log}");
    assert_eq!(bystander.value("SELECT 2"), "2");
    assert_eq!(pool.connect().value("SELECT 3"), "3");
}

fn client(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name).display().to_string()
}

#[test]
fn memory_files_are_not_needed() {
    only_ours!("it uses System V shared memory");
    let mut pool = Pgpool::on(shared()).set("num_init_children", 3).prepare();
    let refuse = client("without_memfd.py");
    if !Program::new("/usr/bin/python3").args([&refuse, "/bin/true"]).run().status.success() {
        println!("skipped: there is no seccomp here");
        return;
    }
    pool.run_by(&["/usr/bin/python3", &refuse]);
    let pool = pool.started();
    let (mut session, _other) = (pool.connect(), pool.connect());
    let states = session.query("SHOW POOL_PROCESSES").succeeded().rows();
    let busy = states.iter().filter(|row| row[7].as_deref() != Some("Wait for connection")).count();
    assert_eq!((states.len(), busy), (3, 2), "what one process writes all others read");
    let maps = fs::read_to_string(format!("/proc/{}/maps", pool.pid())).expect("maps");
    assert!(!maps.contains("memfd:pgpool"));
}

/// A library that moves the time of day, and the file that says by how much.
fn movable_clock(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let (library, offset) = (directory.join("clock.so"), directory.join("offset"));
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(client("clock.c")).status();
    fs::write(&offset, "0").expect("offset");
    built.is_ok_and(|status| status.success()).then_some((library, offset))
}

#[test]
fn clocks_that_jump_end_nothing_and_stop_no_limit() {
    only_ours!("counts in times of day");
    let directory = crate::harness::Scratch::new("clock");
    let Some((library, offset)) = movable_clock(directory.path()) else {
        println!("skipped: there is no C compiler");
        return;
    };
    let pool = Pgpool::on(shared())
        .set("num_init_children", 4)
        .set("client_idle_limit", 3600)
        .set("connection_life_time", 3600)
        .set("child_life_time", 3600)
        .set("log_line_prefix", "%t ")
        .set("log_statement", "on")
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("sr_check_period", 1)
        .env("LD_PRELOAD", library.display())
        .env("CLOCK_OFFSET", offset.display())
        .start();
    let mut session = pool.connect();
    let pooled = pool.connect();
    let workers = pool.children("pgpool: ");
    pooled.close();
    let jump = |days: i64, session: &mut Wire| {
        let before = pool.log().len();
        fs::write(&offset, (days * 86_400).to_string()).expect("offset");
        // Several rounds of the checks, and a statement.
        let begun = Instant::now();
        wait_for("some rounds", || begun.elapsed() > Duration::from_millis(2500));
        assert_eq!(session.value("SELECT 1"), "1", "{days} days");
        let log = pool.log();
        let year = |line: &str| line.get(..10).map(str::to_owned);
        let line = log[before..].lines().find(|line| line.contains("statement: SELECT 1")).expect("a line");
        year(line).expect("a date")
    };
    let dates = [1000, -1000, 0].map(|days| jump(days, &mut session));
    assert!(dates[0] > dates[2] && dates[1] < dates[2], "the clock has jumped: {dates:?}");
    assert_eq!(pool.children("pgpool: "), workers, "nobody was ended or replaced");
    let log = pool.log();
    assert!(!log.contains("degenerate") && !log.contains("terminate"), "{log}");
    // A limit that counts while the clock is set back.
    session.query("PGPOOL SET client_idle_limit = 2").succeeded();
    fs::write(&offset, "-100000000").expect("offset");
    assert_eq!(session.read_until('E').sqlstate(), "57000");
}

/// The state of each process that is or was in the process group of the parent.
fn group(parent: Pid) -> Vec<(Pid, char)> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let state = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let group = fields.nth(1)?.parse::<i32>().ok()?;
        (group == parent.as_raw()).then(|| (Pid::from_raw(pid), state))
    };
    pids.filter_map(state).collect()
}

/// A pgpool with every kind of process there is.
fn everybody(cluster: &Cluster) -> Pgpool {
    let config = Pgpool::checking(cluster).with_metrics().set("client_wait_limit", 60_000).set("sr_check_period", 1);
    let config = config.set("logging_collector", "on").set("num_init_children", 3);
    let mut pool = config.prepare();
    pool.set("log_directory", pool.path("logs").display());
    pool.launch(&[]);
    wait_for("pgpool to start", || Wire::login(pool.port).is_ok());
    for title in
        ["PgpoolLogger", "PCP: ", "metrics", "health check process(1)", "worker process", "doorman", "wait for"]
    {
        wait_for(title, || !pool.children(title).is_empty());
    }
    pool
}

#[test]
fn whoever_is_killed_is_replaced_and_leaves_no_zombie() {
    only_ours!("not all are");
    let cluster = Cluster::streaming(2).start();
    let pool = everybody(&cluster);
    let mut session = pool.connect();
    let mine = pool.children("pgpool: postgres test");
    let count = pool.children("").len();
    let victims: Vec<Pid> = pool.children("").into_iter().filter(|pid| !mine.contains(pid)).collect();
    assert!(victims.len() >= 8, "{victims:?}");
    for victim in &victims {
        kill(*victim, Signal::SIGKILL).expect("kill");
    }
    let replaced = || {
        let now = pool.children("");
        now.len() == count && !now.iter().any(|pid| victims.contains(pid))
    };
    assert!(eventually(PATIENCE, replaced), "{:?} of {count}", pool.children(""));
    assert_eq!(session.value("SELECT 1"), "1");
    assert_eq!(pool.connect().value("SELECT 2"), "2");
    wait_for("no zombie", || group(pool.pid()).iter().all(|(_, state)| *state != 'Z'));
}

#[test]
fn a_killed_parent_leaves_no_orphan() {
    only_ours!("children live on");
    let cluster = Cluster::streaming(2).start();
    let mut pool = everybody(&cluster);
    let _session = pool.connect();
    let parent = pool.pid();
    assert!(group(parent).len() > 9);
    kill(parent, Signal::SIGKILL).expect("kill");
    pool.wait_end(PATIENCE);
    assert!(eventually(PATIENCE, || group(parent).is_empty()), "{:?}", group(parent));
}
