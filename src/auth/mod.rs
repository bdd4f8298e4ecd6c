//! Who may log in, and how that is proved: pool_hba.conf, pool_passwd, and the exchanges of each method, on both sides
//! (auth).
//!
//! - [`hba`]: the rules that say which client must prove itself how; - [`passwords`]: what pool_passwd knows of a user;
//! - [`md5`] and [`scram`]: the exchanges, as pure functions over messages; - [`aes`]: encrypted passwords;
//! - [`outside`]: asking PAM or a directory, in a process of its own;
//! - [`Credential`]: what logs in to servers.
//!
//! Invariants:
//! - What a client has typed is never the measure for what the same client has typed (auth 23.1).
//! - Secrets are compared in constant time, wiped when dropped, and never shown: not by `Debug`, not in a report.
//! - Unknown users get the same answers as known ones, and cost the same time as those of whom there is a verifier.
//!
//! This room reads files and does sums; it must not touch sockets of clients or servers.

pub mod aes;
pub mod base64;
mod credential;
pub mod hba;
pub mod md5;
pub mod outside;
pub mod passwords;
mod salts;
pub mod scram;
mod secret;
mod watched;

pub use credential::Credential;
pub use secret::{Secret, same};

/// Makes the secrets that all processes of this pgpool share; one of them stays in `work_dir`. For the parent, before it forks.
pub fn prepare(work_dir: &std::path::Path) {
    secret::prepare();
    salts::prepare(work_dir);
}
