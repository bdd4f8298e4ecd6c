//! The metrics of pgpool2_exporter, under its names and with its labels, so that dashboards and alerts made for it go on
//! working. What it tells of single processes is left out: up to thousands of series that say little but
//! what `max_pool` is.

use super::families::{Family, Read, Sample, accounts, one};
use super::measure::Snapshot;
use crate::admin::NodeFigures;
use crate::state::Delay;
use std::collections::HashSet;

const NODE: &[&str] = &["hostname", "port", "role"];

/// A metric of one figure per node.
macro_rules! of_nodes {
    ($kind:ident, $name:literal, $help:literal, $node:ident => $figure:expr) => {
        Family {
            name: $name,
            help: $help,
            labels: NODE,
            figures: Read::$kind(|all| nodes(all, |$node| Some($figure as f64))),
        }
    };
}

/// A column of SHOW POOL_CACHE.
macro_rules! of_cache {
    ($column:literal, $help:literal) => {
        Family {
            name: concat!("pgpool2_pool_cache_", $column),
            help: $help,
            labels: &[],
            figures: Read::Gauge(|all| cache(all, $column)),
        }
    };
}

#[rustfmt::skip]
pub(super) const ALIASES: &[Family] = &[
    Family { name: "pgpool2_up", help: "Always 1.", labels: &[], figures: Read::Gauge(|_| one(1.0)) },
    Family { name: "pgpool2_last_scrape_error", help: "Always 0.", labels: &[], figures: Read::Gauge(|_| one(0.0)) },
    Family { name: "pgpool2_last_scrape_duration_seconds", help: "As pgpool_snapshot_seconds.", labels: &[], figures: Read::Gauge(|all| one(all.took.as_secs_f64())) },
    Family { name: "pgpool2_frontend_total", help: "Number of processes for sessions.", labels: &[], figures: Read::Gauge(|all| one(all.figures.workers.slots as f64)) },
    Family { name: "pgpool2_frontend_used", help: "Processes with a session, by user and database.", labels: &["username", "database"], figures: Read::Gauge(accounts) },
    Family { name: "pgpool2_frontend_used_ratio", help: "Share of the processes that have a client, 0 to 1.", labels: &[], figures: Read::Gauge(|all| one(ratio(all.figures.workers.busy(), all.figures.workers.slots))) },
    Family { name: "pgpool2_backend_total", help: "Number of pool slots.", labels: &[], figures: Read::Gauge(|all| one(all.figures.pool.slots as f64)) },
    Family { name: "pgpool2_backend_used", help: "Pool slots that hold connections.", labels: &[], figures: Read::Gauge(|all| one(all.figures.pool.filled() as f64)) },
    Family { name: "pgpool2_backend_used_ratio", help: "Share of the pool slots that hold connections, 0 to 1.", labels: &[], figures: Read::Gauge(|all| one(ratio(all.figures.pool.filled(), all.figures.pool.slots))) },
    of_nodes!(Gauge, "pgpool2_pool_nodes_status", "1: the node is up or waiting, 0: it is down or unused.", node => u8::from(node.attached)),
    Family { name: "pgpool2_pool_nodes_replication_delay", help: "Replication delay, in bytes or seconds.", labels: NODE, figures: Read::Gauge(|all| nodes(all, delay)) },
    of_nodes!(Counter, "pgpool2_pool_nodes_select_cnt", "SELECT statements sent to the node.", node => node.counts.select),
    of_cache!("num_cache_hits", "SELECTs that the query cache has answered."),
    of_cache!("num_selects", "SELECTs that a server has answered, while the query cache is on."),
    of_cache!("cache_hit_ratio", "Share of the SELECTs that the query cache has answered, 0 to 1."),
    of_cache!("num_hash_entries", "Places for answers in the query cache."),
    of_cache!("used_hash_entries", "Those in use."),
    of_cache!("num_cache_entries", "Answers in the query cache."),
    of_cache!("used_cache_entries_size", "Memory of the query cache that is used, in bytes."),
    of_cache!("free_cache_entries_size", "Memory of the query cache that is free, in bytes."),
    of_cache!("fragment_cache_entries_size", "Memory of the query cache that cannot be used at present, in bytes."),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_select_cnt", "SELECT statements sent to the node.", node => node.counts.select),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_insert_cnt", "INSERT statements sent to the node.", node => node.counts.insert),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_update_cnt", "UPDATE statements sent to the node.", node => node.counts.update),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_delete_cnt", "DELETE statements sent to the node.", node => node.counts.delete),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_ddl_cnt", "DDL statements sent to the node.", node => node.counts.ddl),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_other_cnt", "Other statements sent to the node.", node => node.counts.other),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_panic_cnt", "PANIC messages of the node.", node => node.counts.panic),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_fatal_cnt", "FATAL messages of the node.", node => node.counts.fatal),
    of_nodes!(Counter, "pgpool2_pool_backend_stats_error_cnt", "ERROR messages of the node.", node => node.counts.error),
    of_nodes!(Counter, "pgpool2_pool_health_check_stats_total_count", "Health checks of the node.", node => node.health.total_count),
    of_nodes!(Counter, "pgpool2_pool_health_check_stats_success_count", "Successful health checks.", node => node.health.success_count),
    of_nodes!(Counter, "pgpool2_pool_health_check_stats_fail_count", "Failed health checks.", node => node.health.fail_count),
    of_nodes!(Counter, "pgpool2_pool_health_check_stats_skip_count", "Skipped health checks.", node => node.health.skip_count),
    of_nodes!(Counter, "pgpool2_pool_health_check_stats_retry_count", "Retries in health checks.", node => node.health.retry_count),
    of_nodes!(Gauge, "pgpool2_pool_health_check_stats_average_retry_count", "Retries in a health check on average.", node => node.health.average_retry_count),
    of_nodes!(Gauge, "pgpool2_pool_health_check_stats_max_retry_count", "Retries in a health check at most.", node => node.health.max_retry_count),
    of_nodes!(Gauge, "pgpool2_pool_health_check_stats_max_duration", "Longest health check, in milliseconds.", node => node.health.max_duration),
    of_nodes!(Gauge, "pgpool2_pool_health_check_stats_min_duration", "Shortest health check, in milliseconds.", node => node.health.min_duration),
    of_nodes!(Gauge, "pgpool2_pool_health_check_stats_average_duration", "Health check on average, in milliseconds.", node => node.health.average_duration),
];

/// Two nodes may be the same server, and would be the same series: only the first is told of.
fn nodes(all: &Snapshot, figure: impl Fn(&NodeFigures) -> Option<f64>) -> Vec<Sample> {
    let labels = |node: &NodeFigures| vec![node.host.clone(), node.port.to_string(), node.role.to_owned()];
    let mut known = HashSet::new();
    let firsts = all.figures.nodes.iter().filter(|node| known.insert(labels(node)));
    firsts.filter_map(|node| Some((labels(node), figure(node)?))).collect()
}

fn cache(all: &Snapshot, column: &str) -> Vec<Sample> {
    let found = all.figures.cache_columns.iter().find(|(name, _)| *name == column);
    found.map_or_else(Vec::new, |(_, figure)| one(*figure))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn delay(node: &NodeFigures) -> Option<f64> {
    match node.delay {
        Delay::Unmeasured => Some(0.0),
        Delay::Unknown => None,
        Delay::Bytes(bytes) => Some(bytes as f64),
        Delay::Time(time) => Some(time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Command;

    #[test]
    fn every_column_of_the_query_cache_has_its_metric() {
        let columns = Command::from_name("pool_cache").expect("command").columns();
        let names = ALIASES.iter().filter_map(|family| family.name.strip_prefix("pgpool2_pool_cache_"));
        assert_eq!(names.collect::<Vec<_>>(), columns);
    }
}
