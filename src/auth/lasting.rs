//! A secret that outlives restarts, in `work_dir`: what strangers are shown must not change when pgpool is started anew, or
//! they could be told from those whose salt is in a file.

use super::secret::random;
use crate::report::Report;
use nix::libc::O_NOFOLLOW;
use nix::unistd::geteuid;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// The file in `work_dir`.
const NAME: &str = "pgpool_nonce";
/// Bits of a mode that let in group and others.
const OTHERS: u32 = 0o077;

static SECRET: OnceLock<[u8; 32]> = OnceLock::new();

/// The secret; one for this process alone in those that have not prepared it.
pub(super) fn get() -> &'static [u8; 32] {
    SECRET.get_or_init(random)
}

/// Reads the secret of the last start, or makes one. For the parent, before it forks.
pub(super) fn prepare(work_dir: &Path) {
    let path = work_dir.join(NAME);
    let secret = read(&path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => make(&path),
        _ => Err(error),
    });
    let secret = secret.unwrap_or_else(|error| {
        Report::warning(format!("\"{}\" cannot be used", path.display()))
            .detail(format!("{error}. Until the next start another secret serves."))
            .hint("It needs to be a file of 32 bytes that only pgpool's user can read; remove what is there.")
            .log();
        random()
    });
    let _ = SECRET.set(secret);
}

/// `work_dir` may be /tmp, where others could have put something of that name.
fn read(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & OTHERS != 0 {
        return Err(io::Error::other("it is not a file of pgpool's user alone"));
    }
    let mut secret = [0; 32];
    file.read_exact(&mut secret)?;
    Ok(secret)
}

fn make(path: &Path) -> io::Result<[u8; 32]> {
    let secret = random();
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_was_made_is_found_and_what_others_have_made_is_not_used() {
        let directory = std::env::temp_dir().join(format!("pgpool-nonce-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let path = directory.join(NAME);
        let made = make(&path).expect("made");
        assert_eq!(read(&path).expect("read"), made);
        assert!(make(&path).is_err());
        let link = directory.join("link");
        symlink(&path, &link).expect("link");
        assert!(read(&link).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        assert!(read(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        fs::write(&path, [0; 31]).expect("write");
        assert!(read(&path).is_err());
        fs::remove_dir_all(&directory).expect("clean up");
    }
}
