//! failover.sh: who is stopped, who is promoted, and when nobody is.

use std::os::unix::process::CommandExt;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{Scripts, is_primary, leave_node_1_behind, rewindable, streaming_from, told, write_program};
use crate::harness::{Cluster, PATIENCE, eventually, wait_for};
use crate::needs_program;

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
