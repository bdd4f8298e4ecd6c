//! The sample scripts on real clusters: through our failover, by hand, and over an ssh that is none (failover 9, 10, 18).

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::harness::{
    Cluster, Node, Outcome, PATIENCE, Pgpool, Program, Scratch, Stop, eventually, give_to_server_user, lines_in_order,
    server_program, server_user, wait_for,
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

/// Servers that pg_rewind can rewind.
fn rewindable(count: usize) -> Cluster {
    Cluster::streaming(count).set("wal_log_hints", "on").set("full_page_writes", "on").start()
}

/// The two commands, as the scripts say they are to be written in pgpool.conf.
pub fn commands(directory: &Path) -> [(&'static str, String); 2] {
    let command = |script: &str, arguments| format!("{} {arguments}", directory.join(script).display());
    [
        ("failover_command", command("failover.sh", "%d %h %p %D %m %H %M %P %r %R %N %S")),
        ("follow_primary_command", command("follow_primary.sh", "%d %h %p %D %m %H %M %P %r %R")),
    ]
}

/// The names of those that stream from a node.
fn streaming_from(node: &Node) -> String {
    node.sql(
        "SELECT coalesce(string_agg(application_name, ' ' ORDER BY application_name), '') FROM pg_stat_replication
         WHERE state = 'streaming'",
    )
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

#[track_caller]
fn told(outcome: &Outcome, status: i32, text: &str) {
    assert!(outcome.status.code() == Some(status) && outcome.stderr.contains(text), "{outcome:#?}");
}

fn is_primary(node: &Node) -> bool {
    node.sql("SELECT pg_is_in_recovery()") == "f"
}

#[test]
fn a_primary_that_still_runs_is_stopped_before_another_is_promoted() {
    needs_program!("pg_rewind");
    let cluster = rewindable(3);
    let scripts = Scripts::new(&cluster, "");
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "the lost primary still runs, stopping it");
    assert!(is_primary(cluster.node(1)) && !cluster.node(0).is_running());
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary already");
    // What the script has stopped comes back without more ado, and a second time there is nothing to be done.
    for id in [0, 2] {
        told(&scripts.follow(id, 1), 0, &format!("standby {id} streams from 127.0.0.1:"));
        told(&scripts.follow(id, 1), 0, "streams from 127.0.0.1:");
    }
    assert_eq!(streaming_from(cluster.node(1)), "node0 node2");
    told(&scripts.follow(1, 1), 0, "node 1 is the primary");
}

#[test]
fn a_primary_that_hangs_is_killed() {
    let cluster = Cluster::streaming(2).start();
    // The waiting for a clean end is not what is tested.
    let scripts = Scripts::new(&cluster, "STOP_SECONDS=1");
    cluster.node(0).pause();
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "killing it");
    assert!(is_primary(cluster.node(1)) && !cluster.node(0).is_running());
}

#[test]
fn a_primary_that_cannot_be_stopped_keeps_its_place() {
    let cluster = Cluster::streaming(2).start();
    let scripts = Scripts::new(&cluster, "");
    for data in ["", "/nonexistent"] {
        told(&scripts.failover(0, data, 1, 0), 1, "still takes writes: nothing is promoted");
    }
    assert!(is_primary(cluster.node(0)) && !is_primary(cluster.node(1)));
}

#[test]
fn a_standby_that_is_lost_needs_nothing() {
    let cluster = Cluster::streaming(3).start();
    let slot = "SELECT slot_name FROM pg_create_physical_replication_slot('node2')";
    cluster.node(0).sql(slot);
    let (kept, dropped) = (Scripts::new(&cluster, ""), Scripts::new(&cluster, "DROP_SLOT_OF_LOST_STANDBY=yes"));
    let (_, data) = kept.place(2);
    let slots = || cluster.node(0).sql("SELECT count(*) FROM pg_replication_slots");
    told(&kept.failover(2, &data, 0, 0), 0, "standby 2 is lost, the primary is not");
    assert_eq!(slots(), "1");
    told(&dropped.failover(2, &data, 0, 0), 0, "standby 2 is lost, the primary is not");
    assert_eq!(slots(), "0");
    // pgpool knows of no primary, the standby does.
    told(&kept.failover(2, &data, 1, -1), 0, "streams from a primary that pgpool does not know");
    assert!(!is_primary(cluster.node(1)) && !is_primary(cluster.node(2)) && cluster.node(2).is_running());
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

#[test]
fn a_standby_that_is_ahead_of_the_new_primary_is_rewound() {
    needs_program!("pg_rewind");
    let cluster = rewindable(3);
    leave_node_1_behind(&cluster);
    let scripts = Scripts::new(&cluster, "");
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    let outcome = scripts.follow(2, 1);
    told(&outcome, 0, "pg_rewind of ");
    assert!(outcome.stdout.contains("pg_rewind: Done!"), "{outcome:#?}");
    assert_eq!(streaming_from(cluster.node(1)), "node2");
    assert_eq!(cluster.node(2).sql("SELECT to_regclass('late') IS NULL"), "t");
}

#[test]
fn a_node_that_streams_is_attached() {
    let cluster = Cluster::streaming(2).start();
    let scripts = Scripts::new(&cluster, "PCP_PORT=9876 PCP_USER=admin");
    let noted = scripts.directory.path().join("noted");
    // What pgpool refuses is no failure of the program.
    let successful = "pcp_attach_node -- Command Successful";
    for (status, said, expected) in [(0, successful, 0), (0, "ERROR: no", 1), (1, "", 1)] {
        let text = format!("#!/bin/sh\necho \"$@\" >{}\necho '{said}'\nexit {status}\n", noted.display());
        write_program(&scripts.directory.path().join("pcp_attach_node"), &text);
        told(&scripts.follow(1, 0), expected, "standby 1 streams from 127.0.0.1:");
        let arguments = std::fs::read_to_string(&noted).expect("arguments");
        assert_eq!(arguments, "-w -h localhost -p 9876 -U admin -n 1\n");
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a program");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
}

#[test]
fn a_script_that_is_ended_takes_along_what_it_has_started() {
    let cluster = Cluster::streaming(2).start();
    let scripts = Scripts::new(&cluster, "REMOTE=ssh");
    let pid = scripts.directory.path().join("pid");
    write_program(
        &scripts.directory.path().join("ssh"),
        &format!("#!/bin/sh\necho $$ >{}.new && mv {0}.new {0}\nexec sleep 600\n", pid.display()),
    );
    cluster.node(0).kill();
    // failover_command_timeout: the group is told to end.
    let path = format!("{}:{}", scripts.directory.path().display(), std::env::var("PATH").unwrap_or_default());
    let (port, data) = scripts.place(1);
    let mut script = std::process::Command::new(scripts.directory.path().join("failover.sh"))
        .args(["0", "h", "1", "/data", "1", "127.0.0.1", "0", "0", &port, &data, "h", "1"])
        .env("PATH", path)
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .spawn()
        .expect("failover.sh");
    wait_for("the remote command", || pid.exists());
    let group = Pid::from_raw(script.id() as i32);
    killpg(group, Signal::SIGTERM).expect("the script");
    assert_eq!(script.wait().expect("wait").code(), Some(143));
    let sleeper = std::fs::read_to_string(&pid).expect("pid").trim().parse().map(Pid::from_raw).expect("a number");
    let is_gone = eventually(PATIENCE, || kill(sleeper, None).is_err());
    let _ = kill(sleeper, Signal::SIGKILL);
    assert!(is_gone, "what it has started is still there");
    assert!(!is_primary(cluster.node(1)));
}

#[test]
fn the_standby_with_most_wal_is_promoted() {
    let cluster = Cluster::streaming(3).start();
    let (port, data) = (cluster.node(2).port, cluster.node(2).data_directory().display().to_string());
    leave_node_1_behind(&cluster);
    let scripts = Scripts::new(&cluster, &format!("CANDIDATES=('127.0.0.1 {port} {data}')"));
    let (_, lost) = scripts.place(0);
    told(&scripts.failover(0, &lost, 1, 0), 0, &format!("127.0.0.1:{port} is the primary"));
    assert!(is_primary(cluster.node(2)) && !is_primary(cluster.node(1)));
}

#[test]
fn what_pg_rewind_cannot_rewind_is_made_anew() {
    needs_program!("pg_rewind");
    // Without wal_log_hints and checksums.
    let cluster = Cluster::streaming(3).set("full_page_writes", "on").start();
    let scripts = Scripts::new(&cluster, "REBUILD_STOPPED_NODES=yes");
    let (_, data) = scripts.place(0);
    cluster.node(0).kill();
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    told(&scripts.follow(0, 1), 0, "pg_rewind has failed, making a base backup");
    assert_eq!(streaming_from(cluster.node(1)), "node0");
    assert_eq!(cluster.node(0).sql("SHOW port"), cluster.node(0).port.to_string());
    assert_only_its_own(&cluster, 0);
}

#[test]
fn a_rebuild_that_was_interrupted_is_taken_up_again() {
    needs_program!("pg_rewind");
    let cluster = rewindable(2);
    // The server's programs, with a pg_rewind that leaves the primary's configuration behind when it is killed.
    let real = server_program("pg_rewind");
    let programs = Scratch::new("programs");
    for entry in std::fs::read_dir(real.parent().expect("a directory")).expect("programs").flatten() {
        symlink(entry.path(), programs.path().join(entry.file_name())).expect("link");
    }
    let fake = programs.path().join("pg_rewind");
    std::fs::remove_file(&fake).expect("pg_rewind");
    write_program(&fake, "#!/bin/sh\necho 'port = 1' >\"$2/postgresql.conf\"\nkill -KILL $PPID\n");

    let scripts = Scripts::new(&cluster, &format!("PG_BIN={}", programs.path().display()));
    let (port, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    told(&scripts.follow(0, 1), 1, "node 0 could not be rebuilt");
    assert!(!cluster.node(0).is_running());
    std::fs::remove_file(&fake).expect("pg_rewind");
    symlink(&real, &fake).expect("link");
    told(&scripts.follow(0, 1), 0, "standby 0 streams from");
    assert_eq!(cluster.node(0).sql("SHOW port"), port);
    assert_only_its_own(&cluster, 0);
}

/// Nothing lies beside the data directory but the log.
#[track_caller]
fn assert_only_its_own(cluster: &Cluster, id: usize) {
    let entries = std::fs::read_dir(cluster.directory()).expect("directory").flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let left: Vec<_> = names.iter().filter(|name| name.starts_with(&format!("node{id}."))).collect();
    assert_eq!(left, [&format!("node{id}.log")]);
}

#[test]
fn a_node_that_is_down_is_left_alone() {
    let cluster = Cluster::streaming(3).start();
    let scripts = Scripts::new(&cluster, "USE_SLOTS=yes");
    cluster.node(0).kill();
    cluster.node(2).stop(Stop::Fast);
    let (_, data) = scripts.place(0);
    told(&scripts.failover(0, &data, 1, 0), 0, "is the primary");
    for id in [0, 2] {
        told(&scripts.follow(id, 1), 0, "does not run and is left alone");
        assert!(!cluster.node(id).is_running());
    }
    assert_eq!(cluster.node(1).sql("SELECT count(*) FROM pg_replication_slots"), "0");
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
