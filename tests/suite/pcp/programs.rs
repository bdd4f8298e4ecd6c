//! The original's programs, release 4.3 (pcp 9), as scripts use them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::orders::{is_standby, node, promotion};
use super::{PASSWORD, USER, start};
use crate::harness::{Cluster, Outcome, Pgpool, Program, shared, target_dir, wait_for};
use crate::needs_pgpool;

/// Ends the test, with a word, where the programs cannot be had.
macro_rules! needs_programs {
    () => {
        needs_pgpool!();
        if !target_dir().join("pgpool2/bin/pcp_node_count").exists() {
            println!("skipped: the programs of Debian's pgpool2 are missing (scripts/setup --pgpool2)");
            return;
        }
    };
}

/// Runs a program with the password in a .pcppass.
#[track_caller]
fn run(pool: &Pgpool, name: &str, args: &[&str]) -> Outcome {
    let file = pool.path("pcppass");
    fs::write(&file, format!("127.0.0.1:{}:{USER}:{PASSWORD}\n", pool.pcp_port())).expect("pcppass");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("pcppass");
    let port = pool.pcp_port().to_string();
    Program::new(target_dir().join("pgpool2/bin").join(name))
        .env("PCPPASSFILE", &file.display().to_string())
        .args(["-h", "127.0.0.1", "-p", &port, "-U", USER, "-w"])
        .args(args)
        .patience(Duration::from_secs(60))
        .run()
}

#[test]
fn what_they_print() {
    needs_programs!();
    let pool = start(Pgpool::on(shared()));
    let text = |name: &str, args: &[&str]| run(&pool, name, args).succeeded();
    assert_eq!(text("pcp_node_count", &[]), "3");
    let pids = text("pcp_proc_count", &[]);
    assert_eq!(pids.split_whitespace().count(), 4, "{pids}");

    // What release 4.3 takes for the delay and the fields behind it is shifted with every server from 4.4 on (pcp 12.6).
    let info = text("pcp_node_info", &["-n", "1"]);
    let port = shared().node(1).port.to_string();
    let fields: Vec<&str> = info.split_whitespace().collect();
    assert_eq!([fields[0], fields[1], fields[3]], ["127.0.0.1", &port, "0.333333"], "{info}");
    assert_eq!(fields[5..8], ["unknown", "standby", "unknown"], "{info}");

    // 4 processes with 4 pool slots and 3 nodes each.
    let session = pool.connect();
    let processes = text("pcp_proc_info", &["-a"]);
    assert_eq!(processes.lines().count(), 48, "{processes}");
    assert_eq!(processes.lines().filter(|line| line.starts_with("test postgres ")).count(), 3, "{processes}");
    assert_eq!(processes.lines().filter(|line| line.ends_with(" Wait for connection")).count(), 36, "{processes}");
    drop(session);
    let status = text("pcp_pool_status", &[]);
    assert!(status.contains(&format!("name : pcp_port\nvalue: {}\n", pool.pcp_port())), "{status}");
    let stats = text("pcp_health_check_stats", &["-n", "0"]);
    assert!(stats.starts_with("0 127.0.0.1 "), "{stats}");
}

#[test]
fn what_they_say_of_errors() {
    needs_programs!();
    let pool = start(Pgpool::on(shared()));
    let error = |name: &str, args: &[&str]| run(&pool, name, args).stderr;
    assert_eq!(
        error("pcp_node_info", &["-n", "9"]),
        "ERROR:  informing node info failed\nDETAIL:  invalid node ID : 9\n\n"
    );
    assert_eq!(
        error("pcp_watchdog_info", &[]),
        "ERROR:  PCP: informing watchdog info failed\nDETAIL:  watchdog is not enabled\n\n"
    );
    let recovery = error("pcp_recovery_node", &["-n", "0"]);
    assert!(recovery.contains("primary server cannot be recovered by online recovery."), "{recovery}");
    fs::write(pool.path("pcp.conf"), "").expect("pcp.conf");
    let refused = run(&pool, "pcp_node_count", &[]);
    assert_eq!(
        refused.stderr,
        format!(
            "FATAL:  authentication failed for user \"{USER}\"\nDETAIL:  username and/or password does not match\n\n"
        )
    );
}

#[test]
fn what_they_order() {
    needs_programs!();
    let cluster = Cluster::streaming(2).start();
    let mut pool = start(Pgpool::on(&cluster).set("failover_command", promotion(cluster.node(1))));
    let order = |pool: &Pgpool, name: &str, args: &[&str]| {
        let said = run(pool, name, args).succeeded();
        assert_eq!(said, format!("{name} -- Command Successful"));
    };
    order(&pool, "pcp_reload_config", &[]);
    wait_for("a reload", || pool.log().contains("reload config files."));
    order(&pool, "pcp_detach_node", &["-n", "1"]);
    wait_for("node 1 to be down", || node(&pool, 1) == "down standby");
    order(&pool, "pcp_attach_node", &["-n", "1"]);
    wait_for("node 1 to be back", || is_standby(&pool, 1));
    order(&pool, "pcp_promote_node", &["-s", "-n", "1"]);
    wait_for("node 1 to be the primary", || node(&pool, 1).ends_with(" primary"));
    assert_eq!(node(&pool, 0), "down standby");
    order(&pool, "pcp_stop_pgpool", &["-m", "fast"]);
    assert_eq!(pool.wait_end(Duration::from_secs(30)).and_then(|status| status.code()), Some(0));
}
