//! Equal messages one after another become one with a count (`log_fold_repeated`), per process.
//!
//! The count is told when another message comes, when the session or the process ends, and while it goes on every ten
//! seconds.

use super::Report;
use parking_lot::Mutex;
use std::process;
use std::time::{Duration, Instant};

/// How long repetitions are counted before the number is told.
const PERIOD: Duration = Duration::from_secs(10);

/// The last message of this process.
struct Last {
    report: Report,
    /// Repetitions that were not told yet.
    count: u64,
    told: Instant,
    owner: u32,
}

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// What is to be written for `report`: first the count of what came before it, then itself if it is no repetition.
pub(super) fn fold(report: &Report) -> (Option<Report>, bool) {
    after(&mut LAST.lock(), report)
}

/// The count that was not told yet; nothing counts as a repetition from here on.
pub(super) fn finish() -> Option<Report> {
    LAST.lock().take().and_then(|mut last| last.summary())
}

fn after(last: &mut Option<Last>, report: &Report) -> (Option<Report>, bool) {
    if let Some(last) = last.as_mut().filter(|last| last.owner == process::id() && last.report == *report) {
        last.count += 1;
        if last.told.elapsed() < PERIOD {
            return (None, false);
        }
        last.told = Instant::now();
        return (last.summary(), false);
    }
    let new = Last { report: report.clone(), count: 0, told: Instant::now(), owner: process::id() };
    (last.replace(new).and_then(|mut last| last.summary()), true)
}

impl Last {
    fn summary(&mut self) -> Option<Report> {
        let count = std::mem::take(&mut self.count);
        // A forked process has repeated nothing of its parent's.
        (count > 0 && self.owner == process::id()).then(|| {
            let times = if count == 1 { "once" } else { &format!("{count} times") };
            Report::new(self.report.severity, format!("the last message was repeated {times}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_until_something_else_comes() {
        let told = |last: &mut Option<Last>, report: &Report| {
            let (summary, is_new) = after(last, report);
            (summary.map(|summary| summary.message), is_new)
        };
        let last = &mut None;
        let (one, other) = (Report::warning("one"), Report::warning("one").detail("other"));
        assert_eq!(told(last, &one), (None, true));
        assert_eq!(told(last, &one), (None, false));
        assert_eq!(told(last, &one), (None, false));
        assert_eq!(told(last, &other), (Some("the last message was repeated 2 times".to_owned()), true));
        assert_eq!(told(last, &other), (None, false));
        if let Some(last) = last {
            last.told -= PERIOD;
        }
        assert_eq!(told(last, &other), (Some("the last message was repeated 2 times".to_owned()), false));
        assert_eq!(told(last, &other), (None, false));
        let summary = last.take().and_then(|mut last| last.summary());
        assert_eq!(summary.map(|report| report.message), Some("the last message was repeated once".to_owned()));
        assert_eq!(told(last, &other), (None, true));
    }
}
