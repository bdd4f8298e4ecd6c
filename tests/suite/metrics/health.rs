//! What load balancers are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::{USERS, get, tells};
use crate::harness::{Cluster, Pgpool, Program, shared, wait_for};
use crate::only_ours;

#[test]
fn a_node_that_is_attached_again_is_well_until_a_check_says_otherwise() {
    only_ours!("it has no metrics of its own");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).with_metrics().prepare();
    // The administrator's user and password are secret, too.
    fs::write(pool.path("pcp.conf"), USERS).expect("pcp.conf");
    let pass = pool.path("pcppass");
    fs::write(&pass, "*:*:ann:secret\n").expect("pcppass");
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).expect("pcppass");
    let mut pool = pool.started();
    wait_for("writes", || get(&pool, "/health/write").0 == 200);
    cluster.node(0).kill();
    wait_for("the failover", || tells(&pool, "pgpool_failovers_total{kind=\"failover\",cause=\"health_check\"} 1"));
    wait_for("no writes", || get(&pool, "/health/write").0 == 503 && tells(&pool, "pgpool_failover_in_progress 0"));
    // From here on no check comes in time to tell that it is well.
    let reloads = pool.log().matches("reloading config file").count();
    pool.set("health_check_period", 600);
    pool.signal(Signal::SIGHUP);
    wait_for("the checks to know", || pool.log().matches("reloading config file").count() >= reloads + 2);
    cluster.node(0).start();
    let port = pool.pcp_port().to_string();
    let attach = ["attach_node", "-h", "127.0.0.1", "-p", &port, "-U", "ann", "-w", "-n", "0"];
    let program = Program::new(env!("CARGO_BIN_EXE_pcp")).args(attach);
    program.env("PCPPASSFILE", &pass.display().to_string()).run().succeeded();
    wait_for("writes again", || get(&pool, "/health/write").0 == 200);
}

#[test]
fn a_check_that_is_being_repeated_is_told_of() {
    only_ours!("it has no metrics of its own");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster)
        .with_metrics()
        .set("health_check_max_retries", 300)
        .set("health_check_retry_delay", 1)
        .start();
    wait_for("writes", || get(&pool, "/health/write").0 == 200);
    cluster.node(0).kill();
    let why = "does not answer; its health check is repeated\n";
    wait_for("no writes", || matches!(get(&pool, "/health/write"), (503, text) if text.ends_with(why)));
    cluster.node(0).start();
    wait_for("writes again", || get(&pool, "/health/write").0 == 200);
}

#[test]
fn health_is_told_while_every_process_is_busy_and_who_waits_is_counted() {
    only_ours!("it has no metrics of its own");
    let pool = Pgpool::on(shared()).with_metrics().set("num_init_children", 2).start();
    assert_eq!(get(&pool, "/health/live"), (200, "pgpool runs\n".to_owned()));
    let port = shared().primary().port;
    let free = format!("node 0 (127.0.0.1:{port}) takes writes; 2 of 2 processes are free\n");
    assert_eq!(get(&pool, "/health/write"), (200, free));
    let _sessions = [pool.connect(), pool.connect()];
    let _waiting = [pool.open(), pool.open()];
    let busy = |what: &str| format!("node 0 (127.0.0.1:{port}) {what}; all 2 processes have a client, new ones wait\n");
    assert_eq!(get(&pool, "/health/write"), (200, busy("takes writes")));
    assert_eq!(get(&pool, "/health/read"), (200, busy("can be read from")));
    let waits = format!("pgpool_waiting_connections{{socket=\"127.0.0.1:{}\"}} 2", pool.port);
    wait_for("both to wait", || tells(&pool, &waits));
    // num_init_children times listen_backlog_multiplier.
    assert!(tells(&pool, &format!("pgpool_waiting_connections_limit{{socket=\"127.0.0.1:{}\"}} 4", pool.port)));
    assert_eq!(get(&pool, "/nowhere").0, 404);
}

#[test]
fn health_tells_of_a_primary_that_is_down_and_failovers_are_counted() {
    only_ours!("it has no metrics of its own");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .with_metrics()
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("health_check_max_retries", 0)
        .keep(0)
        .start();
    let is_ill = |path, why: &str| matches!(get(&pool, path), (503, text) if text.contains(why));
    wait_for("a first check", || {
        tells(
            &pool,
            &format!("pgpool_health_check_failing{{node=\"1\",server=\"127.0.0.1:{}\"}} 0", cluster.node(1).port),
        )
    });
    assert_eq!((get(&pool, "/health/read").0, get(&pool, "/health/write").0), (200, 200));
    cluster.node(1).kill();
    wait_for("the failover", || tells(&pool, "pgpool_failovers_total{kind=\"failover\",cause=\"health_check\"} 1"));
    assert_eq!((get(&pool, "/health/read").0, get(&pool, "/health/write").0), (200, 200));
    let status = get(&pool, "/status.json").1;
    assert!(status.contains("\"kind\":\"failover\",\"node\":1,\"asker\":\"health_check\""), "{status}");
    cluster.node(0).kill();
    wait_for("no writes", || is_ill("/health/write", "does not answer its health check"));
    wait_for("no reads", || is_ill("/health/read", "does not answer its health check"));
    assert_eq!(get(&pool, "/health/live").0, 200);
    cluster.node(0).start();
    wait_for("writes", || get(&pool, "/health/write").0 == 200);
}
