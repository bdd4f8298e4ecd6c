//! The words for a node's state and part (show-commands 4).

use crate::config::{BackendClusteringMode, Settings};
use crate::state::{Cluster, Node, NodeStatus};

/// Whether the servers keep themselves in step by streaming replication: only there a node is a primary or a standby, and
/// has a delay (show-commands 6).
pub(super) fn is_streaming(settings: &Settings) -> bool {
    settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication
}

/// The status word of a node.
pub(super) fn status(node: &Node) -> &'static str {
    match node.status {
        NodeStatus::Unused => "unused",
        NodeStatus::Waiting => "waiting",
        NodeStatus::Up => "up",
        NodeStatus::Down if node.quarantined => "quarantine",
        NodeStatus::Down => "down",
    }
}

/// The part a node plays.
pub(super) fn role(settings: &Settings, cluster: &Cluster, id: usize) -> &'static str {
    match (is_streaming(settings), cluster.primary == Some(id), cluster.main == Some(id)) {
        (true, true, _) => "primary",
        (true, false, _) => "standby",
        (false, _, true) => "main",
        (false, _, false) => "replica",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_words() {
        let word = |status, quarantined| super::status(&Node { status, quarantined, ..Node::default() });
        assert_eq!(word(NodeStatus::Unused, false), "unused");
        assert_eq!(word(NodeStatus::Waiting, false), "waiting");
        assert_eq!(word(NodeStatus::Up, false), "up");
        assert_eq!(word(NodeStatus::Down, false), "down");
        assert_eq!(word(NodeStatus::Down, true), "quarantine");
    }

    #[test]
    fn parts_depend_on_the_mode() {
        let cluster = Cluster { primary: Some(1), main: Some(0), ..Cluster::default() };
        let words = |backend_clustering_mode, cluster: &Cluster| {
            let settings = Settings { backend_clustering_mode, ..Settings::default() };
            [0, 1].map(|id| role(&settings, cluster, id))
        };
        assert_eq!(words(BackendClusteringMode::StreamingReplication, &cluster), ["standby", "primary"]);
        assert_eq!(words(BackendClusteringMode::LogicalReplication, &cluster), ["main", "replica"]);
        assert_eq!(words(BackendClusteringMode::Raw, &cluster), ["main", "replica"]);
        let unknown = Cluster { primary: None, ..cluster };
        assert_eq!(words(BackendClusteringMode::StreamingReplication, &unknown), ["standby", "standby"]);
    }
}
