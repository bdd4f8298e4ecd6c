//! What a log says. The logs of a failed test stay in target/test-logs/NAME.

use std::fs;
use std::path::Path;

use super::{Pgpool, environment};

/// Checks that lines with these texts are in the log in this order, whatever stands between them.
#[track_caller]
pub fn lines_in_order(log: &str, expected: &[&str]) {
    let mut lines = log.lines();
    for text in expected {
        assert!(lines.any(|line| line.contains(text)), "\"{text}\" is missing or in the wrong place:\n{log}");
    }
}

/// How many failovers have come to their end.
pub fn failovers(pool: &Pgpool) -> usize {
    pool.count("=== Failover done.")
}

/// How many health check processes have said that they have started.
pub fn checks_started(pool: &Pgpool) -> usize {
    pool.log().lines().filter(|line| line.contains("health_check") && line.contains("process started")).count()
}

/// Copies the log and configuration files of a scratch directory, if the test of this thread is failing.
pub fn keep_if_failed(scratch: &Path) {
    if !std::thread::panicking() {
        return;
    }
    let name = std::thread::current().name().unwrap_or("unnamed").replace("::", "-");
    let to = environment::target_dir().join("test-logs").join(name);
    let Ok(entries) = fs::read_dir(scratch) else { return };
    let from = scratch.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.ends_with(".log") || file.ends_with(".conf") {
            let _ = fs::create_dir_all(&to);
            let _ = fs::copy(entry.path(), to.join(format!("{from}-{file}")));
        }
    }
}
