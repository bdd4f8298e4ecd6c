//! How times, durations and delays are written (show-commands 4, 5.2).

use crate::state::Delay;
use chrono::{DateTime, Local};

/// A time in seconds since 1970 as local time, `2026-11-22 19:38:14`; 0 stands for never and gives an empty text.
pub(super) fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().filter(|seconds| *seconds != 0).and_then(|at| DateTime::from_timestamp(at, 0));
    at.map(|at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// What is left of `limit` seconds that have run since `since`, as `m:ss`; `now` and `since` in seconds since 1970.
pub(super) fn left(limit: u64, since: u64, now: u64) -> String {
    let left = limit.saturating_sub(now.saturating_sub(since));
    format!("{}:{:02}", left / 60, left % 60)
}

/// A replication delay: bytes, or seconds with their unit, from two on in the plural.
pub(super) fn delay(delay: Delay) -> String {
    match delay {
        Delay::Unmeasured | Delay::Unknown => "0".to_owned(),
        Delay::Bytes(bytes) => bytes.to_string(),
        Delay::Time(time) => {
            let unit = if time.as_secs() >= 2 { "seconds" } else { "second" };
            format!("{:.6} {unit}", time.as_micros() as f32 / 1_000_000.0)
        }
    }
}

/// A replication delay as a bare number: bytes, or microseconds.
pub(super) fn raw_delay(delay: Delay) -> u128 {
    match delay {
        Delay::Unmeasured | Delay::Unknown => 0,
        Delay::Bytes(bytes) => bytes.into(),
        Delay::Time(time) => time.as_micros(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDateTime, TimeZone};
    use std::time::Duration;

    #[test]
    fn times_are_local() {
        let text = time(1_795_376_294);
        let read = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").expect("time");
        assert_eq!(Local.from_local_datetime(&read).earliest().expect("time").timestamp(), 1_795_376_294);
        assert_eq!(text.len(), 19);
        assert_eq!(time(0), "");
        assert_eq!(time(u64::MAX), "");
    }

    #[test]
    fn what_is_left_counts_down_to_nothing() {
        assert_eq!(left(300, 1000, 1000), "5:00");
        assert_eq!(left(300, 1000, 1295), "0:05");
        assert_eq!(left(300, 1000, 2000), "0:00");
        assert_eq!(left(7200, 1000, 999), "120:00");
    }

    #[test]
    fn delays_have_their_unit() {
        assert_eq!(delay(Delay::default()), "0");
        assert_eq!(delay(Delay::Bytes(16_777_216)), "16777216");
        assert_eq!(delay(Delay::Time(Duration::from_micros(4512))), "0.004512 second");
        assert_eq!(delay(Delay::Time(Duration::from_micros(1_999_999))), "1.999999 second");
        assert_eq!(delay(Delay::Time(Duration::from_millis(2100))), "2.100000 seconds");
    }
}
