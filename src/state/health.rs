//! Statistics of the health checks (failover 4.6), and the wish of others for a check at once.
//!
//! Written by the health check process of the node; the parent clears what was thought of a node when it attaches it.

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

/// What the checks think of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Condition {
    /// The last check has succeeded, or there was none.
    Well = 0,
    /// An attempt has failed, another one is to follow.
    Suspected = 1,
    /// The last check has failed, after all its retries.
    Failing = 2,
}

shareable! {
    /// The checks of one node.
    #[derive(Debug)]
    pub struct NodeHealth {
        pid: AtomicU32,
        wanted: AtomicU32,
        condition: AtomicU32,
        total: AtomicU64,
        success: AtomicU64,
        /// Without those of nodes whose failover is disallowed.
        fail: AtomicU64,
        all_failures: AtomicU64,
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
        self.show_no_minimum(NO_DURATION);
        self.pid.store(pid, Ordering::Release);
    }

    /// Checks are turned off.
    pub fn turned_off(&self) {
        self.show_no_minimum(0);
        self.set(Condition::Well);
    }

    /// A round begins.
    pub fn begin(&self) {
        self.wanted.store(0, Ordering::Release);
        self.show_no_minimum(NO_DURATION);
        self.total.fetch_add(1, Ordering::Relaxed);
        self.last.store(now(), Ordering::Relaxed);
    }

    /// An attempt has failed, another one follows.
    pub fn suspect(&self) {
        if self.condition() == Condition::Well {
            self.set(Condition::Suspected);
        }
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
        match end {
            RoundEnd::Success => self.set(Condition::Well),
            RoundEnd::Failure { .. } => {
                // What sessions have suspected meanwhile is what was found.
                self.wanted.store(0, Ordering::Release);
                self.all_failures.fetch_add(1, Ordering::Relaxed);
                self.set(Condition::Failing);
            }
            RoundEnd::Skipped => {}
        }
        if end != RoundEnd::Skipped {
            let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            self.max_duration.fetch_max(milliseconds, Ordering::Relaxed);
            self.min_duration.fetch_min(milliseconds, Ordering::Relaxed);
            self.total_duration.fetch_add(milliseconds, Ordering::Relaxed);
        }
    }

    /// What `min_duration` shows as long as the node was never checked.
    fn show_no_minimum(&self, shown: u64) {
        if self.success.load(Ordering::Relaxed) + self.failures() == 0 {
            self.min_duration.store(shown, Ordering::Relaxed);
        }
    }

    fn set(&self, condition: Condition) {
        self.condition.store(condition as u32, Ordering::Relaxed);
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

    /// The node is attached: what checks have found before its return does not count any more.
    pub fn attached(&self) {
        self.set(Condition::Well);
    }

    /// What the checks think of the node.
    pub fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Relaxed) {
            0 => Condition::Well,
            1 => Condition::Suspected,
            _ => Condition::Failing,
        }
    }

    /// Failed checks, also where failover is disallowed.
    pub fn failures(&self) -> u64 {
        self.all_failures.load(Ordering::Relaxed)
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
        assert_eq!(health.failures(), 2);
        assert_eq!(health.condition(), Condition::Failing, "what was skipped says nothing");
        health.suspect();
        assert_eq!(health.condition(), Condition::Failing);
        health.end(RoundEnd::Success, 0, Duration::from_millis(30));
        assert_eq!(health.condition(), Condition::Well);
        health.suspect();
        assert_eq!(health.condition(), Condition::Suspected);
        health.attached();
        assert_eq!(health.condition(), Condition::Well);
        health.attend(4712);
        health.end(RoundEnd::Success, 0, Duration::from_millis(25));
        assert_eq!(health.stats().min_duration, 20, "another process goes on with the figures");
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
        for (end, goes_on) in [(RoundEnd::Success, true), (RoundEnd::Failure { counted: true }, false)] {
            health.want_check();
            health.end(end, 0, Duration::ZERO);
            assert_eq!(health.is_wanted(), goes_on, "a node that has failed need not be looked at once more: {end:?}");
        }
    }
}
