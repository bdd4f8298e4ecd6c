//! The verdict against a small world: servers that die, return, are promoted, demoted and rewound, and answers that get lost.
//! Seeded, so a failure can be repeated.
//!
//! The world knows what the verdict can only conclude: which server has been promoted last, and so holds the writes that
//! count.

use super::search::remember;
use super::sight::Sight;
use super::verdict::{Verdict, judge};
use crate::state::{Cluster, History, Node, NodeStatus, Role};
use fastrand::Rng;

const HISTORIES: u64 = 3000;
const EVENTS: usize = 80;

#[derive(Clone, Copy, Debug)]
struct Server {
    is_up: bool,
    role: Role,
    timeline: u32,
}

struct World {
    rng: Rng,
    servers: Vec<Server>,
    cluster: Cluster,
    /// The highest timeline there was.
    newest: u32,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(2..5);
        let role = |id| if id == 0 { Role::Primary } else { Role::Standby };
        let servers = (0..count).map(|id| Server { is_up: true, role: role(id), timeline: 1 }).collect();
        let node = |_| {
            let disallow_to_failover = rng.u8(0..4) == 0;
            Node { status: NodeStatus::Up, port: 5432, disallow_to_failover, ..Node::default() }
        };
        let cluster = Cluster { nodes: (0..count).map(node).collect(), ..Cluster::default() };
        Self { rng, servers, cluster, newest: 1, log: Vec::new() }
    }

    fn step(&mut self) {
        let id = self.rng.usize(0..self.servers.len());
        let newest = self.newest;
        let server = &mut self.servers[id];
        match self.rng.u8(0..6) {
            0 => server.is_up = false,
            // As it was: a former primary takes writes again.
            1 => server.is_up = true,
            // No manager promotes a standby that has missed a promotion.
            2 if server.is_up && server.role == Role::Standby && server.timeline == newest => {
                (server.role, server.timeline) = (Role::Primary, newest + 1);
                self.newest += 1;
            }
            // Stopped, rewound, and started as a standby of the newest.
            3 => *server = Server { is_up: true, role: Role::Standby, timeline: newest },
            // An administrator attaches what he has repaired, or what he has not.
            4 => self.cluster.nodes[id].status = NodeStatus::Up,
            _ => {}
        }
        self.log.push(format!("{id} {:?}", self.servers[id]));
    }

    fn sight(&mut self, id: usize, may_be_lost: bool) -> Option<Sight> {
        let server = self.servers[id];
        let is_lost = may_be_lost && self.rng.u8(0..8) == 0;
        let is_asked = self.cluster.nodes[id].status.is_attached() && server.is_up && !is_lost;
        let history = Some(History { system: 1, timeline: server.timeline });
        is_asked.then(|| Sight { history, ..Sight::of(server.role) })
    }

    /// One check, and what the parent makes of it.
    fn check(&mut self, may_be_lost: bool) {
        let sights: Vec<_> = (0..self.servers.len()).map(|id| self.sight(id, may_be_lost)).collect();
        let sights: Vec<_> = sights.iter().map(Option::as_ref).collect();
        let verdict = judge(&self.cluster, &sights, &[], true);
        self.log.push(format!("    {verdict:?}"));
        self.prove(&verdict, &sights);
        self.cluster.set_primary(verdict.primary);
        remember(&mut self.cluster, verdict.primary.and_then(|id| sights[id]));
        self.cluster.bar(verdict.barred);
        for outdated in &verdict.outdated {
            if !self.cluster.nodes[outdated.node].disallow_to_failover {
                self.cluster.set_status(outdated.node, NodeStatus::Down, "outdated");
            }
        }
        if let Some(node) = self.cluster.write_node().filter(|_| self.cluster.primary.is_none()) {
            let is_standby = sights[node].is_none_or(|sight| sight.role == Role::Standby);
            assert!(is_standby, "writes go to one that takes them and is not the primary");
        }
    }

    fn prove(&self, verdict: &Verdict, sights: &[Option<&Sight>]) {
        let before = self.cluster.primary.filter(|id| self.cluster.attached().contains(*id));
        let is_outdated = |id: usize| verdict.outdated.iter().any(|outdated| outdated.node == id);
        if let Some(primary) = verdict.primary {
            assert!(self.cluster.attached().contains(primary), "the primary is detached");
            assert!(!is_outdated(primary), "the primary is to be detached");
            if verdict.primary != before {
                let sight = sights[primary].expect("a new primary has answered");
                assert_eq!(sight.role, Role::Primary);
                let is_back =
                    sight.history.zip(self.cluster.history).is_some_and(|(now, last)| now.is_older_than(last));
                assert!(!is_back, "back to a server that was the primary before");
            }
        }
        assert!(verdict.primary.is_some() || before.is_none(), "a primary is given up for nobody");
        for outdated in &verdict.outdated {
            assert!(self.servers[outdated.node].timeline < self.newest, "the newest primary is to be detached");
        }
    }
}

fn run(world: &mut World, seed: u64, play: impl FnOnce(&mut World)) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(world)));
    if let Err(cause) = outcome {
        eprintln!("history {seed}:\n{}", world.log.join("\n"));
        std::panic::resume_unwind(cause);
    }
}

#[test]
fn never_back_to_a_former_primary() {
    for seed in 0..HISTORIES {
        run(&mut World::new(seed), seed, |world| {
            for _ in 0..EVENTS {
                world.step();
                world.check(true);
            }
        });
    }
}

#[test]
fn the_last_one_promoted_is_found_and_kept() {
    for seed in 0..HISTORIES {
        run(&mut World::new(seed), seed, |world| {
            world.check(false);
            for _ in 0..EVENTS {
                world.step();
                world.check(true);
            }
            let newest = world.newest;
            let Some(last) =
                world.servers.iter().position(|server| server.role == Role::Primary && server.timeline == newest)
            else {
                return;
            };
            world.servers[last].is_up = true;
            world.cluster.nodes[last].status = NodeStatus::Up;
            world.check(false);
            assert_eq!(world.cluster.primary, Some(last));
            for id in 0..world.servers.len() {
                let is_former = id != last && world.servers[id].role == Role::Primary && world.servers[id].is_up;
                let Node { status, disallow_to_failover, .. } = &world.cluster.nodes[id];
                assert!(!is_former || !status.is_attached() || *disallow_to_failover, "{id} is in use");
            }
            // Whatever answers get lost from now on, nothing changes any more.
            let generation = (world.cluster.primary, world.cluster.attached());
            for _ in 0..10 {
                world.check(true);
                assert_eq!((world.cluster.primary, world.cluster.attached()), generation);
            }
        });
    }
}
