//! A standby that has not replayed the last write of a table gives no answers to keep.

use super::{is_hit, is_kept};
use crate::harness::{Cluster, Config, Memcached, Pgpool, Wire, wait_for};
use crate::only_ours;

#[test]
fn what_a_standby_shows_is_kept_when_it_has_caught_up() {
    only_ours!("the original keeps what a lagging standby says, until the next write");
    let cluster = cluster();
    let pool = on_standby(&cluster).start();
    play(&cluster, &pool, &mut pool.connect());
}

#[test]
fn also_if_another_pgpool_has_written() {
    only_ours!("the original keeps what a lagging standby says, until the next write");
    let (cluster, memcached) = (cluster(), Memcached::start());
    let with = |config: Config| {
        let config = config.set("memqcache_method", "memcached").set("memqcache_memcached_host", "127.0.0.1");
        config.set("memqcache_memcached_port", memcached.port).start()
    };
    let (pool, neighbour) = (with(on_standby(&cluster)), with(on_standby(&cluster)));
    play(&cluster, &pool, &mut neighbour.connect());
}

fn cluster() -> Cluster {
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql("CREATE TABLE qs AS SELECT 1 AS a");
    cluster.wait_replayed();
    cluster
}

fn on_standby(cluster: &Cluster) -> Config {
    Pgpool::on(cluster)
        .weights(&[0.0, 1.0])
        .set("memory_cache_enabled", "on")
        .set("sr_check_period", 1)
        .set("log_standby_delay", "always")
}

/// `pool` reads on node 1 what `writer` writes.
fn play(cluster: &Cluster, pool: &Pgpool, writer: &mut Wire) {
    let mut session = pool.connect();
    let read = "SELECT a FROM qs";
    wait_for("the standby's answer to be kept", || is_kept(&mut session, read));
    cluster.node(1).sql("SELECT pg_wal_replay_pause()");
    writer.query("UPDATE qs SET a = 2").succeeded();
    let checks = || pool.log().matches("Replication of node: 1").count();
    let before = checks();
    wait_for("the check to have looked twice", || {
        assert!(!is_hit(&mut session, read), "an old answer was kept");
        checks() > before + 1
    });
    cluster.node(1).sql("SELECT pg_wal_replay_resume()");
    wait_for("the standby to show the write", || session.value(read) == "2");
    wait_for("its answer to be kept again", || is_kept(&mut session, read));
    assert_eq!(session.value(read), "2");
}
