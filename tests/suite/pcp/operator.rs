//! What an administrator asks for, on real clusters: the log of each flow (failover 17.3 to 17.5), who waits for whom, and
//! what a restart remembers.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::orders::{is_standby, node, promotion};
use super::raw::{Raw, report};
use super::{login, start};
use crate::harness::{Cluster, Pgpool, Stop, eventually, frontend, lines_in_order, shared, wait_for};
use crate::only_ours;
use crate::relcache::{logged, look_ups};

const DONE: &[u8] = b"CommandComplete\0";

#[track_caller]
fn order(raw: &mut Raw, kind: u8, payload: &[u8]) {
    let (answer, text) = raw.ask(kind, payload);
    assert_eq!(text, DONE, "{}", char::from(answer));
}

/// The last column of SHOW POOL_NODES.
fn last_change(pool: &Pgpool, id: usize) -> String {
    let rows = pool.psql("SHOW POOL_NODES").stdout;
    rows.lines().nth(id).and_then(|row| row.rsplit('|').next()).unwrap_or_default().to_owned()
}

/// How often the health check of node 1 has left it alone.
fn skipped_checks(pool: &Pgpool) -> u64 {
    let rows = pool.psql("SHOW POOL_HEALTH_CHECK_STATS").stdout;
    let row: Vec<_> = rows.lines().nth(1).unwrap_or_default().split('|').collect();
    row.get(9).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{rows}"))
}

#[test]
fn the_log_of_a_detach_and_an_attach() {
    only_ours!("more lines in between");
    let cluster = Cluster::streaming(2).start();
    let pool =
        start(Pgpool::on(&cluster).set("failover_command", "echo gone %d").set("failback_command", "echo back %d"));
    let port = cluster.node(1).port;
    let mut raw = login(&pool);
    order(&mut raw, b'D', b"1\0");
    let down = format!("=== Failover done. shutdown host 127.0.0.1({port}) ===");
    wait_for("the failover", || pool.log().contains(&down));
    order(&mut raw, b'C', b"1\0");
    let up = format!("=== Failback done. reconnect host 127.0.0.1({port}) ===");
    wait_for("the failback", || pool.log().contains(&up));
    lines_in_order(
        &pool.log(),
        &[
            "received degenerate backend request for node_id: 1 from pid [",
            "signal_user1_to_parent_with_reason(0)",
            "Pgpool-II parent process received SIGUSR1",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting degeneration. shutdown host 127.0.0.1({port}) ==="),
            &format!(
                "Do not restart children because we are switching over node id 1 host: 127.0.0.1 port: {port} and we"
            ),
            "execute command: echo gone 1",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            &down,
            "received failback request for node_id: 1 from pid [",
            "signal_user1_to_parent_with_reason(0)",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting fail back. reconnect host 127.0.0.1({port}) ==="),
            "Node 0 is not down",
            "execute command: echo back 1",
            "Do not restart children because we are failing back node id 1",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "find_primary_node: primary node is 0",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            &up,
        ],
    );
}

#[test]
fn the_log_of_a_promotion_and_of_a_switchover() {
    only_ours!("more lines in between");
    let cluster = Cluster::streaming(3).start();
    let pool = start(Pgpool::on(&cluster).set("failover_command", promotion(cluster.node(2))));
    let mut raw = login(&pool);
    order(&mut raw, b'J', b"2 \0s");
    wait_for("the switchover", || pool.log().contains("=== Failover done."));
    assert_eq!((&*node(&pool, 2), &*node(&pool, 0)), ("up primary", "down standby"));
    assert!(is_standby(&pool, 1), "only the former primary goes down");
    cluster.node(1).promote();
    order(&mut raw, b'J', b"1 \0n");
    wait_for("the promotion", || pool.log().contains("=== Promotion done."));
    let host = |id: usize| format!("host 127.0.0.1({})", cluster.node(id).port);
    lines_in_order(
        &pool.log(),
        &[
            "pcp_promote_node: promote option: s",
            "received degenerate backend request for node_id: 2 from pid [",
            "Pgpool-II parent process has received failover request",
            &format!("=== Starting degeneration. shutdown {} ===", host(0)),
            "Restart all children",
            "execute command: if [ 0 = 0 ]; then ",
            "find_primary_node: primary node is 2",
            "failover: set new primary node: 2",
            &format!("=== Failover done. shutdown {} ===", host(0)),
            "pcp_promote_node: promote option: n",
            "received promote backend request for node_id: 1 from pid [",
            "Pgpool-II parent process has received failover request",
            &format!("starting promotion. promote {}", host(1)),
            "Restart all children",
            &format!("starting follow degeneration. shutdown {}", host(0)),
            &format!("starting follow degeneration. shutdown {}", host(2)),
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 1",
            "failover: set new main node: 1",
            &format!("=== Promotion done. promoted {} ===", host(1)),
        ],
    );
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT current_setting('port')"), cluster.node(1).port.to_string());
    session.query("CREATE TABLE on_the_new_primary (i int)").succeeded();
}

#[test]
fn what_the_former_primary_said_of_tables_is_asked_again() {
    only_ours!("the original finds out otherwise, or never");
    let cluster = Cluster::streaming(3).start();
    cluster.primary().sql("CREATE TABLE asked (i int)");
    cluster.wait_replayed();
    let pool = start(Pgpool::on(&cluster).weights(&[0.0, 0.0, 1.0]));
    let read = |name| logged(&pool, name).query("SELECT * FROM asked").succeeded();
    read("first");
    read("second");
    assert_eq!((look_ups(&cluster, 0, "first"), look_ups(&cluster, 0, "second")), (1, 0));
    cluster.node(1).promote();
    let mut raw = login(&pool);
    order(&mut raw, b'j', b"1 \0n");
    order(&mut raw, b'C', b"2\0");
    wait_for("node 2 to be attached", || is_standby(&pool, 2));
    wait_for("the failback", || pool.log().contains("=== Failback done."));
    read("third");
    assert_eq!(look_ups(&cluster, 1, "third"), 1);
}

#[test]
fn new_clients_wait_while_a_graceful_detach_does_and_idle_ones_are_sent_away() {
    only_ours!("new clients are let in");
    let cluster = Cluster::streaming(2).start();
    let pool = start(Pgpool::on(&cluster).set("recovery_timeout", 60).set("client_idle_limit_in_recovery", 2));
    let mut holder = cluster.primary().connect();
    holder.query("SELECT pg_advisory_lock(1)").succeeded();
    let mut busy = pool.connect();
    busy.send(frontend::query("SELECT pg_advisory_lock(1)"));
    let mut idle = pool.connect();
    let mut raw = login(&pool);
    raw.request(b'd', b"1\0");
    wait_for("the request", || pool.log().contains("new clients wait until those that are connected have left"));
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| pool.connect());
        assert_eq!(idle.read_until('E').sqlstate(), "57000");
        assert!(!late.is_finished() && is_attached_in_file(&pool), "it waits for the session that works");
        holder.query("SELECT pg_advisory_unlock(1)").succeeded();
        assert!(busy.read_until('Z').error().is_none(), "who works is left alone");
        busy.close();
        assert_eq!(raw.frame(), Some((b'd', DONE.to_vec())), "{}", pool.log());
        late.join().expect("the late client")
    });
    let detail = "child connection forced to terminate due to client_idle_limit_in_recovery:2 is reached";
    assert!(pool.log().contains(detail), "{}", pool.log());
    assert_eq!(pool.status_file(), "up\ndown\n");
    drop(late);
}

#[test]
fn new_clients_wait_although_the_workers_have_not_been_told_yet() {
    only_ours!("new clients are let in");
    let pool = start(Pgpool::on(shared()).set("recovery_timeout", 60));
    let stays = pool.connect();
    let mut raw = login(&pool);
    // The parent passes the signal on.
    pool.signal(Signal::SIGSTOP);
    raw.request(b'd', b"1\0");
    wait_for("the request", || pool.log().contains("new clients wait until those that are connected have left"));
    let mut late = pool.open();
    late.send(frontend::startup(0, &[("user", "postgres"), ("database", "test")]));
    let word = late.read_within(Duration::from_millis(500));
    pool.signal(Signal::SIGCONT);
    assert!(word.is_err(), "{word:?}");
    stays.close();
    assert_eq!(raw.frame(), Some((b'd', DONE.to_vec())), "{}", pool.log());
    assert!(late.read_until('Z').error().is_none(), "{}", pool.log());
}

fn is_attached_in_file(pool: &Pgpool) -> bool {
    pool.status_file() == "up\nup\n"
}

#[test]
fn what_an_administrator_has_detached_stays_detached_after_a_restart() {
    only_ours!("auto_failback takes it back");
    let cluster = Cluster::streaming(2).start();
    let config = Pgpool::on(&cluster)
        .set("auto_failback", "on")
        .set("auto_failback_interval", 0)
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("sr_check_period", 1);
    let mut pool = start(config);
    let mut raw = login(&pool);
    order(&mut raw, b'd', b"1\0");
    let changed = last_change(&pool, 1);
    let reasons = std::fs::read_to_string(pool.path("pgpool_status.reasons")).expect("the file");
    assert!(
        reasons.contains("\n1 down ") && reasons.contains(" administrator detached by an administrator\n"),
        "{reasons}"
    );
    drop(raw);
    pool.stop(Stop::Fast);
    pool.launch(&[]);
    wait_for("the second start", || pool.log().matches("successfully started").count() == 2);
    assert_eq!((&*node(&pool, 1), last_change(&pool, 1)), ("down standby", changed));
    wait_for("it to be seen streaming", || pool.psql("SHOW POOL_NODES").stdout.contains("|streaming|"));
    let before = skipped_checks(&pool);
    wait_for("two more health checks", || skipped_checks(&pool) >= before + 2);
    assert_eq!(node(&pool, 1), "down standby");
    assert!(!pool.log().contains("request auto failback"), "{}", pool.log());
    let mut raw = login(&pool);
    order(&mut raw, b'C', b"1\0");
    wait_for("node 1 to be back", || is_standby(&pool, 1));
}

#[test]
fn what_must_not_be_or_is_of_no_use_is_told() {
    only_ours!("nothing is told of a silent node");
    let cluster = Cluster::streaming(3).start();
    let mut pool = start(Pgpool::on(&cluster).keep(1));
    let mut raw = login(&pool);
    let disallowed = "is canceled because failover is disallowed on the node";
    for request in [b'D', b'd'] {
        assert!(report(&raw.ask(request, b"1\0")).contains(disallowed));
    }
    assert!(report(&raw.ask(b'J', b"1 \0s")).contains(disallowed));
    assert!(is_standby(&pool, 1));
    // A node that does not answer is attached, as asked.
    order(&mut raw, b'd', b"2\0");
    cluster.node(2).stop(Stop::Fast);
    order(&mut raw, b'C', b"2\0");
    let silent = "DB node 2 was attached but does not answer";
    wait_for("the warning", || pool.log().contains(silent));
    assert!(eventually(Duration::from_secs(10), || node(&pool, 2) == "waiting standby"), "{}", node(&pool, 2));
    pool.stop(Stop::Fast);
}
