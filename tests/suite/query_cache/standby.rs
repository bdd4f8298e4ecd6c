//! What a standby answers is kept only if it has replayed the last write of the table, is known to since before it was
//! connected, and says that the session is there what it is on the primary.

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

#[test]
fn what_a_standby_answers_with_other_settings_is_nobody_elses() {
    only_ours!("the original's key has no settings");
    let cluster = Cluster::streaming(2).start();
    cluster.primary().sql(
        "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t AS SELECT 'one' AS a; \
         CREATE TABLE two.t AS SELECT 'two' AS a; CREATE TABLE plain AS SELECT 1 AS a; \
         CREATE FUNCTION path(text) RETURNS text LANGUAGE sql VOLATILE \
         AS $$SELECT set_config('search_path', $1, false)$$",
    );
    cluster.wait_replayed();
    let pool = on_standby(&cluster).start();
    let in_schema = |name: &str| {
        let mut session = pool.connect();
        session.query(&format!("SET search_path = {name}")).succeeded();
        session
    };
    // What code sets on the primary the standby is not told.
    let (read, mut others) = ("SELECT a FROM t", in_schema("two"));
    for code in ["SELECT public.path('two')", "DO $$BEGIN PERFORM set_config('search_path', 'two', false); END$$"] {
        let mut session = in_schema("one");
        assert_eq!(session.value(read), "one");
        session.query(code).succeeded();
        // That counts as a write of the whole database.
        let mut plain = pool.connect();
        wait_for("the standby to have caught up", || is_kept(&mut plain, "SELECT a FROM plain"));
        for _ in 0..5 {
            session.query(read).succeeded();
        }
        assert_eq!(others.value(read), "two", "{code}");
    }
    // A session that has set it itself is the same everywhere, also when each node tells it so.
    let mut told = in_schema("one");
    told.query("SET timezone = 'Asia/Tokyo'").succeeded();
    wait_for("its answer to be kept", || is_kept(&mut told, read));
    assert_eq!(told.value(read), "one");
}

#[test]
fn a_standby_that_was_connected_since_the_check_may_be_another_one() {
    only_ours!("the original keeps what any standby says");
    let cluster = cluster();
    let pool = on_standby(&cluster).set("sr_check_period", 600).start();
    let mut watcher = pool.connect();
    wait_for("the first check", || {
        let rows = watcher.query("SHOW POOL_NODES").rows();
        rows[1].iter().flatten().any(|value| value == "streaming")
    });
    let mut session = pool.connect();
    for _ in 0..5 {
        assert!(!is_kept(&mut session, "SELECT a FROM qs"));
    }
}
