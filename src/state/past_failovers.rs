//! The failovers and failbacks there were since pgpool was started: how many, by whom they were asked for, where their time
//! went; and the last ones in detail.
//!
//! Written by the parent only, when one has ended.

use super::{RequestKind, now};
use pgpool_shm::{Text, Versioned, plain, shareable};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many are kept in detail.
const KEPT: usize = 16;

/// Who has asked for a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Asker {
    /// Another process of ours: the finder, the replication check.
    Other = 0,
    /// An administrator.
    Administrator = 1,
    /// The health check of the node.
    HealthCheck = 2,
    /// A session that met a fault.
    Session = 3,
}

impl Asker {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Other, Self::Administrator, Self::HealthCheck, Self::Session];

    /// A short name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Other => "search",
            Self::Administrator => "administrator",
            Self::HealthCheck => "health_check",
            Self::Session => "session",
        }
    }
}

/// Where the time of a failover went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Until its turn came.
    pub waited: Duration,
    /// The command of the user.
    pub command: Duration,
    /// The search for the primary.
    pub search: Duration,
    /// Everything else.
    pub own: Duration,
}

/// A failover or failback that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastFailover {
    /// When it ended, seconds since 1970.
    pub at: u64,
    /// What was asked for.
    pub kind: RequestKind,
    /// The node.
    pub node: usize,
    /// By whom.
    pub asker: Asker,
    /// Where its time went.
    pub phases: Phases,
    /// Why, in words for a person.
    pub cause: String,
}

plain! {
    pub(super) struct PastRecord {
        /// Counts from 1.
        number: u64,
        at: u64,
        microseconds: [u64; 4],
        kind: u32,
        node: u32,
        asker: u32,
        filler: u32,
        cause: Text<256>,
    }
}

shareable! {
    struct Sums {
        counts: [AtomicU64; Asker::ALL.len()],
        microseconds: [AtomicU64; 4],
    }
}

shareable! {
    pub(super) struct Record {
        ended: AtomicU64,
        sums: [Sums; RequestKind::ALL.len()],
        last: [Versioned<PastRecord>; KEPT],
    }
}

/// The failovers that have ended.
#[derive(Clone, Copy)]
pub struct PastFailovers<'a>(&'a Record);

impl<'a> PastFailovers<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        Self(record)
    }

    /// One has ended now. For the parent.
    pub fn add(self, kind: RequestKind, node: usize, asker: Asker, phases: Phases, cause: &str) {
        let sums = &self.0.sums[kind as usize];
        sums.counts[asker as usize].fetch_add(1, Ordering::Relaxed);
        let microseconds = phases.microseconds();
        for (sum, microseconds) in sums.microseconds.iter().zip(microseconds) {
            sum.fetch_add(microseconds, Ordering::Relaxed);
        }
        let number = self.0.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let (kind, asker) = (kind as u32, asker as u32);
        let node = u32::try_from(node).unwrap_or(u32::MAX);
        let record =
            PastRecord { number, at: now(), microseconds, kind, node, asker, filler: 0, cause: Text::new(cause) };
        self.0.last[(number % KEPT as u64) as usize].set(record);
    }

    /// How many of a kind were asked for by whom.
    pub fn count(self, kind: RequestKind, asker: Asker) -> u64 {
        self.0.sums[kind as usize].counts[asker as usize].load(Ordering::Relaxed)
    }

    /// The time that all of a kind have taken together.
    pub fn phases(self, kind: RequestKind) -> Phases {
        let sums = &self.0.sums[kind as usize].microseconds;
        Phases::from_microseconds([0, 1, 2, 3].map(|phase: usize| sums[phase].load(Ordering::Relaxed)))
    }

    /// The last ones, newest first.
    pub fn last(self) -> Vec<PastFailover> {
        let mut records: Vec<_> = self.0.last.iter().map(Versioned::get).filter(|record| record.number != 0).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.number));
        records.iter().map(PastFailover::from).collect()
    }
}

impl Phases {
    fn microseconds(self) -> [u64; 4] {
        let Self { waited, command, search, own } = self;
        [waited, command, search, own].map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    fn from_microseconds(microseconds: [u64; 4]) -> Self {
        let [waited, command, search, own] = microseconds.map(Duration::from_micros);
        Self { waited, command, search, own }
    }

    /// Each with its name.
    pub fn named(self) -> [(&'static str, Duration); 4] {
        [("waiting", self.waited), ("command", self.command), ("search", self.search), ("own", self.own)]
    }

    /// All together.
    pub fn total(self) -> Duration {
        self.named().iter().map(|(_, time)| *time).sum()
    }
}

impl From<&PastRecord> for PastFailover {
    fn from(record: &PastRecord) -> Self {
        let kind = RequestKind::ALL.get(record.kind as usize).copied().unwrap_or(RequestKind::Down);
        Self {
            at: record.at,
            kind,
            node: record.node as usize,
            asker: Asker::ALL.get(record.asker as usize).copied().unwrap_or(Asker::Other),
            phases: Phases::from_microseconds(record.microseconds),
            cause: record.cause.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, Shared};

    #[test]
    fn all_are_counted_and_the_last_are_kept() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let past = shared.past_failovers();
        assert!(past.last().is_empty());
        let phases = Phases { command: Duration::from_millis(200), own: Duration::from_millis(4), ..Phases::default() };
        for node in 0..KEPT + 4 {
            past.add(RequestKind::Down, node, Asker::HealthCheck, phases, "timed out");
        }
        past.add(RequestKind::Up, 1, Asker::Administrator, Phases::default(), "attached");
        let last = past.last();
        assert_eq!(
            (last.len(), last[0].kind, last[0].node, last[0].cause.as_str()),
            (KEPT, RequestKind::Up, 1, "attached")
        );
        assert_eq!((last[1].node, last[1].phases, last[1].asker), (KEPT + 3, phases, Asker::HealthCheck));
        assert_eq!(past.count(RequestKind::Down, Asker::HealthCheck), KEPT as u64 + 4);
        assert_eq!(past.count(RequestKind::Down, Asker::Administrator), 0);
        assert_eq!(past.phases(RequestKind::Down).command, Duration::from_millis(200) * 20);
        assert_eq!(phases.total(), Duration::from_millis(204));
    }
}
