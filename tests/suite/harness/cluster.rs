//! Several servers: a primary with streaming standbys, or servers that know nothing of each other.

use std::sync::OnceLock;

use super::wait_for;
use super::{Node, Scratch};

/// Servers that stop, and vanish from the disk, when dropped.
pub struct Cluster {
    // Nodes first: they stop before their directory goes.
    nodes: Vec<Node>,
    streaming: bool,
    scratch: Scratch,
}

/// A cluster that will be.
pub struct Plan {
    count: usize,
    streaming: bool,
    settings: Vec<(String, String)>,
    apart: Option<usize>,
}

impl Plan {
    /// A parameter of postgresql.conf, for every node.
    pub fn set(mut self, name: &str, value: &str) -> Plan {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a node into a network of its own (see `needs_namespaces!`), whose cable can be pulled.
    pub fn apart(mut self, id: usize) -> Plan {
        self.apart = Some(id);
        self
    }

    /// Starts the nodes and waits until all answer.
    pub fn start(self) -> Cluster {
        let scratch = Scratch::new("cluster");
        let new = |id| Node::new(scratch.path(), id, &self.settings, self.apart == Some(id));
        let nodes: Vec<Node> = (0..self.count).map(new).collect();
        if self.apart.is_some() {
            nodes.iter().for_each(Node::open_to_networks);
        }
        let cluster = Cluster { nodes, streaming: self.streaming, scratch };
        if self.streaming {
            cluster.nodes[1..].iter().for_each(|standby| standby.follow(&cluster.nodes[0]));
        }
        cluster.nodes.iter().for_each(Node::launch);
        cluster.nodes.iter().for_each(Node::wait_ready);
        if self.streaming {
            cluster.wait_streaming();
        }
        cluster
    }
}

impl Cluster {
    /// Node 0 is the primary, the others its streaming standbys.
    pub fn streaming(count: usize) -> Plan {
        Plan { count, streaming: true, settings: Vec::new(), apart: None }
    }

    /// Servers with the same content and no connection to each other.
    pub fn independent(count: usize) -> Plan {
        Plan { count, streaming: false, settings: Vec::new(), apart: None }
    }

    pub fn node(&self, id: usize) -> &Node {
        &self.nodes[id]
    }

    pub fn primary(&self) -> &Node {
        &self.nodes[0]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// Where the nodes' data, sockets and logs are.
    pub fn directory(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Waits until every running standby streams from node 0.
    pub fn wait_streaming(&self) {
        let standbys = self.nodes[1..].iter().filter(|node| node.is_running()).count();
        wait_for("the standbys to stream", || {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            self.primary().sql(sql) == standbys.to_string()
        });
    }

    /// Waits until every running standby has replayed all that node 0 has written.
    pub fn wait_replayed(&self) {
        let written = self.primary().sql("SELECT pg_current_wal_flush_lsn()");
        for standby in self.nodes[1..].iter().filter(|node| node.is_running()) {
            wait_for(&format!("node {} to replay {written}", standby.id), || {
                standby.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")) == "t"
            });
        }
    }
}

/// The cluster for tests that break nothing: a primary and two streaming standbys, started on first use and ended with
/// the test program. Each test makes and drops its own tables in it.
pub fn shared() -> &'static Cluster {
    SHARED.get_or_init(|| Cluster::streaming(3).start())
}

/// Like [`shared`], but a COMMIT returns only when both standbys show it: a program may write here and read at once,
/// wherever its read goes.
pub fn without_lag() -> &'static Cluster {
    WITHOUT_LAG.get_or_init(|| {
        let plan = Cluster::streaming(3).set("max_connections", "300");
        plan.set("synchronous_standby_names", "FIRST 2 (*)").set("synchronous_commit", "remote_apply").start()
    })
}

/// The shared clusters that some test has asked for.
pub fn shared_if_started() -> impl Iterator<Item = &'static Cluster> {
    SHARED.get().into_iter().chain(WITHOUT_LAG.get())
}

static SHARED: OnceLock<Cluster> = OnceLock::new();
static WITHOUT_LAG: OnceLock<Cluster> = OnceLock::new();
