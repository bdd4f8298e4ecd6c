//! What outlives a session in its worker: settings, shared state, the pool, and what was learnt about statements.

use super::auth_query::Answers;
use super::gate::Gate;
use super::hidden_calls::Learnt;
use crate::auth::hba::Rules;
use crate::backend::{self, Group, Pool};
use crate::cache::{self, Memcached};
use crate::catalog::{self, Facts};
use crate::config::Settings;
use crate::net::tls::Front;
use crate::net::{Address, Deadline};
use crate::route;
use crate::sql::{FactsCache, Statement};
use crate::state::{ClientInfo, Cluster, NodeStatus, Shared, WorkerSlot, uptime};
use crate::sys::signal::{SignalSet, Signals, ToWorker};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Scopes whose catalog facts are kept.
const MAX_CATALOGS: usize = 16;
/// Statements kept that a standby has refused as writes.
const MAX_MISJUDGED: usize = 64;
/// How long a node that could not be reached is not tried again by this worker's sessions.
const AVOIDANCE: Duration = Duration::from_secs(5);

/// The worker's part in its sessions.
pub struct Context {
    /// The parameters in force.
    pub settings: Arc<Settings>,
    /// Shared memory.
    pub shared: Shared,
    /// This worker's slot in it.
    pub slot: WorkerSlot,
    /// Signals of this process.
    pub signals: Signals,
    /// Signals taken during a session that are the worker's business.
    pub deferred: SignalSet,
    /// The listening sockets of the clients.
    pub listeners: Rc<[OwnedFd]>,
    /// Server connections between sessions.
    pub pool: Pool,
    /// Where the client comes from, as log and titles show it.
    pub client: ClientInfo,
    /// Too many clients are connected: refuse the next session (reserved_connections).
    pub refuse_sessions: bool,
    /// Where cancel requests for sessions of a pgpool go that this one has replaced and that may still live.
    pub former: Option<UnixDatagram>,
    /// The parameters of the file, which a session may have changed for itself.
    pub(super) file_settings: Arc<Settings>,
    /// When the node at work was asked, if one is.
    pub(super) asked: Cell<Option<Instant>>,
    /// TLS towards clients.
    pub(super) front: Front,
    /// Who may come in.
    pub(super) gate: Gate,
    pub(super) answers: Answers,
    /// The way to the query cache in memcached, between sessions.
    pub(super) memcached: Option<Box<Memcached>>,
    pub(super) facts: FactsCache,
    /// The nodes as this worker last looked.
    pub(super) cluster: Cluster,
    /// With the moment when the server connection was made that they were learnt on.
    catalogs: HashMap<catalog::Scope, (Instant, Facts)>,
    pub(super) hidden_calls: Learnt,
    avoided: HashMap<usize, Instant>,
    /// When this process began, as [`uptime`] tells it.
    started: Duration,
    /// Statements that a standby has refused as writes although the rules call them reads.
    misjudged: VecDeque<Rc<Statement>>,
}

impl Context {
    /// For a worker process, after the fork.
    pub fn new(
        settings: Arc<Settings>,
        rules: Option<Arc<Rules>>,
        front: Front,
        shared: Shared,
        slot: WorkerSlot,
        signals: Signals,
    ) -> Self {
        let gate = Gate::new(&settings, rules);
        let pool = Pool::new(usize::try_from(settings.max_pool).unwrap_or(1), settings.connection_life_time);
        Self {
            file_settings: Arc::clone(&settings),
            settings,
            shared,
            slot,
            signals,
            deferred: SignalSet::default(),
            listeners: Rc::new([]),
            pool,
            client: ClientInfo::default(),
            refuse_sessions: false,
            former: None,
            asked: Cell::new(None),
            front,
            gate,
            answers: Answers::default(),
            memcached: None,
            facts: FactsCache::new(FactsCache::DEFAULT_BYTES),
            cluster: Cluster::default(),
            catalogs: HashMap::new(),
            hidden_calls: Learnt::default(),
            avoided: HashMap::new(),
            started: uptime(),
            misjudged: VecDeque::new(),
        }
    }

    /// Takes the settings that the parent has published (config 6), having checked the file and told what changes.
    pub fn reload(&mut self) {
        let Some(settings) = Settings::from_snapshot(&self.shared.published_settings()) else { return };
        let former = Arc::clone(&self.file_settings);
        self.take_file_settings(settings);
        if let Some(cache) = self.shared.query_cache() {
            cache::take_over(&former, &self.file_settings, cache);
        }
        backend::reload_tls(&self.settings);
        self.close_asker();
        self.pool.set_life_time(self.settings.connection_life_time);
        self.gate.reload(&self.settings, &self.shared);
    }

    /// Passes a cancel request on to the pgpool that this one has replaced. Returns whether it has taken it.
    pub(super) fn ask_former(&self, request: &[u8]) -> bool {
        self.former.as_ref().is_some_and(|former| former.send(request).is_ok())
    }

    /// Does so if a signal taken during the session asks for it, and tells whether.
    pub(super) fn reload_if_asked(&mut self) -> bool {
        let asked = self.deferred.has(ToWorker::Reload);
        if asked {
            self.deferred = self.deferred.without(ToWorker::Reload);
            self.reload();
        }
        asked
    }

    /// A standby has refused one of these statements as a write.
    pub(super) fn misjudge(&mut self, facts: Vec<Rc<Statement>>) {
        self.misjudged.extend(facts);
        let surplus = self.misjudged.len().saturating_sub(MAX_MISJUDGED);
        self.misjudged.drain(..surplus);
    }

    /// Until when this worker takes every table for just written (`track_table_mutation_cold_start_duration`, routing 16.4).
    pub(super) fn cold_until(&self) -> Duration {
        let duration = u64::try_from(self.settings.track_table_mutation_cold_start_duration).unwrap_or(0);
        self.started + Duration::from_millis(duration)
    }

    /// Whether a standby has refused this statement as a write. The facts of a text stay the same object while the text is
    /// in the cache.
    pub(super) fn is_misjudged(&self, facts: &Statement) -> bool {
        self.misjudged.iter().any(|known| std::ptr::eq(Rc::as_ptr(known), facts))
    }

    /// Looks at the node table again if it has changed.
    pub(super) fn refresh_cluster(&mut self) {
        if self.cluster.nodes.is_empty() || self.cluster.generation != self.shared.nodes().generation() {
            self.cluster = self.shared.nodes().view();
        }
    }

    /// Whether sessions may use `node`, by the table as it is now.
    pub(super) fn is_attached_now(&self, node: usize) -> bool {
        self.shared.nodes().view().attached().contains(node)
    }

    /// Where `node` listens.
    pub(super) fn address(&self, node: usize) -> Address {
        self.cluster.nodes.get(node).map_or_else(|| address_of("", 0), |node| address_of(&node.hostname, node.port))
    }

    /// How long connecting to `node` may take (`connect_timeout`).
    pub(super) fn connect_deadline(&self, node: usize) -> Deadline {
        let limit = self.settings.nodes.get(node).map_or(self.settings.connect_timeout, |node| node.connect_timeout);
        Deadline::after_milliseconds(limit)
    }

    /// A session has connected to `node`: a node that was only waiting for that is up (failover 1).
    pub(super) fn connected(&self, node: usize) {
        if self.cluster.nodes.get(node).is_some_and(|node| node.status == NodeStatus::Waiting) {
            // A table that is locked for long will be told by the next session.
            let _ = self.shared.nodes().mark_connected(node);
        }
    }

    /// `node` could not be reached: do not let every session wait for it.
    pub(super) fn avoid(&mut self, node: usize) {
        self.avoided.insert(node, Instant::now());
    }

    /// Whether `node` could not be reached a moment ago.
    pub(super) fn is_avoided(&self, node: usize) -> bool {
        self.avoided.get(&node).is_some_and(|since| since.elapsed() < AVOIDANCE)
    }

    /// Whether reads look for another node because this one is too far behind (`prefer_lower_delay_standby`, routing 2.5).
    pub(super) fn is_shunned(&self, node: usize) -> bool {
        self.settings.prefer_lower_delay_standby && route::exceeds_limit(self.shared.delays().of(node), &self.settings)
    }

    /// The way to the query cache, if that is in memcached.
    pub(super) fn take_memcached(&mut self) -> Option<Box<Memcached>> {
        self.memcached.take().or_else(|| Memcached::new(&self.settings, &self.shared).map(Box::new))
    }

    /// Others that share the query cache hear now of a process that has died: it cannot tell what it has written.
    pub fn tell_of_the_dead(&mut self) {
        let cache = self.shared.query_cache().filter(|cache| cache.store().is_none());
        if cache.is_some_and(|cache| cache.remote().owes_for_the_dead()) {
            let mut memcached = self.take_memcached();
            // If memcached is away, the next session tells it.
            let _ = memcached.as_mut().map(|memcached| memcached.is_told());
            self.memcached = memcached;
        }
    }

    /// Catalog facts of earlier sessions for which names meant the same: on the same connection to the primary, `home`. What
    /// roles are given counts for connections made later only.
    pub(super) fn take_catalog(&mut self, group: &Group, home: usize) -> Facts {
        let scope = catalog::scope(&self.shared, &group.key);
        let made = group.get(home).map(|server| server.created);
        let known = self.catalogs.remove(&scope).filter(|(then, _)| Some(*then) == made);
        known.map_or_else(|| Facts::new(&self.shared, scope, &self.settings, group.made_in), |(_, facts)| facts)
    }

    /// Keeps the catalog facts of a session that has ended for later ones on the same connection.
    pub(super) fn keep_catalog(&mut self, facts: Facts, made: Instant) {
        let Some(facts) = facts.end_session() else { return };
        if self.catalogs.len() >= MAX_CATALOGS {
            self.catalogs.clear();
        }
        self.catalogs.insert(facts.scope(), (made, facts));
    }

    /// Whether a fast or immediate stop has been asked for; takes nothing.
    pub(super) fn is_stopping(&self) -> bool {
        let pending = self.signals.pending();
        pending.has(ToWorker::FastStop) || pending.has(ToWorker::ImmediateStop)
    }

    /// Takes what signals have arrived. Whether pgpool stops now (fast or immediate); everything else waits for the end
    /// of the session.
    pub(super) fn must_stop(&mut self) -> bool {
        self.deferred = self.deferred.with(self.signals.take());
        self.deferred.has(ToWorker::FastStop) || self.deferred.has(ToWorker::ImmediateStop)
    }
}

/// Address of a node in the form `net` wants.
pub(super) fn address_of(hostname: &str, port: u16) -> Address {
    let host = if hostname.is_empty() { "/tmp" } else { hostname };
    Address { host: host.to_owned(), port }
}
