//! The programs beside `pgpool` (pcp 8-9, tools 1, 5, 6): the clients of PCP, `pg_md5`, `pg_enc`, `pgproto`.
//!
//! Each takes the arguments with the program's name first and returns the exit status. They are small clients: nothing here
//! is used by the server. `prompt` asks for the password of `pgpool top`, too.

mod account;
mod getopt;
mod pairs;
mod password_options;
pub mod pcp;
mod peer;
pub mod pg_enc;
pub mod pg_md5;
pub mod pgproto;
mod pool_passwd;
pub(crate) mod prompt;

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

/// `text`, which others have made, for a terminal if it is one: that would obey control characters, so they are shown as
/// `\x1b`. Elsewhere every byte stays as it is.
fn legible(text: Vec<u8>, is_terminal: bool) -> Vec<u8> {
    if !is_terminal {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'\n' | b'\t', _) => out.push(*first),
            (0..0x20 | 0x7f, _) => out.extend(format!("\\x{first:02x}").bytes()),
            // The control characters that UTF-8 writes as two bytes.
            (0xc2, [second @ 0x80..0xa0, more @ ..]) => {
                out.extend(format!("\\x{second:02x}").bytes());
                rest = more;
            }
            _ => out.push(*first),
        }
    }
    out
}

/// Writes to standard error.
fn complain(text: impl AsRef<[u8]>) {
    let _ = io::stderr().write_all(text.as_ref());
}

/// Tells what is wrong; the exit status.
fn fail(message: &str) -> i32 {
    complain(message);
    1
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

#[cfg(test)]
mod tests {
    use super::legible;

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        let text = "a\t\u{e4}\n\x1b[2J\r\u{9b}1m\x7f".as_bytes().to_vec();
        assert_eq!(legible(text.clone(), false), text);
        assert_eq!(String::from_utf8(legible(text, true)).as_deref(), Ok("a\t\u{e4}\n\\x1b[2J\\x0d\\x9b1m\\x7f"));
        assert_eq!(legible(b"\xc2".to_vec(), true), b"\xc2");
    }
}
