//! The engine against a small world: servers that die, return and are promoted, requests that come twice and late, commands
//! and searches that end in any order or after the next event. Seeded, so a failure can be repeated.
//!
//! The world carries actions out as the parent does, and keeps its own account of what must be true.

mod histories;

use super::action::{Action, Event};
use super::engine::Engine;
use crate::cluster::primary::Found;
use crate::config::{BackendClusteringMode, Settings};
use crate::state::{Cluster, Node, NodeSet, NodeStatus, Progress, Request, RequestKind, Role};
use fastrand::Rng;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

struct World {
    rng: Rng,
    settings: Settings,
    engine: Engine,
    /// The node table.
    cluster: Cluster,
    /// Whether each server answers, and as what.
    servers: Vec<(bool, Role)>,
    now: Instant,
    /// What runs for the engine.
    command: bool,
    search: bool,
    /// The detached node that the search asks, too.
    returning: Option<usize>,
    progress: Progress,
    /// Asked and not answered yet, in this order.
    asked: VecDeque<Request>,
    /// Number of the last request.
    requests: u64,
    /// Lines that answer a request.
    answers: u64,
    /// Nodes that the last search has seen to take writes without being the primary.
    barred: NodeSet,
    /// How many requests have begun.
    begun: u64,
    /// Lines of the status file that say up.
    file: NodeSet,
    log: Vec<String>,
    /// Some requests come from an administrator.
    operators: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(1..5);
        use BackendClusteringMode::{LogicalReplication, Raw, StreamingReplication};
        let mode = *rng.choice(&[StreamingReplication, StreamingReplication, LogicalReplication, Raw]).expect("a mode");
        let text = |rng: &mut Rng, text: &str| if rng.bool() { text.to_owned() } else { String::new() };
        let settings = Settings {
            backend_clustering_mode: mode,
            failover_command: text(&mut rng, "failover %d %m %P"),
            failback_command: text(&mut rng, "failback %d"),
            follow_primary_command: text(&mut rng, "follow %d"),
            ..Settings::default()
        };
        let node = |id: usize| Node { hostname: format!("db{id}"), port: 5432, ..Node::default() };
        let mut cluster = Cluster { nodes: (0..count).map(node).collect(), ..Cluster::default() };
        (0..count).for_each(|id| cluster.set_status(id, NodeStatus::Up, "started"));
        let has_primary = mode != Raw;
        cluster.set_primary(has_primary.then_some(0));
        let role = |id| if id == 0 || mode != StreamingReplication { Role::Primary } else { Role::Standby };
        let servers = (0..count).map(|id| (true, role(id))).collect();
        let file = cluster.attached();
        Self {
            rng,
            settings,
            engine: Engine::default(),
            cluster,
            servers,
            now: Instant::now(),
            command: false,
            search: false,
            returning: None,
            progress: Progress::Idle,
            asked: VecDeque::new(),
            answers: 0,
            requests: 0,
            barred: NodeSet::EMPTY,
            begun: 0,
            file,
            log: Vec::new(),
            operators: true,
        }
    }

    /// Something happens.
    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(0..1000));
        let node = self.rng.usize(0..self.servers.len());
        match self.rng.u8(0..13) {
            0 | 1 => self.servers[node].0 = false,
            2 => self.servers[node].0 = true,
            // Somebody promotes a standby, whether it was meant or not.
            3 => self.servers[node].1 = Role::Primary,
            4 | 5 => {
                // Whoever finds a server dead tells it, once or twice.
                let times = self.rng.usize(1..3);
                let dead = (0..self.servers.len()).filter(|id| !self.servers[*id].0).collect::<Vec<_>>();
                let requests = dead.iter().flat_map(|id| vec![(RequestKind::Down, *id); times]).collect();
                self.ask(requests);
            }
            6 => self.ask(vec![(RequestKind::Down, node)]),
            7 => self.ask(vec![(RequestKind::Up, node)]),
            8 if self.operators => self.ask(vec![(RequestKind::Promote, node)]),
            9 if self.operators => self.ask(vec![(RequestKind::Switchover, node)]),
            10 => self.end_command(),
            // The search for the primary that never ends has seen a promotion.
            11 if self.servers[node] == (true, Role::Primary) => self.ask(vec![(RequestKind::Takeover, node)]),
            _ => self.end_search(),
        }
    }

    fn ask(&mut self, requests: Vec<(RequestKind, usize)>) {
        let by_chance = self.operators && self.rng.u8(0..5) == 0;
        let is_operator = |kind| by_chance || matches!(kind, RequestKind::Promote | RequestKind::Switchover);
        let requests = requests.into_iter();
        self.request(requests.map(|(kind, node)| (kind, node, is_operator(kind))).collect());
    }

    fn request(&mut self, requests: Vec<(RequestKind, usize, bool)>) {
        if requests.is_empty() {
            return;
        }
        let request = |(kind, node, by_operator)| {
            self.requests += 1;
            // Now and then something has begun between the look at the nodes and the request.
            let begun = self.begun.saturating_sub(u64::from(self.rng.u8(0..4) == 0));
            Request { number: self.requests, by_operator, begun, ..Request::new(kind, node, "a cause") }
        };
        let requests: Vec<_> = requests.into_iter().map(request).collect();
        self.asked.extend(requests.clone());
        self.handle(Event::Asked(requests));
    }

    fn end_command(&mut self) {
        if std::mem::take(&mut self.command) {
            self.handle(Event::CommandEnded);
        }
    }

    fn end_search(&mut self) {
        if !std::mem::take(&mut self.search) {
            return;
        }
        let is_found = |id: &usize| self.servers[*id] == (true, Role::Primary);
        let asked: NodeSet = self.cluster.attached().iter().chain(self.returning).collect();
        let writable: Vec<_> = asked.iter().filter(is_found).collect();
        // Now and then the only ones that take writes are former primaries, or the search fails.
        let primary = writable.first().copied().filter(|_| self.rng.u8(0..4) > 0);
        let barred: NodeSet = writable.into_iter().filter(|id| Some(*id) != primary).collect();
        let found = (self.rng.u8(0..8) > 0).then_some(Found { primary, history: None, barred });
        self.barred = found.map_or(self.barred, |found| found.barred);
        self.handle(Event::Searched(found));
    }

    fn handle(&mut self, event: Event) {
        self.log.push(format!("{event:?}"));
        let actions = self.engine.handle(event, &self.cluster, &self.settings, self.now);
        for action in actions {
            self.log.push(format!("    {action:?}"));
            self.carry_out(action);
            self.check();
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Begin(progress) => {
                self.progress = progress;
                self.begun += 1;
            }
            Action::Log(report) => {
                let answers = [
                    "=== Failover done",
                    "=== Failback done",
                    "=== Promotion done",
                    "no backends are degenerated",
                    "no backends are promoted",
                    "invalid failback",
                ];
                self.answers += u64::from(answers.iter().any(|text| report.message.contains(text)));
            }
            Action::Answer(number) => {
                let asked = self.asked.pop_front().expect("an answer that nobody waits for");
                assert_eq!((number, self.answers), (asked.number, number), "one line per request, in their order");
            }
            Action::SetStatus(node, status, reason) => {
                let is_his = |request: &Request| request.by_operator && request.node == node;
                let may_attach = !self.cluster.nodes[node].kept_out || self.asked.iter().any(is_his);
                assert!(may_attach || !status.is_attached(), "what an administrator has detached comes back");
                self.cluster.set_status(node, status, &reason);
            }
            Action::SetMissing(node, reason) => {
                assert_eq!(self.cluster.write_node(), None, "a node may return although others are there");
                self.cluster.set_missing(node, &reason);
            }
            Action::KeepOut(node) => self.cluster.keep_out(node),
            Action::Note(found) => found.note(&mut self.cluster),
            Action::SetPrimary(primary) => {
                let attached = self.cluster.attached();
                assert!(primary.is_none_or(|node| attached.contains(node)), "the primary is not attached");
                let former = self.cluster.primary.filter(|former| primary.is_some_and(|new| new != *former));
                let asked = &self.asked[0];
                let is_stale = asked.kind == RequestKind::Takeover && asked.begun + 1 != self.begun;
                assert!(!is_stale, "a takeover on what was seen before another failover");
                let is_taken_from = former.filter(|former| attached.contains(*former));
                let may_stay = |former: usize| match self.asked[0].kind {
                    RequestKind::Up => former != self.asked[0].node,
                    RequestKind::Takeover => true,
                    _ => false,
                };
                assert!(is_taken_from.is_none_or(may_stay), "a former primary is still in use");
                self.cluster.set_primary(primary);
                self.barred = self.barred.iter().filter(|id| primary != Some(*id)).collect();
            }
            Action::WriteStatusFile => {
                if !self.cluster.attached().is_empty() {
                    self.file = self.good_set();
                }
            }
            Action::Run(_) => {
                assert!(!self.command && !self.search, "two things at once");
                self.command = true;
            }
            Action::Search(returning) => {
                assert!(!self.command && !self.search, "two things at once");
                let may_return = |node: usize| self.cluster.primary == Some(node) && !self.cluster.nodes[node].kept_out;
                assert!(returning.is_none_or(may_return), "a node may return that was not the primary");
                (self.search, self.returning) = (true, returning);
            }
            Action::StopSearch => self.search = false,
            Action::End => self.progress = Progress::Idle,
            Action::TellWorkers | Action::RestartHelpers | Action::Times(_) | Action::Follow(_) => {}
        }
    }

    /// The nodes that a restart is to use.
    fn good_set(&self) -> NodeSet {
        let is_good = |id: &usize| self.cluster.attached().contains(*id) || self.cluster.nodes[*id].missing;
        (0..self.cluster.nodes.len()).filter(is_good).collect()
    }

    /// True after every single action, since other processes see the table then.
    fn check(&self) {
        // While the node that wrote is gone and its successor is unknown, new sessions are held.
        let successor_is_unknown = self.settings.backend_clustering_mode != BackendClusteringMode::Raw
            && self.cluster.primary.is_some_and(|node| !self.cluster.attached().contains(node))
            && self.progress == Progress::Idle;
        assert!(!successor_is_unknown, "the table names a primary that is detached, and nobody works on it");
        let writes = self.cluster.write_node().filter(|_| self.progress == Progress::Idle);
        assert!(writes.is_none_or(|node| !self.barred.contains(node)), "a former primary gets writes");
    }

    /// Lets everything come to its end, and checks what must be true then.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.command && !self.search {
                break;
            }
            self.end_command();
            self.end_search();
        }
        assert!(!self.command && !self.search, "no end");
        assert!(self.asked.is_empty() && self.answers == self.requests, "requests are lost");
        assert_eq!(self.progress, Progress::Idle, "it has not said that it is done");
        let attached = self.cluster.attached();
        assert!(attached.is_empty() || self.file == self.good_set(), "the file says {:?}", self.file);
        assert!(!self.file.is_empty(), "the file describes no good set");
        let primary = self.cluster.primary;
        assert!(primary.is_none_or(|node| attached.contains(node)), "the primary is detached");
    }
}
