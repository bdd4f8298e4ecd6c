//! Which servers a cancel request means (protocol 4), and whether one is on its way.
//!
//! A request that is on its way when its session ends must not meet the next session on the same server connection. So who
//! sends one counts it, and a worker gives back no connection that a counted request may still reach. Counted first and
//! looked at then, here the key and there the number: one of both sees the other.

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
    /// Number of that worker's session.
    pub session: u32,
    /// Its server connections, by node.
    pub nodes: Vec<(usize, ServerKey)>,
    /// The nodes on which a statement runs.
    pub busy: NodeSet,
}

impl WorkerSlot {
    /// The pid and key this worker's client was given. For the worker.
    pub fn set_cancel_key(&self, pid: u32, key: &[u8]) {
        let record = self.record();
        record.cancel_pid.store(0, Ordering::SeqCst);
        record.cancel_key.write(key);
        record.cancel_pid.store(pid, Ordering::SeqCst);
    }

    /// From here on nobody finds the session to cancel it. For the worker.
    pub fn hide_from_cancels(&self) {
        self.record().cancel_pid.store(0, Ordering::SeqCst);
    }

    /// Whether a cancel request may be on its way to servers of the session.
    pub fn is_cancelled(&self) -> bool {
        self.record().cancelling.load(Ordering::SeqCst) as u32 != 0
    }

    /// A cancel request is on its way to a server of the session. Returns the session's number.
    pub fn begin_cancel(&self) -> u32 {
        (self.record().cancelling.fetch_add(1, Ordering::SeqCst) >> 32) as u32
    }

    /// One that was for the session with this number can reach nobody any more.
    pub fn end_cancel(&self, session: u32) {
        let less =
            |cancelling: u64| ((cancelling >> 32) as u32 == session && cancelling as u32 != 0).then(|| cancelling - 1);
        // Else the session has ended, and its connections were closed.
        let _ = self.record().cancelling.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }

    /// The server connections of the session, by node. They are no other session's as long as the worker lives, and nobody's
    /// when it is dead.
    pub fn servers(&self) -> Vec<(usize, ServerKey)> {
        let Some(used) = self.session().pool_slot else { return Vec::new() };
        let pool = self.pool(used);
        (0..super::MAX_NODES).filter_map(|node| Some((node, pool.server(node)?))).collect()
    }

    /// The session has ended: what was on its way to it is no matter of the next one.
    pub(super) fn end_cancelling(&self) {
        let record = self.record();
        record.cancel_pid.store(0, Ordering::SeqCst);
        let next = |cancelling: u64| Some(((cancelling >> 32).wrapping_add(1)) << 32);
        let _ = record.cancelling.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
    }
}

impl Shared {
    /// The session that was given this pid and key. Looks at one number per worker, compares keys in constant time. A
    /// request to it is on its way until [`WorkerSlot::end_cancel`].
    pub fn find_cancel_target(&self, pid: u32, key: &[u8]) -> Option<CancelTarget> {
        let matches = |slot: &WorkerSlot| {
            slot.record().cancel_pid.load(Ordering::SeqCst) == pid && same(&slot.record().cancel_key.read(), key)
        };
        let slot = self.workers().iter().filter(|_| pid != 0 && !key.is_empty()).find(matches)?;
        let session = slot.begin_cancel();
        if !matches(&slot) {
            slot.end_cancel(session);
            return None;
        }
        Some(CancelTarget { worker: slot.index(), session, nodes: slot.servers(), busy: slot.busy() })
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
        let target = CancelTarget { worker: 2, session: 0, nodes: vec![(1, server)], busy: NodeSet::of(1) };
        assert_eq!(shared.find_cancel_target(11, &[1, 2, 3, 4]), Some(target));
        assert_eq!(
            (shared.node_of_server(77), shared.node_of_server(78), shared.node_of_server(0)),
            (Some(1), None, None)
        );
        for (pid, key) in [(11, &[1, 2, 3, 5][..]), (11, &[1, 2, 3]), (12, &[1, 2, 3, 4]), (0, &[]), (11, &[])] {
            assert_eq!(shared.find_cancel_target(pid, key), None);
        }
    }

    #[test]
    fn a_request_counts_until_it_is_over_or_its_session() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let slot = shared.worker(0);
        let find = || shared.find_cancel_target(11, b"key").map(|target| target.session);
        slot.set_cancel_key(11, b"key");
        let (first, second) = (find().expect("found"), find().expect("found"));
        slot.end_cancel(first);
        slot.hide_from_cancels();
        assert!(slot.is_cancelled(), "one is left");
        assert_eq!(find(), None);
        slot.end_cancel(second);
        assert!(!slot.is_cancelled());

        slot.set_cancel_key(11, b"key");
        let old = find().expect("found");
        slot.end_client(true);
        slot.set_cancel_key(11, b"key");
        assert!(!slot.is_cancelled(), "that is no matter of the next session");
        let new = find().expect("found");
        slot.end_cancel(old);
        assert!(slot.is_cancelled());
        slot.end_cancel(new);
        slot.end_cancel(new);
        assert!(!slot.is_cancelled());
    }
}
