//! Who the primary is, at all times: it changes without pgpool, comes back, or there are two of them (failover 7, 8, 19.1).

use crate::harness::{Cluster, Config, Node, Pgpool, Stop, failovers, lines_in_order, wait_for};
use crate::only_ours;

const PORT: &str = "SELECT current_setting('port')";

/// A pgpool that looks for the primary every second and notices a dead node in no other way.
fn watching(cluster: &Cluster) -> Config {
    Pgpool::on(cluster).set("sr_check_period", 1).set("load_balance_mode", "off")
}

fn port(node: &Node) -> String {
    node.port.to_string()
}

/// Where a new session writes.
fn writes_to(pool: &Pgpool) -> String {
    pool.connect().value(PORT)
}

/// Waits until the node has been asked two more times.
fn wait_for_checks(node: &Node) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgpool' AND state_change > ";
    for _ in 0..2 {
        let now = node.sql("SELECT clock_timestamp()");
        wait_for("another check", || node.sql(&format!("{sql} '{now}'")) != "0");
    }
}

/// Waits until pgpool has seen that the primary has changed `times` times.
fn wait_for_changes(pool: &Pgpool, times: usize) {
    wait_for("the new primary", || pool.count("=== Promotion done.") == times);
}

/// Makes a server that is stopped a standby of `primary`.
fn demote(node: &Node, primary: &Node) {
    node.follow(primary);
    node.start();
}

/// A switchover as Patroni and repmgr make it: the primary is stopped in good order, so that the standby has everything.
fn switch_over(cluster: &Cluster) {
    cluster.node(0).stop(Stop::Fast);
    cluster.node(1).promote();
    demote(cluster.node(0), cluster.node(1));
}

#[test]
fn a_switchover_without_pgpool_is_noticed() {
    only_ours!("writes go to the former primary");
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql("CREATE TABLE written (text text)");
    let pool = watching(&cluster).start();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), port(cluster.node(0)));
    switch_over(&cluster);
    wait_for_changes(&pool, 1);
    assert_eq!(writes_to(&pool), port(cluster.node(1)));
    pool.connect().query("INSERT INTO written VALUES ('after')").succeeded();
    lines_in_order(
        &pool.log(),
        &[
            "DB node 1 has become the primary in place of DB node 0",
            "takes writes on timeline 2.",
            "Pgpool-II parent process has received failover request",
            "Restart all children",
            "failover: set new primary node: 1",
            "failover: set new main node: 0",
            &format!("=== Promotion done. promoted host 127.0.0.1({}) ===", cluster.node(1).port),
        ],
    );
    // Nobody was detached; the former primary is read from.
    assert!(!pool.log().contains("degeneration"), "{}", pool.log());
    assert_eq!(pool.psql("SHOW POOL_NODES").succeeded().matches("|down|").count(), 0);
    wait_for("it to stream", || cluster.node(1).sql("SELECT count(*) FROM pg_stat_replication") == "1");
    // And back again.
    cluster.node(1).stop(Stop::Fast);
    cluster.node(0).promote();
    demote(cluster.node(1), cluster.node(0));
    wait_for_changes(&pool, 2);
    assert_eq!(writes_to(&pool), port(cluster.node(0)));
    pool.connect().query("INSERT INTO written VALUES ('again')").succeeded();
    assert_eq!(pool.count("LOG:  DB node 0 has become the primary in place of"), 1, "{}", pool.log());
}

#[test]
fn a_session_of_the_former_primary_is_told() {
    only_ours!("it writes on to the former primary");
    let cluster = Cluster::streaming(2).start();
    let pool = watching(&cluster).start();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    // Both take writes for a moment, so the session loses nothing but its primary.
    cluster.node(1).promote();
    let end = session.read_until('E');
    assert_eq!(end.sqlstate(), "57P01", "{}", pool.log());
    assert_eq!(pool.connect().value(PORT), port(cluster.node(1)));
}

#[test]
fn a_former_primary_that_comes_back_is_never_written_to() {
    only_ours!("it takes whichever has the lower number");
    let cluster = Cluster::streaming(3).set("log_statement", "all").start();
    cluster.primary().sql("CREATE TABLE written (text text)");
    cluster.wait_replayed();
    let pool = watching(&cluster).start();
    cluster.node(0).kill();
    cluster.node(1).promote();
    wait_for_changes(&pool, 1);
    // It does not know that it was replaced, and node 2 still follows it.
    cluster.node(0).start();
    wait_for("it to be detached", || failovers(&pool) == 1);
    for number in 0..20 {
        pool.connect().query(&format!("INSERT INTO written VALUES ('row {number}')")).succeeded();
    }
    let rows = "SELECT count(*) FROM written";
    assert_eq!((cluster.node(0).sql(rows).as_str(), cluster.node(1).sql(rows).as_str()), ("0", "20"));
    assert!(!cluster.node(0).log_text().contains("INSERT INTO written"));
    lines_in_order(
        &pool.log(),
        &[
            "DB node 1 has become the primary in place of DB node 0",
            "failover: set new primary node: 1",
            "WARNING:  DB node 0 takes writes but is not the primary any more",
            "It is on timeline 1, the primary has gone on to timeline 2. It is detached.",
            "pg_rewind",
            "received degenerate backend request for node_id: 0 from pid [",
            "failover: set new primary node: 1",
            "=== Failover done.",
        ],
    );
    assert_eq!(pool.status_file(), "down\nup\nup\n");
}

#[test]
fn of_two_writable_servers_at_the_start_the_one_promoted_last_is_the_primary() {
    only_ours!("it takes whichever has the higher number");
    let cluster = Cluster::streaming(3).start();
    cluster.node(0).kill();
    cluster.node(1).promote();
    cluster.node(0).start();
    for check in [0, 1] {
        let pool = watching(&cluster).set("sr_check_period", check).start();
        assert_eq!(writes_to(&pool), port(cluster.node(1)));
        lines_in_order(
            &pool.log(),
            &[
                "find_primary_node: primary node is 0",
                "find_primary_node: primary node is 1",
                "WARNING:  DB node 0 takes writes but is not the primary any more",
                "It is on timeline 1, the primary has gone on to timeline 2. It is not used.",
                "successfully started",
                "node status[0]: 0",
                "node status[1]: 1",
            ],
        );
        wait_for("the status file", || pool.status_file() == "down\nup\nup\n");
    }
}

#[test]
fn two_that_are_equal_do_no_harm_and_are_told_once() {
    only_ours!("says nothing");
    // Copies of one server, neither promoted after the other.
    let cluster = Cluster::independent(2).start();
    let pool = watching(&cluster).set("backend_clustering_mode", "streaming_replication").start();
    wait_for("the warning", || pool.log().contains("DB node 1 says that it is the primary, as DB node 0 does"));
    wait_for_checks(cluster.node(0));
    assert_eq!(pool.count("says that it is the primary"), 1, "{}", pool.log());
    assert_eq!(writes_to(&pool), port(cluster.node(0)));
    assert!(!pool.log().contains("degenerate"), "{}", pool.log());
}

#[test]
fn a_false_primary_is_detached() {
    let cluster = Cluster::streaming(3).start();
    let pool = watching(&cluster).set("detach_false_primary", "on").set("search_primary_node_timeout", 5).start();
    // Somebody promotes the wrong server: node 2 still follows node 0.
    cluster.node(1).promote();
    wait_for("it to be detached", || failovers(&pool) == 1);
    let (ports, log) = ([0, 1].map(|id| cluster.node(id).port), pool.log());
    lines_in_order(
        &log,
        &[
            "verify_backend_node_status: primary 1 does not connect to standby 2",
            &format!(
                "pgpool.conf backend: (host=\"127.0.0.1\" port={}) does not match PostgreSQL primary_conninfo: \
                 (host=\"127.0.0.1\" port={})",
                ports[1], ports[0]
            ),
            "verify_backend_node_status: primary 1 owns only 0 standbys out of 1",
            "pgpool_worker_child: invalid node found 1",
            "received degenerate backend request for node_id: 1 from pid [",
            &format!("=== Starting degeneration. shutdown host 127.0.0.1({}) ===", ports[1]),
            "failover: set new primary node: 0",
            "=== Failover done.",
        ],
    );
    assert_eq!(writes_to(&pool), port(cluster.node(0)));
    assert_eq!(pool.status_file(), "up\ndown\nup\n");
}

#[test]
fn a_false_primary_is_found_at_the_start() {
    let cluster = Cluster::streaming(3).start();
    cluster.node(1).promote();
    let pool = watching(&cluster).set("detach_false_primary", "on").set("sr_check_period", 0).start();
    wait_for("it to be detached", || failovers(&pool) == 1);
    lines_in_order(
        &pool.log(),
        &[
            "verify_backend_node_status: primary 1 owns only 0 standbys out of 1",
            "find_primary_node: primary node is 0",
            "find_primary_node: invalid node 1",
            "pgpool_main: invalid node found 1",
            "received degenerate backend request for node_id: 1 from pid [",
        ],
    );
    assert_eq!(writes_to(&pool), port(cluster.node(0)));
}

#[test]
fn what_a_user_without_rights_may_not_see_is_told_once() {
    only_ours!("does not look");
    let cluster = Cluster::streaming(2).start();
    let primary = cluster.primary();
    primary.sql("CREATE ROLE watcher LOGIN");
    cluster.wait_replayed();
    let database = primary.sql("SELECT current_database()");
    let pool = watching(&cluster).set("sr_check_user", "watcher").set("sr_check_database", database).start();
    // An ordinary user sees who is the primary, and since when.
    switch_over(&cluster);
    wait_for_changes(&pool, 1);
    assert!(!pool.log().contains("may not see the timeline"), "{}", pool.log());
    // One who sees nothing but the roles.
    cluster.node(1).sql(
        "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), pg_walfile_name(pg_lsn) FROM PUBLIC",
    );
    for id in [0, 1] {
        let line = format!("user \"watcher\" may not see the timeline of DB node {id}");
        wait_for(&line, || pool.log().contains(&line));
    }
    wait_for_checks(cluster.node(1));
    assert_eq!(pool.count("may not see the timeline"), 2, "{}", pool.log());
    // A switchover in good order is seen all the same.
    cluster.node(1).stop(Stop::Fast);
    cluster.node(0).promote();
    demote(cluster.node(1), cluster.node(0));
    wait_for_changes(&pool, 2);
    assert_eq!(writes_to(&pool), port(cluster.node(0)));
}

#[test]
fn a_primary_by_decree_is_not_looked_for() {
    let cluster = Cluster::streaming(2).start();
    let pool = watching(&cluster).set("backend_flag0", "ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER").keep(1).start();
    cluster.node(1).promote();
    wait_for_checks(cluster.node(0));
    assert_eq!(writes_to(&pool), port(cluster.node(0)));
    assert!(!pool.log().contains("failover request"), "{}", pool.log());
}

#[test]
fn a_former_primary_gets_no_write_when_its_successor_is_lost() {
    only_ours!("it is taken for the main node");
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql("CREATE TABLE written (text text)");
    cluster.wait_replayed();
    let pool = watching(&cluster)
        .keep(0)
        .set("search_primary_node_timeout", 2)
        .set("health_check_period", 1)
        .set("health_check_timeout", 2)
        .set("health_check_user", "postgres")
        .start();
    cluster.node(1).promote();
    wait_for_changes(&pool, 1);
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the end of the failover", || pool.count("set new primary node: -1") == 1);
    wait_for("it to be refused", || {
        let told = pool.psql("INSERT INTO written VALUES ('after')");
        assert_ne!(told.status.code(), Some(0), "{}", pool.log());
        told.stderr.contains("there is no primary")
    });
    assert_eq!(cluster.node(0).sql("SELECT count(*) FROM written"), "0");
    cluster.node(1).start();
    wait_for("the one that was lost last", || {
        pool.psql("INSERT INTO written VALUES ('at last')").status.code() == Some(0)
    });
    assert_eq!(cluster.node(1).sql("SELECT count(*) FROM written"), "1");
}

#[test]
fn a_former_primary_that_must_not_be_detached_gets_no_write() {
    only_ours!("it goes on to write to it");
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql("CREATE TABLE written (text text)");
    cluster.wait_replayed();
    let mut config = watching(&cluster);
    for id in [0, 1] {
        config = config.keep(id);
    }
    let pool = config.start();
    cluster.node(1).promote();
    wait_for_changes(&pool, 1);
    wait_for("the warning", || pool.log().contains("DISALLOW_TO_FAILOVER keeps it attached."));
    wait_for_checks(cluster.node(0));
    pool.connect().query("INSERT INTO written VALUES ('after')").succeeded();
    assert_eq!(cluster.node(0).sql("SELECT count(*) FROM written"), "0");
    assert_eq!(pool.count("takes writes but is not the primary any more"), 1, "{}", pool.log());
    assert!(!pool.log().contains("degeneration"), "{}", pool.log());
}

#[test]
fn a_primary_that_goes_away_is_noticed_before_the_period_is_over() {
    only_ours!("never noticed");
    let cluster = Cluster::streaming(2).start();
    let pool = watching(&cluster).set("sr_check_period", 3600).start();
    wait_for("the first check", || {
        cluster.node(0).sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgpool'") != "0"
    });
    cluster.node(0).kill();
    wait_for("it to be noticed", || pool.log().contains("No persistent db connection for the node 0"));
    cluster.node(1).promote();
    wait_for_changes(&pool, 1);
    assert_eq!(writes_to(&pool), port(cluster.node(1)));
}

#[test]
fn a_primary_that_has_merely_restarted_is_the_primary_again() {
    only_ours!("it is not looked at until somebody attaches it");
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql("CREATE TABLE written (text text)");
    // Nobody is told to promote another one.
    let pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 600).set("sr_check_period", 1).start();
    cluster.node(0).stop(Stop::Fast);
    wait_for("the search", || pool.count("find_primary_node_repeatedly: waiting for finding a primary node") == 2);
    cluster.node(0).start();
    wait_for("the end of the failover", || failovers(&pool) == 1);
    let order = ["DB node 0 answers as the primary again", "failover: set new primary node: 0", "=== Failover done."];
    lines_in_order(&pool.log(), &order);
    pool.connect().query("INSERT INTO written VALUES ('after')").succeeded();
    assert_eq!(pool.status_file(), "up\nup\n");
    // Somebody does it by hand.
    cluster.node(0).stop(Stop::Fast);
    wait_for("the second search", || pool.count("find_primary_node_repeatedly: waiting") == 3);
    cluster.node(1).promote();
    wait_for("the end of that failover", || failovers(&pool) == 2);
    cluster.node(0).start();
    wait_for_checks(cluster.node(1));
    assert_eq!((writes_to(&pool), pool.status_file()), (port(cluster.node(1)), "down\nup\n".to_owned()));
}
