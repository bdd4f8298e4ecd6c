//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a condition may take on a busy machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Polls until the condition holds; false when the deadline passed.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Polls until the condition holds; fails the test, naming what was awaited, after 30 seconds.
#[track_caller]
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually(PATIENCE, condition), "waited {PATIENCE:?} in vain for {what}");
}
