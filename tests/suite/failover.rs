//! Nodes come and go on real clusters, and the service stays (failover 5 to 10, 17).

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::frontend::{bind, execute, parse, query, sync};
use crate::harness::{
    Cluster, LOGIN, Pgpool, Stop, Wire, checks_started, client_program, cpu_time, eventually, lines_in_order, wait_for,
};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(20);
const PORT: &str = "SELECT current_setting('port')";

/// Writes a script beside the configuration; it gets all placeholders.
fn script(pool: &mut Pgpool, parameter: &str, text: &str) {
    let path = pool.path(&format!("{parameter}.sh"));
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    pool.set(parameter, format!("{} %d %h %p %D %m %H %M %P %r %R %N %S", path.display()));
}

/// A failover script that promotes node 1 of the cluster when node 0 is lost.
fn promoting(cluster: &Cluster) -> String {
    let psql = client_program("psql");
    format!(
        "if [ \"$1\" = 0 ]; then {} -X -h 127.0.0.1 -p {} -U postgres -d postgres -c 'SELECT pg_promote(true, 30)'; fi",
        psql.display(),
        cluster.node(1).port
    )
}

fn start(mut pool: Pgpool) -> Pgpool {
    pool.launch(&[]);
    pool.wait_ready();
    pool
}

#[test]
fn a_standby_that_stops_is_detached_and_nobody_else_notices() {
    only_ours!("sessions are killed");
    let cluster = Cluster::streaming(3).start();
    let pool = Pgpool::checking(&cluster).weights(&[0.0, 0.0, 1.0]).start();
    let mut reader = pool.connect();
    assert_eq!(reader.value(PORT), cluster.node(2).port.to_string());
    let mut writer = pool.connect();
    writer.query("BEGIN").succeeded();
    writer.query("CREATE TEMP TABLE kept (i int)").succeeded();
    cluster.node(2).stop(Stop::Fast);
    let done = format!("=== Failover done. shutdown host 127.0.0.1({}) ===", cluster.node(2).port);
    wait_for("the failover", || pool.log().contains(&done));
    let port = cluster.node(2).port;
    lines_in_order(
        &pool.log(),
        &[
            &format!("failed to connect to PostgreSQL server on \"127.0.0.1:{port}\""),
            "health check failed on node 2 (timeout:0)",
            "received degenerate backend request for node_id: 2 from pid [",
            "signal_user1_to_parent_with_reason(0)",
            "Pgpool-II parent process received SIGUSR1",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting degeneration. shutdown host 127.0.0.1({port}) ==="),
            &format!(
                "Do not restart children because we are switching over node id 2 host: 127.0.0.1 port: {port} and we are in \
             streaming replication mode"
            ),
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            &done,
            "failover of DB node 2 took ",
            "cause: health check failed: ",
        ],
    );
    wait_for("the worker process to be replaced", || pool.log().contains("worker process received restart request"));
    assert_eq!(pool.status_file(), "up\nup\ndown\n");
    writer.query("INSERT INTO kept VALUES (1)").succeeded();
    writer.query("COMMIT").succeeded();
    assert_ne!(reader.value(PORT), cluster.node(2).port.to_string());
    let nodes = pool.psql("SHOW POOL_NODES").succeeded();
    assert_eq!(nodes.matches("|down|").count(), 1, "{nodes}");
    assert!(!pool.log().contains("failed to find primary"), "{}", pool.log());
}

#[test]
fn a_standby_that_is_killed_or_hangs_is_detached() {
    only_ours!("a hung server is never noticed");
    let cluster = Cluster::streaming(3).start();
    let pool = Pgpool::checking(&cluster).weights(&[0.0, 1.0, 0.0]).start();
    let mut hung = pool.connect();
    assert_eq!(hung.value(PORT), cluster.node(1).port.to_string());
    cluster.node(1).pause();
    // The statement is on its way to a server that will never answer.
    hung.send(query(PORT));
    let begun = Instant::now();
    assert_eq!(hung.read_until('Z').first_value().as_deref(), Some(cluster.node(0).port.to_string().as_str()));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    wait_for("the failover", || done(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "using INET socket",
            "health check timer expired",
            "health check failed on node 1 (timeout:1)",
            "=== Failover done.",
        ],
    );
    cluster.node(1).resume();
    cluster.node(2).kill();
    wait_for("the second failover", || pool.status_file() == "up\ndown\ndown\n");
    assert_eq!(hung.value(PORT), cluster.node(0).port.to_string());
}

#[test]
fn a_primary_that_is_killed_is_replaced_by_the_script() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::checking(&cluster).set("load_balance_mode", "off").prepare();
    let arguments = pool.path("arguments");
    script(
        &mut pool,
        "failover_command",
        &format!("echo \"$@\" > {}; echo promoting $5\n{}", arguments.display(), promoting(&cluster)),
    );
    let pool = start(pool);
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    let begun = Instant::now();
    cluster.node(0).kill();
    let end = session.read_until('E');
    assert!(matches!(end.sqlstate().as_str(), "57P01" | "08006"), "{}", end.sqlstate());
    // Whoever comes now waits for the new primary.
    wait_for("the degeneration", || pool.log().contains("=== Starting degeneration."));
    let mut next = pool.connect();
    assert_eq!(next.value("SELECT pg_is_in_recovery()"), "f");
    next.query("CREATE TABLE after_failover (i int)").succeeded();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let host = |id: usize| format!("127.0.0.1({})", cluster.node(id).port);
    wait_for("the end of the failover", || pool.log().contains("=== Failover done."));
    lines_in_order(
        &pool.log(),
        &[
            "health check failed on node 0 (timeout:0)",
            "received degenerate backend request for node_id: 0 from pid [",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting degeneration. shutdown host {} ===", host(0)),
            "Restart all children",
            "execute command: ",
            "command output: promoting 1",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 1",
            "find_primary_node: standby node is 2",
            "failover: set new primary node: 1",
            "failover: set new main node: 1",
            &format!("=== Failover done. shutdown host {} ===", host(0)),
            "failover of DB node 0 took ",
        ],
    );
    let (port, data) = (|id: usize| cluster.node(id).port, |id: usize| cluster.node(id).data_directory().display());
    let expected =
        format!("0 127.0.0.1 {} {} 1 127.0.0.1 0 0 {} {} 127.0.0.1 {}\n", port(0), data(0), port(1), data(1), port(0));
    assert_eq!(std::fs::read_to_string(arguments).expect("arguments"), expected);
    assert_eq!(pool.status_file(), "down\nup\nup\n");
    // The former primary comes back and is left alone.
    cluster.node(0).start();
    wait_for("two more rounds of checks", || pool.log().matches("find_primary_node: primary node is").count() == 2);
    assert_eq!(pool.connect().value("SELECT current_setting('port')"), port(1).to_string());
    assert_eq!(pool.status_file(), "down\nup\nup\n");
}

#[test]
fn the_others_follow_a_new_primary_one_after_the_other() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::checking(&cluster).prepare();
    script(&mut pool, "failover_command", &promoting(&cluster));
    script(&mut pool, "follow_primary_command", "echo follows $1 $5 $8");
    let pool = start(pool);
    cluster.node(0).kill();
    wait_for("the last one", || pool.log().contains("=== Follow primary command for node 2 ended ==="));
    let host = |id: usize| format!("127.0.0.1({})", cluster.node(id).port);
    lines_in_order(
        &pool.log(),
        &[
            "find_primary_node: primary node is 1",
            &format!("starting follow degeneration. shutdown host {}", host(0)),
            &format!("starting follow degeneration. shutdown host {}", host(2)),
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 1",
            "=== Failover done.",
            "=== Starting follow primary command for node 0 ===",
            "command output: follows 0 1 0",
            "=== Follow primary command for node 0 ended ===",
            "=== Starting follow primary command for node 2 ===",
            "command output: follows 2 1 0",
            "=== Follow primary command for node 2 ended ===",
        ],
    );
    assert_eq!(pool.status_file(), "down\nup\ndown\n");
    assert_eq!(pool.connect().value(PORT), cluster.node(1).port.to_string());
}

#[test]
fn nobody_is_told_to_follow_a_primary_that_is_lost() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::checking(&cluster).prepare();
    let goes_on = pool.path("go on");
    script(&mut pool, "failover_command", &promoting(&cluster));
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", goes_on.display());
    script(&mut pool, "follow_primary_command", &wait);
    let pool = start(pool);
    cluster.node(0).kill();
    wait_for("the first one to follow", || pool.log().contains("=== Starting follow primary command for node 0 ==="));
    cluster.node(1).kill();
    wait_for("the new primary to be lost", || pool.log().contains("set new primary node: -1"));
    std::fs::write(goes_on, "").expect("file");
    wait_for("the end", || {
        pool.log().contains("node 2 is not told to follow node 1, which is not the primary any more")
    });
    assert!(!pool.log().contains("=== Starting follow primary command for node 2 ==="), "{}", pool.log());
}

#[test]
fn scripts_that_fail_hang_or_talk_too_much_do_no_harm() {
    only_ours!("blocks the parent");
    let cluster = Cluster::streaming(4).start();
    let mut pool =
        Pgpool::checking(&cluster).set("failover_command_timeout", 1).weights(&[1.0, 0.0, 0.0, 0.0]).prepare();
    script(
        &mut pool,
        "failover_command",
        "case $1 in 1) exit 3;; 2) sleep 600;; 3) head -c 1048576 /dev/zero | tr '\\0' x;; esac",
    );
    let mut pool = start(pool);
    let mut session = pool.connect();
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the first", || pool.status_file() == "up\ndown\nup\nup\n" && done(&pool) == 1);
    assert!(pool.log().contains("failover command has ended with exit status 3"), "{}", pool.log());
    cluster.node(3).stop(Stop::Immediate);
    wait_for("the second", || done(&pool) == 2);
    lines_in_order(&pool.log(), &["command output: xxx", "a command has printed more than 65536 bytes"]);
    assert!(pool.log().len() < 200_000);
    cluster.node(2).stop(Stop::Immediate);
    wait_for("the command to run", || pool.log().matches("execute command: ").count() == 3);
    // Meanwhile everything else goes on.
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    pool.set("log_statement", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("reload config files."));
    assert_eq!(session.value("SELECT 2"), "2");
    wait_for("the third", || done(&pool) == 3);
    lines_in_order(&pool.log(), &["takes too long and is ended", "failover command was ended by SIGTERM"]);
    assert_eq!(session.value("SELECT 3"), "3");
}

fn done(pool: &Pgpool) -> usize {
    pool.log().matches("=== Failover done.").count()
}

#[test]
fn a_node_that_must_not_be_detached_stays() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("backend_flag1", "DISALLOW_TO_FAILOVER").weights(&[1.0, 0.0]).start();
    cluster.node(1).stop(Stop::Immediate);
    let line = "health check failed on node 1 but failover is disallowed for the node";
    wait_for("two rounds", || pool.log().matches(line).count() >= 2);
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn all_nodes_go_down_and_come_back_in_any_order() {
    only_ours!("needs an administrator");
    for back in [[0, 1], [1, 0]] {
        let cluster = Cluster::streaming(2).start();
        let pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 2).set("sr_check_period", 1).start();
        cluster.node(0).kill();
        cluster.node(1).kill();
        wait_for("both to be detached", || done(&pool) == 2);
        lines_in_order(
            &pool.log(),
            &[
                "All the DB nodes are in down status and skip writing status file.",
                "failover: no valid backend node found",
                "Restart all children",
                "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node",
                "failover: set new primary node: -1",
                "=== Failover done.",
            ],
        );
        let refusal = pool.open().start(LOGIN).expect_err("no node").to_string();
        assert!(refusal.contains("08S01"), "{refusal}");
        for id in back {
            cluster.node(id).start();
        }
        wait_for("the service to be back", || {
            Wire::login(pool.port).is_ok_and(|mut session| session.value("SELECT pg_is_in_recovery()") == "f")
        });
        wait_for("the status file", || pool.status_file().contains("up"));
    }
}

#[test]
fn a_parent_that_is_killed_in_a_failover_goes_on_after_a_new_start() {
    only_ours!("children live on");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).prepare();
    let (begun, go_on) = (pool.path("begun"), pool.path("go-on"));
    let text = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done\n{}",
        begun.display(),
        go_on.display(),
        promoting(&cluster)
    );
    script(&mut pool, "failover_command", &text);
    let mut pool = start(pool);
    cluster.node(0).kill();
    wait_for("the command to run", || begun.exists());
    kill(pool.pid(), Signal::SIGKILL).expect("kill");
    pool.wait_end(PATIENCE).expect("the end");
    assert_eq!(pool.status_file(), "down\nup\n");
    std::fs::write(&go_on, "").expect("write");
    // The command goes on and promotes; pgpool finds what it has made.
    wait_for("the promotion", || cluster.node(1).sql("SELECT pg_is_in_recovery()") == "f");
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.log().matches("successfully started").count() == 2), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(pool.status_file(), "down\nup\n");
}

#[test]
fn a_session_that_cannot_connect_asks_for_failover() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("failover_on_backend_error", "on").weights(&[0.0, 1.0]).start();
    cluster.node(1).kill();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
    wait_for("the failover", || done(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "received degenerate backend request for node_id: 1 from pid [",
            "Pgpool-II parent process has received failover request",
            "=== Failover done.",
            "Connection refused",
        ],
    );
    assert_eq!(session.value("SELECT 1"), "1");
    assert_eq!(pool.status_file(), "up\ndown\n");
}

#[test]
fn a_session_that_loses_a_server_has_it_checked_at_once() {
    only_ours!("waits for the next check");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("health_check_period", 3600).weights(&[0.0, 1.0]).start();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    wait_for("the first checks", || checks_started(&pool) == 2);
    // A server process that dies is no failure: the check finds the server well.
    let pid = session.value("SELECT pg_backend_pid()");
    cluster.node(1).sql(&format!("SELECT pg_terminate_backend({pid})"));
    wait_for("the session to do without it", || pool.log().contains("no longer used by this session"));
    let mut other = pool.connect();
    assert_eq!(other.value(PORT), cluster.node(1).port.to_string());
    assert_eq!(done(&pool), 0);
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the failover", || done(&pool) == 1);
    assert_eq!(other.value(PORT), cluster.node(0).port.to_string());
}

/// All that comes before the end.
fn last_words(session: &mut Wire) -> String {
    format!("{:?}", std::iter::from_fn(|| session.try_read().ok().flatten()).collect::<Vec<_>>())
}

#[test]
fn a_server_that_ends_one_session_is_no_failure_however_it_ends_it() {
    only_ours!("the original detaches the node");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("failover_on_backend_shutdown", "on")
        .set("failover_on_backend_error", "on")
        .weights(&[1.0, 0.0])
        .start();
    let ends_itself =
        "DO $$BEGIN PERFORM pg_sleep(0.3); PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END$$";
    let padding = parse("x", &format!("SELECT 1 /*{}*/", "y".repeat(60_000)), &[]);
    for round in 0..12 {
        // So much is sent behind the statement that the socket is full when the server's process ends: that resets the
        // connection while pgpool is writing to it.
        let mut session = pool.connect();
        let batch = [parse("", ends_itself, &[]), bind("", "", &[]), execute("", 0)].concat();
        session.try_send(&batch).expect("sent");
        for _ in 0..1000 {
            if session.try_send(&padding).is_err() {
                break;
            }
        }
        let _ = session.try_send(&sync());
        let end = last_words(&mut session);
        assert!(end.contains("57P01"), "round {round}: {end}");
    }
    // A warning of the server's end that is none.
    let mut session = pool.connect();
    session.query("DO $$BEGIN RAISE WARNING USING ERRCODE = '57P02'; END$$").succeeded();
    let pid = session.value("SELECT pg_backend_pid()");
    cluster.node(0).sql(&format!("SELECT pg_terminate_backend({pid})"));
    let end = last_words(&mut session);
    assert!(end.contains("57P01"), "{end}");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
}

#[test]
fn a_server_that_is_shut_down_is_detached_and_one_process_that_is_terminated_is_not() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("failover_on_backend_shutdown", "on")
        .set("failover_on_backend_error", "on")
        .weights(&[0.0, 1.0])
        .start();
    let mut session = pool.connect();
    let pid = session.value("SELECT pg_backend_pid()");
    let mut killer = pool.connect();
    assert_eq!(killer.value(&format!("SELECT pg_terminate_backend({pid})")), "t");
    let line = "connection to postmaster on DB node 1 was lost due to pg_terminate_backend";
    wait_for("the session to hear of it", || pool.log().contains(line));
    assert_eq!(session.value("SELECT 1"), "1");
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
    cluster.node(1).stop(Stop::Fast);
    wait_for("the failover", || done(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "reading and processing packets",
            "postmaster on DB node 1 was shutdown by administrative command",
            "received degenerate backend request for node_id: 1 from pid [",
            "=== Failover done.",
        ],
    );
    assert_eq!(killer.value(PORT), cluster.node(0).port.to_string());
}

#[test]
fn a_primary_that_hangs_is_replaced_and_its_sessions_are_told() {
    only_ours!("a hung server is never noticed");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).set("load_balance_mode", "off").prepare();
    script(&mut pool, "failover_command", &promoting(&cluster));
    let pool = start(pool);
    let mut waiting = pool.connect();
    let mut idle = pool.connect();
    assert_eq!(idle.value("SELECT 1"), "1");
    cluster.node(0).pause();
    waiting.send(query("SELECT 2"));
    assert_eq!(waiting.read_until('E').sqlstate(), "57P01");
    assert!(waiting.is_closed_within(PATIENCE));
    assert_eq!(idle.value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(pool.connect().value("SELECT pg_is_in_recovery()"), "f");
    // It wakes up and still believes to be the primary: nobody writes to it.
    cluster.node(0).resume();
    wait_for("the failover", || done(&pool) == 1);
    assert_eq!(pool.connect().value(PORT), cluster.node(1).port.to_string());
    assert_eq!(pool.status_file(), "down\nup\n");
}

#[test]
fn a_node_that_flaps_is_no_failure_within_its_retries() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster)
        .set("health_check_max_retries1", 60)
        .set("health_check_retry_delay1", 1)
        .weights(&[1.0, 0.0])
        .start();
    let failed = "failed to connect to PostgreSQL server";
    for round in 1..=2 {
        let before = pool.log().matches(failed).count();
        cluster.node(1).stop(Stop::Immediate);
        wait_for("a failed attempt", || pool.log().matches(failed).count() > before);
        cluster.node(1).start();
        wait_for("a good one", || pool.log().matches("health check retrying on DB node: 1 succeeded").count() == round);
    }
    assert!(!pool.log().contains("degenerat"), "{}", pool.log());
    assert_eq!(pool.status_file(), "up\nup\n");
}

#[test]
fn a_node_that_was_detached_stays_so_over_a_restart() {
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).weights(&[0.0, 1.0]).start();
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the failover", || done(&pool) == 1);
    cluster.node(1).start();
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.log().matches("successfully started").count() == 2), "{}", pool.log());
    assert_eq!(pool.connect().value(PORT), cluster.node(0).port.to_string());
    assert_eq!(pool.status_file(), "up\ndown\n");
}

#[test]
fn a_standby_that_streams_again_comes_back_by_itself() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster)
        .set("auto_failback", "on")
        .set("auto_failback_interval", 1)
        .set("sr_check_period", 1)
        .weights(&[0.0, 1.0])
        .prepare();
    script(&mut pool, "failback_command", "echo back: $1 $5 $8");
    let pool = start(pool);
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    cluster.node(1).stop(Stop::Fast);
    wait_for("the failover", || done(&pool) == 1);
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
    cluster.node(1).start();
    let port = cluster.node(1).port;
    let back = format!("=== Failback done. reconnect host 127.0.0.1({port}) ===");
    wait_for("the failback", || pool.log().contains(&back));
    lines_in_order(
        &pool.log(),
        &[
            "request auto failback, node id:1",
            "received failback request for node_id: 1 from pid [",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting fail back. reconnect host 127.0.0.1({port}) ==="),
            "Node 0 is not down (status: 2)",
            "execute command: ",
            "command output: back: 1 0 0",
            &format!(
                "Do not restart children because we are failing back node id 1 host: 127.0.0.1 port: {port} and we are \
                 in streaming replication mode and not all backends were down"
            ),
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 0",
            "find_primary_node: standby node is 1",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            &back,
            "failback of DB node 1 took ",
        ],
    );
    assert_eq!(pool.status_file(), "up\nup\n");
    // A new session reads there; one that is there already stays where it is.
    assert_eq!(pool.connect().value(PORT), port.to_string());
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_standby_that_somebody_else_promotes_is_found() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 60).start();
    cluster.node(0).kill();
    let waiting = "find_primary_node_repeatedly: waiting for finding a primary node";
    wait_for("the search", || pool.log().matches(waiting).count() == 2);
    cluster.node(2).promote();
    let begun = Instant::now();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT pg_is_in_recovery()"), "f");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    wait_for("the end of the failover", || done(&pool) == 1);
    lines_in_order(&pool.log(), &[waiting, waiting, "find_primary_node: primary node is 2", "set new primary node: 2"]);
}

#[test]
fn a_command_that_hangs_does_not_keep_a_fast_stop() {
    only_ours!("waits for the command");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).weights(&[1.0, 0.0]).prepare();
    let pid = pool.path("command.pid");
    let cleaned = pool.path("cleaned");
    let text = format!("trap 'echo > {}; exit' TERM; echo $$ > {}; sleep 600 & wait", cleaned.display(), pid.display());
    script(&mut pool, "failover_command", &text);
    let mut pool = start(pool);
    cluster.node(1).kill();
    wait_for("the command to run", || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    let group = std::fs::read_to_string(&pid).expect("pid").trim().parse().expect("a number");
    let is_gone = || nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), None).is_err();
    assert!(eventually(PATIENCE, is_gone), "something the command has started is still there");
    assert!(cleaned.exists(), "it was told to end");
    assert_eq!(pool.status_file(), "up\ndown\n");
}

#[test]
fn a_command_that_takes_too_long_does_not_keep_a_smart_stop() {
    only_ours!("waits for the command");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).set("failover_command_timeout", 2).prepare();
    script(&mut pool, "failover_command", "sleep 600");
    let mut pool = start(pool);
    cluster.node(1).kill();
    wait_for("the command to run", || pool.log().contains("execute command: "));
    assert_eq!(pool.stop(Stop::Smart).code(), Some(0));
    assert!(pool.log().contains("failover command takes too long and is ended"), "{}", pool.log());
}

#[test]
fn no_read_fails_when_a_standby_is_lost() {
    only_ours!("sessions are killed");
    use std::sync::atomic::{AtomicBool, Ordering};
    for how in ["stop", "kill", "hang"] {
        let cluster = Cluster::streaming(2).start();
        let pool = Pgpool::checking(&cluster).weights(&[0.0, 1.0]).start();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let mut session = pool.connect();
                    let is_over = &is_over;
                    scope.spawn(move || {
                        let mut reads = 0;
                        while !is_over.load(Ordering::Relaxed) {
                            session.query("SELECT count(*) FROM pg_class").succeeded();
                            reads += 1;
                        }
                        reads
                    })
                })
                .collect();
            match how {
                "stop" => cluster.node(1).stop(Stop::Fast),
                "kill" => cluster.node(1).kill(),
                _ => cluster.node(1).pause(),
            }
            let is_done = eventually(PATIENCE, || done(&pool) == 1);
            is_over.store(true, Ordering::Relaxed);
            for reader in readers {
                assert!(reader.join().unwrap_or_else(|_| panic!("{how}: a read failed\n{}", pool.log())) > 0);
            }
            assert!(is_done, "{how}: no failover\n{}", pool.log());
        });
    }
}

#[test]
fn five_hundred_workers_do_not_slow_a_failover_down() {
    only_ours!("the line is ours");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("num_init_children", 500).start();
    // The PCP process waits for connections, too.
    let workers = || pool.children("pgpool: wait for connection request");
    assert!(eventually(Duration::from_secs(120), || workers().len() >= 500), "{} workers", workers().len());
    let started = workers();
    let before = cpu_time(pool.pid());
    cluster.node(1).kill();
    wait_for("the failover", || pool.log().contains("failover of DB node 1 took "));
    // The parent's own work, not its waiting for a processor: some 20 ms for a debug build.
    let own = cpu_time(pool.pid()) - before;
    assert!(own < Duration::from_millis(200), "{own:?}");
    let gone = started.iter().filter(|worker| kill(**worker, None).is_err()).count();
    assert_eq!(gone, 0, "workers were restarted");
}

/// A server process is killed: the others are ended by the server, with 57P02 as a warning.
#[test]
fn a_server_that_crashes_is_detached_if_the_user_says_so() {
    only_ours!("not recognised on every release");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).set("failover_on_backend_shutdown", "on").weights(&[0.0, 1.0]).start();
    let port = cluster.node(1).port.to_string();
    let mut sessions: Vec<_> = (0..3).map(|_| pool.connect()).collect();
    sessions.iter_mut().for_each(|session| assert_eq!(session.value(PORT), port));
    let session = &mut sessions[0];
    // Such a notice is nothing without the end.
    session.query("DO $$BEGIN RAISE WARNING 'the end is near' USING ERRCODE = '57P02'; END$$").succeeded();
    assert_eq!(session.value(PORT), port);
    let shutdown = "postmaster on DB node 1 was shutdown by administrative command";
    assert!(!pool.log().contains("reading and processing packets"), "{}", pool.log());
    let mut other = cluster.node(1).connect();
    let victim = other.value("SELECT pg_backend_pid()").parse().expect("a pid");
    kill(nix::unistd::Pid::from_raw(victim), Signal::SIGKILL).expect("kill");
    wait_for("the failover", || done(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "reading and processing packets",
            shutdown,
            "received degenerate backend request for node_id: 1 from pid [",
            "=== Failover done.",
        ],
    );
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
}
