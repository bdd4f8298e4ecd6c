//! What is known of the nodes at one moment (failover 1).

use crate::state::{NodeSet, now};

/// State of a node (failover 1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeStatus {
    /// Not configured, or switched off by the status file.
    #[default]
    Unused = 0,
    /// Attached, no session has connected to it yet.
    Waiting = 1,
    /// Attached.
    Up = 2,
    /// Detached.
    Down = 3,
}

impl NodeStatus {
    /// Whether sessions may use the node.
    pub fn is_attached(self) -> bool {
        matches!(self, Self::Waiting | Self::Up)
    }
}

/// What a node said when it was last asked for `pg_is_in_recovery()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Not asked yet, no answer, or a mode in which it does not matter.
    #[default]
    Unknown = 0,
    /// Not in recovery.
    Primary = 1,
    /// In recovery.
    Standby = 2,
}

/// Where a server stands: in which history, and how often a standby was promoted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The database system identifier: the same for a server and all copies of it.
    pub system: u64,
    /// The timeline; every promotion begins a new one.
    pub timeline: u32,
}

impl History {
    /// Whether a promotion lies between the two. False also if they have nothing to do with each other.
    pub fn is_older_than(self, other: Self) -> bool {
        self.system == other.system && self.timeline < other.timeline
    }
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// `backend_hostname`; a directory for Unix sockets.
    pub hostname: String,
    /// `backend_port`; 0 when not configured.
    pub port: u16,
    /// `backend_weight`, as configured.
    pub weight: f64,
    /// State.
    pub status: NodeStatus,
    /// Down only because the watchdog has no consensus about it.
    pub quarantined: bool,
    /// Down only because it was not reached when nodes were searched: used again as soon as it is found up. Changing the
    /// status ends it.
    pub missing: bool,
    /// Down because an administrator has detached it: only he attaches it again.
    pub kept_out: bool,
    /// It takes writes without being the primary, as a former one does: it gets none, also if there is no other node.
    pub barred: bool,
    /// What it said about itself.
    pub role: Role,
    /// `DISALLOW_TO_FAILOVER`.
    pub disallow_to_failover: bool,
    /// `ALWAYS_PRIMARY`.
    pub always_primary: bool,
    /// `backend_application_name`.
    pub application_name: String,
    /// When status or role changed last, seconds since 1970.
    pub last_status_change: u64,
    /// Why it changed last, in words for a person.
    pub reason: String,
    /// `pg_stat_replication.state`, empty if unknown.
    pub replication_state: String,
    /// `pg_stat_replication.sync_state`, empty if unknown.
    pub sync_state: String,
}

/// All nodes at one moment, index = id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Moves with every change of anything here.
    pub generation: u64,
    /// The nodes up to the highest configured id.
    pub nodes: Vec<Node>,
    /// The primary (failover 1.2); none outside streaming and logical mode, or when it is not known.
    pub primary: Option<usize>,
    /// The attached node with the lowest id; keeps its value when no node is attached.
    pub main: Option<usize>,
    /// Where the primary stood when it was last seen; stays when that node is lost, so that no older one takes its place.
    pub history: Option<History>,
}

impl Cluster {
    /// The nodes sessions may use.
    pub fn attached(&self) -> NodeSet {
        self.nodes.iter().enumerate().filter(|(_, node)| node.status.is_attached()).map(|(id, _)| id).collect()
    }

    /// Where writes go: the primary if there is one and it is attached, else the main node (failover 1.2), unless that is
    /// barred.
    pub fn write_node(&self) -> Option<usize> {
        let attached = self.attached();
        let primary = self.primary.filter(|id| attached.contains(*id));
        primary.or_else(|| attached.iter().find(|id| !self.nodes[*id].barred))
    }

    /// Changes the status of a node, with the time, the reason and the main node that follow from it.
    pub fn set_status(&mut self, id: usize, status: NodeStatus, reason: &str) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.status = status;
        node.missing = false;
        node.kept_out &= status == NodeStatus::Down;
        node.last_status_change = now();
        reason.clone_into(&mut node.reason);
        self.main = self.attached().iter().next().or(self.main);
    }

    /// The node cannot be reached now, but nobody has detached it.
    pub fn set_missing(&mut self, id: usize, reason: &str) {
        self.set_status(id, NodeStatus::Down, reason);
        if let Some(node) = self.nodes.get_mut(id) {
            node.missing = true;
        }
    }

    /// An administrator detaches the node. Attaching it ends that.
    pub fn keep_out(&mut self, id: usize) {
        if let Some(node) = self.nodes.get_mut(id) {
            (node.kept_out, node.missing) = (true, false);
        }
    }

    /// Exactly these nodes are barred.
    pub fn bar(&mut self, barred: NodeSet) {
        self.nodes.iter_mut().enumerate().for_each(|(id, node)| node.barred = barred.contains(id));
    }

    /// Makes a node the primary, or says that there is none; the times of the nodes concerned follow, and the states of
    /// replication are unknown until the new primary is asked.
    pub fn set_primary(&mut self, primary: Option<usize>) {
        if self.primary == primary {
            return;
        }
        // What the former primary has said of its standbys counts no more, for auto_failback above all.
        for node in &mut self.nodes {
            node.replication_state.clear();
            node.sync_state.clear();
        }
        for id in [self.primary, primary].into_iter().flatten() {
            if let Some(node) = self.nodes.get_mut(id) {
                node.last_status_change = now();
                node.barred &= Some(id) != primary;
            }
        }
        self.primary = primary;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_former_primary_has_said_of_its_standbys_counts_no_more() {
        let streaming =
            Node { replication_state: "streaming".to_owned(), sync_state: "async".to_owned(), ..Node::default() };
        let mut cluster = Cluster { nodes: vec![Node::default(), streaming], primary: Some(0), ..Cluster::default() };
        cluster.set_primary(Some(0));
        assert_eq!(cluster.nodes[1].replication_state, "streaming");
        cluster.set_primary(Some(1));
        assert_eq!(
            cluster.nodes[1],
            Node { last_status_change: cluster.nodes[1].last_status_change, ..Node::default() }
        );
    }
}
