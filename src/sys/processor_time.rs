//! The processor time of processes.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::time::Duration;

/// What a process has used so far; `None` if there is none with this id.
pub fn of_process(pid: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// What the children of this process have used that have ended and were waited for: the difference before and after a wait
/// is that child's.
pub fn of_the_dead() -> Duration {
    let duration = |time: TimeVal| {
        let (seconds, microseconds) = (time.tv_sec().unsigned_abs(), time.tv_usec().unsigned_abs());
        Duration::from_secs(seconds) + Duration::from_micros(microseconds)
    };
    getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_or(Duration::ZERO, |usage| duration(usage.user_time()) + duration(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_has_used_some_and_the_dead_keep_theirs() {
        assert!(of_process(std::process::id()).is_some_and(|time| time > Duration::ZERO));
        assert_eq!(of_process(u32::MAX), None);
        let before = of_the_dead();
        assert!(Command::new("/bin/true").status().expect("true").success());
        assert!(of_the_dead() > before);
    }
}
