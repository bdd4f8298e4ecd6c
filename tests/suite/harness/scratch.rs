//! Scratch directories, and the reaper that ends what a test program leaves behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{environment, logs};

const PREFIX: &str = "pgpool-suite-";
const REAPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/harness/reaper.sh");

/// A directory of its own, removed at the end; its logs are kept when the test fails. In the temporary directory and
/// not under target/, because user postgres may not be able to reach that, and socket paths must be short.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty directory that the servers' user can write to.
    pub fn new(name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = root().join(format!("{name}{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        give_to_server_user(&path);
        Scratch { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        logs::keep_if_failed(&self.path);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes root's new file or directory the servers' user's.
pub fn give_to_server_user(path: &Path) {
    if let Some(user) = environment::server_user() {
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
    }
}

/// Tells the reaper of a process (the leader of its group) that must not outlive this test program.
pub fn register_process(pid: u32) {
    fs::write(pid_file(pid), "").expect("pid registry");
}

/// Takes back `register_process` after the process has ended.
pub fn forget_process(pid: u32) {
    let _ = fs::remove_file(pid_file(pid));
}

fn pid_file(pid: u32) -> PathBuf {
    root().join("pids").join(pid.to_string())
}

/// The directory of this test program. The first use cleans up after dead test programs and starts the reaper.
fn root() -> &'static Path {
    static ROOT: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (path, _reaper) = ROOT.get_or_init(|| {
        let base = std::env::temp_dir();
        reap_leftovers(&base).expect("cleaning up after an earlier run");
        let path = base.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(path.join("pids")).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Our end of its stdin closes when this process is gone: that is the signal.
        let reaper = reaper(&path, Stdio::piped()).expect("reaper");
        (path, reaper)
    });
    path
}

fn reap_leftovers(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            reaper(&entry.path(), Stdio::null())?.wait()?;
        }
    }
    Ok(())
}

fn reaper(scratch: &Path, stdin: Stdio) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    Command::new("setsid")
        .args(["sh", REAPER])
        .arg(scratch)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}
