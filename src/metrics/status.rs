//! What the status page shows, as JSON.

use super::families::session_state;
use super::health::{self, Probe};
use super::json::Json;
use super::measure::Snapshot;
use crate::admin::{self, NodeFigures, View, WorkerFigures};
use crate::config::Settings;
use crate::report::version;
use crate::state::{CacheCounts, Condition, Delay, PastFailover, ProcessStatus, Shared, StoreFigures, now};
use std::time::Duration;

/// So many processes with a session are listed.
const MAX_PROCESSES: usize = 200;
/// Stands for a command.
const SET: &str = "(set)";

pub(super) fn text(snapshot: &Snapshot, settings: &Settings, shared: &Shared) -> String {
    let figures = &snapshot.figures;
    let probe = |probe| {
        let outcome = health::look(probe, settings, shared);
        Json::Map(vec![("ok", outcome.is_ok().into()), ("why", outcome.unwrap_or_else(|why| why).into())])
    };
    let waiting: u64 = snapshot.waiting.iter().map(|(_, length)| length).sum();
    let reasons = figures.reasons.iter().filter(|(_, count)| *count > 0);
    Json::Map(vec![
        ("version", version::text().into()),
        ("now", now().into()),
        ("started", figures.started.into()),
        ("read", probe(Probe::Read)),
        ("write", probe(Probe::Write)),
        ("nodes", figures.nodes.iter().map(node).collect()),
        ("workers", workers(&figures.workers)),
        ("waiting", waiting.into()),
        ("cpu", snapshot.cpu.as_secs_f64().into()),
        ("pool", {
            let pool = &figures.pool;
            Json::Map(vec![("slots", pool.slots.into()), ("used", pool.used.into()), ("pooled", pool.pooled.into())])
        }),
        ("cache", figures.cache.as_ref().map(cache).into()),
        ("accounts", {
            let accounts = figures.workers.accounts.iter();
            let account = |((user, database), sessions): (&(String, String), &u64)| {
                Json::Map(vec![
                    ("user", user.as_str().into()),
                    ("database", database.as_str().into()),
                    ("sessions", (*sessions).into()),
                ])
            };
            accounts.map(account).collect()
        }),
        ("processes", processes(settings, shared)),
        ("failovers", figures.last_failovers.iter().map(failover).collect()),
        ("reasons", reasons.map(|(reason, count)| named("reason", reason, *count)).collect()),
        ("refused", figures.refusals.iter().map(|(by, count)| named("by", by.word(), *count)).collect()),
        ("changed", changed(settings)),
    ])
    .to_string()
}

fn named(what: &'static str, name: &str, count: u64) -> Json {
    Json::Map(vec![(what, name.into()), ("count", count.into())])
}

fn node(node: &NodeFigures) -> Json {
    let counts = &node.counts;
    let statements = counts.select + counts.insert + counts.update + counts.delete + counts.ddl + counts.other;
    let (seconds, bytes) = match node.delay {
        Delay::Time(time) => (Some(time.as_secs_f64()), None),
        Delay::Bytes(bytes) => (None, Some(bytes)),
        Delay::Unmeasured | Delay::Unknown => (None, None),
    };
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    Json::Map(vec![
        ("id", node.id.into()),
        ("server", node.server.as_str().into()),
        ("status", node.status.into()),
        ("role", node.role.into()),
        ("attached", node.attached.into()),
        ("failing", (node.condition == Condition::Failing).into()),
        ("weight", node.weight.into()),
        ("delay_seconds", seconds.into()),
        ("delay_bytes", bytes.into()),
        ("replication_state", node.replication_state.as_str().into()),
        ("sync_state", node.sync_state.as_str().into()),
        ("reason", node.reason.as_str().into()),
        ("since", node.last_status_change.into()),
        ("statements", statements.into()),
        ("selects", counts.select.into()),
        ("errors", (counts.error + counts.fatal + counts.panic).into()),
        ("answers", node.latency.count().into()),
        ("answer_seconds", (node.latency.microseconds as f64 / 1e6).into()),
        ("p95_ms", node.latency.quantile(0.95).map(milliseconds).into()),
        ("connections", node.connections.into()),
        ("sessions", node.busy.into()),
    ])
}

fn workers(workers: &WorkerFigures) -> Json {
    let mut entries = vec![
        ("slots", workers.slots.into()),
        ("busy", workers.busy().into()),
        ("free", workers.free().into()),
        ("finished", workers.finished.into()),
    ];
    for (status, count) in WorkerFigures::STATES.into_iter().zip(workers.states) {
        entries.extend(session_state(status).map(|state| (state, count.into())));
    }
    Json::Map(entries)
}

fn cache((counts, store): &(CacheCounts, StoreFigures)) -> Json {
    Json::Map(vec![
        ("hits", counts.hits.into()),
        ("misses", counts.misses.into()),
        ("entries", store.entries.into()),
        ("evictions", store.evictions.into()),
        ("used", store.used.into()),
        ("capacity", store.capacity.into()),
    ])
}

/// The rows of SHOW POOL_PROCESSES that have a session.
fn processes(settings: &Settings, shared: &Shared) -> Json {
    let table = admin::processes(&View { settings, shared, load_balance_node: 0, listeners: &[] });
    let waits = ProcessStatus::WaitForConnection.text();
    let busy = table.rows.into_iter().filter(|row| row.last().is_some_and(|status| status != waits));
    Json::Map(vec![
        ("columns", Json::from_iter(table.columns)),
        ("rows", busy.take(MAX_PROCESSES).map(Json::from_iter).collect()),
    ])
}

/// The parameters that differ from their defaults. Commands may have passwords in them: what they are is only for those who
/// have named theirs.
fn changed(settings: &Settings) -> Json {
    let row = |mut row: Vec<String>| {
        let is_command = row[0].ends_with("_command");
        if is_command && !settings.metrics_require_login && !row[1].is_empty() {
            SET.clone_into(&mut row[1]);
        }
        Json::from_iter(row)
    };
    admin::changed(settings).rows.into_iter().map(row).collect()
}

fn failover(past: &PastFailover) -> Json {
    let phases = past.phases.named().map(|(phase, time)| (phase, (time.as_secs_f64() * 1000.0).into()));
    Json::Map(vec![
        ("at", past.at.into()),
        ("kind", past.kind.word().into()),
        ("node", past.node.into()),
        ("asker", past.asker.word().into()),
        ("ms", (past.phases.total().as_secs_f64() * 1000.0).into()),
        ("phases", Json::Map(phases.to_vec())),
        ("cause", past.cause.as_str().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_to_those_who_have_named_their_password() {
        let settings = |metrics_require_login| Settings {
            failover_command: "PGPASSWORD=secret promote %h".into(),
            failover_command_timeout: 7,
            metrics_require_login,
            ..Settings::default()
        };
        let shown = changed(&settings(false)).to_string();
        assert!(shown.contains("[\"failover_command\",\"(set)\",\"\"]") && !shown.contains("secret"), "{shown}");
        assert!(shown.contains("[\"failover_command_timeout\",\"7"), "{shown}");
        assert!(changed(&settings(true)).to_string().contains("secret promote"));
    }
}
