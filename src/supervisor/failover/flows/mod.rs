//! The log lines of each flow, compared as they are (failover 17): people and tools look for them.

mod operator;

use super::action::{Action, Event, Follow};
use super::engine::Engine;
use crate::cluster::primary::Found;
use crate::config::{BackendClusteringMode, NodeSettings, Settings};
use crate::state::{Cluster, History, Node, NodeSet, NodeStatus, Request, RequestKind};
use std::time::{Duration, Instant};

/// Three nodes, the first one the primary.
struct Flow {
    engine: Engine,
    cluster: Cluster,
    settings: Settings,
    now: Instant,
    lines: Vec<String>,
    /// What the search finds.
    primary: Option<usize>,
    /// Where that stands.
    history: Option<History>,
    /// Who takes writes without being it.
    barred: NodeSet,
    /// Who is to follow the new primary.
    follow: Option<Follow>,
    /// How many requests have begun.
    begun: u64,
}

impl Flow {
    fn new(settings: Settings) -> Self {
        let node = |id: u16| Node { hostname: format!("db{id}"), port: 5432 + id, ..Node::default() };
        let mut cluster = Cluster { nodes: (0..3).map(node).collect(), ..Cluster::default() };
        (0..3).for_each(|id| cluster.set_status(id, NodeStatus::Up, "started"));
        let directory =
            |id: u16| NodeSettings { port: 5432 + id, data_directory: format!("/data{id}"), ..NodeSettings::default() };
        let settings = Settings { nodes: (0..3).map(directory).collect(), ..settings };
        let has_primary = settings.backend_clustering_mode != BackendClusteringMode::Raw;
        cluster.set_primary(has_primary.then_some(0));
        Self {
            engine: Engine::default(),
            cluster,
            settings,
            now: Instant::now(),
            lines: Vec::new(),
            primary: has_primary.then_some(0),
            history: None,
            barred: NodeSet::EMPTY,
            follow: None,
            begun: 0,
        }
    }

    /// Asks, lets every command take 20 ms and every search 30 ms, and returns the lines up to the end.
    fn ask(&mut self, kind: RequestKind, node: usize) -> Vec<String> {
        self.request(Request { begun: self.begun, ..Request::new(kind, node, "a cause") })
    }

    /// The same, from an administrator.
    fn operate(&mut self, kind: RequestKind, node: usize) -> Vec<String> {
        self.request(Request { by_operator: true, ..Request::new(kind, node, "an administrator") })
    }

    fn request(&mut self, request: Request) -> Vec<String> {
        self.requests(vec![request])
    }

    /// The same with several requests that come at once.
    fn requests(&mut self, requests: Vec<Request>) -> Vec<String> {
        let mut events = vec![Event::Asked(requests)];
        while let Some(event) = events.pop() {
            for action in self.engine.handle(event, &self.cluster, &self.settings, self.now) {
                match action {
                    Action::Log(report) => self.lines.push(report.message),
                    Action::Times(times) => {
                        let whole = times.command + times.search;
                        self.lines.push(times.report(Duration::ZERO, whole).message);
                    }
                    Action::SetStatus(node, status, reason) => self.cluster.set_status(node, status, &reason),
                    Action::SetMissing(node, reason) => self.cluster.set_missing(node, &reason),
                    Action::KeepOut(node) => self.cluster.keep_out(node),
                    Action::Note(found) => found.note(&mut self.cluster),
                    Action::SetPrimary(node) => self.cluster.set_primary(node),
                    Action::Begin(_) => self.begun += 1,
                    Action::Follow(follow) => self.follow = Some(follow),
                    Action::Run(_) => {
                        self.now += Duration::from_millis(20);
                        events.push(Event::CommandEnded);
                    }
                    Action::Search(_) => {
                        self.now += Duration::from_millis(30);
                        events.push(Event::Searched(Some(Found {
                            primary: self.primary,
                            history: self.history,
                            barred: self.barred,
                        })));
                    }
                    _ => {}
                }
            }
        }
        std::mem::take(&mut self.lines)
    }
}

fn streaming() -> Settings {
    Settings {
        backend_clustering_mode: BackendClusteringMode::StreamingReplication,
        failover_command: "/etc/failover.sh %d %h %p %D %m %H %M %P %r %R %N %S".to_owned(),
        failback_command: "/etc/failback.sh %d %h %m %P".to_owned(),
        ..Settings::default()
    }
}

#[test]
fn the_primary_is_lost() {
    let mut flow = Flow::new(Settings { follow_primary_command: "/etc/follow.sh %d".to_owned(), ..streaming() });
    (flow.primary, flow.history) = (Some(1), Some(History { system: 1, timeline: 2 }));
    assert_eq!(
        flow.ask(RequestKind::Down, 0),
        [
            "=== Starting degeneration. shutdown host db0(5432) ===",
            "Restart all children",
            "execute command: /etc/failover.sh 0 db0 5432 /data0 1 db1 0 0 5433 /data1 db0 5432",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "starting follow degeneration. shutdown host db0(5432)",
            "starting follow degeneration. shutdown host db2(5434)",
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 1",
            "failover: set new main node: 1",
            "=== Failover done. shutdown host db0(5432) ===",
            "failover of DB node 0 took 50 ms",
        ]
    );
    assert_eq!((flow.cluster.primary, flow.cluster.main), (Some(1), Some(1)));
    assert_eq!(
        flow.cluster.history, flow.history,
        "if node 1 is lost before the next check, node 0 is known to be older"
    );
}

#[test]
fn a_standby_is_lost_and_comes_back() {
    let mut flow = Flow::new(streaming());
    assert_eq!(
        flow.ask(RequestKind::Down, 2),
        [
            "=== Starting degeneration. shutdown host db2(5434) ===",
            "Do not restart children because we are switching over node id 2 host: db2 port: 5434 and we are in streaming \
         replication mode",
            "execute command: /etc/failover.sh 2 db2 5434 /data2 0 db0 0 0 5432 /data0 db0 5432",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            "=== Failover done. shutdown host db2(5434) ===",
            "failover of DB node 2 took 20 ms",
        ]
    );
    assert_eq!(flow.ask(RequestKind::Down, 2), ["failover: no backends are degenerated"]);
    assert_eq!(
        flow.ask(RequestKind::Up, 2),
        [
            "=== Starting fail back. reconnect host db2(5434) ===",
            "Node 0 is not down (status: 2)",
            "execute command: /etc/failback.sh 2 db2 0 0",
            "Do not restart children because we are failing back node id 2 host: db2 port: 5434 and we are in streaming \
         replication mode and not all backends were down",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            "=== Failback done. reconnect host db2(5434) ===",
            "failback of DB node 2 took 50 ms",
        ]
    );
    assert_eq!(flow.cluster.nodes[2].status, NodeStatus::Waiting);
    assert_eq!(
        flow.ask(RequestKind::Up, 2),
        ["invalid failback request, status: [1] of node id : 2 is invalid for failback"]
    );
}

#[test]
fn the_last_node_is_lost() {
    let mut flow = Flow::new(Settings { follow_primary_command: "/etc/follow.sh".to_owned(), ..streaming() });
    flow.ask(RequestKind::Down, 1);
    flow.ask(RequestKind::Down, 2);
    flow.primary = None;
    assert_eq!(
        flow.ask(RequestKind::Down, 0),
        [
            "=== Starting degeneration. shutdown host db0(5432) ===",
            "failover: no valid backend node found",
            "Restart all children",
            "execute command: /etc/failover.sh 0 db0 5432 /data0 -1 \"\" 0 0 \"\" \"\" db0 5432",
            "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node",
            "failover: no follow backends are degenerated",
            "failover: set new primary node: -1",
            "all nodes are down: DB node 0 will be used as soon as it answers",
            "=== Failover done. shutdown host db0(5432) ===",
            "failover of DB node 0 took 20 ms",
        ]
    );
    let returning: Vec<bool> = flow.cluster.nodes.iter().map(|node| node.missing).collect();
    assert_eq!(returning, [true, false, false]);
    assert_eq!(
        flow.ask(RequestKind::Up, 1)[..3],
        [
            "=== Starting fail back. reconnect host db1(5433) ===",
            "execute command: /etc/failback.sh 1 db1 1 1",
            "Restart all children",
        ]
    );
}

#[test]
fn no_primary_is_found() {
    let mut flow = Flow::new(streaming());
    flow.primary = None;
    let lines = flow.ask(RequestKind::Down, 0);
    assert_eq!(lines[4..6], ["failover: set new primary node: -1", "failover: set new main node: 1"]);
    assert_eq!((flow.cluster.primary, flow.cluster.write_node()), (None, Some(1)));
    // The next one that is lost may be what a script was waiting for.
    flow.primary = Some(2);
    let lines = flow.ask(RequestKind::Down, 1);
    assert_eq!(lines[2], "execute command: /etc/failover.sh 1 db1 5433 /data1 2 db2 1 -1 5434 /data2 \"\" \"\"");
    assert_eq!(lines[4], "failover: set new primary node: 2");
}

/// Nobody was told to promote another one.
#[test]
fn the_primary_has_merely_restarted() {
    let mut flow = Flow::new(Settings { failover_command: String::new(), ..streaming() });
    let asked = |kind, number, by_operator| Request { number, by_operator, ..Request::new(kind, 0, "a cause") };
    // Others see the same loss before it answers again.
    let lines = flow.requests(vec![asked(RequestKind::Down, 1, false), asked(RequestKind::Down, 2, false)]);
    assert_eq!(
        lines,
        [
            "=== Starting degeneration. shutdown host db0(5432) ===",
            "Restart all children",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "failover: DB node 0 answers as the primary again",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            "=== Failover done. shutdown host db0(5432) ===",
            "failover of DB node 0 took 30 ms",
            "failover: no backends are degenerated",
        ]
    );
    assert_eq!((flow.cluster.primary, flow.cluster.nodes[0].status), (Some(0), NodeStatus::Waiting));
    // What comes later counts, and so does what an administrator says, who wants it to be gone.
    let lines = flow.requests(vec![asked(RequestKind::Down, 3, false), asked(RequestKind::Down, 4, true)]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("=== Starting degeneration")).count(), 2);
    assert_eq!((flow.cluster.primary, flow.cluster.nodes[0].status), (None, NodeStatus::Down));
}

#[test]
fn the_main_node_of_raw_mode_is_lost() {
    let mut flow = Flow::new(Settings { backend_clustering_mode: BackendClusteringMode::Raw, ..streaming() });
    assert_eq!(
        flow.ask(RequestKind::Down, 0),
        [
            "=== Starting degeneration. shutdown host db0(5432) ===",
            "Restart all children",
            "execute command: /etc/failover.sh 0 db0 5432 /data0 1 db1 0 -1 5433 /data1 \"\" \"\"",
            "failover: set new primary node: -1",
            "failover: set new main node: 1",
            "=== Failover done. shutdown host db0(5432) ===",
            "failover of DB node 0 took 20 ms",
        ]
    );
    assert_eq!(
        flow.ask(RequestKind::Up, 0)[2..],
        [
            "execute command: /etc/failback.sh 0 db0 0 0",
            "Restart all children",
            "failover: set new primary node: -1",
            "failover: set new main node: 0",
            "=== Failback done. reconnect host db0(5432) ===",
            "failback of DB node 0 took 20 ms",
        ]
    );
}

/// A former primary that must not be detached, or was just attached, when its successor is lost.
#[test]
fn a_former_primary_gets_no_write_when_there_is_no_other() {
    let mut flow = Flow::new(streaming());
    flow.cluster.set_primary(Some(1));
    flow.cluster.nodes[0].disallow_to_failover = true;
    (flow.primary, flow.barred) = (None, NodeSet::of(0));
    flow.ask(RequestKind::Down, 1);
    assert_eq!((flow.cluster.main, flow.cluster.write_node()), (Some(0), Some(2)), "a standby refuses writes itself");
    flow.ask(RequestKind::Down, 2);
    assert_eq!((flow.cluster.main, flow.cluster.write_node()), (Some(0), None));
    let missing: Vec<_> = (0..3).filter(|id| flow.cluster.nodes[*id].missing).collect();
    assert_eq!(missing, [1, 2], "the last one and the last primary may return, as if no node were left");
    flow.operate(RequestKind::Promote, 0);
    assert_eq!((flow.cluster.primary, flow.cluster.write_node()), (Some(0), Some(0)));
}

#[test]
fn another_node_was_seen_to_have_become_the_primary() {
    let mut flow = Flow::new(Settings { follow_primary_command: "/etc/follow.sh %d".to_owned(), ..streaming() });
    assert_eq!(
        flow.ask(RequestKind::Takeover, 1),
        [
            "Restart all children",
            "failover: set new primary node: 1",
            "failover: set new main node: 0",
            "=== Promotion done. promoted host db1(5433) ===",
            "promotion of DB node 1 took 0 ms",
        ]
    );
    let attached = flow.cluster.attached().iter().collect::<Vec<_>>();
    assert_eq!((flow.cluster.primary, attached, flow.follow.take()), (Some(1), vec![0, 1, 2], None));
    assert_eq!(flow.ask(RequestKind::Takeover, 1), ["failover: no backends are promoted"], "it is the primary already");
}

/// What was seen before a failover may be a former primary after it.
#[test]
fn a_takeover_that_waited_behind_a_failover_is_void() {
    let mut flow = Flow::new(streaming());
    flow.primary = Some(2);
    let asked = |kind, node| Request::new(kind, node, "a cause");
    let lines = flow.requests(vec![asked(RequestKind::Down, 0), asked(RequestKind::Takeover, 1)]);
    assert_eq!(lines[4], "failover: set new primary node: 2");
    let told = [
        "failover: DB node 1 was seen to be the primary before the last failover",
        "failover: no backends are promoted",
    ];
    assert_eq!(lines[lines.len() - 2..], told);
    assert_eq!(flow.cluster.primary, Some(2));
    flow.ask(RequestKind::Takeover, 1);
    assert_eq!(flow.cluster.primary, Some(1), "it was seen after that");
}
