//! When the next log file is due: at multiples of `log_rotation_age` in local time (process-model 10.6).

use chrono::{DateTime, Local, TimeDelta, TimeZone};

/// The next rotation by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    at: DateTime<Local>,
    age: TimeDelta,
}

impl Schedule {
    /// The next multiple of `minutes` after `now`. `None`: 0, never.
    pub fn after(now: DateTime<Local>, minutes: i32) -> Option<Self> {
        if minutes <= 0 {
            return None;
        }
        let age = i64::from(minutes) * 60;
        let local = now.timestamp() + i64::from(now.offset().local_minus_utc());
        let next = (local.div_euclid(age) + 1) * age;
        let at = Local.timestamp_opt(now.timestamp() + next - local, 0).single()?;
        Some(Self { at, age: TimeDelta::seconds(age) })
    }

    /// The planned time, if it has come. It names the new file.
    ///
    /// A clock that was set back by more than one age has made the plan void: then it is as if its time had come.
    pub fn due(&self, now: DateTime<Local>) -> Option<DateTime<Local>> {
        if now >= self.at {
            return Some(self.at);
        }
        (self.at - now > self.age).then_some(now)
    }

    /// Until the planned time.
    pub fn remaining(&self, now: DateTime<Local>) -> std::time::Duration {
        (self.at - now).to_std().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> DateTime<Local> {
        let naive = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").expect("a time");
        Local.from_local_datetime(&naive).single().expect("a local time")
    }

    #[test]
    fn rotations_are_at_multiples_of_the_age_in_local_time() {
        let now = local("2026-03-04 15:16:17");
        let at = |minutes| Schedule::after(now, minutes).map(|schedule| schedule.at);
        assert_eq!(at(0), None);
        assert_eq!(at(1), Some(local("2026-03-04 15:17:00")));
        assert_eq!(at(60), Some(local("2026-03-04 16:00:00")));
        assert_eq!(at(1440), Some(local("2026-03-05 00:00:00")));
        assert_eq!(
            Schedule::after(local("2026-03-05 00:00:00"), 1440).expect("a plan").at,
            local("2026-03-06 00:00:00")
        );
        assert!(at(i32::MAX).is_some_and(|at| at > now));
    }

    #[test]
    fn a_plan_is_due_at_its_time_and_void_when_the_clock_is_set_back() {
        let plan = Schedule::after(local("2026-03-04 15:16:17"), 1).expect("a plan");
        assert_eq!(plan.due(local("2026-03-04 15:16:59")), None);
        assert_eq!(plan.remaining(local("2026-03-04 15:16:59")).as_secs(), 1);
        assert_eq!(plan.due(local("2026-03-04 15:17:05")), Some(local("2026-03-04 15:17:00")));
        assert_eq!(plan.due(local("2026-03-04 15:16:00")), None);
        let back = local("2026-03-04 14:00:00");
        assert_eq!(plan.due(back), Some(back));
    }
}
