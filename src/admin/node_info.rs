//! What SHOW POOL_NODES tells, in the numbers that `pcp_node_info` reads (pcp 5.2).

use super::nodes::{self, Row};
use super::{View, format};
use crate::state::Delay;

/// By what clients divide the weight they get.
const WEIGHT_UNIT: f64 = 2_147_483_647.0;

/// The fields of a record, in their order.
fn record(row: &Row<'_>) -> Vec<String> {
    vec![
        row.node.hostname.clone(),
        row.node.port.to_string(),
        (row.node.status as u8).to_string(),
        u8::from(row.node.quarantined).to_string(),
        row.pg_status().to_owned(),
        format!("{:.6}", row.view.settings.weight_share(row.id) * WEIGHT_UNIT),
        number_of(row.role()).to_string(),
        row.pg_role().to_owned(),
        // Whether the delay is a time.
        u8::from(matches!(row.delay(), Delay::Time(_))).to_string(),
        format::raw_delay(row.delay()).to_string(),
        row.streaming_only(&row.node.replication_state).to_owned(),
        row.streaming_only(&row.node.sync_state).to_owned(),
        row.node.last_status_change.to_string(),
    ]
}

/// One record per id up to the highest configured one, or the record of one node only: then no other is asked.
pub fn node_info(view: &View<'_>, only: Option<usize>) -> Vec<Vec<String>> {
    nodes::look(view, only, record)
}

fn number_of(role: &str) -> u8 {
    ["main", "replica", "primary", "standby"].iter().position(|word| *word == role).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendClusteringMode, NodeSettings, Settings};
    use crate::state::{Cluster, Limits, Node, NodeStatus, Shared};
    use std::time::Duration;

    /// The nodes of pcp 10.1.
    #[test]
    fn records_of_the_worked_session() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let node = |id: u64, state: &str, sync: &str| Node {
            hostname: format!("server{}", id + 1),
            port: 5432,
            status: NodeStatus::Up,
            replication_state: state.to_owned(),
            sync_state: sync.to_owned(),
            last_status_change: 1_700_000_000 + id,
            ..Node::default()
        };
        let update = |cluster: &mut Cluster| {
            cluster.nodes = vec![node(0, "", ""), node(1, "streaming", "async")];
            (cluster.primary, cluster.main) = (Some(0), Some(0));
        };
        shared.nodes().update(update).expect("update");
        shared.delays().set(1, Delay::Time(Duration::from_micros(1_234_567)));
        let configured = NodeSettings { port: 5432, weight: 1.0, ..NodeSettings::default() };
        let mut settings = Settings { nodes: vec![configured; 2], ..Settings::default() };
        let show = |settings: &Settings, only| {
            let view = View { settings, shared: &shared, load_balance_node: 0, listeners: &[] };
            node_info(&view, only).into_iter().map(|record| record.join("|")).collect::<Vec<_>>()
        };
        let first = "server1|5432|2|0|unknown|1073741823.500000|2|unknown|0|0|||1700000000";
        let second = "server2|5432|2|0|unknown|1073741823.500000|3|unknown|1|1234567|streaming|async|1700000001";
        assert_eq!(show(&settings, None), [first, second]);
        assert_eq!(show(&settings, Some(1)), [second]);
        settings.backend_clustering_mode = BackendClusteringMode::Raw;
        let other = "server2|5432|2|0|unknown|1073741823.500000|1|replica|0|0|||1700000001";
        assert_eq!(show(&settings, Some(1)), [other]);
    }
}
