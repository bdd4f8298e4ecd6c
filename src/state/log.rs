//! Who collects the log, and in which file it is now (process-model 10.6).

use super::Shared;
use pgpool_shm::{Versioned, shareable};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a path at most.
const LIMIT: usize = 4096;

shareable! {
    pub(super) struct LogRecord {
        /// Process id of the collector; 0: there is none.
        collector: AtomicU32,
        file: Versioned<u8, LIMIT>,
    }
}

impl Shared {
    /// The log collector is at work, or, with 0, has ended.
    pub fn publish_collector(&self, pid: u32) {
        self.log_record().collector.store(pid, Ordering::Release);
    }

    /// The log collector's process id, if there is one.
    pub fn collector(&self) -> Option<u32> {
        Some(self.log_record().collector.load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// The log collector has gone on in this file.
    pub fn publish_log_file(&self, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        self.log_record().file.write(if bytes.len() <= LIMIT { bytes } else { &[] });
    }

    /// The file that the log collector writes to; empty: there is none.
    pub fn log_file(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.log_record().file.read()))
    }
}

#[cfg(test)]
mod tests {
    use crate::state::{Limits, Shared};
    use std::path::Path;

    #[test]
    fn others_see_who_collects_and_where() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        assert!(shared.collector().is_none() && shared.log_file().as_os_str().is_empty());
        shared.publish_collector(4711);
        shared.publish_log_file(Path::new("/logs/a.log"));
        assert_eq!((shared.collector(), shared.log_file().as_path()), (Some(4711), Path::new("/logs/a.log")));
        shared.publish_log_file(Path::new(&"x".repeat(super::LIMIT + 1)));
        assert!(shared.log_file().as_os_str().is_empty());
    }
}
