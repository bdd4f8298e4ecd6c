//! The pooled connections of each worker, as SHOW POOL_POOLS shows them (show-commands 5.5).
//!
//! Written by the worker that owns them. `touched` remembers which nodes of a slot were ever filled, so that nobody reads,
//! and thereby makes the kernel allocate, the memory of the others.

use super::{MAX_CANCEL_KEY, NodeSet, ServerKey};
use pgpool_shm::{Text, Versioned, plain, shareable};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes kept of the last statement (show-commands 5.5).
pub const STATEMENT_LIMIT: usize = 1023;

/// One pooled group of connections. Times are seconds since 1970, 0 = never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolEntry {
    /// Database; empty when the slot is empty.
    pub database: String,
    /// User.
    pub user: String,
    /// Protocol version, 0 when the slot is empty.
    pub major: u16,
    /// Protocol version.
    pub minor: u16,
    /// When the connection was made.
    pub created: u64,
    /// When a client took it last.
    pub client_connected: u64,
    /// When a client left it last.
    pub client_disconnected: u64,
    /// How many clients have used it.
    pub uses: u64,
    /// Whether a client uses it now.
    pub connected: bool,
    /// The session's load balance node.
    pub load_balance_node: Option<usize>,
}

plain! {
    pub(super) struct EntryRecord {
        database: Text<64>,
        user: Text<64>,
        created: u64,
        client_connected: u64,
        client_disconnected: u64,
        uses: u64,
        major: u16,
        minor: u16,
        connected: u16,
        load_balance_node: u16,
    }
}

shareable! {
    pub(super) struct PoolRecord {
        touched: [AtomicU64; 2],
        entry: Versioned<EntryRecord>,
    }
}

plain! {
    pub(super) struct KeyRecord {
        pid: u32,
        length: u32,
        key: [u8; MAX_CANCEL_KEY],
    }
}

pub(super) type ServerRecord = Versioned<KeyRecord>;
pub(super) type StatementText = Versioned<u8, STATEMENT_LIMIT>;

/// One pool slot of a worker.
#[derive(Clone, Copy)]
pub struct PoolSlot<'a> {
    record: &'a PoolRecord,
    servers: &'a [ServerRecord],
    statements: &'a [StatementText],
}

impl<'a> PoolSlot<'a> {
    pub(super) fn new(record: &'a PoolRecord, servers: &'a [ServerRecord], statements: &'a [StatementText]) -> Self {
        Self { record, servers, statements }
    }

    /// What the slot holds.
    pub fn get(self) -> PoolEntry {
        let record = self.record.entry.get();
        PoolEntry {
            database: record.database.to_string(),
            user: record.user.to_string(),
            major: record.major,
            minor: record.minor,
            created: record.created,
            client_connected: record.client_connected,
            client_disconnected: record.client_disconnected,
            uses: record.uses,
            connected: record.connected != 0,
            load_balance_node: usize::from(record.load_balance_node).checked_sub(1),
        }
    }

    /// Changes what the slot holds. For its worker.
    pub fn update(self, change: impl FnOnce(&mut PoolEntry)) {
        let mut entry = self.get();
        change(&mut entry);
        self.record.entry.set(EntryRecord {
            database: Text::new(&entry.database),
            user: Text::new(&entry.user),
            created: entry.created,
            client_connected: entry.client_connected,
            client_disconnected: entry.client_disconnected,
            uses: entry.uses,
            major: entry.major,
            minor: entry.minor,
            connected: entry.connected.into(),
            load_balance_node: entry.load_balance_node.map_or(0, |node| node as u16 + 1),
        });
    }

    /// Records the server process of the connection to `node`. For the worker.
    pub fn set_server(self, node: usize, server: &ServerKey) {
        let Some(record) = self.servers.get(node) else { return };
        self.touch(node);
        let length = server.key.len().min(MAX_CANCEL_KEY);
        let mut key = [0; MAX_CANCEL_KEY];
        key[..length].copy_from_slice(&server.key[..length]);
        record.set(KeyRecord { pid: server.pid, length: length as u32, key });
    }

    /// The connection to `node` is gone. For the worker.
    pub fn clear_server(self, node: usize) {
        if self.touched().contains(node) {
            self.servers[node].set(KeyRecord::default());
        }
    }

    /// The server process of the connection to `node`, if there is one.
    pub fn server(self, node: usize) -> Option<ServerKey> {
        if !self.touched().contains(node) {
            return None;
        }
        let record = self.servers[node].get();
        let length = (record.length as usize).min(MAX_CANCEL_KEY);
        (record.pid != 0).then(|| ServerKey { pid: record.pid, key: record.key[..length].to_vec() })
    }

    /// Keeps the beginning of the statement just sent to `node`. For the worker; no system call, no lock.
    #[inline]
    pub fn set_statement(self, node: usize, statement: &[u8]) {
        if let Some(text) = self.statements.get(node) {
            self.touch(node);
            text.write(statement);
        }
    }

    /// The last statement was not sent to `node`. For the worker.
    #[inline]
    pub fn forget_statement(self, node: usize) {
        if let Some(text) = self.statements.get(node).filter(|_| self.touched().contains(node))
            && !text.is_empty()
        {
            text.write(&[]);
        }
    }

    /// The last statement sent to `node`, at most [`STATEMENT_LIMIT`] bytes; empty if none was.
    pub fn statement(self, node: usize) -> Vec<u8> {
        if self.touched().contains(node) { self.statements[node].read() } else { Vec::new() }
    }

    /// The node whose server process `pid` serves a connection of this slot.
    pub fn node_of(self, pid: u32) -> Option<usize> {
        self.touched().iter().find(|node| self.servers[*node].get().pid == pid)
    }

    /// Empties the slot: its connections are closed, its worker is dead. The time a client left last stays.
    pub fn clear(self) {
        for node in self.touched().iter() {
            self.servers[node].set(KeyRecord::default());
            self.statements[node].write(&[]);
        }
        if self.record.entry.version() != 0 {
            self.update(|entry| {
                *entry = PoolEntry { client_disconnected: entry.client_disconnected, ..PoolEntry::default() };
            });
        }
    }

    fn touched(self) -> NodeSet {
        NodeSet::from_halves([0, 1].map(|half: usize| self.record.touched[half].load(Ordering::Acquire)))
    }

    #[inline]
    fn touch(self, node: usize) {
        let (half, bit) = (&self.record.touched[node / 64], 1 << (node % 64));
        if half.load(Ordering::Relaxed) & bit == 0 {
            half.fetch_or(bit, Ordering::Release);
        }
    }
}
