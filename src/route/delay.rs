//! How far behind a standby may be (routing 2.4, 2.5).

use super::Candidate;
use super::balance::draw;
use crate::config::{BackendClusteringMode, Settings};
use crate::state::Delay;
use std::time::Duration;

/// Whether `delay` is over the limit of its own unit: `delay_threshold` in bytes, `delay_threshold_by_time` in
/// milliseconds; 0 is no limit. A delay that cannot be measured is over any limit. Only streaming mode has limits.
pub fn exceeds_limit(delay: Delay, settings: &Settings) -> bool {
    if settings.backend_clustering_mode != BackendClusteringMode::StreamingReplication {
        return false;
    }
    let bytes = u64::try_from(settings.delay_threshold).ok().filter(|limit| *limit > 0);
    let time = u64::try_from(settings.delay_threshold_by_time).ok().filter(|limit| *limit > 0);
    match delay {
        Delay::Unmeasured => false,
        Delay::Bytes(delay) => bytes.is_some_and(|limit| delay > limit),
        Delay::Time(delay) => time.is_some_and(|limit| delay > Duration::from_millis(limit)),
        Delay::Unknown => bytes.is_some() || time.is_some(),
    }
}

/// The standby with the smallest delay within the limit, by weight among equals; the primary if there is none.
/// `random` is in \[0, 1).
pub fn lowest_delay(settings: &Settings, primary: usize, candidates: &[Candidate], random: f64) -> usize {
    let able = |candidate: &&Candidate| {
        candidate.id != primary && candidate.weight > 0.0 && !exceeds_limit(candidate.delay, settings)
    };
    let Some(least) = candidates.iter().filter(able).map(|candidate| rank(candidate.delay)).min() else {
        return primary;
    };
    let nearest = |candidate: &Candidate| able(&candidate) && rank(candidate.delay) == least;
    draw(candidates, nearest, random).unwrap_or(primary)
}

/// Comparable within one unit; all nodes are measured in the same one.
fn rank(delay: Delay) -> u128 {
    match delay {
        Delay::Unmeasured => 0,
        Delay::Bytes(bytes) => bytes.into(),
        Delay::Time(time) => time.as_micros(),
        Delay::Unknown => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { delay_threshold: 100, delay_threshold_by_time: 1000, ..Settings::default() }
    }

    #[test]
    fn each_unit_has_its_own_limit() {
        let settings = settings();
        let seconds = |seconds| Delay::Time(Duration::from_secs(seconds));
        assert!(!exceeds_limit(Delay::Bytes(100), &settings) && exceeds_limit(Delay::Bytes(101), &settings));
        assert!(!exceeds_limit(seconds(1), &settings) && exceeds_limit(seconds(2), &settings));
        assert!(!exceeds_limit(Delay::Bytes(u64::MAX), &Settings { delay_threshold: 0, ..settings.clone() }));
        let backend_clustering_mode = BackendClusteringMode::LogicalReplication;
        assert!(!exceeds_limit(Delay::Bytes(101), &Settings { backend_clustering_mode, ..settings }));
    }

    #[test]
    fn what_cannot_be_measured_is_over_any_limit() {
        let settings = settings();
        assert!(exceeds_limit(Delay::Unknown, &settings) && !exceeds_limit(Delay::Unmeasured, &settings));
        assert!(exceeds_limit(Delay::Unknown, &Settings { delay_threshold: 0, ..settings.clone() }));
        assert!(!exceeds_limit(Delay::Unknown, &Settings::default()));
        let node = |id, delay| Candidate { id, weight: 1.0, delay };
        let nodes = [node(1, Delay::Unknown), node(2, Delay::Bytes(9))];
        assert_eq!(lowest_delay(&settings, 0, &nodes, 0.1), 2);
        assert_eq!(lowest_delay(&Settings::default(), 0, &nodes, 0.1), 2);
    }

    #[test]
    fn the_nearest_standby_within_the_limit() {
        let node = |id, weight, bytes| Candidate { id, weight, delay: Delay::Bytes(bytes) };
        let nodes = [node(0, 1.0, 0), node(1, 1.0, 50), node(2, 0.0, 10), node(3, 1.0, 40), node(4, 1.0, 40)];
        assert_eq!(lowest_delay(&settings(), 0, &nodes, 0.1), 3);
        assert_eq!(lowest_delay(&settings(), 0, &nodes, 0.9), 4);
        assert_eq!(lowest_delay(&settings(), 0, &[node(0, 1.0, 0), node(1, 1.0, 101)], 0.5), 0);
    }
}
