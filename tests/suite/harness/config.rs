//! The pgpool.conf of a pgpool under test.

use std::collections::BTreeMap;
use std::fs;

use super::environment::{foreign, is_bare_server};
use super::{Cluster, Pgpool, Scratch, ports};

/// A pgpool that will be: pgpool.conf as names and values.
pub struct Config {
    pub(super) settings: BTreeMap<String, String>,
    /// Environment variables besides the tests' own.
    pub(super) environment: BTreeMap<String, String>,
    primary_port: u16,
}

impl Config {
    /// Sets a parameter of pgpool.conf.
    pub fn set(mut self, name: &str, value: impl ToString) -> Config {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Metrics, health and status page, on a port of their own.
    pub fn with_metrics(self) -> Config {
        self.set("metrics_listen_addresses", "127.0.0.1").set("metrics_port", ports::free_port())
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Config {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets the weight of every node.
    pub fn weights(mut self, weights: &[f64]) -> Config {
        for (id, weight) in weights.iter().enumerate() {
            self = self.set(&format!("backend_weight{id}"), weight);
        }
        self
    }

    /// Never detaches this node, however long a busy machine keeps its answers.
    pub fn keep(self, id: usize) -> Config {
        self.set(&format!("backend_flag{id}"), "DISALLOW_TO_FAILOVER")
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Pgpool {
        let oracle = self.primary_port;
        let mut pool = self.prepare();
        if is_bare_server() {
            pool.port = oracle;
            return pool;
        }
        pool.started()
    }

    /// Writes the files without starting anything.
    pub fn prepare(mut self) -> Pgpool {
        let scratch = Scratch::new("pgpool");
        let port = ports::free_port();
        let here = scratch.path().display().to_string();
        for (name, value) in [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", here.clone()),
            ("pcp_listen_addresses", "127.0.0.1".to_owned()),
            ("pcp_port", ports::free_port().to_string()),
            ("pcp_socket_dir", here.clone()),
            ("work_dir", here.clone()),
            ("pid_file_name", format!("{here}/pgpool.pid")),
        ] {
            self.settings.entry(name.to_owned()).or_insert(value);
        }
        for (name, content) in [("pcp.conf", ""), ("pool_hba.conf", "local all all trust\nhost all all all trust\n")] {
            fs::write(scratch.path().join(name), content).expect("configuration file");
        }
        Pgpool::new(self, scratch, port)
    }

    /// The text of pgpool.conf.
    pub(super) fn text(&self) -> String {
        let line =
            |(name, value): (&String, &String)| format!("{} = '{}'\n", name_in_file(name), value.replace('\'', "''"));
        self.settings.iter().map(line).collect()
    }
}

impl Pgpool {
    /// A pgpool that looks at its nodes every second. A node that hangs is noticed after a time that no other needs.
    pub fn checking(cluster: &Cluster) -> Config {
        Pgpool::on(cluster)
            .set("health_check_period", 1)
            .set("health_check_timeout", 10)
            .set("health_check_user", "postgres")
            .set("search_primary_node_timeout", 5)
    }

    /// A pgpool in front of this cluster, with the settings tests want: 4 workers, no periodic checks.
    pub fn on(cluster: &Cluster) -> Config {
        let mode = if cluster.is_streaming() { "streaming_replication" } else { "raw" };
        let mut config =
            Config { settings: BTreeMap::new(), environment: BTreeMap::new(), primary_port: cluster.primary().port }
                .set("backend_clustering_mode", mode)
                .set("num_init_children", 4)
                .set("connect_timeout", 5000)
                .set("sr_check_period", 0)
                .set("sr_check_user", "postgres")
                .set("sr_check_database", "postgres")
                .set("health_check_period", 0)
                .set("search_primary_node_timeout", 10)
                .set("failover_on_backend_error", "off");
        for node in cluster.nodes() {
            config = config
                .set(&format!("backend_hostname{}", node.id), node.host())
                .set(&format!("backend_port{}", node.id), node.port)
                .set(&format!("backend_weight{}", node.id), 1)
                .set(&format!("backend_data_directory{}", node.id), node.data_directory().display())
                .set(&format!("backend_application_name{}", node.id), format!("node{}", node.id));
        }
        config
    }
}

/// Debian's pgpool2 is release 4.3, which has older names for two parameters.
fn name_in_file(name: &str) -> &str {
    match name {
        "unix_socket_directories" if foreign() => "socket_dir",
        "work_dir" if foreign() => "logdir",
        _ => name,
    }
}
