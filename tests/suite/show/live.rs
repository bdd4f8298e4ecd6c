//! What SHOW POOL_NODES tells of live servers (show-commands 5.3).

use crate::harness::{Cluster, Pgpool, Stop, shared, wait_for};
use crate::only_ours;
use std::time::{Duration, Instant};

/// The rows of `pool_nodes`, columns joined by `|`.
fn nodes(session: &mut crate::harness::Wire) -> Vec<Vec<String>> {
    let reply = session.query("SHOW POOL_NODES").succeeded();
    reply.rows().into_iter().map(|row| row.into_iter().map(|value| value.expect("a value")).collect()).collect()
}

/// Columns of `pool_nodes`.
const PG_STATUS: usize = 4;
const PG_ROLE: usize = 7;

fn live(rows: &[Vec<String>]) -> Vec<[&str; 2]> {
    rows.iter().map(|row| [row[PG_STATUS].as_str(), row[PG_ROLE].as_str()]).collect()
}

#[test]
fn servers_are_asked_only_with_health_checks() {
    let pool = Pgpool::on(shared()).set("health_check_period", 0).start();
    assert_eq!(live(&nodes(&mut pool.connect())), [["unknown", "unknown"]; 3]);
}

#[test]
fn live_status_and_role_do_not_wait_for_a_stopped_server() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .weights(&[1.0, 0.0])
        .set("health_check_period", 3600)
        .set("health_check_user", "postgres")
        .set("sr_check_user", "postgres")
        .set("sr_check_period", 3600)
        .set("connect_timeout", 1000)
        .start();
    let mut session = pool.connect();
    assert_eq!(live(&nodes(&mut session)), [["up", "primary"], ["up", "standby"]]);

    cluster.node(1).pause();
    let began = Instant::now();
    assert_eq!(live(&nodes(&mut session)), [["up", "primary"], ["down", "unknown"]]);
    assert!(began.elapsed() < Duration::from_secs(3), "took {:?}", began.elapsed());
    cluster.node(1).resume();
    assert_eq!(live(&nodes(&mut session)), [["up", "primary"], ["up", "standby"]]);
}

#[test]
fn a_session_that_has_lost_its_primary_is_told_how_things_are() {
    only_ours!("the original ends the session");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[1.0, 0.0]).start();
    let mut session = pool.connect();
    session.query("SELECT 1").succeeded();
    cluster.node(0).stop(Stop::Immediate);
    wait_for("the loss", || pool.log().contains("the session has lost DB node 0, which writes"));
    let began = Instant::now();
    assert_eq!(nodes(&mut session).len(), 2);
    session.query("PGPOOL SHOW port").succeeded();
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    cluster.node(0).start();
    assert_eq!(session.value("SELECT 1"), "1");
}
