//! How often somebody was not let in. It happens seldom, so all processes count in the same place.

use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who was refused, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// A client, by a server: a wrong password, no such database.
    ByServer = 0,
    /// A client, by pgpool itself: pool_hba.conf, a wrong password.
    ByPgpool = 1,
    /// A client, as all places but the reserved ones were taken.
    TooManyClients = 2,
    /// An administrator, by PCP.
    ByPcp = 3,
    /// Whoever asked for metrics or the status page.
    ByMetrics = 4,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::ByServer, Self::ByPgpool, Self::TooManyClients, Self::ByPcp, Self::ByMetrics];

    /// A short name.
    pub fn word(self) -> &'static str {
        match self {
            Self::ByServer => "server",
            Self::ByPgpool => "pgpool",
            Self::TooManyClients => "too_many_clients",
            Self::ByPcp => "pcp",
            Self::ByMetrics => "metrics",
        }
    }
}

shareable! {
    /// The counters.
    #[derive(Debug)]
    pub struct Refusals {
        counts: [AtomicU64; Refusal::ALL.len()],
    }
}

impl Refusals {
    /// One more.
    pub fn count(&self, refusal: Refusal) {
        self.counts[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn read(&self, refusal: Refusal) -> u64 {
        self.counts[refusal as usize].load(Ordering::Relaxed)
    }
}
