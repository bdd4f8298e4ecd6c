//! Health checks: who is asked how often, what is told of it, and what counts as dead (failover 4).

use crate::harness::{Cluster, Pgpool, checks_started, lines_in_order, shared, wait_for};
use crate::only_ours;

#[test]
fn a_failed_check_is_retried_and_told_with_its_cause() {
    only_ours!("the detail is another one");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster)
        .set("health_check_period1", 1)
        .set("health_check_max_retries1", 2)
        .set("health_check_retry_delay1", 0)
        .set("health_check_user", "postgres")
        .keep(1)
        .start();
    wait_for("a health check process per node", || {
        (0..2).all(|id| pool.children(&format!("health check process({id})")).len() == 1)
    });
    wait_for("them to start", || checks_started(&pool) == 2);
    cluster.node(1).kill();
    let port = cluster.node(1).port;
    let failure = format!("failed to connect to PostgreSQL server on \"127.0.0.1:{port}\", getsockopt() failed");
    let disallowed = "health check failed on node 1 but failover is disallowed for the node";
    wait_for("the failure", || pool.log().contains(disallowed));
    lines_in_order(
        &pool.log(),
        &[
            // The first attempt may have been under way when the node was killed.
            "health check retrying on DB node: 1 (round:1)",
            &failure,
            "Connection refused",
            "health check retrying on DB node: 1 (round:2)",
            &failure,
            disallowed,
        ],
    );
}

#[test]
fn a_server_that_refuses_the_login_is_alive_if_the_user_says_so() {
    only_ours!("a parameter of ours");
    let pool = Pgpool::on(shared())
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("health_check_database2", "no_such_database")
        .set("failover_on_login_refused", "off")
        .start();
    let line = "health check: DB node 2 is alive but refuses the login";
    wait_for("the warning", || pool.log().contains(line));
    lines_in_order(&pool.log(), &[line, "database \"no_such_database\" does not exist"]);
    assert!(!pool.log().contains("health check failed"), "{}", pool.log());
}
