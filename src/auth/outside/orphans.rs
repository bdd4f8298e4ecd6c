//! What a process that had to be ended has started is ended with it.
//!
//! A module's program may be in a session of its own, so that no signal to a group finds it. But who loses his parent becomes
//! a child of the nearest ancestor that adopts (`PR_SET_CHILD_SUBREAPER`): of the process that asks, and when that one is
//! ended, of the worker.

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// How long their end is waited for, in milliseconds.
const PATIENCE: u32 = 1000;

/// Adopts for as long as it lives.
pub(super) struct Orphans {
    /// Children from before.
    own: Vec<Pid>,
}

/// From now on this process adopts what its descendants leave behind.
pub(super) fn adopt_all() {
    let _ = set_child_subreaper(true);
}

impl Orphans {
    /// Begins to adopt.
    pub fn adopt() -> Self {
        adopt_all();
        Self { own: children() }
    }

    /// Ends those that were adopted, and what they leave behind. What hangs in the kernel is left to the end of this process.
    pub fn end(self) {
        for _ in 0..PATIENCE {
            let adopted: Vec<Pid> = children().into_iter().filter(|child| !self.own.contains(child)).collect();
            if adopted.is_empty() {
                return;
            }
            for orphan in adopted {
                let _ = kill(orphan, Signal::SIGKILL);
                let _: Result<_, Errno> = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        let _ = set_child_subreaper(false);
    }
}

/// The children of this process, dead ones that nobody has asked for included. Empty if the kernel does not tell.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(numbers).map(Pid::from_raw).collect()
}
