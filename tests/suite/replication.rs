//! How far standbys are behind, and what follows from it: reads, SHOW POOL_NODES, log lines (failover 14, routing 2.4, 2.5).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Cluster, Config, Node, Pgpool, Wire, foreign, shared, wait_for};
use crate::{needs_pgpool, only_ours};

/// A plain read that answers with the port of its server.
const READ: &str = "SELECT current_setting('port') FROM ten WHERE n = 1";

/// The check runs every second and tells every delay.
fn checked(cluster: &Cluster) -> Config {
    Pgpool::on(cluster).set("sr_check_period", 1).set("log_standby_delay", "always")
}

/// `replication_delay`, `replication_state` and `replication_sync_state` of a node.
fn shown(session: &mut Wire, node: usize) -> [String; 3] {
    let mut rows = session.query("SHOW POOL_NODES").succeeded().rows();
    let mut values = rows.swap_remove(node).into_iter().skip(10).map(Option::unwrap_or_default);
    std::array::from_fn(|_| values.next().expect("a column"))
}

/// The delay as a number, whatever its unit.
fn delay(session: &mut Wire, node: usize) -> f64 {
    let [delay, ..] = shown(session, node);
    delay.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no delay: {delay}"))
}

fn port(node: &Node) -> String {
    node.port.to_string()
}

/// Gives the standbys something to replay, some hundred kB.
fn write(cluster: &Cluster) {
    cluster.primary().sql("CREATE TABLE IF NOT EXISTS load (text text)");
    cluster.primary().sql("INSERT INTO load SELECT repeat('x', 100) FROM generate_series(1, 2000)");
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn reads_leave_a_standby_too_many_bytes_behind_until_it_is_back() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let standby = cluster.node(1);
    let pool = checked(&cluster).weights(&[0.0, 1.0]).set("delay_threshold", 100_000).start();
    let mut session = pool.connect();
    wait_for("the standby's state", || shown(&mut session, 1)[1..] == ["streaming", "async"]);
    assert_eq!(shown(&mut session, 0), ["0", "", ""]);
    assert_eq!(session.value(READ), port(standby));

    standby.sql("SELECT pg_wal_replay_pause()");
    write(&cluster);
    wait_for("the delay to be seen", || delay(&mut session, 1) > 100_000.0);
    let first = delay(&mut session, 1);
    assert_eq!(session.value(READ), port(cluster.primary()));
    write(&cluster);
    wait_for("the delay to grow", || delay(&mut session, 1) > first + 100_000.0);
    let line = format!(
        "LOG:  Replication of node: 1 is behind {} bytes from the primary server (node: 0)",
        delay(&mut session, 1)
    );
    // Release 4.3 writes it without blanks before the numbers of nodes.
    wait_for(&line, || foreign() || pool.log().contains(&line));

    standby.sql("SELECT pg_wal_replay_resume()");
    wait_for("the standby to be read from again", || session.value(READ) == port(standby));
    wait_for("the delay to vanish", || shown(&mut session, 1)[0] == "0");
}

#[test]
fn reads_leave_a_standby_too_long_behind_until_it_is_back() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let standby = cluster.node(1);
    let pool = checked(&cluster)
        .weights(&[0.0, 1.0])
        .set("delay_threshold_by_time", 500)
        .set("log_standby_delay", "if_over_threshold")
        .start();
    let mut session = pool.connect();
    write(&cluster);
    wait_for("the delay to be measured by time", || shown(&mut session, 1)[0].ends_with(" second"));
    assert_eq!(session.value(READ), port(standby));

    standby.sql("SELECT pg_wal_replay_pause()");
    wait_for("the delay to be seen", || {
        cluster.primary().sql("INSERT INTO load VALUES ('a moment later')");
        session.value(READ) == port(cluster.primary())
    });
    assert!(delay(&mut session, 1) > 0.5, "{:?}", shown(&mut session, 1));
    let line =
        |text: &str| text.contains("LOG:  Replication of node: 1 is behind ") && text.contains(" second(s) from");
    assert!(pool.log().lines().any(line), "{}", pool.log());

    standby.sql("SELECT pg_wal_replay_resume()");
    wait_for("the standby to be read from again", || {
        cluster.primary().sql("INSERT INTO load VALUES ('a moment later')");
        session.value(READ) == port(standby)
    });
}

#[test]
fn another_standby_is_preferred_to_the_primary() {
    needs_pgpool!();
    let cluster = Cluster::streaming(3).start();
    let pool = checked(&cluster)
        .weights(&[0.0, 1.0, 1.0])
        .set("delay_threshold", 100_000)
        .set("prefer_lower_delay_standby", "on")
        .start();
    let mut session = pool.connect();
    let first = session.value(READ);
    let (late, other) = if first == port(cluster.node(1)) { (1, 2) } else { (2, 1) };
    cluster.node(late).sql("SELECT pg_wal_replay_pause()");
    write(&cluster);
    // A check may come before the other one has replayed it.
    wait_for("the session to move", || session.value(READ) == port(cluster.node(other)));
    for _ in 0..20 {
        assert_eq!(pool.connect().value(READ), port(cluster.node(other)), "new sessions do not go to the late one");
    }

    cluster.node(other).sql("SELECT pg_wal_replay_pause()");
    write(&cluster);
    wait_for("the session to be without a standby", || session.value(READ) == port(cluster.primary()));
    let mut young = pool.connect();
    assert_eq!(young.value(READ), port(cluster.primary()));
    cluster.node(late).sql("SELECT pg_wal_replay_resume()");
    wait_for("the session to find a standby", || session.value(READ) == port(cluster.node(late)));
    wait_for("the young session, too", || young.value(READ) == port(cluster.node(late)));
}

#[test]
fn a_silent_primary_does_not_hide_how_its_standbys_catch_up() {
    needs_pgpool!();
    only_ours!("the original gives up the whole check");
    let cluster = Cluster::streaming(2).start();
    let pool = checked(&cluster).start();
    let mut session = pool.connect();
    cluster.node(1).sql("SELECT pg_wal_replay_pause()");
    write(&cluster);
    wait_for("the delay", || delay(&mut session, 1) > 100_000.0);
    cluster.primary().pause();
    wait_for("the silence to be told", || pool.log().contains("No persistent db connection for the node 0: "));
    assert!(delay(&mut session, 1) > 100_000.0);
    cluster.node(1).sql("SELECT pg_wal_replay_resume()");
    wait_for("the standby to have caught up", || shown(&mut session, 1)[0] == "0");
    cluster.primary().resume();
}

#[test]
fn a_silent_standby_loses_its_own_figure_only() {
    needs_pgpool!();
    only_ours!("the original gives up the whole check");
    let cluster = Cluster::streaming(3).start();
    let pool = checked(&cluster).weights(&[0.0, 1.0, 0.0]).set("delay_threshold", 100_000).start();
    let mut session = pool.connect();
    wait_for("the states", || [1, 2].iter().all(|node| shown(&mut session, *node)[1] == "streaming"));
    cluster.node(1).pause();
    cluster.node(2).sql("SELECT pg_wal_replay_pause()");
    write(&cluster);
    wait_for("the delay of the other standby", || delay(&mut session, 2) > 100_000.0);
    wait_for("reads to leave the silent one", || session.value(READ) == port(cluster.primary()));
    let row = session.query("PGPOOL EXPLAIN SELECT * FROM ten").succeeded().rows().swap_remove(0);
    let state = row.last().cloned().flatten().unwrap_or_default();
    assert!(state.ends_with("load balance node 1 (node1), its delay cannot be measured"), "{state}");
    let trouble = "No persistent db connection for the node 1: ";
    wait_for("the silence to be told", || pool.log().contains(trouble));
    write(&cluster);
    let before = delay(&mut session, 2);
    wait_for("the next check", || delay(&mut session, 2) > before);
    assert_eq!(count(&pool.log(), trouble), 1, "{}", pool.log());
    cluster.node(1).resume();
    wait_for("the standby to be read from again", || session.value(READ) == port(cluster.node(1)));
    assert!(pool.log().contains("LOG:  replication of node: 1 is checked again"), "{}", pool.log());
}

#[test]
fn a_refused_login_and_a_missing_privilege_are_told_once() {
    needs_pgpool!();
    only_ours!("the original complains in every check");
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql("CREATE ROLE checker");
    cluster.wait_replayed();
    // Without it nobody would know the primary.
    let pool = checked(&cluster).set("sr_check_user", "checker").set("backend_flag0", "ALWAYS_PRIMARY").start();
    let refused = "role \"checker\" is not permitted to log in";
    wait_for("some checks", || count(&cluster.node(1).log_text(), refused) > 4);
    for node in [0, 1] {
        let trouble = format!("No persistent db connection for the node {node}: ");
        assert_eq!(count(&pool.log(), &trouble), 1, "{}", pool.log());
    }
    assert!(pool.log().contains("HINT:  check sr_check_user and sr_check_password"), "{}", pool.log());

    cluster.primary().sql("ALTER ROLE checker LOGIN");
    wait_for("both nodes to be checked", || count(&pool.log(), "is checked again") == 2);
    let missing = "user \"checker\" may not see the state of replication on DB node 0";
    wait_for("the missing privilege to be told", || pool.log().contains(missing));
    assert!(pool.log().contains("GRANT pg_monitor TO \"checker\""), "{}", pool.log());
    let mut session = pool.connect();
    assert_eq!(shown(&mut session, 1)[1..], ["", ""]);
    assert!(!pool.log().contains("is not found among"), "{}", pool.log());
    cluster.primary().sql("GRANT pg_monitor TO checker");
    wait_for("the state", || shown(&mut session, 1)[1..] == ["streaming", "async"]);
    assert_eq!(count(&pool.log(), missing), 1, "{}", pool.log());
}

#[test]
fn connections_are_kept_and_replaced_when_lost() {
    needs_pgpool!();
    only_ours!("the original logs in anew in every check");
    let cluster = Cluster::streaming(2).start();
    let pool = checked(&cluster).set("sr_check_database", "template1").set("backend_application_name1", "").start();
    let mut session = pool.connect();
    wait_for("the standby to be known by its own name", || shown(&mut session, 1)[1] == "streaming");
    let pids = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE application_name = 'pgpool'";
    let primary = cluster.primary();
    assert_eq!(primary.sql(pids), "", "a template is never kept busy");

    let mut pool = pool;
    pool.set("sr_check_database", "postgres");
    pool.signal(Signal::SIGHUP);
    let mut first = String::new();
    wait_for("a connection that stays", || {
        let known = std::mem::replace(&mut first, primary.sql(pids));
        !first.is_empty() && known == first
    });
    let calls = "SELECT calls FROM (SELECT state_change::text AS calls FROM pg_stat_activity \
                 WHERE application_name = 'pgpool') AS s";
    let asked = primary.sql(calls);
    wait_for("the next check", || primary.sql(calls) != asked);
    assert_eq!(primary.sql(pids), first);

    primary.sql(&format!("SELECT pg_terminate_backend({first})"));
    wait_for("another connection", || !["", first.as_str()].contains(&primary.sql(pids).as_str()));
    assert!(!pool.log().contains("Failed to check replication time lag"), "{}", pool.log());

    pool.set("sr_check_period", 0);
    pool.signal(Signal::SIGHUP);
    wait_for("the connection to go", || primary.sql(pids).is_empty());
    wait_for("the state to go", || shown(&mut session, 1)[1..] == ["", ""]);
}

#[test]
fn a_standby_that_cannot_be_recognised_is_told_once() {
    needs_pgpool!();
    only_ours!("the original does not say it");
    let cluster = Cluster::streaming(3).start();
    // Both standbys seem to be the same one: who is who cannot be said by name.
    for id in [1, 2] {
        let source = format!("host=127.0.0.1 port={} user=postgres application_name=same", cluster.primary().port);
        cluster.node(id).sql(&format!("ALTER SYSTEM SET primary_conninfo = '{source}'"));
        cluster.node(id).sql("SELECT pg_reload_conf()");
    }
    let same = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'same'";
    wait_for("the standbys to change their names", || cluster.primary().sql(same) == "2");
    let pool = checked(&cluster).start();
    let missing = "WARNING:  DB node 1 is not found among those who stream from DB node 0";
    wait_for("the warning", || pool.log().contains(missing));
    assert!(pool.log().contains("backend_application_name1 is \"node1\"; streaming: same, same."), "{}", pool.log());
    let mut session = pool.connect();
    cluster.node(1).sql("SELECT pg_wal_replay_pause()");
    write(&cluster);
    wait_for("the delay all the same", || delay(&mut session, 1) > 100_000.0);
    assert_eq!(count(&pool.log(), missing), 1, "{}", pool.log());
}

#[test]
fn a_command_of_the_user_measures_instead() {
    needs_pgpool!();
    only_ours!("it came with 4.8");
    let mut pool = checked(shared())
        .weights(&[0.0, 0.0, 1.0])
        .set("delay_threshold_by_time", 1000)
        .set("disable_load_balance_on_write", "dml_adaptive_global")
        .set("track_table_mutation_cold_start_duration", 0)
        .prepare();
    let (script, delays, arguments) = (pool.path("delays.sh"), pool.path("delays"), pool.path("arguments"));
    let text = format!("#!/bin/sh\necho \"$@\" > {}\ncat {}\n", arguments.display(), delays.display());
    fs::write(&script, text).expect("script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("script");
    let answer = |text: &str| {
        let new = delays.with_extension("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &delays)).expect("delays");
    };
    answer("-1 2500.5\n");
    pool.set("replication_delay_source_cmd", format!("{} first", script.display()));
    let mut pool = pool.started();
    let mut session = pool.connect();
    wait_for("the delay", || shown(&mut session, 2)[0] == "2.500500 seconds");
    let (one, two) = (shared().node(1).port, shared().node(2).port);
    let given = fs::read_to_string(&arguments).expect("arguments");
    assert_eq!(given, format!("first 127.0.0.1:{one} 127.0.0.1:{two}\n"));
    assert_eq!(session.value(READ), port(shared().primary()));
    assert!(pool.log().contains("node 1 reported as down by external command (delay -1)"), "{}", pool.log());
    let line = "Replication of node: 2 is behind 2.500 second(s) from the primary server (node: 0) [external command]";
    wait_for(line, || pool.log().contains(line));

    // 800 ms are within the threshold, and a table that was written stays on the primary for five times as long.
    answer("0 800");
    wait_for("the next delay", || session.value(READ) == two.to_string());
    session.query("CREATE TABLE repl_written (n int)").succeeded();
    session.query("INSERT INTO repl_written VALUES (1)").succeeded();
    let written = Instant::now();
    let read = "SELECT current_setting('port') FROM repl_written";
    while written.elapsed() < Duration::from_secs(2) {
        assert_eq!(session.value(read), port(shared().primary()));
        assert_eq!(session.value(READ), two.to_string());
    }
    session.query("DROP TABLE repl_written").succeeded();

    answer("nothing of use, more than two words");
    wait_for("odd values to be told", || pool.log().contains("returned 7 values, expected 2 (one per replica"));
    pool.set("replication_delay_source_cmd", "sleep 60 #");
    pool.set("replication_delay_source_timeout", 1);
    pool.signal(Signal::SIGHUP);
    wait_for("the time to be over", || pool.log().contains("replication delay command timed out after 1 seconds"));
}

#[test]
fn the_process_is_replaced_when_asked_to_restart() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).start();
    let process = || pool.children("worker process");
    wait_for("the process to have started", || pool.log().contains("process started"));
    let first = process();
    assert_eq!(first.len(), 1, "{first:?}");
    nix::sys::signal::kill(first[0], Signal::SIGUSR1).expect("kill");
    wait_for("another process", || process().len() == 1 && process() != first);
    assert!(pool.log().contains("worker process received restart request"), "{}", pool.log());
}
