//! One step of the engine: what it sees, and what it wants done.

use super::action::Action;
use crate::cluster::primary::Found;
use crate::config::{BackendClusteringMode, Settings};
use crate::report::Report;
use crate::state::{Cluster, NodeStatus};
use std::time::Instant;

/// One step: the node table as it will be, and what is to be done.
pub(super) struct Step<'a> {
    pub cluster: Cluster,
    pub settings: &'a Settings,
    pub now: Instant,
    pub actions: Vec<Action>,
}

impl<'a> Step<'a> {
    pub fn new(cluster: &Cluster, settings: &'a Settings, now: Instant) -> Self {
        Self { cluster: cluster.clone(), settings, now, actions: Vec::new() }
    }

    pub fn log(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Log(Report::log_line(text)));
    }

    pub fn set_status(&mut self, node: usize, status: NodeStatus, reason: &str) {
        self.cluster.set_status(node, status, reason);
        self.actions.push(Action::SetStatus(node, status, reason.to_owned()));
        self.actions.push(Action::WriteStatusFile);
    }

    /// An administrator detaches the node. `only`: nothing else changes.
    pub fn keep_out(&mut self, node: usize, only: bool) {
        self.cluster.keep_out(node);
        self.actions.push(Action::KeepOut(node));
        if only {
            self.actions.push(Action::WriteStatusFile);
        }
    }

    pub fn note(&mut self, found: Found) {
        found.note(&mut self.cluster);
        self.actions.push(Action::Note(found));
    }

    pub fn set_primary(&mut self, primary: Option<usize>) {
        self.cluster.set_primary(primary);
        self.actions.push(Action::SetPrimary(primary));
    }

    /// HOST(PORT).
    pub fn place(&self, node: usize) -> String {
        self.cluster.nodes.get(node).map_or_else(String::new, |node| format!("{}({})", node.hostname, node.port))
    }

    pub fn host_and_port(&self, node: usize) -> String {
        self.cluster
            .nodes
            .get(node)
            .map_or_else(String::new, |node| format!("host: {} port: {}", node.hostname, node.port))
    }

    pub fn attached_main(&self) -> Option<usize> {
        self.cluster.attached().iter().next()
    }

    pub fn attached_primary(&self) -> Option<usize> {
        self.cluster.primary.filter(|node| self.cluster.attached().contains(*node))
    }

    /// The nodes that are to follow `primary`: all others that are configured and may be detached.
    pub fn followers(&self, primary: usize) -> Vec<usize> {
        let nodes = self.cluster.nodes.iter().enumerate();
        nodes
            .filter(|(id, node)| *id != primary && node.port != 0 && !node.disallow_to_failover)
            .map(|(id, _)| id)
            .collect()
    }

    pub fn is_streaming(&self) -> bool {
        self.settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication
    }

    pub fn has_primary(&self) -> bool {
        use BackendClusteringMode::{LogicalReplication, StreamingReplication};
        matches!(self.settings.backend_clustering_mode, StreamingReplication | LogicalReplication)
    }
}
