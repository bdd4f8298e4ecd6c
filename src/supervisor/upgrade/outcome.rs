//! How an upgrade has ended, for `pgpool upgrade`: a file beside the pid file, replaced in one step. It stays until the next
//! upgrade begins or pgpool ends, since several may wait for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Waiting for the outcome of an upgrade that is about to be asked for.
#[derive(Debug)]
pub struct Outcome {
    file: PathBuf,
    /// The outcome of a former one.
    former: Option<Identity>,
}

/// Of a file: inode and time of its last change.
type Identity = (u64, i64, i64);

impl Outcome {
    /// Of the pgpool with this pid file, from now on.
    pub fn of(pid_file: &Path) -> Self {
        let file = path(pid_file);
        let former = identity(&file);
        Self { file, former }
    }

    /// What was said, if it was.
    pub fn told(&self) -> Option<String> {
        identity(&self.file).filter(|found| self.former.as_ref() != Some(found))?;
        fs::read_to_string(&self.file).ok()
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec()))
}

fn path(pid_file: &Path) -> PathBuf {
    let mut path = pid_file.as_os_str().to_owned();
    path.push(".upgrade");
    path.into()
}

/// It has ended like this.
pub(super) fn tell(pid_file: &Path, text: &str) {
    let path = path(pid_file);
    let new = path.with_extension("upgrade.new");
    // Whoever waits is told by the log, too.
    let _ = fs::write(&new, format!("{text}\n")).and_then(|()| fs::rename(new, path));
}

/// Nothing is known of an upgrade.
pub(in crate::supervisor) fn forget(pid_file: &Path) {
    let _ = fs::remove_file(path(pid_file));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_wait_are_told_and_nobody_of_a_former_upgrade() {
        let pid_file = std::env::temp_dir().join(format!("pgpool-outcome-{}", std::process::id()));
        let early = Outcome::of(&pid_file);
        tell(&pid_file, "failed: why");
        let late = Outcome::of(&pid_file);
        let told = [early.told(), early.told(), late.told()];
        assert_eq!(told, [Some("failed: why\n".to_owned()), Some("failed: why\n".to_owned()), None]);
        forget(&pid_file);
        assert_eq!([early.told(), late.told()], [None, None]);
        tell(&pid_file, "ready: 7");
        assert_eq!([early.told(), late.told()], [Some("ready: 7\n".to_owned()), Some("ready: 7\n".to_owned())]);
        forget(&pid_file);
    }
}
