//! What the commands that pgpool runs in a failover do to it (failover 9, 10).

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{PORT, promoting};
use crate::harness::{Cluster, PATIENCE, Pgpool, Stop, eventually, failovers, lines_in_order, wait_for};
use crate::only_ours;

#[test]
fn the_others_follow_a_new_primary_one_after_the_other() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::checking(&cluster).prepare();
    pool.set_script("failover_command", &promoting(&cluster));
    pool.set_script("follow_primary_command", "echo follows $1 $5 $8");
    let pool = pool.started();
    cluster.node(0).kill();
    wait_for("the last one", || pool.log().contains("=== Follow primary command for node 2 ended ==="));
    let host = |id: usize| format!("127.0.0.1({})", cluster.node(id).port);
    lines_in_order(
        &pool.log(),
        &[
            "find_primary_node: primary node is 1",
            &format!("starting follow degeneration. shutdown host {}", host(0)),
            &format!("starting follow degeneration. shutdown host {}", host(2)),
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 1",
            "=== Failover done.",
            "=== Starting follow primary command for node 0 ===",
            "command output: follows 0 1 0",
            "=== Follow primary command for node 0 ended ===",
            "=== Starting follow primary command for node 2 ===",
            "command output: follows 2 1 0",
            "=== Follow primary command for node 2 ended ===",
        ],
    );
    assert_eq!(pool.status_file(), "down\nup\ndown\n");
    assert_eq!(pool.connect().value(PORT), cluster.node(1).port.to_string());
}

#[test]
fn nobody_is_told_to_follow_a_primary_that_is_lost() {
    only_ours!("other details");
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::checking(&cluster).prepare();
    let goes_on = pool.path("go on");
    pool.set_script("failover_command", &promoting(&cluster));
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", goes_on.display());
    pool.set_script("follow_primary_command", &wait);
    let pool = pool.started();
    cluster.node(0).kill();
    wait_for("the first one to follow", || pool.log().contains("=== Starting follow primary command for node 0 ==="));
    cluster.node(1).kill();
    wait_for("the new primary to be lost", || pool.log().contains("set new primary node: -1"));
    std::fs::write(goes_on, "").expect("file");
    wait_for("the end", || {
        pool.log().contains("node 2 is not told to follow node 1, which is not the primary any more")
    });
    assert!(!pool.log().contains("=== Starting follow primary command for node 2 ==="), "{}", pool.log());
}

#[test]
fn scripts_that_fail_hang_or_talk_too_much_do_no_harm() {
    only_ours!("blocks the parent");
    let cluster = Cluster::streaming(4).start();
    let mut pool =
        Pgpool::checking(&cluster).set("failover_command_timeout", 1).weights(&[1.0, 0.0, 0.0, 0.0]).prepare();
    pool.set_script(
        "failover_command",
        "case $1 in 1) exit 3;; 2) sleep 600;; 3) head -c 1048576 /dev/zero | tr '\\0' x;; esac",
    );
    let mut pool = pool.started();
    let mut session = pool.connect();
    cluster.node(1).stop(Stop::Immediate);
    wait_for("the first", || pool.status_file() == "up\ndown\nup\nup\n" && failovers(&pool) == 1);
    assert!(pool.log().contains("failover command has ended with exit status 3"), "{}", pool.log());
    cluster.node(3).stop(Stop::Immediate);
    wait_for("the second", || failovers(&pool) == 2);
    lines_in_order(&pool.log(), &["command output: xxx", "a command has printed more than 65536 bytes"]);
    assert!(pool.log().len() < 200_000);
    cluster.node(2).stop(Stop::Immediate);
    wait_for("the command to run", || pool.count("execute command: ") == 3);
    // Meanwhile everything else goes on.
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    pool.set("log_statement", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the reload", || pool.log().contains("reload config files."));
    assert_eq!(session.value("SELECT 2"), "2");
    wait_for("the third", || failovers(&pool) == 3);
    lines_in_order(&pool.log(), &["takes too long and is ended", "failover command was ended by SIGTERM"]);
    assert_eq!(session.value("SELECT 3"), "3");
}

#[test]
fn a_command_that_leaves_something_running_is_over_when_it_ends_itself() {
    only_ours!("other details");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).weights(&[1.0, 0.0]).prepare();
    let pid = pool.path("pid");
    pool.set_script("failover_command", &format!("sleep 600 & echo $! > {}; echo done here", pid.display()));
    let pool = pool.started();
    cluster.node(1).kill();
    wait_for("the failover", || failovers(&pool) == 1);
    lines_in_order(&pool.log(), &["command output: done here", "=== Failover done."]);
    let pid: i32 = std::fs::read_to_string(&pid).expect("pid").trim().parse().expect("a number");
    // What it leaves is the user's own.
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it was ended with the command");
}

#[test]
fn a_command_that_hangs_does_not_keep_a_fast_stop() {
    only_ours!("waits for the command");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).weights(&[1.0, 0.0]).prepare();
    let pid = pool.path("command.pid");
    let cleaned = pool.path("cleaned");
    let text = format!("trap 'echo > {}; exit' TERM; echo $$ > {}; sleep 600 & wait", cleaned.display(), pid.display());
    pool.set_script("failover_command", &text);
    let mut pool = pool.started();
    cluster.node(1).kill();
    wait_for("the command to run", || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    let group = std::fs::read_to_string(&pid).expect("pid").trim().parse().expect("a number");
    let is_gone = || killpg(Pid::from_raw(group), None).is_err();
    assert!(eventually(PATIENCE, is_gone), "something the command has started is still there");
    assert!(cleaned.exists(), "it was told to end");
    assert_eq!(pool.status_file(), "up\ndown\n");
}

#[test]
fn a_command_that_takes_too_long_does_not_keep_a_smart_stop() {
    only_ours!("waits for the command");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).set("failover_command_timeout", 2).prepare();
    pool.set_script("failover_command", "sleep 600");
    let mut pool = pool.started();
    cluster.node(1).kill();
    wait_for("the command to run", || pool.log().contains("execute command: "));
    assert_eq!(pool.stop(Stop::Smart).code(), Some(0));
    assert!(pool.log().contains("failover command takes too long and is ended"), "{}", pool.log());
}
