//! Figures for metrics and the status page: what the tables tell in words, as numbers, made at one moment.
//!
//! Nobody is asked for them: everything is in shared memory.

use super::{cache, words};
use crate::config::Settings;
use crate::route::Reason;
use crate::state::{
    Asker, CacheCounts, Cluster, Condition, Delay, HealthStats, Latency, NodeCounts, NodeStatus, PastFailover, Phases,
    ProcessStatus, Progress, Refusal, RequestKind, Shared, StoreFigures, WorkerSlot,
};
use std::collections::BTreeMap;

/// So many pairs of user and database are told apart; the sessions of all others are one.
const MAX_ACCOUNTS: usize = 200;
/// Stands for the user and database of those others.
const OTHERS: &str = "(others)";

/// Everything.
#[derive(Debug)]
pub struct Figures {
    /// When pgpool was started, seconds since 1970.
    pub started: u64,
    /// The nodes, unused ids left out.
    pub nodes: Vec<NodeFigures>,
    /// The processes for sessions.
    pub workers: WorkerFigures,
    /// Server connections of the nodes and the places for them.
    pub pool: PoolFigures,
    /// Destinations by reason.
    pub reasons: Vec<(&'static str, u64)>,
    /// Failovers by kind and asker.
    pub failovers: Vec<(RequestKind, Asker, u64)>,
    /// The time they took, by kind.
    pub failover_phases: Vec<(RequestKind, Phases)>,
    /// The last ones, newest first.
    pub last_failovers: Vec<PastFailover>,
    /// What the parent is doing.
    pub progress: Progress,
    /// New clients are held back.
    pub held: bool,
    /// The query cache, if it is on.
    pub cache: Option<(CacheCounts, StoreFigures)>,
    /// What SHOW POOL_CACHE shows, by column; 0 without a cache.
    pub cache_columns: Vec<(&'static str, f64)>,
    /// Who was refused how often.
    pub refusals: Vec<(Refusal, u64)>,
}

/// A node.
#[derive(Debug)]
#[allow(missing_docs, reason = "as in the node table")]
pub struct NodeFigures {
    pub id: usize,
    /// `host:port`.
    pub server: String,
    pub host: String,
    pub port: u16,
    pub status: &'static str,
    pub role: &'static str,
    pub attached: bool,
    pub is_primary: bool,
    /// Share of the balanced reads.
    pub weight: f64,
    pub delay: Delay,
    pub replication_state: String,
    pub sync_state: String,
    pub reason: String,
    pub last_status_change: u64,
    pub condition: Condition,
    pub health: HealthStats,
    /// Failed checks, also where failover is disallowed, which [`HealthStats::fail_count`] leaves out.
    pub failed_checks: u64,
    pub counts: NodeCounts,
    pub latency: Latency,
    /// Server connections of the pool.
    pub connections: u64,
    /// Sessions that wait for it now.
    pub busy: u64,
}

/// The processes for sessions.
#[derive(Debug, Default)]
pub struct WorkerFigures {
    /// `num_init_children`.
    pub slots: u64,
    /// Those that live.
    pub living: u64,
    /// Those that are to live: in dynamic mode as many as are needed.
    pub wanted: u64,
    /// By what they do, in the order of [`WorkerFigures::STATES`].
    pub states: [u64; 5],
    /// Sessions that have ended.
    pub finished: u64,
    /// Sessions by user and database.
    pub accounts: BTreeMap<(String, String), u64>,
}

impl WorkerFigures {
    /// What a process may do.
    pub const STATES: [ProcessStatus; 5] = [
        ProcessStatus::WaitForConnection,
        ProcessStatus::Connecting,
        ProcessStatus::Idle,
        ProcessStatus::IdleInTransaction,
        ProcessStatus::ExecuteCommand,
    ];

    /// Those with a client.
    pub fn busy(&self) -> u64 {
        self.states[1..].iter().sum()
    }

    /// Living ones without a client.
    pub fn free(&self) -> u64 {
        self.living.saturating_sub(self.busy())
    }
}

/// The pool slots of all workers.
#[derive(Debug, Default)]
pub struct PoolFigures {
    /// `num_init_children` * `max_pool`.
    pub slots: u64,
    /// A client uses its connections.
    pub used: u64,
    /// Its connections wait for a client.
    pub pooled: u64,
}

impl PoolFigures {
    /// Those that hold connections.
    pub fn filled(&self) -> u64 {
        self.used + self.pooled
    }
}

/// Makes them.
pub fn figures(settings: &Settings, shared: &Shared) -> Figures {
    let cluster = shared.nodes().view();
    let mut nodes: Vec<_> = (0..cluster.nodes.len())
        .filter(|id| cluster.nodes[*id].port != 0)
        .map(|id| node_figures(settings, shared, &cluster, id))
        .collect();
    let mut workers = WorkerFigures { wanted: shared.staff().workers.into(), ..WorkerFigures::default() };
    let limits = shared.limits();
    let slots = limits.workers.saturating_mul(limits.pool_slots) as u64;
    let mut pool = PoolFigures { slots, ..PoolFigures::default() };
    for slot in shared.workers().iter() {
        workers.add(&slot);
        pool.add(&slot, &mut nodes);
    }
    let past = shared.past_failovers();
    let each = |kind| Asker::ALL.into_iter().map(move |asker| (kind, asker, past.count(kind, asker)));
    Figures {
        started: shared.started(),
        nodes,
        workers,
        pool,
        reasons: Reason::LABELS.iter().copied().zip(shared.reasons()).collect(),
        failovers: RequestKind::ALL.into_iter().flat_map(each).collect(),
        failover_phases: RequestKind::ALL.into_iter().map(|kind| (kind, past.phases(kind))).collect(),
        last_failovers: past.last(),
        progress: shared.failover().progress(),
        held: shared.hold().left().is_some(),
        cache: shared.query_cache().map(|cache| (cache.counted(), cache.figures())),
        cache_columns: cache::columns(shared),
        refusals: Refusal::ALL.into_iter().map(|refusal| (refusal, shared.refusals().read(refusal))).collect(),
    }
}

fn node_figures(settings: &Settings, shared: &Shared, cluster: &Cluster, id: usize) -> NodeFigures {
    let node = &cluster.nodes[id];
    let is_primary = cluster.primary == Some(id);
    let streams = words::is_streaming(settings);
    let text = |text: &str| if streams { text.to_owned() } else { String::new() };
    NodeFigures {
        id,
        server: format!("{}:{}", node.hostname, node.port),
        host: node.hostname.clone(),
        port: node.port,
        status: words::status(node),
        role: words::role(settings, cluster, id),
        attached: node.status.is_attached(),
        is_primary,
        weight: settings.weight_share(id),
        // An old figure would pass for a present one.
        delay: if is_primary || !streams { Delay::Unmeasured } else { shared.delays().of(id) },
        replication_state: text(&node.replication_state),
        sync_state: text(&node.sync_state),
        reason: if node.status == NodeStatus::Unused { String::new() } else { node.reason.clone() },
        last_status_change: node.last_status_change,
        condition: shared.health(id).condition(),
        health: shared.health(id).stats(),
        failed_checks: shared.health(id).failures(),
        counts: shared.counters(id).read(),
        latency: shared.counters(id).latency(),
        connections: 0,
        busy: 0,
    }
}

impl WorkerFigures {
    fn add(&mut self, slot: &WorkerSlot) {
        self.slots += 1;
        self.living += u64::from(slot.pid() != 0);
        self.finished += slot.all_sessions();
        let status = slot.status();
        self.states[Self::STATES.iter().position(|state| *state == status).unwrap_or(0)] += 1;
        if !slot.has_served() || status == ProcessStatus::WaitForConnection {
            return;
        }
        let session = slot.session();
        if session.user.is_empty() {
            return;
        }
        let account = (session.user, session.database);
        let is_known = self.accounts.contains_key(&account) || self.accounts.len() < MAX_ACCOUNTS;
        let account = if is_known { account } else { (OTHERS.to_owned(), OTHERS.to_owned()) };
        *self.accounts.entry(account).or_default() += 1;
    }
}

impl PoolFigures {
    fn add(&mut self, slot: &WorkerSlot, nodes: &mut [NodeFigures]) {
        // Memory that was never used is not made by looking at it.
        if !slot.has_served() {
            return;
        }
        for number in 0..slot.pool_slots() {
            let pool = slot.pool(number);
            let entry = pool.get();
            if entry.user.is_empty() && entry.database.is_empty() {
                continue;
            }
            *(if entry.connected { &mut self.used } else { &mut self.pooled }) += 1;
            for node in nodes.iter_mut() {
                node.connections += u64::from(pool.server(node.id).is_some());
            }
        }
        let busy = slot.busy();
        for node in nodes.iter_mut() {
            node.busy += u64::from(busy.contains(node.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{ClientInfo, Limits, Node, NodeCounters, NodeSet, ServerKey, SessionInfo};

    #[test]
    fn sessions_connections_and_places_add_up() {
        let shared = Shared::create(Limits { workers: 4, pool_slots: 2, ..Limits::default() }).expect("shared");
        let node = |port| Node { hostname: "db".to_owned(), port, status: NodeStatus::Up, ..Node::default() };
        let update = |cluster: &mut Cluster| {
            cluster.nodes = vec![node(5432), Node::default(), node(5434)];
            (cluster.primary, cluster.main) = (Some(0), Some(0));
        };
        shared.nodes().update(update).expect("update");
        (0..3).for_each(|index| shared.worker(index).occupy(100 + index as u32));
        let slot = shared.worker(1);
        slot.begin_client(&ClientInfo::default());
        slot.set_session(&SessionInfo { user: "ann".to_owned(), database: "shop".to_owned(), pool_slot: Some(0) });
        slot.set_status(ProcessStatus::ExecuteCommand);
        slot.set_busy(NodeSet::of(2));
        for number in 0..2 {
            slot.pool(number).update(|entry| (entry.user, entry.connected) = ("ann".to_owned(), number == 0));
            slot.pool(number).set_server(2, &ServerKey { pid: 7, key: vec![1; 4] });
        }
        NodeCounters::count(&slot.counters(2).select);

        let figures = figures(&Settings::default(), &shared);
        let WorkerFigures { slots, living, states, accounts, .. } = &figures.workers;
        assert_eq!((*slots, *living, *states), (4, 3, [3, 0, 0, 0, 1]));
        assert_eq!((figures.workers.busy(), figures.workers.free()), (1, 2));
        assert_eq!(accounts.get(&("ann".to_owned(), "shop".to_owned())), Some(&1));
        assert_eq!((figures.pool.slots, figures.pool.used, figures.pool.pooled), (8, 1, 1));
        let [primary, standby] = &figures.nodes[..] else { panic!("{:?}", figures.nodes) };
        assert_eq!((primary.role, primary.connections, primary.busy), ("primary", 0, 0));
        assert_eq!((standby.id, standby.server.as_str(), standby.role), (2, "db:5434", "standby"));
        assert_eq!((standby.connections, standby.busy, standby.counts.select), (2, 1, 1));
    }
}
