//! Our clients of PCP beside those of Pgpool-II: both ask the same pgpool, and print the same.
//!
//! What they print without any server is in tests/pcp_clients.rs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Cluster, Outcome, Pgpool, Program, foreign, target_dir, wait_for};
use crate::needs_pgpool;

/// The password of everybody here.
const PASSWORD: &str = "secret";

/// A pgpool with PCP users and a password file for the clients.
struct Administered {
    pool: Pgpool,
    port: String,
}

impl Administered {
    fn on(cluster: &Cluster) -> Self {
        let pool = Pgpool::on(cluster).set("health_check_period", 1).set("health_check_user", "postgres").start();
        fs::write(pool.path("pcp.conf"), "admin:5ebe2294ecd0e0f08eab7690d2a6ee69\n").expect("pcp.conf");
        let port = pool.pcp_port().to_string();
        let entry = format!("127.0.0.1:{port}:admin:{PASSWORD}\n*:{port}:wrong:wrong\n*:{port}:*:{PASSWORD}\n");
        let passwords = pool.path("pcppass");
        fs::write(&passwords, entry).expect("pcppass");
        fs::set_permissions(&passwords, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
        Self { pool, port }
    }

    /// Runs a client program, named without `pcp_`, from this directory or, without one, ours.
    fn run(&self, from: Option<&Path>, command: &str, arguments: &[&str]) -> Outcome {
        let program = match from {
            Some(directory) => Program::new(directory.join(format!("pcp_{command}"))),
            None => Program::new(env!("CARGO_BIN_EXE_pcp")).args([command]),
        };
        let connection = ["-h", "127.0.0.1", "-p", &self.port, "-w"];
        let user: &[&str] = if arguments.contains(&"-U") { &[] } else { &["-U", "admin"] };
        let program = program.args(connection).args(user).args(arguments);
        program.env("PCPPASSFILE", &self.pool.path("pcppass").display().to_string()).run()
    }

    /// Runs both programs until they print the same and end the same, which they do at once unless what they tell has
    /// changed in between. Returns that.
    #[track_caller]
    fn both(&self, theirs: &Path, command: &str, arguments: &[&str]) -> String {
        let run = |from| {
            let outcome = self.run(from, command, arguments);
            (outcome.status.code(), outcome.stdout, outcome.stderr)
        };
        let mut last = (run(None), run(Some(theirs)));
        for _ in 0..10 {
            if last.0 == last.1 {
                break;
            }
            last = (run(None), run(Some(theirs)));
        }
        assert_eq!(last.0, last.1, "ours, theirs: {command} {arguments:?}");
        last.0.1 + &last.0.2
    }
}

/// The programs of Pgpool-II, if they are there (`scripts/setup --pgpool2`).
fn original_programs() -> Option<PathBuf> {
    let under_test = foreign().then(|| std::env::var_os("PGPOOL_UNDER_TEST").map(PathBuf::from)).flatten();
    let directory = under_test.unwrap_or_else(|| target_dir().join("pgpool2")).join("bin");
    directory.join("pcp_node_info").exists().then_some(directory)
}

#[test]
fn both_print_the_same() {
    needs_pgpool!();
    let Some(theirs) = original_programs() else {
        println!("skipped: run scripts/setup --pgpool2");
        return;
    };
    let cluster = Cluster::streaming(2).start();
    let pgpool = Administered::on(&cluster);
    let both = |command: &str, arguments: &[&str]| pgpool.both(&theirs, command, arguments);
    let contains = |command: &str, arguments: &[&str], part: &str| {
        let text = both(command, arguments);
        assert!(text.contains(part), "{command} {arguments:?}: {text}");
    };
    assert_eq!(both("node_count", &[]), "2\n");
    assert_eq!(both("node_count", &["-v"]), "Node Count\n____________\n 2\n");
    contains("node_count", &["-U", "wrong"], "authentication failed for user \"wrong\"");

    pgpool.pool.psql("select 1").succeeded();
    contains("proc_count", &["-v"], "Total Processes:4");
    both("proc_count", &[]);
    contains("proc_info", &["-P", "1"], "invalid process ID : 1");
    contains("pool_status", &[], "name : num_init_children\nvalue: 4\n");
    contains("pool_status", &["-v"], "num_init_children");
    wait_for("health checks", || {
        let stats = both("health_check_stats", &["0"]);
        stats.split(' ').nth(8).is_some_and(|count| count != "0")
    });
    contains("health_check_stats", &["-v", "1"], "Average Health Check Duration : ");
    contains("health_check_stats", &["9"], "informing health check stats info failed");
    contains("watchdog_info", &[], "watchdog is not enabled");
    contains("node_info", &["-n", "7"], "invalid node ID : 7");
    contains("promote_node", &["7"], "node id 7 is not valid");
    contains("recovery_node", &["7"], "node id 7 is not valid");
    contains("attach_node", &["128"], "out of range");
}

/// From release 4.4 on the record about a node has a field more, and that about a process from 4.5 on: older programs
/// print them wrongly, ours read the older ones.
#[test]
fn both_print_the_same_of_nodes_and_processes() {
    needs_pgpool!();
    let Some(theirs) = original_programs().filter(|_| foreign()) else {
        println!("skipped: not the programs of the pgpool under test");
        return;
    };
    let cluster = Cluster::streaming(2).start();
    let pgpool = Administered::on(&cluster);
    let both = |command: &str, arguments: &[&str]| pgpool.both(&theirs, command, arguments);
    pgpool.pool.psql("select 1").succeeded();
    for arguments in [&[][..], &["-a"], &["0"], &["-n", "1", "-v"], &["1", "2", "-d"]] {
        assert!(both("node_info", arguments).contains("127.0.0.1"), "{arguments:?}");
    }
    for arguments in [&[][..], &["-v"], &["-a"], &["--all", "-v"]] {
        assert!(both("proc_info", arguments).contains("postgres"), "{arguments:?}");
    }
}

#[test]
fn json_tells_what_is_printed() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let pgpool = Administered::on(&cluster);
    pgpool.pool.psql("select 1").succeeded();
    let json = |command: &str| -> serde_json::Value {
        let text = pgpool.run(None, command, &["--json"]).succeeded();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"))
    };
    assert_eq!(json("node_count")["node_count"], 2);
    let nodes = json("node_info");
    assert_eq!((&nodes[0]["role"], &nodes[1]["role"]), (&"primary".into(), &"standby".into()), "{nodes}");
    assert_eq!(nodes[1]["port"], cluster.node(1).port);
    assert_eq!(json("proc_count").as_array().map(Vec::len), Some(4));
    let slots = json("proc_info");
    let is_ours = |slot: &serde_json::Value| slot["username"] == "postgres";
    assert!(slots.as_array().is_some_and(|slots| !slots.is_empty() && slots.iter().all(is_ours)), "{slots}");
    let parameters = json("pool_status");
    let workers = parameters.as_array().and_then(|all| all.iter().find(|one| one["name"] == "num_init_children"));
    assert_eq!(workers.map(|one| &one["value"]), Some(&"4".into()));
}

#[test]
fn our_programs_steer() {
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let pgpool = Administered::on(&cluster);
    let run = |command: &str, arguments: &[&str]| pgpool.run(None, command, arguments);
    // Pgpool-II starts its PCP anew after each failover, and drops who is connected then: hence the patience.
    let order = |command: &str, arguments: &[&str]| {
        let successful = format!("pcp_{command} -- Command Successful\n");
        wait_for(command, || run(command, arguments).stdout == successful);
    };
    let becomes = |wanted: &[&str]| {
        wait_for("the status of node 1", || {
            run("node_info", &["1"]).stdout.split(' ').nth(4).is_some_and(|status| wanted.contains(&status))
        });
    };
    order("detach_node", &["1"]);
    becomes(&["down"]);
    order("attach_node", &["1"]);
    becomes(&["up", "waiting"]);
    wait_for("a refusal", || {
        let refused = run("promote_node", &["0", "--strict"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        refused.stderr.contains("specified node is already primary node")
    });
    order("reload_config", &[]);
    order("stop_pgpool", &["-m", "fast"]);
    let mut pgpool = pgpool;
    assert!(pgpool.pool.wait_end(std::time::Duration::from_secs(30)).is_some(), "it stopped");
}
