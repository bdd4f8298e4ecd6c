//! Every metric of ours: name, meaning, labels, figures. docs/metrics.md is written from this table.

use super::measure::Snapshot;
use crate::admin::{NodeFigures, WorkerFigures};
use crate::report::version;
use crate::state::{CacheCounts, Condition, Delay, Latency, ProcessStatus, Progress, StoreFigures};
use std::time::Duration;

/// A metric.
pub(super) struct Family {
    pub name: &'static str,
    /// What it tells, in one sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    pub figures: Read,
}

/// Where the figures of a metric come from; so many label values as there are labels with each.
pub(super) enum Read {
    /// They only grow, until pgpool is started anew.
    Counter(fn(&Snapshot) -> Vec<Sample>),
    /// They go up and down.
    Gauge(fn(&Snapshot) -> Vec<Sample>),
    /// Times by how long they were.
    Histogram(fn(&Snapshot) -> Vec<Times<'_>>),
}

/// Label values, and how long something took how often.
pub(super) type Times<'a> = (Vec<String>, &'a Latency);

/// Label values and a figure.
pub(super) type Sample = (Vec<String>, f64);

const NODE: &[&str] = &["node", "server"];

#[rustfmt::skip]
pub(super) const FAMILIES: &[Family] = &[
    Family { name: "pgpool_info", help: "The release of pgpool; always 1.", labels: &["version"],
        figures: Read::Gauge(|_| vec![(vec![version::VERSION.to_owned()], 1.0)]) },
    Family { name: "pgpool_start_time_seconds", help: "When pgpool was started, seconds since 1970.", labels: &[],
        figures: Read::Gauge(|all| one(all.figures.started as f64)) },

    Family { name: "pgpool_node_attached", help: "Whether the node is used: 1, or 0 for one that is down or unused.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(flag(node.attached)))) },
    Family { name: "pgpool_node_info", help: "State and role of the node, as in SHOW POOL_NODES; always 1.", labels: &["node", "server", "status", "role"],
        figures: Read::Gauge(node_info) },
    Family { name: "pgpool_node_primary", help: "Whether the node is the primary.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(flag(node.is_primary)))) },
    Family { name: "pgpool_node_weight", help: "The node's share of the balanced reads, 0 to 1; of those of all nodes, attached or not.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(node.weight))) },
    Family { name: "pgpool_node_replication_delay_seconds", help: "How old is what the standby replays; where the delay is measured in time.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, delay_seconds)) },
    Family { name: "pgpool_node_replication_delay_bytes", help: "How much WAL the standby has not replayed; where the delay is measured in bytes.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, delay_bytes)) },
    Family { name: "pgpool_node_status_change_time_seconds", help: "When state or role of the node changed last, seconds since 1970.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(node.last_status_change as f64))) },
    Family { name: "pgpool_node_sessions", help: "Sessions that wait for an answer of the node at this moment.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(node.busy as f64))) },
    Family { name: "pgpool_node_connections", help: "Server connections of the pool to the node, in use or not.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(node.connections as f64))) },

    Family { name: "pgpool_health_check_failing", help: "Whether the last health check of the node has failed, after its retries.", labels: NODE,
        figures: Read::Gauge(|all| nodes(all, |node| Some(flag(node.condition == Condition::Failing)))) },
    Family { name: "pgpool_health_checks_total", help: "Health checks of the node by result: success, fail (also where failover is disallowed), skip.", labels: &["node", "server", "result"],
        figures: Read::Counter(health_checks) },
    Family { name: "pgpool_health_check_retries_total", help: "Retries in health checks of the node.", labels: NODE,
        figures: Read::Counter(|all| nodes(all, |node| Some(node.health.retry_count as f64))) },
    Family { name: "pgpool_health_check_duration_seconds", help: "How long health checks of the node took: min, average, max since the start.", labels: &["node", "server", "stat"],
        figures: Read::Gauge(health_check_durations) },
    Family { name: "pgpool_health_check_time_seconds", help: "When the last health check of the node was that had this result, seconds since 1970.", labels: &["node", "server", "result"],
        figures: Read::Gauge(health_check_times) },

    Family { name: "pgpool_workers", help: "Processes for sessions: busy (with a client), free, missing (being started), unneeded (dynamic mode has not started them).", labels: &["state"],
        figures: Read::Gauge(workers) },
    Family { name: "pgpool_sessions", help: "Sessions by state: connecting, idle, idle_in_transaction, active.", labels: &["state"],
        figures: Read::Gauge(sessions) },
    Family { name: "pgpool_account_sessions", help: "Sessions by user and database.", labels: &["user", "database"],
        figures: Read::Gauge(accounts) },
    Family { name: "pgpool_sessions_total", help: "Sessions that have ended, in whatever way; who was refused had none.", labels: &[],
        figures: Read::Counter(|all| one(all.figures.workers.finished as f64)) },
    Family { name: "pgpool_waiting_connections", help: "Clients that wait for a free process, by listening socket.", labels: &["socket"],
        figures: Read::Gauge(|all| by_socket(&all.waiting)) },
    Family { name: "pgpool_waiting_connections_limit", help: "How many clients may wait, by listening socket; the kernel drops requests beyond that.", labels: &["socket"],
        figures: Read::Gauge(|all| by_socket(&all.room)) },
    Family { name: "pgpool_worker_cpu_seconds_total", help: "Processor time of the processes for sessions, those that have ended included.", labels: &[],
        figures: Read::Counter(|all| one(all.cpu.as_secs_f64())) },
    Family { name: "pgpool_pool_slots", help: "Places for groups of server connections: used by a client, pooled, free.", labels: &["state"],
        figures: Read::Gauge(pool_slots) },

    Family { name: "pgpool_statements_total", help: "Statements sent to the node by class: select, insert, update, delete, ddl, other; delete holds those that could not be parsed, too.", labels: &["node", "server", "class"],
        figures: Read::Counter(statements) },
    Family { name: "pgpool_errors_total", help: "Errors that the node has answered, by severity: panic, fatal, error.", labels: &["node", "server", "severity"],
        figures: Read::Counter(errors) },
    Family { name: "pgpool_retried_reads_total", help: "Reads that the node refused as writes and that were sent to the primary instead.", labels: NODE,
        figures: Read::Counter(|all| nodes(all, |node| Some(node.counts.retried as f64))) },
    Family { name: "pgpool_answer_seconds", help: "From the first message to a node at rest to its last answer; what the client takes to send and to read the rest is part of it.", labels: NODE,
        figures: Read::Histogram(latencies) },
    Family { name: "pgpool_routing_total", help: "Destinations of statements by the reason that decided; PGPOOL EXPLAIN tells them in words.", labels: &["reason"],
        figures: Read::Counter(|all| all.figures.reasons.iter().map(|(reason, count)| (owned(&[reason]), *count as f64)).collect()) },

    Family { name: "pgpool_failovers_total", help: "What was done to nodes (failover, failback, promotion, switchover, takeover), by who asked: health_check, session, administrator, search.", labels: &["kind", "cause"],
        figures: Read::Counter(|all| all.figures.failovers.iter().map(|(kind, asker, count)| (owned(&[kind.word(), asker.word()]), *count as f64)).collect()) },
    Family { name: "pgpool_failover_seconds_total", help: "The time that took by phase: waiting for its turn, command, search for the primary, own work.", labels: &["kind", "phase"],
        figures: Read::Counter(failover_seconds) },
    Family { name: "pgpool_failover_in_progress", help: "0: nothing is under way, 1: a failover or failback that leaves the primary alone, 2: the primary is being replaced.", labels: &[],
        figures: Read::Gauge(|all| one(progress(all))) },
    Family { name: "pgpool_new_sessions_held", help: "Whether new sessions are held back for an administrator's request.", labels: &[],
        figures: Read::Gauge(|all| one(flag(all.figures.held))) },
    Family { name: "pgpool_cache_answers_total", help: "SELECTs by who answered: cache, server; as in SHOW POOL_CACHE, while the query cache is on.", labels: &["by"],
        figures: Read::Counter(cache_answers) },
    Family { name: "pgpool_cache_bytes", help: "Memory of the query cache: used, free.", labels: &["state"],
        figures: Read::Gauge(cache_bytes) },
    Family { name: "pgpool_cache_entries", help: "Answers in the query cache, those that do not count any more among them.", labels: &[],
        figures: Read::Gauge(|all| all.figures.cache.iter().map(|(_, store)| (vec![], store.entries as f64)).collect()) },
    Family { name: "pgpool_cache_evictions_total", help: "Answers that had to give way to others in the query cache.", labels: &[],
        figures: Read::Counter(|all| all.figures.cache.iter().map(|(_, store)| (vec![], store.evictions as f64)).collect()) },
    Family { name: "pgpool_refused_total", help: "Who was not let in: by a server (password, database), by pgpool (pool_hba.conf, password), for want of places (too_many_clients), by pcp, by metrics.", labels: &["by"],
        figures: Read::Counter(refused) },
    Family { name: "pgpool_snapshot_seconds", help: "How long it took to gather these figures.", labels: &[],
        figures: Read::Gauge(|all| one(all.took.as_secs_f64())) },
];

/// A figure without labels.
pub(super) fn one(figure: f64) -> Vec<Sample> {
    vec![(vec![], figure)]
}

fn by_socket(figures: &[(String, u64)]) -> Vec<Sample> {
    figures.iter().map(|(name, length)| (vec![name.clone()], *length as f64)).collect()
}

fn flag(set: bool) -> f64 {
    u8::from(set).into()
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// The label values of a node.
fn labels(node: &NodeFigures, more: &[&str]) -> Vec<String> {
    let mut labels = vec![node.id.to_string(), node.server.clone()];
    labels.extend(owned(more));
    labels
}

/// One figure per node that has it.
fn nodes(all: &Snapshot, figure: impl Fn(&NodeFigures) -> Option<f64>) -> Vec<Sample> {
    all.figures.nodes.iter().filter_map(|node| Some((labels(node, &[]), figure(node)?))).collect()
}

/// Several figures per node, each with a label value.
fn split<const N: usize>(all: &Snapshot, figures: impl Fn(&NodeFigures) -> [(&'static str, f64); N]) -> Vec<Sample> {
    let of_node = |node| figures(node).map(|(value, figure)| (labels(node, &[value]), figure));
    all.figures.nodes.iter().flat_map(of_node).collect()
}

fn node_info(all: &Snapshot) -> Vec<Sample> {
    all.figures.nodes.iter().map(|node| (labels(node, &[node.status, node.role]), 1.0)).collect()
}

fn delay_seconds(node: &NodeFigures) -> Option<f64> {
    match node.delay {
        Delay::Time(time) => Some(time.as_secs_f64()),
        _ => None,
    }
}

fn delay_bytes(node: &NodeFigures) -> Option<f64> {
    match node.delay {
        Delay::Bytes(bytes) => Some(bytes as f64),
        _ => None,
    }
}

fn health_checks(all: &Snapshot) -> Vec<Sample> {
    split(all, |node| {
        let health = &node.health;
        [("success", health.success_count), ("fail", node.failed_checks), ("skip", health.skip_count)]
            .map(|(result, count)| (result, count as f64))
    })
}

fn health_check_durations(all: &Snapshot) -> Vec<Sample> {
    let mut samples = split(all, |node| {
        let health = &node.health;
        [("min", health.min_duration as f64), ("average", health.average_duration), ("max", health.max_duration as f64)]
            .map(|(stat, milliseconds)| (stat, milliseconds / 1000.0))
    });
    // Before the first check there is no shortest one.
    samples.retain(|(_, seconds)| *seconds < f64::from(i32::MAX) / 1000.0);
    samples
}

fn health_check_times(all: &Snapshot) -> Vec<Sample> {
    let mut samples = split(all, |node| {
        let health = &node.health;
        [
            ("success", health.last_successful_health_check),
            ("fail", health.last_failed_health_check),
            ("skip", health.last_skip_health_check),
        ]
        .map(|(result, at)| (result, at as f64))
    });
    samples.retain(|(_, at)| *at > 0.0);
    samples
}

fn workers(all: &Snapshot) -> Vec<Sample> {
    let workers = &all.figures.workers;
    let missing = workers.wanted.saturating_sub(workers.living);
    let unneeded = workers.slots.saturating_sub(workers.wanted.max(workers.living));
    [("busy", workers.busy()), ("free", workers.free()), ("missing", missing), ("unneeded", unneeded)]
        .map(|(state, count)| (owned(&[state]), count as f64))
        .to_vec()
}

/// The word for what a session does, as a label; none for a process without one.
pub(super) fn session_state(status: ProcessStatus) -> Option<&'static str> {
    match status {
        ProcessStatus::WaitForConnection => None,
        ProcessStatus::Connecting => Some("connecting"),
        ProcessStatus::Idle => Some("idle"),
        ProcessStatus::IdleInTransaction => Some("idle_in_transaction"),
        ProcessStatus::ExecuteCommand => Some("active"),
    }
}

fn sessions(all: &Snapshot) -> Vec<Sample> {
    let states = WorkerFigures::STATES.into_iter().zip(all.figures.workers.states);
    states.filter_map(|(status, count)| Some((owned(&[session_state(status)?]), count as f64))).collect()
}

/// Sessions by user and database.
pub(super) fn accounts(all: &Snapshot) -> Vec<Sample> {
    let accounts = all.figures.workers.accounts.iter();
    accounts.map(|((user, database), count)| (owned(&[user, database]), *count as f64)).collect()
}

fn pool_slots(all: &Snapshot) -> Vec<Sample> {
    let pool = &all.figures.pool;
    let free = pool.slots.saturating_sub(pool.filled());
    [("used", pool.used), ("pooled", pool.pooled), ("free", free)]
        .map(|(state, count)| (owned(&[state]), count as f64))
        .to_vec()
}

fn statements(all: &Snapshot) -> Vec<Sample> {
    split(all, |node| {
        let counts = &node.counts;
        [
            ("select", counts.select),
            ("insert", counts.insert),
            ("update", counts.update),
            ("delete", counts.delete),
            ("ddl", counts.ddl),
            ("other", counts.other),
        ]
        .map(|(class, count)| (class, count as f64))
    })
}

fn errors(all: &Snapshot) -> Vec<Sample> {
    split(all, |node| {
        let counts = &node.counts;
        [("panic", counts.panic), ("fatal", counts.fatal), ("error", counts.error)]
            .map(|(severity, count)| (severity, count as f64))
    })
}

fn latencies(all: &Snapshot) -> Vec<Times<'_>> {
    all.figures.nodes.iter().map(|node| (labels(node, &[]), &node.latency)).collect()
}

fn failover_seconds(all: &Snapshot) -> Vec<Sample> {
    let phases = all.figures.failover_phases.iter();
    let named = phases.flat_map(|(kind, phases)| phases.named().map(|(phase, time)| (kind.word(), phase, time)));
    named.map(|(kind, phase, time): (_, _, Duration)| (owned(&[kind, phase]), time.as_secs_f64())).collect()
}

fn progress(all: &Snapshot) -> f64 {
    match all.figures.progress {
        Progress::Idle => 0.0,
        Progress::Standby => 1.0,
        Progress::Primary => 2.0,
    }
}

fn cache_answers(all: &Snapshot) -> Vec<Sample> {
    let by = |(counts, _): &(CacheCounts, _)| [("cache", counts.hits), ("server", counts.misses)];
    all.figures.cache.iter().flat_map(by).map(|(by, count)| (owned(&[by]), count as f64)).collect()
}

fn cache_bytes(all: &Snapshot) -> Vec<Sample> {
    let by =
        |(_, store): &(_, StoreFigures)| [("used", store.used), ("free", store.capacity.saturating_sub(store.used))];
    all.figures.cache.iter().flat_map(by).map(|(state, bytes)| (owned(&[state]), bytes as f64)).collect()
}

fn refused(all: &Snapshot) -> Vec<Sample> {
    all.figures.refusals.iter().map(|(by, count)| (owned(&[by.word()]), *count as f64)).collect()
}
