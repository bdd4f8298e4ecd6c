//! The pool of one worker: groups of server connections, one connection per node, kept between sessions
//! (protocol 6, 8, 10, 11).

use super::ServerConnection;
use crate::wire::TransactionStatus;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

/// What must be equal for a session to get a pooled group: everything the servers were told at login (protocol 6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// User name.
    pub user: Vec<u8>,
    /// Database name.
    pub database: Vec<u8>,
    /// The canonical startup packet.
    pub startup: Vec<u8>,
}

/// The server connections of one session; a node without one was not needed yet.
#[derive(Debug)]
pub struct Group {
    /// What it was made for.
    pub key: Key,
    /// Slot in the worker's pool, as SHOW POOL_POOLS numbers them.
    pub slot: usize,
    /// Connections by node id.
    pub connections: Vec<Option<ServerConnection>>,
    /// When it was made.
    pub created: SystemTime,
    /// The generation of the relation cache at that time.
    pub made_in: u32,
    /// Sessions served, the current one included.
    pub uses: u64,
    /// What its sessions have set before may be in force still: it was not reset.
    pub keeps_settings: bool,
    /// When its last session ended.
    rested: Instant,
}

impl Group {
    /// The connection to `node`, if there is one.
    #[inline]
    pub fn get(&self, node: usize) -> Option<&ServerConnection> {
        self.connections.get(node).and_then(Option::as_ref)
    }

    /// The connection to `node`, if there is one.
    #[inline]
    pub fn get_mut(&mut self, node: usize) -> Option<&mut ServerConnection> {
        self.connections.get_mut(node).and_then(Option::as_mut)
    }

    /// Transaction status on `node`; idle where there is no connection.
    pub fn status(&self, node: usize) -> TransactionStatus {
        self.get(node).map_or(TransactionStatus::Idle, |connection| connection.status)
    }

    /// Says goodbye to all its servers.
    pub fn close(self) {
        self.connections.into_iter().flatten().for_each(ServerConnection::close);
    }

    fn is_untouched(&self) -> bool {
        let mut fds: Vec<_> = self
            .connections
            .iter()
            .flatten()
            .map(|connection| PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.is_empty() || poll(&mut fds, PollTimeout::ZERO) == Ok(0)
    }
}

/// The groups that wait for a session.
#[derive(Debug)]
pub struct Pool {
    slots: Vec<Option<Group>>,
    life_time: Option<Duration>,
}

impl Pool {
    /// A pool of `max_pool` groups, each kept for at most `connection_life_time` seconds (0: for ever).
    pub fn new(max_pool: usize, connection_life_time: i32) -> Self {
        let mut pool = Self { slots: Vec::new(), life_time: None };
        pool.slots.resize_with(max_pool.max(1), || None);
        pool.set_life_time(connection_life_time);
        pool
    }

    /// Changes the life time, in seconds (0: for ever).
    pub fn set_life_time(&mut self, connection_life_time: i32) {
        self.life_time = u64::try_from(connection_life_time).ok().filter(|s| *s > 0).map(Duration::from_secs);
    }

    /// Takes the group for `key` out of the pool, if there is one.
    ///
    /// # Errors
    /// One of its servers has said something or gone away, so it was closed (protocol 6.3): its slot.
    pub fn take(&mut self, key: &Key) -> Result<Option<Group>, usize> {
        let its = |slot: &mut Option<Group>| slot.take_if(|group| group.key == *key);
        let Some(mut group) = self.slots.iter_mut().find_map(its) else { return Ok(None) };
        if !group.is_untouched() {
            let slot = group.slot;
            group.close();
            return Err(slot);
        }
        group.connections.iter_mut().flatten().for_each(ServerConnection::wake);
        group.uses += 1;
        Ok(Some(group))
    }

    /// A new, empty group for `key`. Without a free slot the group that has waited longest is closed (protocol 6.5): what
    /// others see of the slot is the caller's to clear.
    /// `made_in`: the generation of the relation cache.
    pub fn new_group(&mut self, key: Key, nodes: usize, made_in: u32) -> Group {
        let slot = self.free_slot();
        let mut connections = Vec::new();
        connections.resize_with(nodes, || None);
        Group {
            key,
            slot,
            connections,
            created: SystemTime::now(),
            made_in,
            uses: 1,
            keeps_settings: false,
            rested: Instant::now(),
        }
    }

    fn free_slot(&mut self) -> usize {
        if let Some(free) = self.slots.iter().position(Option::is_none) {
            return free;
        }
        let oldest = self
            .slots
            .iter()
            .enumerate()
            .min_by_key(|(_, group)| group.as_ref().map(|group| group.rested))
            .map_or(0, |(slot, _)| slot);
        if let Some(group) = self.slots[oldest].take() {
            group.close();
        }
        oldest
    }

    /// Keeps `group` for the next session. Its connections must be clean.
    pub fn put(&mut self, mut group: Group) {
        group.rested = Instant::now();
        group.connections.iter_mut().flatten().for_each(ServerConnection::rest);
        let slot = group.slot;
        if let Some(previous) = self.slots[slot].replace(group) {
            previous.close();
        }
    }

    /// Number of groups that wait.
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether no group waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Time until the next group expires (protocol 11); `None` if none does.
    pub fn next_expiry(&self) -> Option<Duration> {
        let life_time = self.life_time?;
        self.slots.iter().flatten().map(|group| life_time.saturating_sub(group.rested.elapsed())).min()
    }

    /// Closes the groups whose time has come. Returns their slots.
    pub fn expire(&mut self) -> Vec<usize> {
        let Some(life_time) = self.life_time else { return Vec::new() };
        self.close_where(|group| group.rested.elapsed() >= life_time)
    }

    /// Closes the groups one of whose servers has said something or gone away. Returns their slots.
    pub fn close_broken(&mut self) -> Vec<usize> {
        self.close_where(|group| !group.is_untouched())
    }

    /// Closes groups with a connection to a node that `is_lost`. Returns their slots.
    pub fn close_lost(&mut self, is_lost: impl Fn(usize) -> bool) -> Vec<usize> {
        self.close_where(|group| group.connections.iter().flatten().any(|server| is_lost(server.node)))
    }

    /// Closes all groups. Returns their slots.
    pub fn close_all(&mut self) -> Vec<usize> {
        self.close_where(|_| true)
    }

    /// Descriptors to watch while no session runs: when one becomes readable, call [`Pool::close_broken`].
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.slots
            .iter()
            .flatten()
            .flat_map(|group| group.connections.iter().flatten())
            .map(|connection| connection.stream.as_fd())
    }

    fn close_where(&mut self, condition: impl Fn(&Group) -> bool) -> Vec<usize> {
        let mut closed = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(group) = slot.take_if(|group| condition(group)) {
                group.close();
                closed.push(index);
            }
        }
        closed
    }
}
