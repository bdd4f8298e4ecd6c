//! What an administrator asks for (failover 13).

use super::super::action::Follow;
use super::{Flow, streaming};
use crate::config::Settings;
use crate::state::RequestKind;

const QUIET: &str = "Do not restart children because we are switching over node id 2 host: db2 port: 5434 and we are in \
                     streaming replication mode";

/// Failover 17.3 and 17.4.
#[test]
fn an_administrator_detaches_a_standby_and_attaches_it_again() {
    let mut flow =
        Flow::new(Settings { failover_command: String::new(), failback_command: String::new(), ..streaming() });
    assert_eq!(
        flow.operate(RequestKind::Down, 2),
        [
            "=== Starting degeneration. shutdown host db2(5434) ===",
            QUIET,
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            "=== Failover done. shutdown host db2(5434) ===",
            "failover of DB node 2 took 0 ms",
        ]
    );
    assert_eq!(flow.cluster.nodes[2].reason, "an administrator");
    assert_eq!(
        flow.ask(RequestKind::Up, 2),
        ["invalid failback request, node id : 2 was detached by an administrator"],
        "auto_failback is not asked for its opinion"
    );
    assert_eq!(
        flow.operate(RequestKind::Up, 2),
        [
            "=== Starting fail back. reconnect host db2(5434) ===",
            "Node 0 is not down (status: 2)",
            "Do not restart children because we are failing back node id 2 host: db2 port: 5434 and we are in streaming \
             replication mode and not all backends were down",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "failover: set new primary node: 0",
            "failover: set new main node: 0",
            "=== Failback done. reconnect host db2(5434) ===",
            "failback of DB node 2 took 30 ms",
        ]
    );
    assert!(!flow.cluster.nodes[2].kept_out);
}

/// Failover 17.5.
#[test]
fn an_administrator_says_which_node_was_promoted() {
    let mut flow = Flow::new(streaming());
    let expected = [
        "starting promotion. promote host db1(5433)",
        "Restart all children",
        "starting follow degeneration. shutdown host db0(5432)",
        "starting follow degeneration. shutdown host db2(5434)",
        "failover: 2 follow backends have been degenerated",
        "failover: set new primary node: 1",
        "failover: set new main node: 1",
        "=== Promotion done. promoted host db1(5433) ===",
        "promotion of DB node 1 took 0 ms",
    ];
    assert_eq!(flow.operate(RequestKind::Promote, 1), expected);
    assert_eq!((flow.cluster.primary, flow.cluster.main, flow.follow.take()), (Some(1), Some(1), None));
    assert_eq!(flow.operate(RequestKind::Promote, 1), ["failover: no backends are promoted"], "it is the primary");
    assert_eq!(flow.operate(RequestKind::Promote, 2), ["failover: no backends are promoted"], "it is down");
    // Those that were set down are not kept out: they are to follow, and may come back by themselves then.
    flow.primary = Some(1);
    assert_eq!(flow.ask(RequestKind::Up, 2)[0], "=== Starting fail back. reconnect host db2(5434) ===");

    let mut flow = Flow::new(Settings { follow_primary_command: "/etc/follow.sh %d".to_owned(), ..streaming() });
    assert_eq!(flow.operate(RequestKind::Promote, 1), expected);
    assert_eq!(flow.follow, Some(Follow { nodes: vec![0, 2], new_primary: 1, old_primary: Some(0) }));
}

/// Failover 13.3: the script promotes.
#[test]
fn an_administrator_switches_over() {
    let mut flow = Flow::new(Settings { follow_primary_command: "/etc/follow.sh %d".to_owned(), ..streaming() });
    flow.primary = Some(2);
    assert_eq!(
        flow.operate(RequestKind::Switchover, 2),
        [
            "=== Starting degeneration. shutdown host db0(5432) ===",
            "Restart all children",
            "execute command: /etc/failover.sh 0 db0 5432 /data0 2 db2 0 0 5434 /data2 db0 5432",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            "starting follow degeneration. shutdown host db0(5432)",
            "starting follow degeneration. shutdown host db1(5433)",
            "failover: 2 follow backends have been degenerated",
            "failover: set new primary node: 2",
            "failover: set new main node: 2",
            "=== Failover done. shutdown host db0(5432) ===",
            "failover of DB node 0 took 50 ms",
        ]
    );
    assert_eq!(flow.follow, Some(Follow { nodes: vec![0, 1], new_primary: 2, old_primary: Some(0) }));
    assert!(!flow.cluster.nodes[0].kept_out, "the former primary may come back as a standby");
    assert_eq!(
        flow.operate(RequestKind::Switchover, 2),
        ["failover: no backends are degenerated"],
        "it is the primary"
    );
    assert_eq!(flow.operate(RequestKind::Switchover, 1), ["failover: no backends are degenerated"], "it is down");

    // The script has not done what it was asked to.
    let mut flow = Flow::new(streaming());
    flow.primary = None;
    let lines = flow.operate(RequestKind::Switchover, 1);
    let last = ["failover: set new primary node: -1", "DB node 1 was to be promoted and is not the primary"];
    assert_eq!(lines[4..6], last);

    // Without follow_primary_command only the former primary goes down.
    let mut flow = Flow::new(streaming());
    flow.primary = Some(1);
    flow.operate(RequestKind::Switchover, 1);
    assert_eq!(flow.cluster.attached().iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!((flow.cluster.primary, flow.follow), (Some(1), None));
}

#[test]
fn without_a_primary_nothing_is_switched_over() {
    let mut flow = Flow::new(streaming());
    flow.primary = None;
    flow.ask(RequestKind::Down, 0);
    assert_eq!(flow.operate(RequestKind::Switchover, 2), ["failover: no backends are degenerated"]);
    let promoted = flow.operate(RequestKind::Promote, 2);
    assert_eq!(promoted[promoted.len() - 2], "=== Promotion done. promoted host db2(5434) ===");
}
