//! The secret that salts are made of, for users of whom there is no verifier with a salt of its own.
//!
//! Salts must not tell whether a user is known. Those in verifiers stay, so those made here stay, too: over restarts, and
//! between several pgpools that have the same file.

use super::secret::{fingerprint_by, random};
use crate::report::Report;
use libc::O_NOFOLLOW;
use nix::unistd::geteuid;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// Length of the secret in bytes.
const LENGTH: usize = 32;
/// Length of a salt in bytes, PostgreSQL's.
const SALT_LENGTH: usize = 16;
/// The file, in work_dir.
pub const FILE: &str = "pgpool_salt_secret";

static SECRET: OnceLock<[u8; LENGTH]> = OnceLock::new();

/// Fixes the secret for this process and those it forks: that of the file in `work_dir`, which is made if it is not there.
/// Without it there is one for this run.
pub(super) fn prepare(work_dir: &Path) {
    let path = work_dir.join(FILE);
    let secret = read_or_make(&path).unwrap_or_else(|error| {
        Report::warning(format!("could not use file \"{}\"", path.display()))
            .detail(format!("{error}. Salts of SCRAM are made anew: who compares them sees which users are known."))
            .hint("It must hold 32 bytes, and only pgpool's user may read it. Without a file one is made.")
            .log();
        random()
    });
    let _ = SECRET.set(secret);
}

/// The salt of a user who has no other.
pub(super) fn salt_of(user: &[u8]) -> [u8; SALT_LENGTH] {
    let whole = fingerprint_by(SECRET.get_or_init(random), &[b"salt", user]);
    *whole.first_chunk().expect("longer than a salt")
}

fn read_or_make(path: &Path) -> io::Result<[u8; LENGTH]> {
    // work_dir may be /tmp, where others could have put a file or a link of that name.
    match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path) {
        Ok(file) => read(file),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

fn read(mut file: File) -> io::Result<[u8; LENGTH]> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("others may know it"));
    }
    if metadata.len() != LENGTH as u64 {
        return Err(io::Error::other("it has another length"));
    }
    let mut secret = [0; LENGTH];
    file.read_exact(&mut secret)?;
    Ok(secret)
}

fn make(path: &Path) -> io::Result<[u8; LENGTH]> {
    let secret = random();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_secret_stays_as_long_as_nobody_else_knows_it() {
        let directory = std::env::temp_dir().join(format!("pgpool-salts-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let path = directory.join(FILE);
        let secret = read_or_make(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).expect("read"), secret);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("mode");
        assert!(read_or_make(&path).expect_err("open").to_string().contains("others may know it"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
        fs::write(&path, [1; LENGTH + 1]).expect("write");
        assert!(read_or_make(&path).expect_err("long").to_string().contains("another length"));
        fs::write(&path, [1; LENGTH]).expect("write");
        fs::rename(&path, directory.join("other")).expect("rename");
        symlink(directory.join("other"), &path).expect("link");
        assert!(read_or_make(&path).is_err(), "a link is not followed");
        assert!(read_or_make(&directory.join("no/such/place")).is_err());
        fs::remove_dir_all(&directory).expect("clean up");
    }

    #[test]
    fn users_have_salts_of_their_own() {
        assert_eq!(salt_of(b"a"), salt_of(b"a"));
        assert_ne!(salt_of(b"a"), salt_of(b"b"));
    }
}
