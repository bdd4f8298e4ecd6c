//! Logins that were refused since the start: of sessions and to PCP. For metrics.

use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU64, Ordering};

shareable! {
    /// How many logins were refused.
    #[derive(Debug)]
    pub struct RefusedLogins {
        sessions: AtomicU64,
        pcp: AtomicU64,
    }
}

impl RefusedLogins {
    /// A client was not let in: wrong password, no rule for it, or its server has refused it.
    pub fn count_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A client of PCP was not let in.
    pub fn count_pcp(&self) {
        self.pcp.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused logins of sessions.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Refused logins to PCP.
    pub fn pcp(&self) -> u64 {
        self.pcp.load(Ordering::Relaxed)
    }
}
