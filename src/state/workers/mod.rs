//! One slot per worker: who it is and what it does (show-commands 5.4, process-model 4).

use super::{NodeSet, PoolSlot, Shared, now};
use pgpool_shm::{Text, Versioned, plain, shareable};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What a worker does at present (show-commands 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum ProcessStatus {
    /// No client.
    #[default]
    WaitForConnection = 0,
    /// A client that has not logged in yet.
    Connecting = 1,
    /// Logged in, nothing to do.
    Idle = 2,
    /// The same, inside a transaction.
    IdleInTransaction = 3,
    /// A statement runs.
    ExecuteCommand = 4,
}

impl ProcessStatus {
    /// The word SHOW POOL_PROCESSES shows.
    pub fn text(self) -> &'static str {
        match self {
            Self::WaitForConnection => "Wait for connection",
            Self::Connecting => "Connecting",
            Self::Idle => "Idle",
            Self::IdleInTransaction => "Idle in transaction",
            Self::ExecuteCommand => "Execute command",
        }
    }

    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Connecting,
            2 => Self::Idle,
            3 => Self::IdleInTransaction,
            4 => Self::ExecuteCommand,
            _ => Self::WaitForConnection,
        }
    }
}

/// Where the present client comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Address or name, `[local]` for a Unix socket, empty without a client.
    pub host: String,
    /// Port, 0 for a Unix socket.
    pub port: u16,
}

/// Who the present client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// User, empty before the login and without a client.
    pub user: String,
    /// Database.
    pub database: String,
    /// The pool slot it uses.
    pub pool_slot: Option<usize>,
}

plain! {
    pub(super) struct ClientRecord {
        host: Text<256>,
        port: u16,
    }
}

plain! {
    pub(super) struct SessionRecord {
        user: Text<64>,
        database: Text<64>,
        pool_slot: u32,
    }
}

shareable! {
    pub(super) struct WorkerRecord {
        pid: AtomicU32,
        status: AtomicU32,
        started: AtomicU64,
        finished_sessions: AtomicU64,
        /// Sessions of all processes that this slot has had, however they ended.
        all_sessions: AtomicU64,
        /// Of those processes, in nanoseconds.
        processor_time_of_dead: AtomicU64,
        restart: AtomicU32,
        dismissed: AtomicU32,
        served: AtomicU32,
        waiting_since: AtomicU64,
        busy: [AtomicU64; 2],
        idle_since: AtomicU64,
        client: Versioned<ClientRecord>,
        session: Versioned<SessionRecord>,
        /// Number of the session in the upper half, of cancel requests on their way to its servers in the lower one.
        pub(super) cancelling: AtomicU64,
        pub(super) cancel_pid: AtomicU32,
        pub(super) cancel_key: Versioned<u8, { super::MAX_CANCEL_KEY }>,
    }
}

/// One worker's slot.
#[derive(Clone, Debug)]
pub struct WorkerSlot {
    shared: Shared,
    index: usize,
}

/// Reading.
impl WorkerSlot {
    pub(super) fn new(shared: Shared, index: usize) -> Self {
        Self { shared, index }
    }

    /// The slot's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Process id, 0 while the slot is empty.
    pub fn pid(&self) -> u32 {
        self.record().pid.load(Ordering::Acquire)
    }

    /// When the process was forked, seconds since 1970; 0 if the slot never had one.
    pub fn started(&self) -> u64 {
        self.record().started.load(Ordering::Relaxed)
    }

    /// What the process does.
    pub fn status(&self) -> ProcessStatus {
        ProcessStatus::from_number(self.record().status.load(Ordering::Relaxed))
    }

    /// Clients this process has finished with, also those that were not let in.
    pub fn finished_sessions(&self) -> u64 {
        self.record().finished_sessions.load(Ordering::Relaxed)
    }

    /// Sessions of all processes of this slot that have ended, also those that ended with their process; not who was refused.
    pub fn all_sessions(&self) -> u64 {
        self.record().all_sessions.load(Ordering::Relaxed)
    }

    /// Processor time of the processes of this slot that have ended.
    pub fn processor_time_of_dead(&self) -> Duration {
        Duration::from_nanos(self.record().processor_time_of_dead.load(Ordering::Relaxed))
    }

    /// Since when this process waits for its next client, seconds since 1970; none before its first one and while it has
    /// one.
    pub fn waiting_since(&self) -> Option<u64> {
        Some(self.record().waiting_since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    /// Whether the process shall end when it is idle (process-model 7.2).
    pub fn restart_wished(&self) -> bool {
        self.record().restart.load(Ordering::Relaxed) != 0
    }

    /// Whether the process shall end for good when it is idle (process-model 8.2).
    pub fn is_dismissed(&self) -> bool {
        self.record().dismissed.load(Ordering::SeqCst) != 0
    }

    /// The nodes a statement of the session runs on.
    pub fn busy(&self) -> NodeSet {
        NodeSet::from_halves([0, 1].map(|half: usize| self.record().busy[half].load(Ordering::Relaxed)))
    }

    /// Since when the client sends nothing, seconds since 1970; none while it is not idle or nobody counts.
    pub fn idle_since(&self) -> Option<u64> {
        Some(self.record().idle_since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    /// Whether a process of this slot has ever had a client: else there is nothing to be read of it.
    pub fn has_served(&self) -> bool {
        self.shared.has_served(self.index)
    }

    /// The client's origin.
    pub fn client(&self) -> ClientInfo {
        let record = self.record().client.get();
        ClientInfo { host: record.host.to_string(), port: record.port }
    }

    /// The client's identity.
    pub fn session(&self) -> SessionInfo {
        let record = self.record().session.get();
        SessionInfo {
            user: record.user.to_string(),
            database: record.database.to_string(),
            pool_slot: (record.pool_slot as usize).checked_sub(1).filter(|slot| *slot < self.pool_slots()),
        }
    }

    /// How many pool slots there are.
    pub fn pool_slots(&self) -> usize {
        self.shared.limits().pool_slots
    }

    /// One pool slot.
    ///
    /// # Panics
    /// If `slot` is not below [`Self::pool_slots`].
    pub fn pool(&self, slot: usize) -> PoolSlot<'_> {
        assert!(slot < self.pool_slots());
        self.shared.pool_slot(self.index, slot)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn record(&self) -> &WorkerRecord {
        self.shared.record(self.index)
    }
}

/// Writing, for the worker that owns the slot.
impl WorkerSlot {
    /// A client has connected. Returns how many workers have one now, this one included. A worker that was dismissed stays.
    pub fn begin_client(&self, client: &ClientInfo) -> usize {
        self.record().client.set(ClientRecord { host: Text::new(&client.host), port: client.port });
        self.record().waiting_since.store(0, Ordering::Relaxed);
        self.record().served.store(1, Ordering::Relaxed);
        self.record().status.store(ProcessStatus::Connecting as u32, Ordering::SeqCst);
        // Behind the status: see `dismiss`.
        self.record().dismissed.store(0, Ordering::SeqCst);
        let (word, bit) = self.connected_bit();
        word.fetch_or(bit, Ordering::AcqRel);
        self.shared.workers().connected()
    }

    /// The client has logged in.
    pub fn set_session(&self, session: &SessionInfo) {
        self.record().session.set(SessionRecord {
            user: Text::new(&session.user),
            database: Text::new(&session.database),
            pool_slot: session.pool_slot.map_or(0, |slot| slot as u32 + 1),
        });
    }

    /// The client has left. `counts`: it wanted a session (not a cancel request) and is counted as finished.
    pub fn end_client(&self, counts: bool) {
        self.forget_client();
        self.record().waiting_since.store(now(), Ordering::Relaxed);
        if counts {
            self.record().finished_sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the process does now.
    #[inline]
    pub fn set_status(&self, status: ProcessStatus) {
        self.record().status.store(status as u32, Ordering::Relaxed);
    }

    /// The nodes a statement runs on now.
    #[inline]
    pub fn set_busy(&self, nodes: NodeSet) {
        let halves = nodes.halves();
        self.record().busy[0].store(halves[0], Ordering::Relaxed);
        self.record().busy[1].store(halves[1], Ordering::Relaxed);
    }

    /// The client is idle since now, or not idle. Needed only while a limit on it is in force.
    pub fn set_idle(&self, idle: bool) {
        self.record().idle_since.store(if idle { now() } else { 0 }, Ordering::Relaxed);
    }

    fn forget_client(&self) {
        let record = self.record();
        self.end_cancelling();
        record.cancel_key.write(&[]);
        self.set_busy(NodeSet::EMPTY);
        self.set_idle(false);
        if record.session.get().pool_slot != 0 {
            record.all_sessions.fetch_add(1, Ordering::Relaxed);
        }
        record.session.set(SessionRecord::default());
        record.client.set(ClientRecord::default());
        self.set_status(ProcessStatus::WaitForConnection);
        let (word, bit) = self.connected_bit();
        word.fetch_and(!bit, Ordering::AcqRel);
    }

    fn connected_bit(&self) -> (&AtomicU64, u64) {
        (&self.shared.connected()[self.index / 64], 1 << (self.index % 64))
    }
}

/// Writing, for the parent.
impl WorkerSlot {
    /// A process has been forked for this slot.
    pub fn occupy(&self, pid: u32) {
        let record = self.record();
        record.started.store(now(), Ordering::Relaxed);
        record.finished_sessions.store(0, Ordering::Relaxed);
        record.waiting_since.store(0, Ordering::Relaxed);
        record.restart.store(0, Ordering::Relaxed);
        record.dismissed.store(0, Ordering::SeqCst);
        if record.pid.swap(pid, Ordering::AcqRel) == 0 {
            self.shared.worker_came();
        }
    }

    /// The slot's process is dead and has used that much.
    pub fn count_processor_time(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.record().processor_time_of_dead.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The slot's process is dead, in whatever it was doing: nothing of it stays behind.
    pub fn reclaim(&self) {
        if self.record().pid.swap(0, Ordering::AcqRel) != 0 {
            self.shared.worker_gone();
        }
        self.forget_client();
        for slot in 0..self.pool_slots() {
            self.pool(slot).clear();
        }
    }

    /// The process is not needed any more: it ends when it is idle, unless a client comes first.
    pub fn dismiss(&self) {
        self.record().dismissed.store(1, Ordering::SeqCst);
        // Who has got a client in this moment has either seen this, or is seen here.
        if self.record().status.load(Ordering::SeqCst) != ProcessStatus::WaitForConnection as u32 {
            self.record().dismissed.store(0, Ordering::SeqCst);
        }
    }

    /// Wishes that the process ends when it is idle.
    pub fn wish_restart(&self) {
        self.record().restart.store(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether a process of that slot has ever had a client.
    pub(super) fn has_served(&self, worker: usize) -> bool {
        self.record(worker).served.load(Ordering::Relaxed) != 0
    }
}

/// All worker slots.
#[derive(Clone, Copy)]
pub struct Workers<'a>(&'a Shared);

impl<'a> Workers<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self(shared)
    }

    /// The slots in order.
    pub fn iter(self) -> impl Iterator<Item = WorkerSlot> + 'a {
        (0..self.0.limits().workers).map(|index| self.0.worker(index))
    }

    /// How many workers have a client, also one that has not logged in. Right also after a worker was killed, once the
    /// parent has reclaimed its slot.
    pub fn connected(self) -> usize {
        self.0.connected().iter().map(|word| word.load(Ordering::Acquire).count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests;
