//! Statistics of the health checks (failover 4.6), and the wish of others for a check at once.
//!
//! Written by the health check process of the node only.

use super::now;
use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What `min_duration` shows before the first check (show-commands 5.7).
const NO_DURATION: u64 = i32::MAX as u64;

/// How a round of checks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundEnd {
    /// The node answered.
    Success,
    /// It did not. `counted`: not for a node whose failover is disallowed.
    Failure {
        /// Whether `fail_count` grows.
        counted: bool,
    },
    /// The node is not in use, there was nothing to check.
    Skipped,
}

shareable! {
    /// The checks of one node.
    #[derive(Debug)]
    pub struct NodeHealth {
        pid: AtomicU32,
        wanted: AtomicU32,
        failing: AtomicU32,
        total: AtomicU64,
        success: AtomicU64,
        fail: AtomicU64,
        skip: AtomicU64,
        retry: AtomicU64,
        max_retry: AtomicU64,
        max_duration: AtomicU64,
        min_duration: AtomicU64,
        total_duration: AtomicU64,
        last: AtomicU64,
        last_success: AtomicU64,
        last_skip: AtomicU64,
        last_fail: AtomicU64,
    }
}

/// The statistics at one moment. Durations in milliseconds, times in seconds since 1970, 0 = never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the columns of SHOW POOL_HEALTH_CHECK_STATS")]
pub struct HealthStats {
    pub total_count: u64,
    pub success_count: u64,
    pub fail_count: u64,
    pub skip_count: u64,
    pub retry_count: u64,
    pub average_retry_count: f64,
    pub max_retry_count: u64,
    pub max_duration: u64,
    pub min_duration: u64,
    pub average_duration: f64,
    pub last_health_check: u64,
    pub last_successful_health_check: u64,
    pub last_skip_health_check: u64,
    pub last_failed_health_check: u64,
}

/// Writing, for the node's health check process.
impl NodeHealth {
    /// This process checks the node from now on.
    pub fn attend(&self, pid: u32) {
        self.min_duration.store(NO_DURATION, Ordering::Relaxed);
        self.pid.store(pid, Ordering::Release);
    }

    /// Checks are turned off.
    pub fn turned_off(&self) {
        self.min_duration.store(0, Ordering::Relaxed);
        self.failing.store(0, Ordering::Relaxed);
    }

    /// A round begins.
    pub fn begin(&self) {
        self.wanted.store(0, Ordering::Release);
        if self.min_duration.load(Ordering::Relaxed) == 0 && self.max_duration.load(Ordering::Relaxed) == 0 {
            self.min_duration.store(NO_DURATION, Ordering::Relaxed);
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        self.last.store(now(), Ordering::Relaxed);
    }

    /// A round has ended, after `retries` retries.
    pub fn end(&self, end: RoundEnd, retries: u64, duration: Duration) {
        self.retry.fetch_add(retries, Ordering::Relaxed);
        self.max_retry.fetch_max(retries, Ordering::Relaxed);
        let (count, last) = match end {
            RoundEnd::Success => (Some(&self.success), &self.last_success),
            RoundEnd::Failure { counted } => (counted.then_some(&self.fail), &self.last_fail),
            RoundEnd::Skipped => (Some(&self.skip), &self.last_skip),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        last.store(now(), Ordering::Relaxed);
        if end != RoundEnd::Skipped {
            self.failing.store((end != RoundEnd::Success).into(), Ordering::Relaxed);
            let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            self.max_duration.fetch_max(milliseconds, Ordering::Relaxed);
            self.min_duration.fetch_min(milliseconds, Ordering::Relaxed);
            self.total_duration.fetch_add(milliseconds, Ordering::Relaxed);
        }
    }
}

/// For everybody.
impl NodeHealth {
    /// Wishes that the node be checked now. Returns the process to be woken for it, unless it knows already.
    pub fn want_check(&self) -> Option<u32> {
        let was_wanted = self.wanted.swap(1, Ordering::AcqRel) != 0;
        Some(self.pid.load(Ordering::Acquire)).filter(|pid| *pid != 0 && !was_wanted)
    }

    /// Whether somebody wishes that the node be checked now.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) != 0
    }

    /// Whether the last check has failed, after all its retries.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) != 0
    }

    /// The statistics. Averages over no check at all are 0.
    pub fn stats(&self) -> HealthStats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let checked = value(&self.total).saturating_sub(value(&self.skip));
        let average = |sum: u64| if checked == 0 { 0.0 } else { sum as f64 / checked as f64 };
        HealthStats {
            total_count: value(&self.total),
            success_count: value(&self.success),
            fail_count: value(&self.fail),
            skip_count: value(&self.skip),
            retry_count: value(&self.retry),
            average_retry_count: average(value(&self.retry)),
            max_retry_count: value(&self.max_retry),
            max_duration: value(&self.max_duration),
            min_duration: value(&self.min_duration),
            average_duration: average(value(&self.total_duration)),
            last_health_check: value(&self.last),
            last_successful_health_check: value(&self.last_success),
            last_skip_health_check: value(&self.last_skip),
            last_failed_health_check: value(&self.last_fail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, Shared};

    #[test]
    fn rounds_are_counted_exactly() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let health = shared.health(1);
        health.attend(4711);
        assert_eq!((health.stats().min_duration, health.stats().average_duration), (NO_DURATION, 0.0));
        let rounds = [
            (RoundEnd::Success, 1, 20),
            (RoundEnd::Failure { counted: true }, 3, 40),
            (RoundEnd::Failure { counted: false }, 0, 30),
            (RoundEnd::Skipped, 0, 500),
        ];
        for (end, retries, milliseconds) in rounds {
            health.begin();
            health.end(end, retries, Duration::from_millis(milliseconds));
        }
        let stats = health.stats();
        assert_eq!((stats.total_count, stats.success_count, stats.fail_count, stats.skip_count), (4, 1, 1, 1));
        assert_eq!((stats.retry_count, stats.max_retry_count), (4, 3));
        assert_eq!((stats.min_duration, stats.max_duration, stats.average_duration), (20, 40, 30.0));
        assert!(stats.last_failed_health_check > 0 && stats.last_skip_health_check > 0);
        assert!(health.is_failing(), "what was skipped says nothing");
        health.end(RoundEnd::Success, 0, Duration::ZERO);
        assert!(!health.is_failing());
        assert_eq!(shared.health(0).stats(), HealthStats::default());
    }

    #[test]
    fn a_wish_wakes_the_process_once() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let health = shared.health(0);
        assert_eq!(health.want_check(), None, "nobody is there");
        health.attend(4711);
        health.begin();
        assert_eq!((health.want_check(), health.want_check()), (Some(4711), None));
        assert!(health.is_wanted());
        health.begin();
        assert!(!health.is_wanted());
    }
}
