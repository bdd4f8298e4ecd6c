//! Reads spread over the nodes by weight, writes go to the primary.

use std::collections::BTreeMap;

use crate::harness::{Cluster, Pgpool, frontend, shared};

/// A plain read that answers with the port of its server; nothing but the nodes' weights binds it to a node.
const READ: &str = "SELECT current_setting('port') FROM ten WHERE n = 1";

fn node_of(cluster: &Cluster, port: &str) -> usize {
    let found = cluster.nodes().iter().find(|node| node.port.to_string() == port);
    found.unwrap_or_else(|| panic!("no node has port {port}")).id
}

/// Which node answers, over this many sessions.
fn spread(pool: &Pgpool, sessions: usize) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..sessions {
        let mut session = pool.connect();
        *counts.entry(node_of(shared(), &session.value(READ))).or_insert(0) += 1;
        session.close();
    }
    counts
}

#[test]
fn sessions_spread_by_weight() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 1.0, 3.0]).start();
    let counts = spread(&pool, 200);
    assert_eq!(counts.get(&0), None, "weight 0 gets no reads: {counts:?}");
    // 50 expected with a deviation of 6: this band is wide enough to hold always.
    assert!((15..=95).contains(counts.get(&1).unwrap_or(&0)), "about 50 of 200 on node 1: {counts:?}");
}

#[test]
fn all_nodes_take_reads_with_equal_weights() {
    let pool = Pgpool::on(shared()).start();
    let counts = spread(&pool, 100);
    assert_eq!(counts.len(), 3, "{counts:?}");
}

#[test]
fn a_session_stays_on_its_node() {
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    let first = session.value(READ);
    for _ in 0..20 {
        assert_eq!(session.value(READ), first);
    }
}

#[test]
fn statement_level_load_balance_draws_for_each_statement() {
    let pool = Pgpool::on(shared()).set("statement_level_load_balance", "on").start();
    let mut session = pool.connect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..100 {
        *counts.entry(session.value(READ)).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
}

#[test]
fn load_balance_off_sends_all_to_the_primary() {
    let pool = Pgpool::on(shared()).set("load_balance_mode", "off").start();
    assert_eq!(spread(&pool, 20).into_iter().collect::<Vec<_>>(), [(0, 20)]);
}

#[test]
fn writes_go_to_the_primary() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 1.0, 1.0]).start();
    let mut session = pool.connect();
    let primary = shared().primary().port.to_string();
    for sql in [
        "CREATE TABLE balance_writes (id int, port text)",
        "INSERT INTO balance_writes VALUES (1, current_setting('port'))",
        "UPDATE balance_writes SET id = 2",
    ] {
        session.query(sql).succeeded();
    }
    let sql = "INSERT INTO balance_writes VALUES (3, current_setting('port')) RETURNING port";
    assert_eq!(session.value(sql), primary);
    let sql = "WITH w AS (UPDATE balance_writes SET id = 4 RETURNING port) SELECT current_setting('port') FROM w";
    assert_eq!(session.value(sql), primary);
    assert_eq!(session.value("SELECT port FROM balance_writes WHERE id = 4 FOR UPDATE"), primary);
    session.query("SELECT * INTO balance_copy FROM balance_writes").succeeded();
    session.query("DROP TABLE balance_writes, balance_copy").succeeded();
}

#[test]
fn reads_after_a_write_in_a_transaction_see_it() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 1.0, 1.0]).start();
    let mut session = pool.connect();
    session.query("CREATE TABLE balance_own (id int)").succeeded();
    session.query("BEGIN").succeeded();
    session.query("INSERT INTO balance_own VALUES (7)").succeeded();
    assert_eq!(session.value("SELECT id FROM balance_own"), "7");
    let reply = session.query("COMMIT").succeeded();
    assert_eq!(reply.state(), 'I');
    session.query("DROP TABLE balance_own").succeeded();
}

/// `dml_adaptive`: only reads of what was written, and of what depends on it, follow the write (routing 7.4).
#[test]
fn dml_adaptive_sends_reads_of_written_tables_to_the_primary() {
    let pool = Pgpool::on(shared())
        .weights(&[0.0, 0.0, 1.0])
        .set("disable_load_balance_on_write", "dml_adaptive")
        .set("dml_adaptive_object_relationship_list", "balance_adaptive:ten")
        .start();
    let mut session = pool.connect();
    session.query("CREATE TABLE balance_adaptive (id int)").succeeded();
    shared().wait_replayed();
    let (primary, standby) = (shared().node(0).port.to_string(), shared().node(2).port.to_string());
    session.query("BEGIN").succeeded();
    assert_eq!(session.value(READ), standby);
    session.query("INSERT INTO balance_adaptive VALUES (7)").succeeded();
    assert_eq!(session.value("SELECT current_setting('port') FROM balance_adaptive"), primary);
    assert_eq!(session.value(READ), primary);
    assert_eq!(session.value("SELECT current_setting('port')"), standby);
    session.query("COMMIT").succeeded();
    assert_eq!(session.value(READ), standby);
    session.query("DROP TABLE balance_adaptive").succeeded();
}

#[test]
fn session_settings_reach_the_reading_node() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    let mut session = pool.connect();
    session.query("SET work_mem = '7MB'").succeeded();
    session.query("SET search_path = pg_catalog, public").succeeded();
    let reply =
        session.query("SELECT current_setting('port'), current_setting('work_mem') FROM ten LIMIT 1").succeeded();
    let port = shared().node(2).port.to_string();
    assert_eq!(reply.rows(), [[Some(port), Some("7MB".to_owned())]]);
    assert_eq!(session.value("SELECT current_setting('search_path') FROM ten LIMIT 1"), "pg_catalog, public");
}

#[test]
fn a_read_in_a_transaction_may_go_to_a_standby() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    let mut session = pool.connect();
    assert_eq!(session.query("BEGIN").succeeded().state(), 'T');
    assert_eq!(session.value(READ), shared().node(2).port.to_string());
    assert_eq!(session.query("COMMIT").succeeded().state(), 'I');
}

#[test]
fn prepared_reads_are_balanced_too() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    let mut session = pool.connect();
    let standby = shared().node(2).port.to_string();
    let batch =
        [frontend::parse("read", READ, &[]), frontend::bind("", "read", &[]), frontend::execute("", 0)].concat();
    let reply = session.ask([batch, frontend::sync()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12DCZ", vec![standby.clone()]));
    for _ in 0..3 {
        let batch = [frontend::bind("", "read", &[]), frontend::execute("", 0), frontend::sync()].concat();
        let reply = session.ask(batch).succeeded();
        assert_eq!((reply.kinds().as_str(), reply.column()), ("2DCZ", vec![standby.clone()]));
    }
}

#[test]
fn show_pool_nodes_counts_the_reads() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 1.0, 0.0]).start();
    let mut session = pool.connect();
    for _ in 0..5 {
        session.value(READ);
    }
    let reply = session.query("SHOW POOL_NODES").succeeded();
    let columns = reply.all('T').next().expect("a RowDescription").body.clone();
    let column = column_of(&columns, "select_cnt");
    let counts: Vec<_> = reply.rows().into_iter().map(|mut row| row.swap_remove(column)).collect();
    assert_eq!(counts, ["0", "5", "0"].map(|count| Some(count.to_owned())));
    let role = column_of(&columns, "role");
    let roles: Vec<_> = reply.rows().into_iter().map(|mut row| row.swap_remove(role)).collect();
    assert_eq!(roles, ["primary", "standby", "standby"].map(|role| Some(role.to_owned())));
}

/// The index of a named column in a RowDescription: each is a name, its zero byte and 18 bytes more.
fn column_of(description: &[u8], name: &str) -> usize {
    let mut rest = &description[2..];
    let mut index = 0;
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == 0).expect("a terminated name");
        if rest[..end] == *name.as_bytes() {
            return index;
        }
        rest = &rest[end + 19..];
        index += 1;
    }
    panic!("no column {name}")
}
