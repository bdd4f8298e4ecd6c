//! What the processes of pgpool know in common: a typed view of the shared segment (process-model 4).
//!
//! [`Shared`] is made by the parent before its first fork; every child inherits it. It holds the node table, the
//! delays of the standbys, one slot per worker with its pooled connections, the keys for cancel requests, counters, what is
//! known of the servers' catalogs, the tables written lately, the query cache, the settings, rules and certificates after a
//! reload, requests for failover and what became of them, whether new clients are held back, how many workers there are to
//! be, who waits for one, who was refused, what the health checks found, and who collects the log.
//!
//! Invariants:
//! - Readers never lock and never wait; what they read was whole at some moment, whoever was killed when.
//! - A worker's slot and pool entries are written by that worker only, and by the parent once it is dead.
//! - The node table is changed under its lock, by short changes in memory; the wait for that lock is bounded.
//! - Memory is touched as it is used: pool entries nobody filled cost nothing, and asking for them costs nothing either.
//!
//! This room must not do I/O, must not decide anything about nodes or sessions, and must not log.

mod cancel;
mod counters;
mod delays;
mod failover;
mod health;
mod hold;
mod latency;
mod log;
mod mutations;
mod node_set;
mod nodes;
pub mod parts;
mod past_failovers;
mod pools;
mod query_cache;
mod queue;
mod refusals;
mod relcache;
mod remote_cache;
mod running;
mod settings;
mod staff;
mod table_set;
mod workers;

pub use cancel::{CancelTarget, ServerKey};
pub use counters::{CountersOfNode, MAX_REASONS, NodeCounters, NodeCounts};
pub use delays::{Delay, Delays};
pub use failover::{Failover, Progress, Request, RequestKind, RequestsBusy};
pub use health::{Condition, HealthStats, NodeHealth, RoundEnd};
pub use hold::Hold;
pub use latency::{BUCKETS as LATENCY_BUCKETS, Latency, LatencyRecord, upper_bound as latency_bound};
pub use mutations::{TableKey, TableMutations, WriteAge};
pub use node_set::NodeSet;
pub use nodes::{Cluster, History, Node, NodeStatus, NodeTable, NodeTableBusy, Role};
pub use past_failovers::{Asker, PastFailover, PastFailovers, Phases};
pub use pools::{PoolEntry, PoolSlot, STATEMENT_LIMIT};
pub use query_cache::{AnswerStore, CacheCounts, QueryCache};
pub use refusals::{Refusal, Refusals};
pub use relcache::{Fingerprint, Relcache, SharedFact};
pub use remote_cache::{Debt, RemoteCache};
pub use running::Running;
pub use staff::Staff;
pub use table_set::TableSet;
pub use workers::{ClientInfo, ProcessStatus, SessionInfo, WorkerSlot, Workers};

pub use pgpool_shm::{StoreFigures, StoreSize, Stored};

use nix::time::{ClockId, clock_gettime};
use pgpool_shm::{Layout, Region, Segment, SegmentError};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ids of nodes are 0 to 127 (config 2).
pub const MAX_NODES: usize = 128;

/// Bytes of a cancel key at most, protocol 3.2 (protocol 18).
pub const MAX_CANCEL_KEY: usize = 256;

/// How much of everything there is, fixed at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `num_init_children`.
    pub workers: usize,
    /// `max_pool`.
    pub pool_slots: usize,
    /// Facts in the shared relation cache; 0 without `enable_shared_relcache`.
    pub relcache: usize,
    /// `track_table_mutation_table_buckets`.
    pub mutation_buckets: usize,
    /// `track_table_mutation_table_size`.
    pub mutation_places: usize,
    /// The query cache; none without `memory_cache_enabled`.
    pub query_cache: Option<AnswerStore>,
}

/// The shared state. Clones and forked processes see the same.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    started: u64,
    /// Process id of the parent, which has made it.
    parent: u32,
    secret: relcache::Secret,
    segment: Segment,
    nodes: Region<nodes::Table>,
    counters: Region<NodeCounters>,
    reasons: Region<counters::ReasonCounters>,
    delays: Region<AtomicU64>,
    caught_up: Region<AtomicU64>,
    connected: Region<AtomicU64>,
    workers: Region<workers::WorkerRecord>,
    pools: Region<pools::PoolRecord>,
    servers: Region<pools::ServerRecord>,
    statements: Region<pools::StatementText>,
    epoch: Region<relcache::Epoch>,
    facts: Region<relcache::Bucket>,
    mutations: TableMutations,
    query_cache: Option<QueryCache>,
    settings: Region<settings::SettingsRecord>,
    log: Region<log::LogRecord>,
    failover: Region<failover::Record>,
    hold: Region<hold::Record>,
    health: Region<NodeHealth>,
    past_failovers: Region<past_failovers::Record>,
    refusals: Region<Refusals>,
    staff: Region<staff::Record>,
    queue: Region<queue::Record>,
}

impl Shared {
    /// Makes the segment. Called by the parent, before it forks.
    ///
    /// # Errors
    /// No memory for it, or sizes beyond any address space.
    pub fn create(limits: Limits) -> Result<Self, SegmentError> {
        let mut layout = Layout::new();
        // One more for the doorman, which is in no list.
        let places = limits.workers.saturating_add(1);
        let pools = places.saturating_mul(limits.pool_slots);
        let servers = pools.saturating_mul(MAX_NODES);
        let nodes = layout.array(1);
        let delays = layout.array(MAX_NODES);
        let caught_up = layout.array(MAX_NODES);
        let connected = layout.array(places.div_ceil(64));
        let workers = layout.array(places);
        layout.page_break();
        let pools = layout.array(pools);
        layout.page_break();
        let servers_region = layout.array(servers);
        layout.page_break();
        let statements = layout.array(servers);
        layout.page_break();
        let counters = layout.array(places.saturating_mul(MAX_NODES));
        layout.page_break();
        let reasons = layout.array(places);
        let epoch = layout.array(1);
        let facts = layout.array(relcache::buckets(limits.relcache));
        let settings = layout.array(1);
        let log = layout.array(1);
        let failover = layout.array(1);
        let hold = layout.array(1);
        let health = layout.array(MAX_NODES);
        let past_failovers = layout.array(1);
        let refusals = layout.array(1);
        let staff = layout.array(1);
        let queue = layout.array(1);
        let segment = Segment::create(layout)?;
        segment.slice::<nodes::Table>(nodes)[0].prepare();
        segment.slice::<failover::Record>(failover)[0].prepare();
        let servers = servers_region;
        Ok(Self(Arc::new(Inner {
            limits,
            started: now(),
            parent: std::process::id(),
            secret: relcache::Secret::new(),
            segment,
            nodes,
            counters,
            reasons,
            delays,
            caught_up,
            connected,
            workers,
            pools,
            servers,
            statements,
            epoch,
            facts,
            mutations: TableMutations::create(limits.mutation_buckets, limits.mutation_places)?,
            query_cache: limits.query_cache.map(|store| QueryCache::create(store, limits.workers)).transpose()?,
            settings,
            log,
            failover,
            hold,
            health,
            past_failovers,
            refusals,
            staff,
            queue,
        })))
    }

    /// The sizes it was made with.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// When it was made, which is when pgpool was started; seconds since 1970.
    pub fn started(&self) -> u64 {
        self.0.started
    }

    /// Process id of the parent: also its grandchildren know it.
    pub fn parent(&self) -> u32 {
        self.0.parent
    }

    /// Bytes of the segment, most of them never touched.
    pub fn size(&self) -> usize {
        self.0.segment.size()
    }

    /// The nodes and their states.
    pub fn nodes(&self) -> NodeTable<'_> {
        NodeTable::new(&self.0.segment.slice(self.0.nodes)[0])
    }

    /// What is asked of the parent, and how far it is with it.
    pub fn failover(&self) -> Failover<'_> {
        Failover::new(&self.0.segment.slice(self.0.failover)[0])
    }

    /// Holding new clients back.
    pub fn hold(&self) -> Hold<'_> {
        Hold::new(&self.0.segment.slice(self.0.hold)[0])
    }

    /// The health checks of a node. An id out of range gets those of the last possible node.
    pub fn health(&self, node: usize) -> &NodeHealth {
        &self.0.segment.slice(self.0.health)[node.min(MAX_NODES - 1)]
    }

    /// The failovers and failbacks that have ended.
    pub fn past_failovers(&self) -> PastFailovers<'_> {
        PastFailovers::new(&self.0.segment.slice(self.0.past_failovers)[0])
    }

    /// How often somebody was not let in.
    pub fn refusals(&self) -> &Refusals {
        &self.0.segment.slice(self.0.refusals)[0]
    }

    #[inline]
    fn node_counters(&self) -> &[NodeCounters] {
        self.0.segment.slice(self.0.counters)
    }

    #[inline]
    fn reason_counters(&self) -> &[counters::ReasonCounters] {
        self.0.segment.slice(self.0.reasons)
    }

    /// How far the standbys are behind (failover 14.4).
    pub fn delays(&self) -> Delays<'_> {
        Delays::new(self.0.segment.slice(self.0.delays), self.0.segment.slice(self.0.caught_up))
    }

    /// The tables written lately (routing 16).
    pub fn mutations(&self) -> &TableMutations {
        &self.0.mutations
    }

    /// The query cache, if it is on.
    #[inline]
    pub fn query_cache(&self) -> Option<&QueryCache> {
        self.0.query_cache.as_ref()
    }

    /// No answer of the query cache counts any more, and for a while none is kept: somebody has died who may have written.
    pub fn doubt_answers(&self) {
        if let Some(cache) = self.query_cache() {
            cache.doubt(&TableSet::everything());
        }
    }

    /// To be called before what was learnt of catalogs is used to judge a statement: what was learnt while somebody's last
    /// statement could still come into force does not count when it cannot any more. Costs two atomic reads.
    #[inline]
    pub fn settle_doubt(&self) {
        if let Some(cache) = self.query_cache().filter(|cache| cache.is_unsettled()) {
            self.relcache().bump();
            cache.settle();
        }
    }

    /// Whether another pgpool serves clients beside this one, whose writes are not told here: the query cache rests then.
    pub fn share_servers(&self, with_another: bool) {
        let Some(cache) = self.query_cache() else { return };
        if with_another { cache.distrust() } else { cache.trust() }
    }

    /// What is known of the servers' catalogs.
    pub fn relcache(&self) -> Relcache<'_> {
        Relcache::new(self)
    }

    /// All worker slots.
    pub fn workers(&self) -> Workers<'_> {
        Workers::new(self)
    }

    /// One worker's slot, for the worker itself to keep. That with the number [`Limits::workers`] is for the doorman.
    ///
    /// # Panics
    /// If `index` is beyond [`Limits::workers`].
    pub fn worker(&self, index: usize) -> WorkerSlot {
        assert!(index <= self.0.limits.workers);
        WorkerSlot::new(self.clone(), index)
    }

    fn record(&self, worker: usize) -> &workers::WorkerRecord {
        &self.0.segment.slice(self.0.workers)[worker]
    }

    fn settings_record(&self) -> &settings::SettingsRecord {
        &self.0.segment.slice(self.0.settings)[0]
    }

    fn queue_record(&self) -> &queue::Record {
        &self.0.segment.slice(self.0.queue)[0]
    }

    fn staff_record(&self) -> &staff::Record {
        &self.0.segment.slice(self.0.staff)[0]
    }

    fn log_record(&self) -> &log::LogRecord {
        &self.0.segment.slice(self.0.log)[0]
    }

    fn connected(&self) -> &[AtomicU64] {
        self.0.segment.slice(self.0.connected)
    }

    fn pool_slot(&self, worker: usize, slot: usize) -> PoolSlot<'_> {
        let index = worker * self.0.limits.pool_slots + slot;
        let servers = index * MAX_NODES..(index + 1) * MAX_NODES;
        PoolSlot::new(
            &self.0.segment.slice(self.0.pools)[index],
            &self.0.segment.slice(self.0.servers)[servers.clone()],
            &self.0.segment.slice(self.0.statements)[servers],
        )
    }
}

/// Time since the machine started: for durations between processes, whatever is done to the clock.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Now, in seconds since 1970: the unit of all times in the shared state.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
