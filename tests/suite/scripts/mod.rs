//! The sample scripts on real clusters: through our failover, by hand, and over an ssh that is none (failover 9, 10, 18).

mod failover;
mod follow_primary;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{
    Cluster, Node, Outcome, Pgpool, Program, Scratch, give_to_server_user, lines_in_order, server_program, server_user,
    wait_for,
};
use crate::{needs_program, only_ours};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/samples");

/// Puts the scripts into a directory, set up for this cluster's names and with further settings.
pub fn install(directory: &Path, cluster: &Cluster, settings: &str) {
    for name in ["failover.sh", "follow_primary.sh", "nodes.sh"] {
        std::fs::copy(Path::new(SAMPLES).join(name), directory.join(name)).expect("a sample script");
    }
    let path = directory.join("nodes.sh");
    let text = std::fs::read_to_string(&path).expect("nodes.sh");
    let owner = server_user().map_or_else(|| "$(id -un)".to_owned(), |user| user.name);
    let pg_ctl = server_program("pg_ctl");
    let bin = pg_ctl.parent().expect("a directory").display();
    let ours = format!("OS_USER={owner}\nPG_BIN={bin}\nAPPLICATION_NAME='node{{id}}'\nPCP_PORT=\n{settings}\n");
    std::fs::write(path, text + &ours).expect("nodes.sh");
    // Who starts a server writes its log.
    cluster.nodes().iter().for_each(|node| give_to_server_user(node.log_file()));
}

/// The two commands, as the scripts say they are to be written in pgpool.conf.
pub fn commands(directory: &Path) -> [(&'static str, String); 2] {
    let command = |script: &str, arguments| format!("{} {arguments}", directory.join(script).display());
    [
        ("failover_command", command("failover.sh", "%d %h %p %D %m %H %M %P %r %R %N %S")),
        ("follow_primary_command", command("follow_primary.sh", "%d %h %p %D %m %H %M %P %r %R")),
    ]
}

/// Servers that pg_rewind can rewind.
fn rewindable(count: usize) -> Cluster {
    Cluster::streaming(count).set("wal_log_hints", "on").set("full_page_writes", "on").start()
}

/// The names of those that stream from a node.
fn streaming_from(node: &Node) -> String {
    node.sql(
        "SELECT coalesce(string_agg(application_name, ' ' ORDER BY application_name), '') FROM pg_stat_replication
         WHERE state = 'streaming'",
    )
}

fn is_primary(node: &Node) -> bool {
    node.sql("SELECT pg_is_in_recovery()") == "f"
}

#[track_caller]
fn told(outcome: &Outcome, status: i32, text: &str) {
    assert!(outcome.status.code() == Some(status) && outcome.stderr.contains(text), "{outcome:#?}");
}

/// The primary dies when node 2 has what node 1 has not.
fn leave_node_1_behind(cluster: &Cluster) {
    cluster.node(1).sql("ALTER SYSTEM SET primary_conninfo = ''");
    cluster.node(1).sql("SELECT pg_reload_conf()");
    wait_for("node 1 to be behind", || streaming_from(cluster.node(0)) == "node2");
    cluster.node(0).sql("CREATE TABLE late AS SELECT 1 AS i");
    wait_for("node 2 to have it", || cluster.node(2).sql("SELECT to_regclass('late') IS NOT NULL") == "t");
    cluster.node(0).kill();
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a program");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
}

/// Runs one of the scripts as pgpool does. `old_primary`: -1 when none was known.
struct Scripts<'a> {
    cluster: &'a Cluster,
    directory: Scratch,
    host: &'a str,
}

impl<'a> Scripts<'a> {
    fn new(cluster: &'a Cluster, settings: &str) -> Scripts<'a> {
        let directory = Scratch::new("scripts");
        install(directory.path(), cluster, settings);
        Scripts { cluster, directory, host: "127.0.0.1" }
    }

    fn place(&self, id: usize) -> (String, String) {
        let node = self.cluster.node(id);
        (node.port.to_string(), node.data_directory().display().to_string())
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Outcome {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.directory.path().display());
        Program::new(self.directory.path().join(name)).env("PATH", &path).args(arguments).run()
    }

    fn failover(&self, lost: usize, lost_data: &str, main: usize, primary: i32) -> Outcome {
        let ((lost_port, _), (main_port, main_data)) = (self.place(lost), self.place(main));
        let (lost, main, primary_id) = (lost.to_string(), main.to_string(), primary.to_string());
        let old = usize::try_from(primary).map(|id| self.place(id).0).unwrap_or_default();
        let old_host = if primary < 0 { "" } else { self.host };
        let (h, d) = (self.host, lost_data);
        self.run(
            "failover.sh",
            &[&lost, h, &lost_port, d, &main, h, "0", &primary_id, &main_port, &main_data, old_host, &old],
        )
    }

    fn follow(&self, node: usize, primary: usize) -> Outcome {
        let ((port, data), (primary_port, primary_data)) = (self.place(node), self.place(primary));
        let (node, primary, h) = (node.to_string(), primary.to_string(), self.host);
        self.run("follow_primary.sh", &[&node, h, &port, &data, &primary, h, "0", "0", &primary_port, &primary_data])
    }
}

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_standby() {
    needs_program!("pg_rewind");
    only_ours!("waits longer for everything");
    let cluster = rewindable(3);
    let mut pool = Pgpool::on(&cluster)
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("sr_check_period", 1)
        .set("auto_failback", "on")
        .set("auto_failback_interval", 1)
        .prepare();
    install(&pool.path(""), &cluster, "REBUILD_STOPPED_NODES=yes\nUSE_SLOTS=yes");
    commands(&pool.path("")).into_iter().for_each(|(parameter, command)| pool.set(parameter, command));
    let pool = pool.started();
    pool.psql("CREATE TABLE kept AS SELECT 1 AS i").succeeded();
    cluster.wait_replayed();
    cluster.node(0).kill();
    let status = || std::fs::read_to_string(pool.path("pgpool_status")).unwrap_or_default();
    wait_for("the last follow command", || pool.log().contains("=== Follow primary command for node 2 ended ==="));
    wait_for("all nodes to be back", || status() == "up\nup\nup\n");
    let port = |id: usize| cluster.node(id).port;
    lines_in_order(
        &pool.log(),
        &[
            &format!("command output: failover.sh: promoting 127.0.0.1:{}", port(1)),
            &format!("command output: failover.sh: 127.0.0.1:{} is the primary", port(1)),
            "failover: set new primary node: 1",
            "=== Starting follow primary command for node 0 ===",
            "command output: follow_primary.sh: making node 0 a standby",
            "command output: pg_rewind: Done!",
            "command output: follow_primary.sh: standby 0 streams from",
            "=== Starting follow primary command for node 2 ===",
            "command output: follow_primary.sh: telling standby 2 that its primary is",
            "command output: follow_primary.sh: standby 2 streams from",
            "=== Follow primary command for node 2 ended ===",
        ],
    );
    assert_eq!(streaming_from(cluster.node(1)), "node0 node2");
    assert_eq!(cluster.node(1).sql("SELECT count(*) FROM pg_replication_slots WHERE active"), "2");
    pool.psql("INSERT INTO kept VALUES (2)").succeeded();
    for id in [0, 2] {
        assert_eq!(cluster.node(id).sql("SHOW port"), port(id).to_string(), "a node keeps its configuration");
        wait_for("the row", || cluster.node(id).sql("SELECT count(*) FROM kept") == "2");
    }
    assert!(!pool.log().contains("has ended with exit status"), "{}", pool.log());
}

#[test]
fn wrong_arguments_change_nothing() {
    let cluster = Cluster::streaming(2).start();
    let scripts = Scripts::new(&cluster, "");
    told(&scripts.run("failover.sh", &["0", "127.0.0.1"]), 1, "12 arguments are needed, got 2");
    told(&scripts.run("follow_primary.sh", &["0"]), 1, "10 arguments are needed, got 1");
    let (_, data) = scripts.place(0);
    let port = cluster.node(0).port.to_string();
    let outcome = scripts.run("failover.sh", &["0", "127.0.0.1", &port, &data, "-1", "", "0", "0", "", "", "", ""]);
    told(&outcome, 0, "no node is left");
    assert!(is_primary(cluster.node(0)));
}

/// An ssh that notes whom it was to reach and runs the command here; the host `gone` does not answer.
const SSH: &str = r#"#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
echo "$1" >>"${0%/*}/reached"
[ "${1#*@}" != gone ] || exit 255
exec sh -c "$2"
"#;

#[test]
fn over_ssh_everything_goes_to_the_host_it_belongs_to() {
    needs_program!("pg_rewind");
    let cluster = rewindable(3);
    let mut scripts = Scripts::new(&cluster, "REMOTE=ssh");
    let ssh = scripts.directory.path().join("ssh");
    write_program(&ssh, SSH);
    // The servers' user is whom ssh would have become.
    let owner = server_user().map(|user| user.name);
    if let Some(name) = &owner {
        let text =
            SSH.replace("exec sh", &format!("exec setpriv --reuid {name} --regid {name} --init-groups --reset-env sh"));
        std::fs::write(&ssh, text).expect("ssh");
    }
    scripts.host = "localhost";
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    for id in [0, 2] {
        told(&scripts.follow(id, 1), 0, &format!("standby {id} streams from localhost:"));
    }
    assert_eq!(streaming_from(cluster.node(1)), "node0 node2");
    let reached = std::fs::read_to_string(scripts.directory.path().join("reached")).expect("reached");
    let owner = owner.unwrap_or_else(|| std::env::var("USER").unwrap_or_default());
    assert!(reached.lines().all(|line| line == format!("{owner}@localhost")), "{reached}");
    assert_eq!(reached.lines().count(), 5, "fence, promote, two looks and one that is rebuilt: {reached}");

    scripts.host = "gone";
    told(&scripts.follow(0, 2), 0, "the host of node 0 cannot be reached, it is left alone");
}
