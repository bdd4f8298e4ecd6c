//! Thousands of random histories, and some that were written down.

use super::World;
use crate::cluster::primary::Found;
use crate::config::{BackendClusteringMode, Settings};
use crate::state::{Cluster, Node, NodeStatus, Progress, RequestKind, Role};
use crate::supervisor::failover::action::Event;

const HISTORIES: u64 = 3000;
const EVENTS: usize = 60;

#[test]
fn whatever_happens_in_whatever_order() {
    for seed in 0..HISTORIES {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..EVENTS {
                world.step();
            }
            world.settle();
        }));
        if let Err(cause) = outcome {
            eprintln!("history {seed}:\n{}", world.log.join("\n"));
            std::panic::resume_unwind(cause);
        }
    }
}

/// So there are never two of them: the table names one node, and never one that is a standby, unless an administrator says
/// that it was promoted.
#[test]
fn only_a_server_that_says_it_is_one_becomes_the_primary() {
    for seed in 0..HISTORIES {
        let mut world = World::new(seed);
        if world.settings.backend_clustering_mode != BackendClusteringMode::StreamingReplication {
            continue;
        }
        for _ in 0..EVENTS {
            let before = world.cluster.primary;
            let begun = world.log.len();
            world.step();
            let after = world.cluster.primary;
            if let Some(after) = after.filter(|_| after != before) {
                let is_said = world.log[begun..].iter().any(|line| line.contains("=== Promotion done"));
                assert!(is_said || world.servers[after].1 == Role::Primary, "history {seed}");
            }
        }
    }
}

#[test]
fn what_an_administrator_has_detached_only_he_attaches() {
    let mut world = World::new(0);
    world.settings =
        Settings { backend_clustering_mode: BackendClusteringMode::StreamingReplication, ..Settings::default() };
    let ask = |world: &mut World, kind, by_operator| {
        world.request(vec![(kind, 0, by_operator)]);
        world.end_search();
        world.cluster.nodes[0].status
    };
    assert_eq!(ask(&mut world, RequestKind::Down, true), NodeStatus::Down);
    assert_eq!(ask(&mut world, RequestKind::Up, false), NodeStatus::Down);
    assert_eq!(ask(&mut world, RequestKind::Up, true), NodeStatus::Waiting);
    assert_eq!(ask(&mut world, RequestKind::Down, false), NodeStatus::Down);
    assert_eq!(ask(&mut world, RequestKind::Up, false), NodeStatus::Waiting);
}

/// A primary and two standbys, all of them up.
fn streaming() -> World {
    let mut world = World::new(0);
    world.settings =
        Settings { backend_clustering_mode: BackendClusteringMode::StreamingReplication, ..Settings::default() };
    let node = |id: usize| Node { hostname: format!("db{id}"), port: 5432, ..Node::default() };
    world.cluster = Cluster { nodes: (0..3).map(node).collect(), ..Cluster::default() };
    (0..3).for_each(|id| world.cluster.set_status(id, NodeStatus::Up, "started"));
    world.cluster.set_primary(Some(0));
    world
}

#[test]
fn a_search_is_not_waited_for_when_nobody_is_left_to_be_found() {
    let mut world = streaming();
    world.operators = false;
    world.ask(vec![(RequestKind::Down, 0)]);
    assert!(world.search);
    world.ask(vec![(RequestKind::Down, 1)]);
    assert!(world.search, "node 2 may be promoted");
    world.ask(vec![(RequestKind::Down, 2)]);
    assert_eq!((world.command, world.search, world.progress), (false, false, Progress::Idle));
    let missing = |world: &World| world.cluster.nodes.iter().map(|node| node.missing).collect::<Vec<_>>();
    assert_eq!(missing(&world), [true, false, true], "the last one and the last primary may return");
    assert_eq!(world.file.iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn an_administrator_does_not_wait_for_a_search_in_vain() {
    let world = || {
        let mut world = streaming();
        world.request(vec![(RequestKind::Down, 0, false)]);
        assert!(world.search);
        world
    };
    let find = |world: &mut World, id| {
        assert!(std::mem::take(&mut world.search));
        world.handle(Event::Searched(Some(Found { primary: Some(id), ..Found::default() })));
    };
    let mut attached = world();
    attached.request(vec![(RequestKind::Up, 0, true)]);
    assert!(attached.cluster.attached().contains(0), "the search sees it");
    find(&mut attached, 0);
    assert_eq!((attached.cluster.primary, attached.asked.len()), (Some(0), 1), "he is not answered yet");
    find(&mut attached, 0);
    assert_eq!((attached.cluster.primary, attached.progress, attached.asked.len()), (Some(0), Progress::Idle, 0));
    assert!(attached.cluster.attached().contains(0) && attached.file.contains(0));

    // Others have seen the same loss, and their requests are still there when he attaches the node.
    let mut late = world();
    late.request(vec![(RequestKind::Down, 0, false)]);
    late.request(vec![(RequestKind::Up, 0, true)]);
    assert!(late.cluster.attached().contains(0), "the search sees it");
    find(&mut late, 0);
    find(&mut late, 0);
    assert_eq!((late.cluster.primary, late.progress, late.asked.len()), (Some(0), Progress::Idle, 0));
    assert!(late.cluster.attached().contains(0) && late.file.contains(0));
    // One that comes after it counts.
    let mut lost = world();
    lost.request(vec![(RequestKind::Up, 0, true), (RequestKind::Down, 0, false)]);
    assert!(!lost.cluster.attached().contains(0));

    let mut promoted = world();
    promoted.request(vec![(RequestKind::Promote, 2, true)]);
    assert_eq!((promoted.cluster.primary, promoted.search, promoted.asked.len()), (Some(2), false, 0));

    let mut faults = world();
    faults.request(vec![(RequestKind::Up, 0, false)]);
    assert!(!faults.cluster.attached().contains(0) && faults.search, "a check can wait");
}
