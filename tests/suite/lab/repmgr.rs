//! repmgr beside the servers: each has a repmgrd that fails over by itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Cluster, Program, Scratch, Service, Wire, server_program, server_user, wait_for};

/// The four repmgrd; ended when dropped, with what they have started.
pub struct Repmgr {
    _daemons: Vec<Service>,
    // Last: the daemons' files go when they are gone.
    scratch: Scratch,
}

impl Repmgr {
    /// Registers the nodes and starts a repmgrd for each. `favourite` is promoted when the primary is lost.
    pub fn start(cluster: &Cluster, favourite: usize) -> Repmgr {
        let scratch = Scratch::new("repmgr");
        cluster.primary().sql("CREATE DATABASE repmgr");
        cluster.wait_replayed();
        for node in cluster.nodes() {
            let file = file(&scratch, node.id);
            fs::write(&file, configuration(cluster, node.id, favourite, &file)).expect("repmgr.conf");
        }
        repmgr(&file(&scratch, 0), &["primary", "register"]);
        cluster.wait_replayed();
        for node in &cluster.nodes()[1..] {
            repmgr(&file(&scratch, node.id), &["standby", "register", "--upstream-node-id=1"]);
        }
        cluster.wait_replayed();
        let daemon = |id: usize| {
            let file = file(&scratch, id).display().to_string();
            let arguments = ["-f", &file, "--daemonize=false", "--no-pid-file"];
            Service::start(&server_program("repmgrd"), &arguments, &log(&scratch, id))
        };
        let _daemons = cluster.nodes().iter().map(|node| daemon(node.id)).collect();
        let repmgr = Repmgr { _daemons, scratch };
        for node in cluster.nodes() {
            let watches = if node.id == 0 { "monitoring cluster primary" } else { "starting monitoring of node" };
            wait_for(&format!("the repmgrd of node {}", node.id), || repmgr.log(node.id).contains(watches));
        }
        repmgr
    }

    /// Waits until every node knows of every other that its repmgrd is there: only then do all take part in a failover.
    pub fn wait_complete(&self, cluster: &Cluster) {
        for node in cluster.nodes() {
            wait_for(&format!("node {} to see four active nodes", node.id), || {
                Wire::login_with(node.port, &[("user", "postgres"), ("database", "repmgr")])
                    .is_ok_and(|mut session| session.value("SELECT count(*) FROM repmgr.nodes WHERE active") == "4")
            });
        }
    }

    /// What the repmgrd of a node has logged.
    pub fn log(&self, id: usize) -> String {
        String::from_utf8_lossy(&fs::read(log(&self.scratch, id)).unwrap_or_default()).into_owned()
    }
}

fn file(scratch: &Scratch, id: usize) -> PathBuf {
    scratch.path().join(format!("node{id}.conf"))
}

fn log(scratch: &Scratch, id: usize) -> PathBuf {
    scratch.path().join(format!("node{id}.log"))
}

fn configuration(cluster: &Cluster, id: usize, favourite: usize, file: &Path) -> String {
    let node = cluster.node(id);
    let (repmgr, file) = (server_program("repmgr"), file.display());
    let (repmgr, bin) = (repmgr.display(), repmgr.parent().expect("a directory").display());
    format!(
        "node_id = {}
node_name = 'server{id}'
conninfo = 'host=127.0.0.1 port={} user=postgres dbname=repmgr connect_timeout=2'
data_directory = '{}'
pg_bindir = '{bin}'
priority = {}
failover = automatic
promote_command = '{repmgr} standby promote -f {file}'
follow_command = '{repmgr} standby follow -f {file} --upstream-node-id=%n'
monitor_interval_secs = 1
reconnect_attempts = 2
reconnect_interval = 1
election_rerun_interval = 1
primary_notification_timeout = 3
",
        id + 1,
        node.port,
        node.data_directory().display(),
        if id == favourite { 150 } else { 100 },
    )
}

/// repmgr, as the servers' user: it refuses root.
fn repmgr(file: &Path, verb: &[&str]) {
    let path = server_program("repmgr");
    let program = match server_user() {
        Some(user) => Program::new("setpriv")
            .args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--init-groups".to_owned()])
            .args([&path]),
        None => Program::new(&path),
    };
    program.args(["-f"]).args([file]).args(verb).run().succeeded();
}
