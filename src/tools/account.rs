//! Who runs the program, by the user database and not by the environment.

use nix::unistd::{Uid, User};
use std::path::PathBuf;

/// Name of the user with this id.
pub(super) fn name(uid: Uid) -> Option<String> {
    User::from_uid(uid).ok().flatten().map(|user| user.name)
}

/// Home directory of the effective user.
pub(super) fn home() -> Option<PathBuf> {
    User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir)
}
