//! The file that `pg_md5 -m` and `pg_enc -m` change.

use super::{account, complain};
use crate::auth::passwords;
use crate::config::{SYSCONFDIR, load_leniently};
use nix::unistd::Uid;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Exit status when the file cannot be written.
const EXIT_NOT_WRITABLE: i32 = 255;

/// pool_passwd, as pgpool.conf says.
#[derive(Debug)]
pub(super) struct File(PathBuf);

impl File {
    /// By the pgpool.conf of option `-f`, or the one that is used when none is given.
    ///
    /// # Errors
    /// An exit status: pgpool.conf cannot be read, which has been told on stderr.
    pub fn of(config: Option<&OsStr>) -> Result<Self, i32> {
        let path = config.map_or_else(|| Path::new(SYSCONFDIR).join("pgpool.conf"), PathBuf::from);
        match load_leniently(&path) {
            Ok(settings) => Ok(Self(settings.pool_passwd.into())),
            Err(error) => {
                let (pid, name, reason) = (std::process::id(), path.display(), super::describe(&error));
                complain(format!(
                    "WARNING: pid {pid}: could not open configuration file: \"{name}\"\nDETAIL:  {reason}\n\
                     Unable to get configuration. Exiting...\n\n"
                ));
                Err(1)
            }
        }
    }

    /// Makes `entry` the entry of `user`.
    ///
    /// # Errors
    /// An exit status: the file cannot be written, which has been told on stderr.
    pub fn set(&self, user: &[u8], entry: &str) -> Result<(), i32> {
        passwords::set(&self.0, user, entry.as_bytes()).map_err(|error| {
            let (pid, name, reason) = (std::process::id(), self.0.display(), super::describe(&error));
            complain(format!(
                "ERROR: pid {pid}: initializing pool password, failed to open file:\"{name}\"\nDETAIL:  {reason}\n"
            ));
            EXIT_NOT_WRITABLE
        })
    }
}

/// The user an entry is for: the one that was given, else the one who runs the program.
pub(super) fn user(given: Option<OsString>) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    let own = || account::name(Uid::current()).unwrap_or_default().into_bytes();
    given.map(OsStringExt::into_vec).filter(|name| !name.is_empty()).unwrap_or_else(own)
}
