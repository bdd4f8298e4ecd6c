//! The node table: which servers there are and in which state (failover 1).
//!
//! The table is replaced as a whole. Its version is the generation: a process compares it between statements and reads the
//! table again when it moved. Changes go through [`NodeTable::update`], under a lock that survives its holder. What changes
//! all the time, the delays of standbys, is kept [beside it](super::Delays).

mod cluster;

pub use cluster::{Cluster, History, Node, NodeStatus, Role};

use super::MAX_NODES;
use pgpool_shm::{SharedMutex, Text, Versioned, plain, shareable};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How long a change waits for another process's change, which is a matter of microseconds unless that process is stopped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Another process holds the node table's lock and does not let go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node table is locked by another process for more than {} seconds", PATIENCE.as_secs())]
pub struct NodeTableBusy;

/// The shared node table.
#[derive(Clone, Copy)]
pub struct NodeTable<'a>(&'a Table);

shareable! {
    pub(super) struct Table {
        changing: SharedMutex<[AtomicU64; 0]>,
        nodes: Versioned<NodeRecord, MAX_NODES>,
        history: Versioned<HistoryRecord>,
    }
}

plain! {
    pub(super) struct NodeRecord {
        weight: f64,
        last_status_change: u64,
        port: u16,
        status: u8,
        role: u8,
        flags: u32,
        hostname: Text<256>,
        application_name: Text<64>,
        reason: Text<256>,
        replication_state: Text<32>,
        sync_state: Text<32>,
    }
}

plain! {
    /// Timeline 0: not known.
    pub(super) struct HistoryRecord {
        system: u64,
        timeline: u64,
    }
}

const QUARANTINED: u32 = 1;

const DISALLOW_TO_FAILOVER: u32 = 2;
const ALWAYS_PRIMARY: u32 = 4;
const IS_PRIMARY: u32 = 8;
const IS_MAIN: u32 = 16;
const MISSING: u32 = 32;
const KEPT_OUT: u32 = 64;
const BARRED: u32 = 128;

impl Table {
    pub(super) fn prepare(&self) {
        pgpool_shm::prepare(&self.changing);
    }
}

impl<'a> NodeTable<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self(table)
    }

    /// Moves when anything in the table changed. One load.
    #[inline]
    pub fn generation(self) -> u64 {
        self.0.nodes.version()
    }

    /// The table as it is now.
    pub fn view(self) -> Cluster {
        let mut records = Vec::new();
        let generation = self.0.nodes.read_into(&mut records);
        let find = |flag: u32| records.iter().position(|record| record.flags & flag != 0);
        Cluster {
            generation,
            primary: find(IS_PRIMARY),
            main: find(IS_MAIN),
            history: self.history(),
            nodes: records.iter().map(Node::from).collect(),
        }
    }

    fn history(self) -> Option<History> {
        let HistoryRecord { system, timeline } = self.0.history.get();
        u32::try_from(timeline).ok().filter(|timeline| *timeline != 0).map(|timeline| History { system, timeline })
    }

    /// Changes the table: `change` gets the present state, and what it leaves is published in one step if it differs.
    ///
    /// # Errors
    /// Another process holds the lock for too long. A dead one does not.
    pub fn update<R>(self, change: impl FnOnce(&mut Cluster) -> R) -> Result<R, NodeTableBusy> {
        self.update_within(PATIENCE, change)
    }

    /// As [`Self::update`], for the parent: it never waits, but tries again later.
    ///
    /// # Errors
    /// Another process changes the table at this moment.
    pub fn try_update<R>(self, change: impl FnOnce(&mut Cluster) -> R) -> Result<R, NodeTableBusy> {
        self.update_within(Duration::ZERO, change)
    }

    fn update_within<R>(self, patience: Duration, change: impl FnOnce(&mut Cluster) -> R) -> Result<R, NodeTableBusy> {
        // A holder that died inside left a whole table, the last one published: nothing to repair.
        let _lock = self.0.changing.try_lock_for(patience).ok_or(NodeTableBusy)?;
        let before = self.view();
        let mut cluster = before.clone();
        let result = change(&mut cluster);
        if cluster.history != before.history {
            let (system, timeline) =
                cluster.history.map_or((0, 0), |history| (history.system, history.timeline.into()));
            self.0.history.set(HistoryRecord { system, timeline });
        }
        if cluster != before {
            let records: Vec<NodeRecord> = (0..cluster.nodes.len()).map(|id| NodeRecord::of(&cluster, id)).collect();
            self.0.nodes.write(&records);
        }
        Ok(result)
    }

    /// A session has connected to the node: waiting becomes up (failover 1.4). Returns whether that was a change.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn mark_connected(self, id: usize) -> Result<bool, NodeTableBusy> {
        self.update(|cluster| {
            let waiting = cluster.nodes.get(id).is_some_and(|node| node.status == NodeStatus::Waiting);
            if waiting {
                cluster.set_status(id, NodeStatus::Up, "a session connected to it");
            }
            waiting
        })
    }
}

impl NodeRecord {
    fn of(cluster: &Cluster, id: usize) -> Self {
        let node = &cluster.nodes[id];
        let flags = [
            (QUARANTINED, node.quarantined),
            (MISSING, node.missing),
            (KEPT_OUT, node.kept_out),
            (BARRED, node.barred),
            (DISALLOW_TO_FAILOVER, node.disallow_to_failover),
            (ALWAYS_PRIMARY, node.always_primary),
            (IS_PRIMARY, cluster.primary == Some(id)),
            (IS_MAIN, cluster.main == Some(id)),
        ];
        Self {
            weight: node.weight,
            last_status_change: node.last_status_change,
            port: node.port,
            status: node.status as u8,
            role: node.role as u8,
            flags: flags.iter().filter(|(_, set)| *set).map(|(flag, _)| flag).sum(),
            hostname: Text::new(&node.hostname),
            application_name: Text::new(&node.application_name),
            reason: Text::new(&node.reason),
            replication_state: Text::new(&node.replication_state),
            sync_state: Text::new(&node.sync_state),
        }
    }
}

impl From<&NodeRecord> for Node {
    fn from(record: &NodeRecord) -> Self {
        let flag = |flag: u32| record.flags & flag != 0;
        Self {
            hostname: record.hostname.to_string(),
            port: record.port,
            weight: record.weight,
            status: match record.status {
                1 => NodeStatus::Waiting,
                2 => NodeStatus::Up,
                3 => NodeStatus::Down,
                _ => NodeStatus::Unused,
            },
            quarantined: flag(QUARANTINED),
            missing: flag(MISSING),
            kept_out: flag(KEPT_OUT),
            barred: flag(BARRED),
            role: match record.role {
                1 => Role::Primary,
                2 => Role::Standby,
                _ => Role::Unknown,
            },
            disallow_to_failover: flag(DISALLOW_TO_FAILOVER),
            always_primary: flag(ALWAYS_PRIMARY),
            application_name: record.application_name.to_string(),
            last_status_change: record.last_status_change,
            reason: record.reason.to_string(),
            replication_state: record.replication_state.to_string(),
            sync_state: record.sync_state.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, NodeSet, Shared};

    #[test]
    fn what_is_written_is_read() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let nodes = shared.nodes();
        let node = Node {
            hostname: "db1.example".to_owned(),
            port: 5432,
            weight: 0.5,
            role: Role::Standby,
            always_primary: true,
            sync_state: "async".to_owned(),
            ..Node::default()
        };
        nodes
            .update(|cluster| {
                cluster.nodes = vec![Node::default(), node.clone()];
                cluster.set_status(1, NodeStatus::Waiting, "started");
                cluster.set_primary(Some(1));
                cluster.nodes[1].sync_state.clone_from(&node.sync_state);
                cluster.history = Some(History { system: u64::MAX, timeline: 3 });
            })
            .expect("update");
        let view = nodes.view();
        assert_eq!((view.primary, view.main, view.write_node()), (Some(1), Some(1), Some(1)));
        assert_eq!(view.history, Some(History { system: u64::MAX, timeline: 3 }));
        let Node { last_status_change, .. } = view.nodes[1];
        let expected = Node { status: NodeStatus::Waiting, reason: "started".to_owned(), last_status_change, ..node };
        assert_eq!(view.nodes[1], expected);
        assert_eq!(nodes.generation(), view.generation);
    }

    #[test]
    fn the_generation_moves_with_changes_only() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let nodes = shared.nodes();
        nodes.update(|cluster| cluster.nodes = vec![Node::default(); 2]).expect("update");
        let before = nodes.generation();
        nodes.update(|cluster| cluster.primary = None).expect("update");
        assert_eq!(nodes.generation(), before);
        nodes.update(|cluster| cluster.set_status(0, NodeStatus::Waiting, "attached")).expect("update");
        assert_ne!(nodes.generation(), before);
        assert!(nodes.mark_connected(0).expect("update"));
        assert!(!nodes.mark_connected(0).expect("update"));
        nodes.update(|cluster| cluster.set_missing(0, "not reached")).expect("update");
        assert!(nodes.view().nodes[0].missing && nodes.view().nodes[0].status == NodeStatus::Down);
        nodes.update(|cluster| cluster.set_status(0, NodeStatus::Down, "gone")).expect("update");
        assert!(!nodes.view().nodes[0].missing);
        nodes.update(|cluster| cluster.keep_out(0)).expect("update");
        nodes.update(|cluster| cluster.set_status(0, NodeStatus::Down, "to follow")).expect("update");
        assert!(nodes.view().nodes[0].kept_out, "only attaching ends it");
        assert_eq!((nodes.view().main, nodes.view().write_node()), (Some(0), None));
        nodes.update(|cluster| cluster.set_status(0, NodeStatus::Waiting, "attached")).expect("update");
        assert!(!nodes.view().nodes[0].kept_out);
    }

    #[test]
    fn a_barred_node_gets_no_write_until_it_is_the_primary() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let nodes = shared.nodes();
        let after = |change: &dyn Fn(&mut Cluster)| {
            nodes.update(change).expect("update");
            nodes.view().write_node()
        };
        let attach = |cluster: &mut Cluster| {
            cluster.nodes = vec![Node::default(); 2];
            (0..2).for_each(|id| cluster.set_status(id, NodeStatus::Waiting, "attached"));
        };
        assert_eq!(after(&attach), Some(0));
        assert_eq!(after(&|cluster| cluster.bar(NodeSet::of(0))), Some(1));
        assert_eq!(after(&|cluster| cluster.set_status(1, NodeStatus::Down, "lost")), None);
        assert_eq!((nodes.view().main, nodes.view().nodes[0].barred), (Some(0), true));
        assert_eq!(after(&|cluster| cluster.set_primary(Some(0))), Some(0));
        assert_eq!(after(&|cluster| cluster.set_primary(None)), Some(0), "it was the primary, and nobody says more");
    }
}
