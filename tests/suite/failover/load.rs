//! Failover under load: 20 clients read and write while a node is lost in every way a node can be lost. What failed, and
//! how long nobody was served, is printed and held against what docs/failover.md promises.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, Config, Habit, Load, Node, Pgpool, Stop, failovers, wait_for};
use crate::{needs_namespaces, only_ours};

/// What a busy machine may add to any time that is promised.
const BUSY: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// A way to lose a node.
#[derive(Clone, Copy, Debug)]
enum Way {
    StopFast,
    StopImmediate,
    Kill,
    Hang,
    PullCable,
}

impl Way {
    fn lose(self, node: &Node) {
        match self {
            Way::StopFast => node.stop(Stop::Fast),
            Way::StopImmediate => node.stop(Stop::Immediate),
            Way::Kill => node.kill(),
            Way::Hang => node.pause(),
            Way::PullCable => node.pull_cable(),
        }
    }

    /// How long the health check may take to notice.
    fn detection(self) -> Duration {
        match self {
            Way::StopFast | Way::StopImmediate | Way::Kill => PERIOD,
            Way::Hang | Way::PullCable => PERIOD + TIMEOUT,
        }
    }
}

fn pool_on(cluster: &Cluster) -> Config {
    Pgpool::on(cluster)
        .set("num_init_children", 24)
        .set("health_check_period", PERIOD.as_secs())
        .set("health_check_timeout", TIMEOUT.as_secs())
        .set("health_check_user", "postgres")
        .set("connect_timeout", 1000)
        .set("search_primary_node_timeout", 20)
}

fn degenerations(pool: &Pgpool) -> usize {
    pool.count("=== Starting degeneration.")
}

/// Node 2 of three is lost, from which half of the sessions read: none of them notices.
fn lose_standby(way: Way) {
    only_ours!("sessions are killed");
    let plan = Cluster::streaming(3);
    let cluster = if matches!(way, Way::PullCable) { plan.apart(2).start() } else { plan.start() };
    let pool = pool_on(&cluster).keep(0).keep(1).weights(&[0.0, 1.0, 1.0]).start();
    let load = Load::start(&cluster, &pool);
    let begun = Instant::now();
    way.lose(cluster.node(2));
    wait_for("the failover", || degenerations(&pool) == 1);
    let noticed = begun.elapsed();
    load.wait_progress();
    let outcome = load.finish(cluster.primary());
    println!("standby lost, {way:?}: noticed after {} ms\n{outcome}", noticed.as_millis());
    assert_eq!((outcome.failed(), outcome.wrong()), (0, 0), "{outcome}\n{}", pool.log());
    assert!(noticed < way.detection() + BUSY, "{noticed:?}");
    assert!(outcome.of(Habit::Writes).stall < BUSY, "who does not read there has waited\n{outcome}");
    assert!(outcome.stall() < way.detection() + BUSY, "{outcome}");
}

#[test]
fn a_standby_that_is_stopped() {
    lose_standby(Way::StopFast);
}

#[test]
fn a_standby_that_is_stopped_at_once() {
    lose_standby(Way::StopImmediate);
}

#[test]
fn a_standby_that_is_killed() {
    lose_standby(Way::Kill);
}

#[test]
fn a_standby_that_hangs() {
    lose_standby(Way::Hang);
}

#[test]
fn a_standby_whose_cable_is_pulled() {
    needs_namespaces!();
    lose_standby(Way::PullCable);
}

/// Node 0 of two is lost; the failover command promotes node 1.
fn lose_primary(way: Way) {
    only_ours!("a hung server is never noticed");
    let plan = Cluster::streaming(2);
    let cluster = if matches!(way, Way::PullCable) { plan.apart(0).start() } else { plan.start() };
    let mut pool = pool_on(&cluster).keep(1).weights(&[1.0, 1.0]).prepare();
    pool.set_script("failover_command", &cluster.node(1).promotion());
    let pool = pool.started();
    let load = Load::start(&cluster, &pool);
    let begun = Instant::now();
    way.lose(cluster.node(0));
    wait_for("the failover", || degenerations(&pool) == 1);
    let noticed = begun.elapsed();
    wait_for("the end of the failover", || failovers(&pool) == 1);
    let replaced = begun.elapsed();
    load.wait_progress();
    let served = begun.elapsed();
    let outcome = load.finish(cluster.node(1));
    println!(
        "primary lost, {way:?}: noticed after {} ms, replaced after {} ms, all served after {} ms\n{outcome}",
        noticed.as_millis(),
        replaced.as_millis(),
        served.as_millis()
    );
    let told =
        pool.log().lines().filter(|line| line.contains("waited for its turn")).map(str::to_owned).collect::<Vec<_>>();
    println!("{}", told.join("\n"));
    assert!(noticed < way.detection() + BUSY, "{noticed:?}");
    assert!(outcome.stall() < replaced + Duration::from_secs(1) + BUSY, "{outcome}");
    // Whoever was answered by a server that stops in good order finds what he wrote.
    if matches!(way, Way::StopFast) {
        assert_eq!(outcome.wrong(), 0, "{outcome}");
    }
    assert_eq!(failovers(&pool), 1, "{}", pool.log());
}

#[test]
fn a_primary_that_is_stopped() {
    lose_primary(Way::StopFast);
}

#[test]
fn a_primary_that_is_stopped_at_once() {
    lose_primary(Way::StopImmediate);
}

#[test]
fn a_primary_that_is_killed() {
    lose_primary(Way::Kill);
}

#[test]
fn a_primary_that_hangs() {
    lose_primary(Way::Hang);
}

#[test]
fn a_primary_whose_cable_is_pulled() {
    needs_namespaces!();
    lose_primary(Way::PullCable);
}

/// As long as the health check gives it, a node may be away without harm to anybody.
fn lose_for_a_moment(way: Way, back: impl FnOnce(&Node)) {
    only_ours!("other times");
    let plan = Cluster::streaming(2);
    let cluster = if matches!(way, Way::PullCable) { plan.apart(0).start() } else { plan.start() };
    let retries = 30;
    let pool = pool_on(&cluster).set("health_check_max_retries", retries).set("health_check_retry_delay", 1).start();
    let load = Load::start(&cluster, &pool);
    way.lose(cluster.node(0));
    wait_for("a failed check", || pool.log().contains("health check retrying on DB node: 0 (round:1)"));
    back(cluster.node(0));
    wait_for("a good one", || pool.log().contains("health check retrying on DB node: 0 succeeded"));
    load.wait_progress();
    let outcome = load.finish(cluster.primary());
    println!("primary away for a moment, {way:?}\n{outcome}");
    assert_eq!(outcome.wrong(), 0, "{outcome}");
    let failed = outcome.failed() - outcome.of(Habit::Visits).refused.len();
    assert_eq!(failed, 0, "{outcome}\n{}", pool.log());
    assert_eq!(degenerations(&pool), 0, "{}", pool.log());
}

#[test]
fn a_primary_that_hangs_for_a_moment() {
    lose_for_a_moment(Way::Hang, Node::resume);
}

#[test]
fn a_primary_whose_cable_is_out_for_a_moment() {
    needs_namespaces!();
    lose_for_a_moment(Way::PullCable, Node::plug_cable);
}
