//! The moment up to which something may take.

use std::time::{Duration, Instant};

/// A point in time, or never. Everything that can wait takes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No limit.
    pub const NEVER: Self = Self(None);

    /// At that moment.
    pub fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// `seconds` from now; 0 means no limit, as in the parameters.
    pub fn after_seconds(seconds: i32) -> Self {
        match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Self::after(Duration::from_secs(seconds)),
            _ => Self::NEVER,
        }
    }

    /// `milliseconds` from now; 0 means no limit, as in the parameters.
    pub fn after_milliseconds(milliseconds: i32) -> Self {
        match u64::try_from(milliseconds) {
            Ok(milliseconds) if milliseconds > 0 => Self::after(Duration::from_millis(milliseconds)),
            _ => Self::NEVER,
        }
    }

    /// The earlier of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(one.min(two))),
            (one, two) => Self(one.or(two)),
        }
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// Time left; `None` without a limit, zero when it has passed.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The timeout for `poll`: whole milliseconds, rounded up so that a wait never ends just before the deadline.
    pub fn poll_timeout(self) -> nix::poll::PollTimeout {
        match self.remaining() {
            None => nix::poll::PollTimeout::NONE,
            Some(left) => {
                let milliseconds = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
                nix::poll::PollTimeout::try_from(milliseconds).unwrap_or(nix::poll::PollTimeout::MAX)
            }
        }
    }
}
