//! The programs beside `pgpool` (pcp 8-9, tools 1, 5, 6): the clients of PCP, `pg_md5`, `pg_enc`, `pgproto`.
//!
//! Each takes the arguments with the program's name first and returns the exit status. They are small clients without
//! signals of their own: nothing here is used by the server.

mod account;
mod getopt;
mod pairs;
pub mod pcp;
mod peer;
pub mod pg_enc;
pub mod pg_md5;
pub mod pgproto;
mod pool_passwd;
mod prompt;

use nix::errno::Errno;
use std::ffi::OsStr;
use std::io::{self, Write};

/// Exit status of `pg_md5`, `pg_enc` and `pgproto` for an option that does not exist.
const EXIT_USAGE: i32 = 2;

/// Writes to standard output; false when nobody takes it. Unlike `print` it does not panic then.
fn say(text: impl AsRef<[u8]>) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).is_ok()
}

/// Writes to standard error.
fn complain(text: impl AsRef<[u8]>) {
    let _ = io::stderr().write_all(text.as_ref());
}

/// The last part of the name a program was called by.
fn base_name(called: &OsStr) -> String {
    let name = std::path::Path::new(called).file_name().unwrap_or(called);
    name.to_string_lossy().into_owned()
}

/// The system's words for an error, without its number.
fn describe(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| Errno::from_raw(number).desc().to_owned())
}
