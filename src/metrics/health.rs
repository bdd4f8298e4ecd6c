//! Answers for load balancers and Kubernetes: whether pgpool runs, serves reads, takes writes.
//!
//! They are made from what the health checks and the parent know: no server is asked, and no worker is needed.

use crate::config::{BackendClusteringMode, Settings};
use crate::state::{Cluster, Condition, Progress, Shared};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Does pgpool run?
    Live,
    /// Can a new session read?
    Read,
    /// Can a new session write?
    Write,
}

impl Probe {
    /// The probe with that path.
    pub fn of_path(path: &str) -> Option<Self> {
        match path {
            "/health/live" => Some(Self::Live),
            "/health/read" => Some(Self::Read),
            "/health/write" => Some(Self::Write),
            _ => None,
        }
    }
}

/// The answer, in one line; `Err`: no, and why.
pub(super) fn look(probe: Probe, settings: &Settings, shared: &Shared) -> Result<String, String> {
    if probe == Probe::Live {
        return Ok("pgpool runs".to_owned());
    }
    let cluster = shared.nodes().view();
    let node = find(probe, settings, shared, &cluster)?;
    let workers = shared.workers();
    if workers.iter().all(|worker| worker.pid() == 0) {
        return Err("no process for sessions runs".to_owned());
    }
    let (all, busy) = (shared.limits().workers, workers.connected());
    if settings.is_crowded_by(busy + 1) {
        return Err("all processes but the reserved ones have a client: new ones are refused".to_owned());
    }
    let what = if probe == Probe::Write { "takes writes" } else { "can be read from" };
    let room = match all.saturating_sub(busy) {
        0 => format!("all {all} processes have a client, new ones wait"),
        free => format!("{free} of {all} processes are free"),
    };
    Ok(format!("{} {what}; {room}", name(&cluster, node)))
}

/// The node that a new session needs. It begins on the primary, whatever it is going to do there.
fn find(probe: Probe, settings: &Settings, shared: &Shared, cluster: &Cluster) -> Result<usize, String> {
    if shared.failover().progress() == Progress::Primary {
        return Err("the primary is being replaced: new sessions wait".to_owned());
    }
    if shared.hold().left().is_some() {
        return Err("new sessions wait: an administrator's request waits for the present ones to end".to_owned());
    }
    let Some(node) = cluster.write_node() else { return Err("no node is attached".to_owned()) };
    let streams = settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication;
    if probe == Probe::Write && streams && cluster.primary != Some(node) {
        return Err(match cluster.primary {
            Some(primary) => format!("the primary, {}, is detached", name(cluster, primary)),
            None => "there is no primary".to_owned(),
        });
    }
    match shared.health(node).condition() {
        Condition::Well => Ok(node),
        Condition::Suspected => Err(format!("{} does not answer; its health check is repeated", name(cluster, node))),
        Condition::Failing => Err(format!("{} does not answer its health check", name(cluster, node))),
    }
}

fn name(cluster: &Cluster, node: usize) -> String {
    match cluster.nodes.get(node) {
        Some(found) => format!("node {node} ({}:{})", found.hostname, found.port),
        None => format!("node {node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{ClientInfo, Limits, Node, NodeStatus, RoundEnd};
    use std::time::Duration;

    fn shared() -> Shared {
        let shared = Shared::create(Limits { workers: 2, pool_slots: 1, ..Limits::default() }).expect("shared");
        let node = |port| Node { hostname: "db".to_owned(), port, status: NodeStatus::Up, ..Node::default() };
        let update = |cluster: &mut Cluster| {
            cluster.nodes = vec![node(5432), node(5433)];
            (cluster.primary, cluster.main) = (Some(0), Some(0));
        };
        shared.nodes().update(update).expect("update");
        (0..2).for_each(|index| shared.worker(index).occupy(100));
        shared
    }

    fn ask(shared: &Shared) -> [Result<String, String>; 2] {
        [Probe::Read, Probe::Write].map(|probe| look(probe, &Settings::default(), shared))
    }

    fn both(text: &str) -> [Result<String, String>; 2] {
        [Err(text.to_owned()), Err(text.to_owned())]
    }

    #[test]
    fn busy_is_not_ill() {
        let shared = shared();
        let good = |rest: &str| {
            ["can be read from", "takes writes"].map(|what| Ok(format!("node 0 (db:5432) {what}; {rest}")))
        };
        assert_eq!(ask(&shared), good("2 of 2 processes are free"));
        for index in 0..2 {
            shared.worker(index).begin_client(&ClientInfo::default());
        }
        assert_eq!(ask(&shared), good("all 2 processes have a client, new ones wait"));
        (0..2).for_each(|index| shared.worker(index).reclaim());
        assert_eq!(ask(&shared), both("no process for sessions runs"));
    }

    #[test]
    fn who_refuses_new_sessions_says_so() {
        let shared = shared();
        let settings = Settings { num_init_children: 2, reserved_connections: 1, ..Settings::default() };
        let ask = || [Probe::Read, Probe::Write].map(|probe| look(probe, &settings, &shared));
        assert!(ask().iter().all(Result::is_ok));
        shared.worker(0).begin_client(&ClientInfo::default());
        assert_eq!(ask(), both("all processes but the reserved ones have a client: new ones are refused"));
        assert!(look(Probe::Live, &settings, &shared).is_ok());
        shared.worker(0).end_client(true);
        assert!(ask().iter().all(Result::is_ok));
    }

    #[test]
    fn a_primary_that_is_lost_is_told_of() {
        let shared = shared();
        shared.health(1).end(RoundEnd::Failure { counted: true }, 0, Duration::ZERO);
        assert!(ask(&shared).iter().all(Result::is_ok), "a standby is not needed");
        shared.health(0).suspect();
        assert_eq!(ask(&shared), both("node 0 (db:5432) does not answer; its health check is repeated"));
        shared.health(0).end(RoundEnd::Failure { counted: true }, 0, Duration::ZERO);
        assert_eq!(ask(&shared), both("node 0 (db:5432) does not answer its health check"));
        shared.failover().begin(Progress::Primary);
        assert_eq!(ask(&shared), both("the primary is being replaced: new sessions wait"));
        shared.nodes().update(|cluster| cluster.set_status(0, NodeStatus::Down, "lost")).expect("update");
        shared.failover().end();
        let [read, write] = ask(&shared);
        assert!(write.is_err_and(|why| why == "the primary, node 0 (db:5432), is detached"));
        assert!(read.is_err_and(|why| why.starts_with("node 1 (db:5433) does not answer")));
        shared.health(1).end(RoundEnd::Success, 0, Duration::ZERO);
        shared.nodes().update(|cluster| cluster.set_primary(None)).expect("update");
        let [read, write] = ask(&shared);
        assert!(read.is_ok() && write.is_err_and(|why| why == "there is no primary"));
        shared.nodes().update(|cluster| cluster.set_status(1, NodeStatus::Down, "lost")).expect("update");
        assert_eq!(ask(&shared), both("no node is attached"));
        let raw = Settings { backend_clustering_mode: BackendClusteringMode::Raw, ..Settings::default() };
        shared.nodes().update(|cluster| cluster.set_status(1, NodeStatus::Up, "back")).expect("update");
        assert!(look(Probe::Write, &raw, &shared).is_ok());
    }
}
