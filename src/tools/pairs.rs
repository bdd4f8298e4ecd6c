//! Files of `user:password` lines, as `pg_md5` and `pg_enc` read them (tools 5, 6).

use super::{complain, say};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// Longer user names and passwords are refused, in bytes.
pub(super) const LIMIT: usize = 128;

/// What stands in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    /// No colon, or nothing behind it.
    Invalid,
    UserTooLong,
    PasswordTooLong,
    Pair {
        user: Vec<u8>,
        password: Vec<u8>,
    },
}

/// The lines of the file at `path`; says on stdout that it is read. `None`: it cannot be, which is told on stderr.
pub(super) fn read(path: &OsStr) -> Option<Vec<Line>> {
    let name = path.to_string_lossy();
    say(format!("trying to read username:password pairs from file {name}\n"));
    match fs::read(Path::new(path)) {
        Ok(content) => Some(lines(&content)),
        Err(error) => {
            let reason = super::describe(&error);
            complain(format!("failed to open input_file \"{name}\" ({reason})\n\n"));
            None
        }
    }
}

fn lines(content: &[u8]) -> Vec<Line> {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content.split(|byte| *byte == b'\n').map(line).collect()
}

/// The password is all behind the first colon.
fn line(text: &[u8]) -> Line {
    if text.is_empty() {
        return Line::Blank;
    }
    let colon = text.iter().position(|byte| *byte == b':');
    match colon.map(|at| (&text[..at], &text[at + 1..])) {
        None | Some((_, [])) => Line::Invalid,
        Some((user, _)) if user.len() > LIMIT => Line::UserTooLong,
        Some((_, password)) if password.len() > LIMIT => Line::PasswordTooLong,
        Some((user, password)) => Line::Pair { user: user.to_vec(), password: password.to_vec() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_lines() {
        let long = "x".repeat(LIMIT + 1);
        let text = format!("a:b\n\nbob\n:p\nc:\n  \nd:e:f\n{long}:p\nu:{long}\n{}:{}", &long[1..], &long[1..]);
        let pair = |user: &str, password: &str| Line::Pair { user: user.into(), password: password.into() };
        let expected = [
            pair("a", "b"),
            Line::Blank,
            Line::Invalid,
            pair("", "p"),
            Line::Invalid,
            Line::Invalid,
            pair("d", "e:f"),
            Line::UserTooLong,
            Line::PasswordTooLong,
            pair(&long[1..], &long[1..]),
        ];
        assert_eq!(lines(text.as_bytes()), expected);
    }
}
