//! The little of memcached's text protocol that is used: requests as bytes, and the lines of its answers.
//!
//! What a server says is not trusted: a line is one of those known here, or the connection is of no further use.

use std::str::from_utf8;

/// Bytes of a line at most; memcached's own are shorter.
pub const LONGEST_LINE: usize = 1024;
/// memcached takes longer times from now for points in time.
const LONGEST_TIME: u64 = 30 * 24 * 3600;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A value of so many bytes follows, and an end of line.
    Value {
        /// Its key.
        key: String,
        /// Its length.
        length: usize,
    },
    /// No more values follow.
    End,
    /// Done.
    Stored,
    /// There is one already.
    NotStored,
    /// Done.
    Deleted,
    /// There was none.
    NotFound,
    /// Understood, and not done: no memory, too long.
    Refused(String),
}

impl Line {
    /// Reads a line without its end. `None`: it is none of these.
    pub fn read(line: &[u8]) -> Option<Self> {
        let line = from_utf8(line).ok()?;
        let mut words = line.split(' ');
        let known = match (words.next()?, words.next()) {
            ("VALUE", Some(key)) => {
                words.next()?.parse::<u32>().ok()?;
                Self::Value { key: key.to_owned(), length: words.next()?.parse().ok()? }
            }
            ("SERVER_ERROR", _) => return Some(Self::Refused(line.to_owned())),
            ("END", None) => Self::End,
            ("STORED", None) => Self::Stored,
            ("NOT_STORED", None) => Self::NotStored,
            ("DELETED", None) => Self::Deleted,
            ("NOT_FOUND", None) => Self::NotFound,
            _ => return None,
        };
        words.next().is_none().then_some(known)
    }
}

/// Asks for the values of `keys`: one [`Line::Value`] for each that is there, then [`Line::End`].
pub fn get<'k>(out: &mut Vec<u8>, keys: impl IntoIterator<Item = &'k str>) {
    out.extend_from_slice(b"get");
    for key in keys {
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Whatever there is.
    Set,
    /// If there is none.
    Add,
}

/// Stores `value`, in pieces, for `seconds` (0: no limit), counted from `now` (seconds since 1970): [`Line::Stored`], or
/// another one that says why not.
pub fn store(out: &mut Vec<u8>, how: Store, key: &str, value: &[&[u8]], seconds: u64, now: u64) {
    let how = if how == Store::Set { "set" } else { "add" };
    let until = if seconds > LONGEST_TIME { now.saturating_add(seconds) } else { seconds };
    let length: usize = value.iter().map(|piece| piece.len()).sum();
    out.extend_from_slice(format!("{how} {key} 0 {until} {length}\r\n").as_bytes());
    value.iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(b"\r\n");
}

/// Deletes the value of `key`: [`Line::Deleted`] or [`Line::NotFound`].
pub fn delete(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(format!("delete {key}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_protocol() {
        let mut out = Vec::new();
        get(&mut out, ["a", "b"]);
        store(&mut out, Store::Set, "a", &[b"va", b"lue"], 0, 1000);
        store(&mut out, Store::Add, "b", &[], 60, 1000);
        store(&mut out, Store::Set, "c", &[b"\r\n"], LONGEST_TIME + 1, 1000);
        delete(&mut out, "a");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "get a b\r\nset a 0 0 5\r\nvalue\r\nadd b 0 60 0\r\n\r\nset c 0 2593001 2\r\n\r\n\r\ndelete a\r\n"
        );
    }

    #[test]
    fn lines_are_known_or_refused() {
        let value = |key: &str, length| Some(Line::Value { key: key.to_owned(), length });
        for (line, expected) in [
            ("VALUE pgpool:g:1 0 20", value("pgpool:g:1", 20)),
            ("END", Some(Line::End)),
            ("STORED", Some(Line::Stored)),
            ("NOT_STORED", Some(Line::NotStored)),
            ("DELETED", Some(Line::Deleted)),
            ("NOT_FOUND", Some(Line::NotFound)),
            (
                "SERVER_ERROR object too large for cache",
                Some(Line::Refused("SERVER_ERROR object too large for cache".into())),
            ),
            ("VALUE a 0 20 77", None),
            ("VALUE a 0", None),
            ("VALUE a 0 -1", None),
            ("VALUE a x 1", None),
            ("VALUE a 0 99999999999999999999999", None),
            ("END of it", None),
            ("ERROR", None),
            ("CLIENT_ERROR bad data chunk", None),
            ("HTTP/1.1 400 Bad Request", None),
            ("", None),
        ] {
            assert_eq!(Line::read(line.as_bytes()), expected, "{line}");
        }
        assert_eq!(Line::read(b"\xff\xfe"), None);
    }
}
