//! The parent's part in the node table: filling it from the settings and the status file.

use super::reasons_file::{self, Remark};
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
    if discard {
        forget(status_file);
    }
    let memory = if discard { Memory::default() } else { Memory::read(status_file) };
    shared.nodes().update(|cluster| enter(cluster, settings, &memory))
}

/// The nodes as a start would see them before it asks any of them; changes nothing.
pub fn at_start(settings: &Settings) -> Cluster {
    let mut cluster = Cluster::default();
    enter(&mut cluster, settings, &Memory::read(&status_file::path(&settings.work_dir)));
    cluster
}

/// What is remembered of the nodes from the time before the start, index = node id.
#[derive(Default)]
struct Memory {
    /// Empty: nothing is.
    states: Vec<Option<NodeStatus>>,
    remarks: Vec<Option<Remark>>,
}

impl Memory {
    fn read(status_file: &Path) -> Self {
        Self { states: status_file::read(status_file), remarks: reasons_file::read(status_file) }
    }
}

fn enter(cluster: &mut Cluster, settings: &Settings, memory: &Memory) {
    for id in configure(cluster, settings) {
        match memory.states.get(id).copied() {
            Some(Some(NodeStatus::Down)) => enter_down(cluster, id, memory.remarks.get(id).cloned().flatten()),
            // It may have said that the node is down, and is a former primary.
            Some(None) => cluster.set_status(id, NodeStatus::Down, "its line in the status file is invalid"),
            None if !memory.states.is_empty() => {
                Report::log_line(format!("DB node {id} is not in the status file: it is new, and will be used")).log();
                cluster.set_status(id, NodeStatus::Waiting, "new in the configuration");
            }
            _ => cluster.set_status(id, NodeStatus::Waiting, "configured"),
        }
    }
}

fn enter_down(cluster: &mut Cluster, id: usize, remark: Option<Remark>) {
    let Some(remark) = remark.filter(|remark| remark.status == NodeStatus::Down) else {
        return cluster.set_status(id, NodeStatus::Down, "down in the status file");
    };
    cluster.set_status(id, NodeStatus::Down, &remark.reason);
    cluster.nodes[id].last_status_change = remark.since;
    if remark.kept_out {
        cluster.keep_out(id);
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

fn forget(status_file: &Path) {
    for file in [&reasons_file::path(status_file), status_file] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Report::warning(format!("failed to discard backend status file: \"{}\"", file.display()))
                    .detail(error.to_string())
                    .hint("Nodes that it calls down stay detached: attach them by pcp_attach_node.")
                    .log();
            }
            _ if file == status_file => {
                Report::log_line(format!("Backend status file {} discarded", file.display())).log();
            }
            _ => {}
        }
    }
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
    fn who_detached_a_node_and_when_is_remembered() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let file = std::env::temp_dir().join(format!("pgpool-remarks-{}", std::process::id()));
        fs::write(&file, "up\ndown\ndown\ndown\n").expect("write");
        let remarks = "1 down 1000 administrator maintenance\n2 down 2000 - refused\n3 up 3000 - out of date\n";
        fs::write(reasons_file::path(&file), remarks).expect("write");
        fill(&shared, &settings(&[(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, "e")]), &file, false).expect("fill");
        let nodes = shared.nodes().view().nodes;
        let told = |id: usize| (nodes[id].reason.as_str(), nodes[id].kept_out);
        assert_eq!(
            [1, 2, 3, 4].map(told),
            [
                ("maintenance", true),
                ("refused", false),
                ("down in the status file", false),
                ("new in the configuration", false)
            ]
        );
        assert_eq!([1, 2].map(|id: usize| nodes[id].last_status_change), [1000, 2000]);
        fill(&shared, &settings(&[(0, "a")]), &file, true).expect("fill");
        assert!(!file.exists() && !reasons_file::path(&file).exists());
    }

    #[test]
    fn a_node_of_which_the_file_tells_nothing_sensible_is_not_used() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let file = std::env::temp_dir().join(format!("pgpool-invalid-{}", std::process::id()));
        fs::write(&file, "up\ndwn\n\n").expect("write");
        fill(&shared, &settings(&[(0, "a"), (1, "b"), (2, "c")]), &file, false).expect("fill");
        assert_eq!(states(&shared), [NodeStatus::Waiting, NodeStatus::Down, NodeStatus::Down]);
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
