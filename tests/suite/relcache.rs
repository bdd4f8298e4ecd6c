//! What pgpool knows of tables and functions: asked for once, shared by all workers, forgotten when it changes.

use crate::harness::{Cluster, Config, Pgpool, Wire, shared};
use crate::only_ours;

/// All reads go to node 2, unless something binds them to the primary.
fn pool() -> Config {
    Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0])
}

fn port(node: usize) -> String {
    shared().node(node).port.to_string()
}

/// Which node answers a read of this table or function.
fn from(relation: &str) -> String {
    format!("SELECT current_setting('port') FROM {relation} LIMIT 1")
}

/// Something made on the primary, behind pgpool's back, and there on all nodes; `undo` is done at once and at the end.
struct Made {
    undo: &'static str,
}

impl Made {
    fn by(sql: &str, undo: &'static str) -> Made {
        shared().primary().sql(undo);
        shared().primary().sql(sql);
        shared().wait_replayed();
        Made { undo }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        shared().primary().sql(self.undo);
    }
}

/// A session whose statements are found in the logs of its servers, by its name.
pub fn logged(pool: &Pgpool, name: &str) -> Wire {
    let options = ("options", "-c log_statement=all");
    pool.connect_with(&[("user", "postgres"), ("database", "test"), ("application_name", name), options])
}

/// How many look-ups `node` has logged for sessions of this name.
pub fn look_ups(cluster: &Cluster, node: usize, name: &str) -> usize {
    let log = cluster.node(node).log_text();
    let is_look_up = |line: &&str| line.contains(name) && line.contains("OPERATOR(pg_catalog.=)");
    log.lines().filter(is_look_up).count()
}

#[test]
fn a_function_made_volatile_is_noticed_by_all_workers() {
    only_ours!("the original finds out otherwise, or never");
    let define = |volatility: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION relcache_f() RETURNS text {volatility} LANGUAGE sql \
             AS 'SELECT current_setting(''port'')'"
        )
    };
    let _made = Made::by(&define("STABLE"), "DROP FUNCTION IF EXISTS relcache_f()");
    let pool = pool().start();
    let (mut changer, mut reader) = (pool.connect(), pool.connect());
    assert_eq!(reader.value("SELECT relcache_f()"), port(2));
    changer.query(&define("VOLATILE")).succeeded();
    assert_eq!(reader.value("SELECT relcache_f()"), port(0));
    // In a transaction it counts from the COMMIT on.
    changer.query("BEGIN").succeeded();
    changer.query(&define("STABLE")).succeeded();
    assert_eq!(reader.value("SELECT relcache_f()"), port(0));
    changer.query("COMMIT").succeeded();
    assert_eq!(reader.value("SELECT relcache_f()"), port(2));
}

#[test]
fn a_table_made_unlogged_is_noticed_by_all_workers() {
    only_ours!("the original finds out otherwise, or never");
    let _made = Made::by("CREATE TABLE relcache_t AS SELECT 1 AS a", "DROP TABLE IF EXISTS relcache_t");
    let pool = pool().start();
    let (mut changer, mut reader) = (pool.connect(), pool.connect());
    assert_eq!(reader.value(&from("relcache_t")), port(2));
    changer.query("DROP TABLE relcache_t").succeeded();
    changer.query("CREATE UNLOGGED TABLE relcache_t AS SELECT 1 AS a").succeeded();
    assert_eq!(reader.value(&from("relcache_t")), port(0));
}

#[test]
fn one_worker_asks_once_for_all() {
    only_ours!("the original finds out otherwise, or never");
    let pool = pool().start();
    let (mut first, mut second) = (logged(&pool, "relcache_first"), logged(&pool, "relcache_second"));
    let sql = "SELECT current_setting('port'), upper('x'), now() FROM ten a, ten b LIMIT 1";
    for _ in 0..3 {
        assert_eq!(first.value(sql), port(2));
        assert_eq!(second.value(sql), port(2));
    }
    let asked = |name| look_ups(shared(), 0, name);
    assert_eq!((asked("relcache_first"), asked("relcache_second")), (1, 0));
}

#[test]
fn without_enable_shared_relcache_each_worker_asks_for_itself() {
    only_ours!("the original finds out otherwise, or never");
    let pool = pool().set("enable_shared_relcache", "off").start();
    let (mut first, mut second) = (logged(&pool, "relcache_alone1"), logged(&pool, "relcache_alone2"));
    for session in [&mut first, &mut second] {
        assert_eq!(session.value(&from("ten")), port(2));
        assert_eq!(session.value(&from("ten")), port(2));
    }
    let asked = |name| look_ups(shared(), 0, name);
    assert_eq!((asked("relcache_alone1"), asked("relcache_alone2")), (1, 1));
}

#[test]
fn what_does_not_exist_is_not_asked_for_again_and_again() {
    only_ours!("the original finds out otherwise, or never");
    let pool = pool().start();
    let mut session = logged(&pool, "relcache_absent");
    for _ in 0..3 {
        assert_eq!(session.query("SELECT relcache_nosuch() FROM relcache_nowhere").sqlstate(), "42P01");
    }
    assert_eq!(look_ups(shared(), 0, "relcache_absent"), 1);
}

#[test]
fn a_name_means_what_the_search_path_says() {
    only_ours!("the original finds out otherwise, or never");
    let _made = Made::by(
        "CREATE SCHEMA relcache_a; CREATE TABLE relcache_a.relcache_p AS SELECT 1 AS a; \
         CREATE SCHEMA relcache_b; CREATE UNLOGGED TABLE relcache_b.relcache_p AS SELECT 1 AS a",
        "DROP SCHEMA IF EXISTS relcache_a, relcache_b CASCADE",
    );
    let pool = pool().set("num_init_children", 1).start();
    let mut session = logged(&pool, "relcache_path");
    let mut visit = |schema: &str, node| {
        session.query(&format!("SET search_path = {schema}")).succeeded();
        assert_eq!(session.value(&from("relcache_p")), port(node), "{schema}");
    };
    visit("relcache_a", 2);
    visit("relcache_b", 0);
    visit("relcache_a", 2);
    visit("relcache_b", 0);
    assert_eq!(look_ups(shared(), 0, "relcache_path"), 2, "one for each path");
    session.close();
    // The next session of the same worker begins with its own path.
    let mut session = logged(&pool, "relcache_path");
    assert_eq!(session.query(&from("relcache_p")).sqlstate(), "42P01");
    session.query("SET search_path = relcache_a").succeeded();
    assert_eq!(session.value(&from("relcache_p")), port(2));
}

#[test]
fn a_temporary_table_concerns_its_own_session() {
    only_ours!("the original finds out otherwise, or never");
    let _made = Made::by("CREATE TABLE relcache_s AS SELECT 1 AS a", "DROP TABLE IF EXISTS relcache_s");
    let pool = pool().start();
    let (mut owner, mut other) = (pool.connect(), pool.connect());
    assert_eq!(owner.value("SELECT a FROM relcache_s"), "1");
    owner.query("CREATE TEMP TABLE relcache_s AS SELECT 2 AS a").succeeded();
    assert_eq!((owner.value("SELECT a FROM relcache_s"), owner.value(&from("relcache_s"))), ("2".to_owned(), port(0)));
    assert_eq!(other.value(&from("relcache_s")), port(2));
    owner.query("DROP TABLE pg_temp.relcache_s").succeeded();
    assert_eq!(owner.value("SELECT a FROM relcache_s"), "1");
    assert_eq!(owner.value(&from("relcache_s")), port(2));
}

#[test]
fn system_catalogs_are_told_by_their_schema() {
    only_ours!("the original finds out otherwise, or never");
    let _made = Made::by(
        "CREATE SCHEMA relcache_c; CREATE TABLE relcache_c.pg_class AS SELECT 1 AS a",
        "DROP SCHEMA IF EXISTS relcache_c CASCADE",
    );
    let pool = pool().start();
    let mut session = pool.connect();
    for (relation, node) in
        [("pg_class", 0), ("pg_catalog.pg_class", 0), ("relcache_c.pg_class", 2), ("information_schema.tables", 2)]
    {
        assert_eq!(session.value(&from(relation)), port(node), "{relation}");
    }
}

#[test]
fn unlogged_tables_are_nobodys_business_without_check_unlogged_table() {
    only_ours!("the original finds out otherwise, or never");
    let _made = Made::by("CREATE UNLOGGED TABLE relcache_u AS SELECT 1 AS a", "DROP TABLE IF EXISTS relcache_u");
    assert_eq!(pool().start().connect().value(&from("relcache_u")), port(0));
    let pool = pool().set("check_unlogged_table", "off").start();
    let mut session = pool.connect();
    let reply = session.query(&from("relcache_u"));
    assert_eq!(reply.sqlstate(), "0A000", "the standby refuses");
    assert_eq!(session.query("SELECT a FROM relcache_nosuch").sqlstate(), "42P01");
}

#[test]
fn the_load_balance_node_answers_look_ups_if_it_is_told_to() {
    only_ours!("the original finds out otherwise, or never");
    let _made = Made::by("CREATE TABLE relcache_q AS SELECT 1 AS a", "DROP TABLE IF EXISTS relcache_q");
    let pool = pool().set("relcache_query_target", "load_balance_node").start();
    let mut session = logged(&pool, "relcache_target");
    assert_eq!(session.value(&from("ten")), port(2));
    assert_eq!(session.value(&from("relcache_q")), port(2));
    // What the standby does not know is asked for on the primary.
    assert_eq!(session.query(&from("relcache_nosuch")).sqlstate(), "42P01");
    let asked = |node| look_ups(shared(), node, "relcache_target");
    assert_eq!((asked(0), asked(2)), (2, 2));
}
