//! SHOW POOL_HEALTH_CHECK_STATS (show-commands 5.7). Its rows are also the records of PCP `H` (pcp 5.6).

use super::nodes::Identity;
use super::{View, format};
use crate::state::{HealthStats, Node};

/// One node.
struct Row<'a> {
    node: Identity<'a>,
    last_status_change: u64,
    stats: HealthStats,
}

columns! { row: Row<'_>;
    node_id => row.node.id,
    hostname => row.node.hostname,
    port => row.node.port,
    status => row.node.status,
    role => row.node.role,
    last_status_change => format::time(row.last_status_change),
    total_count => row.stats.total_count,
    success_count => row.stats.success_count,
    fail_count => row.stats.fail_count,
    skip_count => row.stats.skip_count,
    retry_count => row.stats.retry_count,
    average_retry_count => format!("{:.6}", row.stats.average_retry_count),
    max_retry_count => row.stats.max_retry_count,
    max_duration => row.stats.max_duration,
    min_duration => row.stats.min_duration,
    average_duration => format!("{:.6}", row.stats.average_duration),
    last_health_check => format::time(row.stats.last_health_check),
    last_successful_health_check => format::time(row.stats.last_successful_health_check),
    last_skip_health_check => format::time(row.stats.last_skip_health_check),
    last_failed_health_check => format::time(row.stats.last_failed_health_check),
}

/// One row per id up to the highest configured one.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let cluster = view.shared.nodes().view();
    let row = |(id, node): (usize, &Node)| {
        values(&Row {
            node: Identity::new(view.settings, &cluster, id, node),
            last_status_change: node.last_status_change,
            stats: view.shared.health(id).stats(),
        })
    };
    cluster.nodes.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::state::{Cluster, Limits, NodeStatus, RoundEnd, Shared};
    use std::time::Duration;

    #[test]
    fn checked_and_unchecked_nodes() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let server = |status| Node {
            hostname: "db.example".to_owned(),
            port: 5432,
            status,
            last_status_change: 1_795_376_294,
            ..Node::default()
        };
        let update = |cluster: &mut Cluster| {
            cluster.nodes = vec![server(NodeStatus::Up), server(NodeStatus::Down), server(NodeStatus::Waiting)];
            cluster.primary = Some(0);
        };
        shared.nodes().update(update).expect("update");
        (0..2).for_each(|node| shared.health(node).attend(1));
        for (node, end, retries) in [(0, RoundEnd::Success, 1), (0, RoundEnd::Success, 2), (1, RoundEnd::Skipped, 0)] {
            let health = shared.health(node);
            health.begin();
            health.end(end, retries, Duration::from_millis(10 * (retries + 1)));
        }
        let settings = Settings::default();
        let shown = rows(&View { settings: &settings, shared: &shared, load_balance_node: 0, listeners: &[] });
        assert_eq!(
            COLUMNS.join("|"),
            "node_id|hostname|port|status|role|last_status_change|total_count|success_count|fail_count|skip_count|\
             retry_count|average_retry_count|max_retry_count|max_duration|min_duration|average_duration|\
             last_health_check|last_successful_health_check|last_skip_health_check|last_failed_health_check"
        );
        let at = format::time(1_795_376_294);
        let without_times = |row: &[String]| row[..16].join("|");
        let checked = format!("0|db.example|5432|up|primary|{at}|2|2|0|0|3|1.500000|2|30|20|25.000000");
        assert_eq!(without_times(&shown[0]), checked);
        // No check at all is no division by zero.
        let skipped = format!("1|db.example|5432|down|standby|{at}|1|0|0|1|0|0.000000|0|0|2147483647|0.000000");
        assert_eq!(without_times(&shown[1]), skipped);
        let off = format!("2|db.example|5432|waiting|standby|{at}|0|0|0|0|0|0.000000|0|0|0|0.000000||||");
        assert_eq!(shown[2].join("|"), off);
        let known = |row: &[String]| row[16..].iter().map(|time| !time.is_empty()).collect::<Vec<_>>();
        assert_eq!(
            (known(&shown[0]), known(&shown[1])),
            (vec![true, true, false, false], vec![true, false, true, false])
        );
    }
}
