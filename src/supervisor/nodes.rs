//! The parent's part in the node table: filling it from the settings and the status file.

use super::status_file;
use crate::config::{BackendClusteringMode, Settings};
use crate::report::Report;
use crate::state::{Cluster, Node, NodeStatus, NodeTableBusy, Role, Shared};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Takes the nodes of the settings into an empty table, and over from the status file which of them were detached when
/// pgpool ended (process-model 12.1). `discard`: the status file is deleted unread.
///
/// # Errors
/// The table is locked.
pub(super) fn fill(
    shared: &Shared,
    settings: &Settings,
    status_file: &Path,
    discard: bool,
) -> Result<(), NodeTableBusy> {
    let states = if discard { forget(status_file) } else { status_file::read(status_file) };
    shared.nodes().update(|cluster| enter(cluster, settings, &states))
}

/// The nodes as a start would see them before it asks any of them; changes nothing.
pub fn at_start(settings: &Settings) -> Cluster {
    let mut cluster = Cluster::default();
    enter(&mut cluster, settings, &status_file::read(&status_file::path(&settings.work_dir)));
    cluster
}

fn enter(cluster: &mut Cluster, settings: &Settings, states: &[Option<NodeStatus>]) {
    for id in configure(cluster, settings) {
        match states.get(id).copied().flatten() {
            Some(NodeStatus::Down) => cluster.set_status(id, NodeStatus::Down, "down in the status file"),
            _ => cluster.set_status(id, NodeStatus::Waiting, "configured"),
        }
    }
}

/// Takes over what a reload has changed. A node that is new starts as down: an administrator attaches it (config 6.3).
/// Does not wait.
///
/// # Errors
/// Another process changes the table at this moment.
pub(super) fn refresh(shared: &Shared, settings: &Settings) -> Result<(), NodeTableBusy> {
    shared.nodes().try_update(|cluster| {
        for id in configure(cluster, settings) {
            cluster.set_status(id, NodeStatus::Down, "added by a reload, not attached yet");
        }
    })
}

/// Copies the settings of every node; its state stays. Returns the nodes that were not in use before.
fn configure(cluster: &mut Cluster, settings: &Settings) -> Vec<usize> {
    let mut new = Vec::new();
    for (id, configured) in settings.used_nodes() {
        if cluster.nodes.len() <= id {
            cluster.nodes.resize_with(id + 1, Node::default);
        }
        let node = &mut cluster.nodes[id];
        node.hostname.clone_from(&configured.hostname);
        node.port = configured.port;
        node.weight = configured.weight;
        node.application_name.clone_from(&configured.application_name);
        node.disallow_to_failover = configured.flags.disallow_to_failover;
        node.always_primary = configured.flags.always_primary;
        if node.status == NodeStatus::Unused {
            new.push(id);
        }
    }
    new
}

fn forget(status_file: &Path) -> Vec<Option<NodeStatus>> {
    match fs::remove_file(status_file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Report::warning(format!("could not delete status file \"{}\"", status_file.display()))
                .detail(error.to_string())
                .log();
        }
        _ => Report::log_line(format!("Backend status file {} discarded", status_file.display())).log(),
    }
    Vec::new()
}

/// One line per node (process-model 2, step 18), where the roles of nodes matter.
pub(super) fn tell(cluster: &Cluster, mode: BackendClusteringMode) {
    if mode == BackendClusteringMode::StreamingReplication {
        for (id, node) in cluster.nodes.iter().enumerate() {
            Report::log_line(format!("node status[{id}]: {}", number(node, cluster.primary == Some(id)))).log();
        }
    }
}

/// 0 not used, 1 primary, 2 standby, 3 a second primary.
fn number(node: &Node, is_primary: bool) -> u8 {
    match node.role {
        _ if !node.status.is_attached() => 0,
        _ if is_primary => 1,
        Role::Primary => 3,
        Role::Standby => 2,
        Role::Unknown => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;

    fn settings(nodes: &[(usize, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (id, host) in nodes {
            settings.assign(&format!("backend_hostname{id}"), host).expect("setting");
            settings.assign(&format!("backend_port{id}"), "5432").expect("setting");
        }
        settings
    }

    fn states(shared: &Shared) -> Vec<NodeStatus> {
        shared.nodes().view().nodes.iter().map(|node| node.status).collect()
    }

    #[test]
    fn detached_nodes_stay_down_and_new_ones_are_used() {
        use NodeStatus::{Down, Unused, Waiting};
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let file = std::env::temp_dir().join(format!("pgpool-nodes-{}", std::process::id()));
        fs::write(&file, "up\nunused\ndown\n").expect("write");
        fill(&shared, &settings(&[(0, "a"), (2, "c"), (4, "e")]), &file, false).expect("fill");
        assert_eq!(states(&shared), [Waiting, Unused, Down, Unused, Waiting]);
        assert_eq!(shared.nodes().view().main, Some(0));

        refresh(&shared, &settings(&[(0, "a"), (1, "b"), (2, "other"), (4, "e"), (5, "f")])).expect("refresh");
        assert_eq!(states(&shared), [Waiting, Down, Down, Unused, Waiting, Down]);
        assert_eq!(shared.nodes().view().nodes[2].hostname, "other");
        fs::remove_file(&file).expect("remove");
    }

    #[test]
    fn a_discarded_status_file_counts_no_more() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let file = std::env::temp_dir().join(format!("pgpool-discard-{}", std::process::id()));
        fs::write(&file, "up\ndown\n").expect("write");
        fill(&shared, &settings(&[(0, "a"), (1, "b")]), &file, true).expect("fill");
        assert_eq!(states(&shared), [NodeStatus::Waiting; 2]);
        assert!(!file.exists());
    }

    #[test]
    fn roles_as_numbers() {
        let node = |status, role| Node { status, role, ..Node::default() };
        let up = NodeStatus::Up;
        assert_eq!(number(&node(up, Role::Primary), true), 1);
        assert_eq!(number(&node(up, Role::Primary), false), 3);
        assert_eq!(number(&node(up, Role::Standby), false), 2);
        assert_eq!(number(&node(NodeStatus::Down, Role::Primary), true), 0);
    }
}
