//! Which servers a cancel request means (protocol 4).

use super::{NodeSet, Shared, WorkerSlot};
use std::hint::black_box;
use std::sync::atomic::Ordering;

/// A server process as a cancel request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// Its process id.
    pub pid: u32,
    /// The secret, 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub key: Vec<u8>,
}

/// The session a cancel request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelTarget {
    /// Number of the worker that serves it.
    pub worker: usize,
    /// Its server connections, by node.
    pub nodes: Vec<(usize, ServerKey)>,
    /// The nodes on which a statement runs.
    pub busy: NodeSet,
}

impl WorkerSlot {
    /// The pid and key this worker's client was given. For the worker.
    pub fn set_cancel_key(&self, pid: u32, key: &[u8]) {
        let record = self.record();
        record.cancel_pid.store(0, Ordering::Release);
        record.cancel_key.write(key);
        record.cancel_pid.store(pid, Ordering::Release);
    }
}

impl Shared {
    /// The session that was given this pid and key. Looks at one number per worker, compares keys in constant time.
    pub fn find_cancel_target(&self, pid: u32, key: &[u8]) -> Option<CancelTarget> {
        let matches = |slot: &WorkerSlot| {
            slot.record().cancel_pid.load(Ordering::Acquire) == pid && same(&slot.record().cancel_key.read(), key)
        };
        let slot = self.workers().iter().filter(|_| pid != 0 && !key.is_empty()).find(matches)?;
        let nodes = match slot.session().pool_slot {
            Some(used) => {
                let pool = slot.pool(used);
                (0..super::MAX_NODES).filter_map(|node| Some((node, pool.server(node)?))).collect()
            }
            None => Vec::new(),
        };
        Some(CancelTarget { worker: slot.index(), nodes, busy: slot.busy() })
    }
}

impl Shared {
    /// The node on which the server process `pid` serves a connection of ours, pooled or in use. Process ids are unique per
    /// server only: the first one found counts.
    pub fn node_of_server(&self, pid: u32) -> Option<usize> {
        let node_of = |slot: &WorkerSlot| (0..slot.pool_slots()).find_map(|pool| slot.pool(pool).node_of(pid));
        self.workers().iter().filter(|_| pid != 0).find_map(|slot| node_of(&slot))
    }

    /// Whether a connection to `database` waits in any pool.
    pub fn is_pooled(&self, database: &str) -> bool {
        let waits = |slot: &WorkerSlot| {
            (0..slot.pool_slots())
                .map(|pool| slot.pool(pool).get())
                .any(|entry| !entry.connected && entry.database == database)
        };
        self.workers().iter().any(|slot| waits(&slot))
    }
}

/// Whether two keys are equal, in a time that tells nothing about where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && black_box(one.iter().zip(other).fold(0, |seen, (a, b)| black_box(seen | (a ^ b)))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, SessionInfo};

    #[test]
    fn finds_the_session_by_its_whole_key_only() {
        let shared = Shared::create(Limits { workers: 3, pool_slots: 2, ..Limits::default() }).expect("shared");
        let slot = shared.worker(2);
        slot.set_cancel_key(11, &[1, 2, 3, 4]);
        slot.set_session(&SessionInfo { pool_slot: Some(0), ..SessionInfo::default() });
        slot.set_busy(NodeSet::of(1));
        let server = ServerKey { pid: 77, key: vec![9; 4] };
        slot.pool(0).set_server(1, &server);
        let target = CancelTarget { worker: 2, nodes: vec![(1, server)], busy: NodeSet::of(1) };
        assert_eq!(shared.find_cancel_target(11, &[1, 2, 3, 4]), Some(target));
        assert_eq!(
            (shared.node_of_server(77), shared.node_of_server(78), shared.node_of_server(0)),
            (Some(1), None, None)
        );
        for (pid, key) in [(11, &[1, 2, 3, 5][..]), (11, &[1, 2, 3]), (12, &[1, 2, 3, 4]), (0, &[]), (11, &[])] {
            assert_eq!(shared.find_cancel_target(pid, key), None);
        }
    }
}
