//! The extension pgpool_adm in a server, as a client of our PCP (pcp 12.1, 12.6).

use super::{PASSWORD, USER, start};
use crate::harness::{Cluster, Pgpool, foreign, wait_for};
use crate::needs_pgpool;

#[test]
fn pgpool_adm() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let server = cluster.primary();
    if server.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgpool_adm'") == "0" {
        println!("skipped: this server has no extension pgpool_adm (Debian: postgresql-VERSION-pgpool2)");
        return;
    }
    server.sql("CREATE EXTENSION pgpool_adm");
    let pool = start(Pgpool::on(&cluster));
    let at = format!("'127.0.0.1', {}, '{USER}', '{PASSWORD}'", pool.pcp_port());
    assert_eq!(server.sql(&format!("SELECT pcp_node_count({at})")), "2");
    let info = format!("SELECT concat_ws('|', host, port, pg_status, weight, role) FROM pcp_node_info(1, {at})");
    let port = cluster.node(1).port;
    assert_eq!(server.sql(&info), format!("127.0.0.1|{port}|unknown|0.5|Standby"));
    let stats = format!("SELECT concat_ws('|', node_id, port, role, total_count) FROM pcp_health_check_stats(0, {at})");
    assert_eq!(server.sql(&stats), format!("0|{}|primary|0", server.port));
    let status = || server.sql(&format!("SELECT status FROM pcp_node_info(1, {at})"));
    assert_eq!(server.sql(&format!("SELECT pcp_detach_node(1, false, {at})")), "t");
    wait_for("node 1 to be down", || status() == "Disconnected");
    assert_eq!(server.sql(&format!("SELECT pcp_attach_node(1, {at})")), "t");
    wait_for("node 1 to be back", || status() != "Disconnected");
    if !foreign() {
        // The original waits for its time-out.
        assert_eq!(server.sql(&format!("SELECT pcp_detach_node(1, true, {at})")), "t");
        assert_eq!(status(), "Disconnected", "a graceful detach is done when it returns");
    }
}
