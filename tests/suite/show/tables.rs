//! The bytes and figures of the tables (show-commands 3, 5, 7).

use std::collections::HashMap;

use super::pool;
use crate::harness::{Pgpool, Wire, shared};
use crate::{needs_pgpool, only_ours};

/// Values by the names of their columns.
type Row = HashMap<String, String>;

fn table(session: &mut Wire, command: &str) -> Vec<Row> {
    let reply = session.query(command).succeeded();
    let mut names = Vec::new();
    let description = reply.all('T').next().expect("a RowDescription").body.clone();
    let mut rest = &description[2..];
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).expect("a name");
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = &rest[end + 19..];
    }
    let row = |row: Vec<Option<String>>| names.iter().cloned().zip(row.into_iter().flatten()).collect();
    reply.rows().into_iter().map(row).collect()
}

#[test]
fn the_framing_is_that_of_the_original() {
    only_ours!("types are told, and names of releases differ");
    needs_pgpool!();
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    let reply = session.query("SHOW Pool_Version ; -- done");
    assert_eq!(reply.kinds(), "TDCZ");
    // One column, table 0, number 0, type text, any length, no modifier, text format.
    assert_eq!(reply.0[0].body, b"\0\x01pool_version\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    assert_eq!((reply.tags(), reply.state()), (vec!["SELECT 1".to_owned()], 'I'));
    let version = reply.first_value().expect("a version");
    assert!(version.starts_with("4.7.2 ("), "{version}");
    // Quoted names are not folded: the server's to refuse.
    assert_eq!(session.query("SHOW \"POOL_VERSION\"").sqlstate(), "42704");
}

#[test]
fn a_text_may_go_on_behind_a_table() {
    only_ours!("the original drops the rest");
    needs_pgpool!();
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    for (sql, kinds, state) in [
        ("SHOW pool_version; SHOW pool_cache", "TDCTDCZ", 'I'),
        ("SHOW pool_version; SELECT n FROM ten WHERE n < 3; SELECT 1", "TDCTDDCTDCZ", 'I'),
        ("SHOW pool_version; SELECT * FROM nowhere_at_all", "TDCEZ", 'I'),
        ("SHOW pool_version; SELEC 1", "EZ", 'I'),
        ("SHOW pool_version; BEGIN", "TDCCZ", 'T'),
        ("SHOW pool_version; SELECT 1 / 0; SELECT 1", "TDCEZ", 'E'),
        ("SHOW pool_version; SELECT 1", "EZ", 'E'),
        ("ROLLBACK", "CZ", 'I'),
    ] {
        let reply = session.query(sql);
        assert_eq!((reply.kinds().as_str(), reply.state()), (kinds, state), "{sql}");
    }
}

#[test]
fn a_session_sees_itself() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).set("num_init_children", 3).set("max_pool", 2).start();
    let mut session = pool.connect();
    session.query("SELECT 'mine'").succeeded();
    let processes = table(&mut session, "SHOW POOL_PROCESSES");
    assert_eq!(processes.len(), 3);
    let mine: Vec<_> = processes.iter().filter(|row| !row["database"].is_empty()).collect();
    assert_eq!((mine.len(), mine[0]["username"].as_str(), mine[0]["pool_counter"].as_str()), (1, "postgres", "1"));
    let pools = table(&mut session, "SHOW POOL_POOLS");
    assert_eq!(pools.len(), 3 * 2 * 3);
    let used: Vec<_> = pools.iter().filter(|row| row["pool_connected"] == "1").collect();
    assert_eq!(used.len(), 3, "one row for each node");
    // Releases before 4.4 do not tell who the client is.
    let tells = |row: &Row, column: &str, expected: &str| row.get(column).is_none_or(|value| value == expected);
    assert!(used.iter().all(|row| tells(row, "client_host", "127.0.0.1") && tells(row, "statement", "")), "{used:?}");
    let pid = session.value("SELECT pg_backend_pid()");
    assert!(used.iter().any(|row| row["pool_backendpid"] == pid), "{pid} is not in {used:?}");
    assert_eq!(mine[0]["status"], "Execute command");
    let status = table(&mut session, "SHOW POOL_STATUS");
    assert_eq!(status.iter().filter(|row| row["item"].contains("backend_data")).count(), 3);
    let value = |name: &str| status.iter().find(|row| row["item"] == name).map(|row| row["value"].clone());
    assert_eq!(value("num_init_children").as_deref(), Some("3"));
    assert_eq!(value("port"), Some(pool.port.to_string()));
    assert_eq!(value("backend_clustering_mode").as_deref(), Some("1"));
    // What the session has set is seen by the session.
    session.query("PGPOOL SET client_idle_limit TO 77").succeeded();
    let status = table(&mut session, "SHOW POOL_STATUS");
    assert!(status.iter().any(|row| row["item"] == "client_idle_limit" && row["value"] == "77"));
    let cache = table(&mut session, "SHOW POOL_CACHE");
    assert_eq!((cache.len(), cache[0]["cache_hit_ratio"].as_str()), (1, "0.00"));
    let health = table(&mut session, "SHOW POOL_HEALTH_CHECK_STATS");
    assert_eq!(health.len(), 3);
    assert!(health.iter().all(|row| row["average_retry_count"] == "0.000000" && row["last_health_check"].is_empty()));
}

#[test]
fn a_group_that_makes_room_is_gone_on_all_nodes() {
    only_ours!("connects to all nodes at once");
    let pool = Pgpool::on(shared()).set("num_init_children", 1).set("max_pool", 1).weights(&[0.0, 1.0, 0.0]).start();
    let mut first = pool.connect();
    let standby = first.value("SELECT pg_backend_pid()");
    let shown = |rows: &[Row]| rows.iter().filter(|row| row["pool_backendpid"] != "0").count();
    let rows = table(&mut first, "SHOW POOL_POOLS");
    assert!(shown(&rows) == 2 && rows.iter().any(|row| row["pool_backendpid"] == standby), "{rows:?}");
    first.close();
    // Other parameters are another group, in the only slot.
    let mut second = pool.connect_with(&[("user", "postgres"), ("database", "test"), ("application_name", "second")]);
    let rows = table(&mut second, "SHOW POOL_POOLS");
    assert_eq!(shown(&rows), 1, "{rows:?}");
}

#[test]
fn many_in_one_query_are_answered_in_a_moment() {
    only_ours!("the first is answered, and the rest dropped");
    let pool = pool();
    let mut session = pool.connect();
    let begun = std::time::Instant::now();
    let reply = session.query(&"SHOW pool_version;".repeat(4000));
    assert!(reply.kinds() == format!("{}Z", "TDC".repeat(4000)), "{} messages", reply.kinds().len());
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    // More than is collected at once, and a statement for a server behind them.
    let reply = session.query(&format!("{}SELECT 1", "SHOW pool_status;".repeat(100)));
    assert_eq!(reply.rows().len() % 100, 1);
    assert_eq!(session.value("SELECT 2"), "2");
}
