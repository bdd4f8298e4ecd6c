//! SHOW POOL_NODES (show-commands 5.2, 5.3).

use super::probe::{self, Answer};
use super::{View, format, words};
use crate::config::Settings;
use crate::state::{Cluster, Delay, Node, Role};

/// One node.
pub(super) struct Row<'a> {
    pub view: &'a View<'a>,
    cluster: &'a Cluster,
    pub id: usize,
    pub node: &'a Node,
    answer: Answer,
}

columns! { row: Row<'_>;
    node_id => row.id,
    hostname => row.node.hostname,
    port => row.node.port,
    status => words::status(row.node),
    pg_status => row.pg_status(),
    lb_weight => format!("{:.6}", row.view.settings.weight_share(row.id)),
    role => row.role(),
    pg_role => row.pg_role(),
    select_cnt => row.view.shared.counters(row.id).read().select,
    load_balance_node => row.view.load_balance_node == row.id,
    replication_delay => format::delay(row.delay()),
    replication_state => row.streaming_only(&row.node.replication_state),
    replication_sync_state => row.streaming_only(&row.node.sync_state),
    last_status_change => format::time(row.node.last_status_change),
}

/// What tables about nodes begin with: which node it is, and what pgpool takes it for.
pub(super) struct Identity<'a> {
    pub id: usize,
    pub hostname: &'a str,
    pub port: u16,
    pub status: &'static str,
    pub role: &'static str,
}

impl<'a> Identity<'a> {
    pub fn new(settings: &Settings, cluster: &Cluster, id: usize, node: &'a Node) -> Self {
        let (status, role) = (words::status(node), words::role(settings, cluster, id));
        Self { id, hostname: &node.hostname, port: node.port, status, role }
    }
}

/// One row per id up to the highest configured one.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    look(view, None, values)
}

/// What `describe` makes of each node, or of one only: then no other is asked.
pub(super) fn look(
    view: &View<'_>,
    only: Option<usize>,
    describe: impl Fn(&Row<'_>) -> Vec<String>,
) -> Vec<Vec<String>> {
    let cluster = view.shared.nodes().view();
    let is_wanted = |id| only.is_none_or(|only| only == id);
    let answers = probe::ask(view.settings, &cluster.nodes, is_wanted);
    let row = |(id, (node, answer))| describe(&Row { view, cluster: &cluster, id, node, answer });
    cluster.nodes.iter().zip(answers).enumerate().filter(|(id, _)| is_wanted(*id)).map(row).collect()
}

impl Row<'_> {
    pub fn role(&self) -> &'static str {
        words::role(self.view.settings, self.cluster, self.id)
    }

    pub fn pg_status(&self) -> &'static str {
        match self.answer.accepts {
            None => "unknown",
            Some(true) => "up",
            Some(false) => "down",
        }
    }

    pub fn pg_role(&self) -> &'static str {
        if !words::is_streaming(self.view.settings) {
            return self.role();
        }
        match self.answer.role {
            Role::Unknown => "unknown",
            Role::Primary => "primary",
            Role::Standby => "standby",
        }
    }

    pub fn delay(&self) -> Delay {
        let is_primary = self.cluster.primary == Some(self.id);
        if is_primary || !words::is_streaming(self.view.settings) {
            return Delay::Unmeasured;
        }
        self.view.shared.delays().last_known(self.id)
    }

    pub fn streaming_only<'t>(&self, text: &'t str) -> &'t str {
        if words::is_streaming(self.view.settings) { text } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendClusteringMode, NodeSettings};
    use crate::state::{ClientInfo, Limits, NodeCounters, NodeStatus, Shared};
    use std::time::Duration;

    /// A primary, an unused id, and a standby that is behind.
    fn shared() -> Shared {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let server = |port, status| Node {
            hostname: "db.example".to_owned(),
            port,
            status,
            replication_state: "streaming".to_owned(),
            sync_state: "async".to_owned(),
            last_status_change: 1_795_376_294,
            ..Node::default()
        };
        let update = |cluster: &mut Cluster| {
            cluster.nodes = vec![server(5432, NodeStatus::Up), Node::default(), server(5433, NodeStatus::Waiting)];
            (cluster.primary, cluster.main) = (Some(0), Some(0));
        };
        shared.nodes().update(update).expect("update");
        shared.delays().set(2, Delay::Time(Duration::from_millis(2500)));
        let slot = shared.worker(0);
        slot.begin_client(&ClientInfo::default());
        NodeCounters::count(&slot.counters(2).select);
        shared
    }

    fn settings() -> Settings {
        let node = |port, weight| NodeSettings { port, weight, ..NodeSettings::default() };
        Settings { nodes: vec![node(5432, 1.0), NodeSettings::default(), node(5433, 2.0)], ..Settings::default() }
    }

    fn show(settings: &Settings, shared: &Shared) -> Vec<String> {
        let view = View { settings, shared, load_balance_node: 2, listeners: &[] };
        rows(&view).into_iter().map(|row| row.join("|")).collect()
    }

    #[test]
    fn streaming_replication() {
        let at = format::time(1_795_376_294);
        assert_eq!(
            COLUMNS.join("|"),
            "node_id|hostname|port|status|pg_status|lb_weight|role|pg_role|select_cnt|load_balance_node|\
             replication_delay|replication_state|replication_sync_state|last_status_change"
        );
        assert_eq!(
            show(&settings(), &shared()),
            [
                format!("0|db.example|5432|up|unknown|0.333333|primary|unknown|0|false|0|streaming|async|{at}"),
                "1||0|unused|unknown|0.000000|standby|unknown|0|false|0|||".to_owned(),
                format!(
                    "2|db.example|5433|waiting|unknown|0.666667|standby|unknown|1|true|2.500000 seconds|\
                     streaming|async|{at}"
                ),
            ]
        );
    }

    #[test]
    fn other_modes_have_main_and_replicas() {
        let settings = Settings { backend_clustering_mode: BackendClusteringMode::Raw, ..settings() };
        let at = format::time(1_795_376_294);
        let shown = show(&settings, &shared());
        assert_eq!(shown[0], format!("0|db.example|5432|up|unknown|0.333333|main|main|0|false|0|||{at}"));
        assert_eq!(shown[2], format!("2|db.example|5433|waiting|unknown|0.666667|replica|replica|1|true|0|||{at}"));
    }

    #[test]
    fn what_a_server_says_stands_beside_what_pgpool_knows() {
        let (settings, shared) = (settings(), shared());
        let (view, cluster) =
            (View { settings: &settings, shared: &shared, load_balance_node: 0, listeners: &[] }, Cluster::default());
        let node = Node { status: NodeStatus::Down, ..Node::default() };
        let words = |accepts, role| {
            let row = Row { view: &view, cluster: &cluster, id: 0, node: &node, answer: Answer { accepts, role } };
            [words::status(row.node), row.pg_status(), row.role(), row.pg_role()]
        };
        assert_eq!(words(Some(true), Role::Primary), ["down", "up", "standby", "primary"]);
        assert_eq!(words(Some(true), Role::Standby), ["down", "up", "standby", "standby"]);
        assert_eq!(words(Some(false), Role::Unknown), ["down", "down", "standby", "unknown"]);
    }
}
