//! Our clients of PCP beside those of Pgpool-II: both ask the same pgpool, and print the same.
//!
//! What they print without any server is in tests/pcp_clients.rs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Cluster, Outcome, Pgpool, Program, foreign, target_dir, wait_for};

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
        let config = fs::read_to_string(pool.path("pgpool.conf")).expect("pgpool.conf");
        let port = config.lines().find_map(|line| line.strip_prefix("pcp_port = ")).expect("pcp_port");
        let port = port.trim_matches('\'').to_owned();
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

    /// Runs both programs; what they print and how they end must be the same. Returns that.
    #[track_caller]
    fn both(&self, theirs: &Path, command: &str, arguments: &[&str]) -> String {
        let [ours, theirs] = [None, Some(theirs)].map(|from| {
            let outcome = self.run(from, command, arguments);
            (outcome.status.code(), outcome.stdout, outcome.stderr)
        });
        assert_eq!(ours, theirs, "ours, theirs: {command} {arguments:?}");
        ours.1 + &ours.2
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
    let Some(theirs) = original_programs() else {
        println!("skipped: run scripts/setup --pgpool2");
        return;
    };
    let cluster = Cluster::streaming(2).start();
    let pgpool = Administered::on(&cluster);
    let both = |command: &str, arguments: &[&str]| pgpool.both(&theirs, command, arguments);
    assert_eq!(both("node_count", &[]), "2\n");
    assert_eq!(both("node_count", &["-v"]), "Node Count\n____________\n 2\n");
    let both_all = |command: &str, cases: &[&[&str]]| {
        let outputs = cases.iter().map(|arguments| both(command, arguments)).collect::<Vec<_>>();
        println!("{}", outputs.join("--\n"));
        outputs
    };
    both_all("node_info", &[&[], &["-a"], &["0"], &["-n", "1", "-v"], &["-n", "7"], &["1", "2", "-d"]]);
    wait_for("health checks", || !both("health_check_stats", &["0"]).contains(" 0 0 0 0 0 "));
    pgpool.pool.psql("alter system set log_min_duration_statement = 7");
    both_all("proc_count", &[&[], &["-v"]]);
    both_all("proc_info", &[&[], &["-v"], &["-a"], &["-P", "1"], &["--all", "-v"]]);
    both_all("pool_status", &[&[], &["-v"]]);
    both_all("health_check_stats", &[&["1"], &["-v", "1"], &["9"], &["2"]]);
    both_all("watchdog_info", &[&[], &["-v"], &["1"]]);
    both_all("node_count", &[&["-U", "wrong"], &["-U", "nobody"]]);
    both_all("promote_node", &[&["0"], &["7"]]);
    both_all("recovery_node", &[&["0"], &["7"]]);
    both_all("attach_node", &[&["77"], &["128"]]);
    both_all("detach_node", &[&["77"], &["-g", "77"]]);
}
