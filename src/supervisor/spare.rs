//! How many workers without a client there are to be in dynamic mode (process-model 8): decided by numbers alone, with the
//! time as an argument.
//!
//! Too few are made up for at once. Too many are looked at every [`TURN`]; only when there have been too many for a long time
//! some of them go, and after a pause some more. So a burst finds the workers of the burst before it.

use crate::config::ProcessManagementStrategy;
use crate::net::Deadline;
use std::time::{Duration, Instant};

/// How often too many workers are looked at.
pub(super) const TURN: Duration = Duration::from_secs(2);

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub strategy: ProcessManagementStrategy,
    /// `min_spare_children`.
    pub min: usize,
    /// `max_spare_children`.
    pub max: usize,
}

impl Wanted {
    /// Workers at the start.
    pub fn at_start(self) -> usize {
        match self.strategy {
            ProcessManagementStrategy::Aggressive => self.max,
            _ => self.min,
        }
    }

    /// The first turn with too many in which some go, every how many turns from then on, and how many at most.
    fn pace(self) -> (u32, u32, usize) {
        match self.strategy {
            ProcessManagementStrategy::Aggressive => (25, 2, 8),
            ProcessManagementStrategy::Gentle => (60, 5, 3),
            ProcessManagementStrategy::Lazy => (150, 10, 3),
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// So many workers are started.
    Start(usize),
    /// So many workers are asked to leave.
    Dismiss(usize),
}

/// How long there have been too many.
#[derive(Debug, Default)]
pub(super) struct Spare {
    surplus: Option<Surplus>,
}

#[derive(Clone, Copy, Debug)]
struct Surplus {
    turns: u32,
    next: Instant,
}

impl Spare {
    /// Decides about `free` workers without a client, those on their way included, where `room` more can be started.
    pub fn decide(&mut self, wanted: Wanted, free: usize, room: usize, now: Instant) -> Change {
        if free <= wanted.max {
            self.surplus = None;
            let more = wanted.min.saturating_sub(free);
            return match more.min(room) {
                0 => Change::None,
                _ => Change::Start(more.saturating_add(wanted.max / 4).min(room)),
            };
        }
        let surplus = self.surplus.get_or_insert(Surplus { turns: 0, next: now + TURN });
        if now < surplus.next {
            return Change::None;
        }
        *surplus = Surplus { turns: surplus.turns.saturating_add(1), next: now + TURN };
        let (first, pause, most) = wanted.pace();
        if surplus.turns < first || !surplus.turns.is_multiple_of(pause) {
            return Change::None;
        }
        Change::Dismiss((free - wanted.max).min(most))
    }

    /// Whether there are too many, so that there is a next turn.
    pub fn is_counting(&self) -> bool {
        self.surplus.is_some()
    }

    /// When to decide again even if nothing happens.
    pub fn deadline(&self) -> Deadline {
        self.surplus.map_or(Deadline::NEVER, |surplus| Deadline::at(surplus.next))
    }

    /// Nobody is asked to leave any more.
    pub fn forget(&mut self) {
        self.surplus = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProcessManagementStrategy::{Aggressive, Gentle, Lazy};
    use proptest::prelude::*;

    fn wanted(strategy: ProcessManagementStrategy, min: usize, max: usize) -> Wanted {
        Wanted { strategy, min, max }
    }

    /// Seconds and number of each dismissal while `free` workers have nothing to do, for so many seconds.
    fn dismissals(wanted: Wanted, mut free: usize, seconds: u64) -> Vec<(u64, usize)> {
        let (mut spare, begun) = (Spare::default(), Instant::now());
        let mut dismissals = Vec::new();
        for second in 0..seconds {
            // Signals wake the parent more often than turns do.
            for _ in 0..3 {
                match spare.decide(wanted, free, 100, begun + Duration::from_secs(second)) {
                    Change::None => {}
                    Change::Start(_) => panic!("there are enough"),
                    Change::Dismiss(count) => {
                        free -= count;
                        dismissals.push((second, count));
                    }
                }
            }
        }
        dismissals
    }

    #[test]
    fn each_strategy_has_its_pace() {
        assert_eq!(dismissals(wanted(Aggressive, 5, 10), 30, 70), [(52, 8), (56, 8), (60, 4)]);
        assert_eq!(dismissals(wanted(Gentle, 5, 10), 18, 150), [(120, 3), (130, 3), (140, 2)]);
        assert_eq!(dismissals(wanted(Lazy, 5, 10), 15, 400), [(300, 3), (320, 2)]);
        assert_eq!(dismissals(wanted(Aggressive, 5, 10), 10, 1000), []);
    }

    #[test]
    fn a_moment_without_too_many_starts_the_count_anew() {
        let (mut spare, begun) = (Spare::default(), Instant::now());
        let wanted = wanted(Aggressive, 5, 10);
        for second in 0..200 {
            let free = if second % 50 == 49 { 10 } else { 12 };
            assert_eq!(spare.decide(wanted, free, 9, begun + Duration::from_secs(second)), Change::None);
            assert_eq!(spare.is_counting(), free > 10);
        }
    }

    #[test]
    fn too_few_are_made_up_for_at_once_with_some_to_spare() {
        let decide = |wanted, free, room| Spare::default().decide(wanted, free, room, Instant::now());
        assert_eq!(decide(wanted(Gentle, 5, 10), 4, 100), Change::Start(3));
        assert_eq!(decide(wanted(Gentle, 5, 10), 0, 100), Change::Start(7));
        assert_eq!(decide(wanted(Gentle, 5, 10), 0, 2), Change::Start(2));
        assert_eq!(decide(wanted(Gentle, 5, 10), 0, 0), Change::None);
        assert_eq!(decide(wanted(Gentle, 5, 10), 5, 100), Change::None);
        assert_eq!(decide(wanted(Lazy, 1, 3), 0, 100), Change::Start(1));
        assert_eq!([Aggressive, Gentle, Lazy].map(|strategy| wanted(strategy, 5, 10).at_start()), [10, 5, 5]);
    }

    proptest! {
        /// Whatever comes and goes: never more than all, nobody starts what the next turn would dismiss, and when it is
        /// quiet for long the number settles between the limits.
        #[test]
        fn the_number_of_workers_follows_the_clients(
            min in 1_usize..20,
            more in 1_usize..30,
            all in 50_usize..200,
            clients in prop::collection::vec((0_usize..300, 0_u64..400), 1..40),
        ) {
            let wanted = wanted(Aggressive, min, min + more);
            let (mut spare, mut now) = (Spare::default(), Instant::now());
            let mut workers = wanted.at_start();
            for (clients, seconds) in clients.into_iter().chain([(0, 2000)]) {
                // Clients beyond all workers wait.
                for _ in 0..=seconds {
                    loop {
                        let busy = clients.min(workers);
                        let free = workers - busy;
                        match spare.decide(wanted, free, all - workers, now) {
                            Change::None => break,
                            Change::Start(count) => {
                                prop_assert!(free < min && count <= all - workers && free + count <= min + wanted.max / 4);
                                workers += count;
                            }
                            Change::Dismiss(count) => {
                                prop_assert!(count <= 8 && free - count >= wanted.max);
                                workers -= count;
                                break;
                            }
                        }
                    }
                    let free = workers - clients.min(workers);
                    prop_assert!(workers == all || free >= min, "{free} free of {workers}");
                    now += Duration::from_secs(1);
                }
            }
            prop_assert!((min..=wanted.max).contains(&workers), "{workers} are left");
        }
    }
}
