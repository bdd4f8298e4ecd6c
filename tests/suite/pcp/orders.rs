//! What administrators order: attach, detach, promote, reload, stop (pcp 5.8 to 5.13, 7).

use std::time::Duration;

use super::raw::{report, texts};
use super::{login, start};
use crate::harness::{Cluster, Node, Pgpool, foreign, shared, wait_for};
use crate::{needs_pgpool, only_ours};

const PATIENCE: Duration = Duration::from_secs(30);
const DONE: &[u8] = b"CommandComplete\0";

/// A failover_command that promotes this server.
pub fn promotion(node: &Node) -> String {
    format!("if [ %d = 0 ]; then {}; fi", node.promotion())
}

/// Status and role of a node, as SHOW POOL_NODES has them.
pub fn node(pool: &Pgpool, id: usize) -> String {
    let rows = pool.psql("SHOW POOL_NODES").stdout;
    let row: Vec<_> = rows.lines().nth(id).unwrap_or_default().split('|').collect();
    format!("{} {}", row.get(3).unwrap_or(&""), row.get(6).unwrap_or(&""))
}

/// Whether a node is a standby in use.
pub fn is_standby(pool: &Pgpool, id: usize) -> bool {
    ["up standby", "waiting standby"].contains(&&*node(pool, id))
}

#[test]
fn a_node_is_detached_and_attached() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let pool = start(Pgpool::on(&cluster));
    // With an open PCP session the original does not come to the end of a failover.
    let mut lasting = (!foreign()).then(|| login(&pool));
    let ask = |kind: u8| login(&pool).ask(kind, b"1\0");
    assert_eq!(ask(b'D'), (b'd', DONE.to_vec()));
    wait_for("node 1 to be down", || node(&pool, 1) == "down standby");
    let words = "invalid degenerate backend request, node id : 1 status: [3] is not valid for failover";
    assert_eq!(report(&ask(b'D')), format!("ERROR|{words}|"));
    assert_eq!(ask(b'C'), (b'c', DONE.to_vec()));
    wait_for("node 1 to be back", || is_standby(&pool, 1));
    if let Some(raw) = &mut lasting {
        assert_eq!(raw.ask(b'L', b"").0, b'l');
    }
}

#[test]
fn a_graceful_detach_waits_for_the_sessions_and_says_when_it_has_not_happened() {
    only_ours!("success is reported after a time-out, too");
    let cluster = Cluster::streaming(2).start();
    let pool = start(Pgpool::on(&cluster).set("recovery_timeout", 1));
    let mut session = pool.connect();
    let mut raw = login(&pool);
    let late = raw.ask(b'd', b"1\0");
    assert!(report(&late).starts_with("ERROR|wait_connection_closed: existing connections did not close in 1 sec."));
    assert_eq!(session.value("SELECT 1"), "1");
    assert!(is_standby(&pool, 1), "nothing was changed");
    drop(session);
    assert_eq!(raw.ask(b'd', b"1\0"), (b'd', DONE.to_vec()));
    assert_eq!(node(&pool, 1), "down standby", "it is done when the answer comes");
}

#[test]
fn a_client_that_leaves_gives_up_its_graceful_detach() {
    only_ours!("the worker goes on");
    let cluster = Cluster::streaming(2).start();
    let pool = start(Pgpool::on(&cluster).set("recovery_timeout", 600));
    let session = pool.connect();
    let mut raw = login(&pool);
    raw.request(b'd', b"1\0");
    let mut other = login(&pool);
    let process = "pgpool: PCP: processing detach node request";
    // Not before: who is first holds the clients back, and keeps the other one out.
    wait_for("the request to be carried out", || pool.log().contains("new clients wait until"));
    let refused = report(&other.ask(b'd', b"1\0"));
    assert!(refused.contains("could not process the request"), "{refused}");
    drop(raw);
    wait_for("it to be given up", || super::limits::workers(&pool, process) == 0);
    // Also one that has sent more than is read meanwhile.
    let mut raw = login(&pool);
    raw.send(&[&b"d\0\0\0\x061\0"[..], &b"L\0\0\0\x04".repeat(200)].concat());
    wait_for("the request to be carried out", || super::limits::workers(&pool, process) == 1);
    drop(raw);
    wait_for("it to be given up", || super::limits::workers(&pool, process) == 0);
    assert!(is_standby(&pool, 1), "nothing was changed");
    drop(session);
    assert_eq!(other.ask(b'd', b"1\0"), (b'd', DONE.to_vec()));
}

#[test]
fn a_switchover_lets_failover_command_promote_the_node() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let pool = start(Pgpool::on(&cluster).set("failover_command", promotion(cluster.node(1))));
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b'J', b"1 \0s"), (b'd', DONE.to_vec()));
    wait_for("node 1 to be the primary", || node(&pool, 1).ends_with(" primary"));
    assert_eq!(node(&pool, 0), "down standby");
    assert_eq!(cluster.node(1).sql("SELECT pg_is_in_recovery()"), "f");
}

#[test]
fn a_promotion_without_switchover_follows_what_was_done_to_the_server() {
    only_ours!("a node that is down is promoted in silence");
    let cluster = Cluster::streaming(2).start();
    // Else it may be noticed before anybody tells.
    let pool = start(Pgpool::on(&cluster).set("search_primary_continuously", "off"));
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b'd', b"1\0"), (b'd', DONE.to_vec()));
    let refused = report(&raw.ask(b'J', b"1 \0n"));
    assert!(refused.starts_with("ERROR|"), "a node that is down cannot be promoted: {refused}");
    assert_eq!(raw.ask(b'C', b"1\0"), (b'c', DONE.to_vec()));
    // Not just back: what comes with an attach looks for the primary, too.
    wait_for("node 1 to be back", || is_standby(&pool, 1) && pool.log().contains("failback of DB node 1 took"));
    cluster.node(1).promote();
    assert_eq!(raw.ask(b'j', b"1 \0n"), (b'd', DONE.to_vec()), "{}", pool.log());
    assert!(node(&pool, 1).ends_with(" primary"), "it is done when the answer comes");
}

#[test]
fn a_promotion_that_was_noticed_already_is_refused_as_such() {
    only_ours!("nobody notices");
    let cluster = Cluster::streaming(2).start();
    let pool = start(Pgpool::on(&cluster).set("sr_check_period", 1));
    cluster.node(1).promote();
    wait_for("the promotion to be noticed", || node(&pool, 1).ends_with(" primary"));
    let refused = report(&login(&pool).ask(b'J', b"1 \0n"));
    assert!(refused.contains("specified node is already primary node"), "{refused}");
}

#[test]
fn reload_and_stop_go_through_the_parent() {
    needs_pgpool!();
    let mut pool = start(Pgpool::on(shared()).set("client_idle_limit", 0));
    let mut raw = login(&pool);
    pool.set("client_idle_limit", 77);
    assert_eq!(raw.ask(b'Z', b"l"), (b'z', DONE.to_vec()));
    wait_for("the new value", || {
        // A worker of the original keeps the settings it has begun with.
        let mut raw = login(&pool);
        let (_, count) = raw.ask(b'B', b"");
        let count = u32::from_be_bytes(count[10..].try_into().expect("four bytes"));
        let items: Vec<_> = (0..count).map(|_| texts(&raw.frame().expect("an item").1)).collect();
        items.iter().any(|item| item[1..3] == ["client_idle_limit", "77"])
    });
    assert_eq!(raw.ask(b'T', b"f"), (b't', DONE.to_vec()));
    raw.send(b"X\0\0\0\x04");
    let status = pool.wait_end(PATIENCE).expect("it stops");
    assert_eq!(status.code(), Some(0));
    assert!(pool.log().contains("shutting down by signal 2"), "{}", pool.log());
}

#[test]
fn stop_and_recovery_wait_for_the_end_of_a_failover() {
    only_ours!("release 4.3 stops all the same");
    let cluster = Cluster::streaming(3).start();
    let goes_on = cluster.directory().join("go on");
    let command = format!("while [ ! -e \"{}\" ]; do sleep 0.05; done", goes_on.display());
    let mut pool = start(Pgpool::on(&cluster).set("failover_command", &command).set("failback_command", &command));
    let ask = |pool: &Pgpool, kind: u8, payload: &[u8]| login(pool).ask(kind, payload);
    assert_eq!(ask(&pool, b'D', b"1\0"), (b'd', DONE.to_vec()));
    wait_for("the command", || pool.log().contains("execute command: while"));
    let refused = |pool: &Pgpool, what: &str| {
        for (kind, payload) in [(b'T', &b"f"[..]), (b'O', b"2\0")] {
            let words = report(&ask(pool, kind, payload));
            assert_eq!(words, format!("ERROR|failed to process PCP request at the moment|{what} is in progress"));
        }
    };
    refused(&pool, "failover");
    assert_eq!(ask(&pool, b'L', b"").0, b'l', "all else is answered");
    std::fs::write(&goes_on, "").expect("file");
    wait_for("the end of the failover", || pool.log().contains("ailover done. shutdown host"));
    std::fs::remove_file(&goes_on).expect("remove");
    assert_eq!(ask(&pool, b'C', b"1\0"), (b'c', DONE.to_vec()));
    wait_for("the other command", || pool.log().matches("execute command: while").count() == 2);
    refused(&pool, "failback");
    std::fs::write(goes_on, "").expect("file");
    wait_for("the stop to be possible", || ask(&pool, b'T', b"f") == (b't', DONE.to_vec()));
    assert!(pool.wait_end(PATIENCE).is_some());
}

#[test]
fn a_smart_stop_waits_for_sessions() {
    needs_pgpool!();
    let mut pool = start(Pgpool::on(shared()));
    let mut session = pool.connect();
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b't', b"s"), (b't', DONE.to_vec()));
    wait_for("the stop", || pool.log().contains("shutting down by signal 15"));
    assert_eq!(session.value("SELECT 1"), "1");
    drop((session, raw));
    assert!(pool.wait_end(PATIENCE).is_some_and(|status| status.code() == Some(0)));
}
