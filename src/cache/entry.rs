//! What is kept of an answer: the messages as the server sent them, and what they depend on.
//!
//! Layout, all numbers in network byte order: stamp, end of life, number of tables, their counters, then the
//! messages without ReadyForQuery.

use crate::state::{TableSet, uptime};
use crate::wire::{Cursor, HEADER_LENGTH, Header, backend};
use std::rc::Rc;

/// When answers stop to count by themselves, in milliseconds of [`uptime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry(u64);

impl Expiry {
    /// They do not.
    pub const NEVER: Self = Self(0);

    /// `seconds` from now (`memqcache_expire`); 0: never.
    pub fn after(seconds: i32) -> Self {
        match u64::try_from(seconds) {
            Ok(0) | Err(_) => Self::NEVER,
            Ok(seconds) => Self(millis() + seconds * 1000),
        }
    }

    fn has_come(self) -> bool {
        self.0 != 0 && millis() >= self.0
    }
}

fn millis() -> u64 {
    u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX)
}

/// An answer as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The stamp taken before the statement was sent.
    pub stamp: u64,
    /// Its end of life.
    pub expiry: Expiry,
    /// The tables that it depends on.
    pub tables: Rc<TableSet>,
}

impl Entry {
    /// Writes what stands in front of the messages.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let counters = self.tables.counters();
        into.clear();
        into.extend_from_slice(&self.stamp.to_be_bytes());
        into.extend_from_slice(&self.expiry.0.to_be_bytes());
        into.extend_from_slice(&(counters.len() as u32).to_be_bytes());
        counters.iter().for_each(|counter| into.extend_from_slice(&counter.to_be_bytes()));
    }

    /// Reads it, and tells where the messages begin. `None`: it is none, or its life is over.
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let head = Head::read(bytes)?;
        let tables = Rc::new(TableSet::from_counters(head.counters()));
        Some((Self { stamp: head.stamp, expiry: head.expiry, tables }, head.length()))
    }
}

/// An entry where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// As in [`Entry`].
    pub stamp: u64,
    expiry: Expiry,
    counters: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads it. `None`: it is none, or its life is over.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let stamp = u64::from_be_bytes(cursor.take(8)?.try_into().ok()?);
        let expiry = Expiry(u64::from_be_bytes(cursor.take(8)?.try_into().ok()?));
        let count = cursor.u32()? as usize;
        let counters = cursor.take(count.checked_mul(4)?)?;
        (!expiry.has_come()).then_some(Self { stamp, expiry, counters })
    }

    /// The counters of the tables that the answer depends on.
    pub fn counters(&self) -> impl Iterator<Item = u32> + 'a {
        self.counters.chunks_exact(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Where the messages begin.
    pub fn length(&self) -> usize {
        20 + self.counters.len()
    }
}

/// The part of `bytes`, which a server has sent in answer to one Query, that may be kept: rows of one SELECT, and nothing
/// else in between, up to ReadyForQuery. `None`: it holds anything that concerns this one session only, such as a notice,
/// or is not complete.
pub fn answer_of_query(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    let (mut described, mut completed) = (false, false);
    loop {
        let header = Header::read(bytes.get(at..)?, backend::name).ok()??;
        let message = bytes[at..].get(..header.total)?;
        match header.kind {
            b'T' if at == 0 => described = true,
            b'D' if described && !completed => {}
            b'C' if described && !completed && counts_rows(message) => completed = true,
            b'Z' if completed => return Some(&bytes[..at]),
            _ => return None,
        }
        at += header.total;
    }
}

/// The same for one batch of the extended protocol: perhaps Parse, Bind, perhaps Describe of the portal, Execute, Sync. What
/// is kept begins with RowDescription if it was asked for.
pub fn answer_of_batch(bytes: &[u8]) -> Option<&[u8]> {
    let (mut begin, mut at) = (0, 0);
    let (mut bound, mut completed) = (false, false);
    loop {
        let header = Header::read(bytes.get(at..)?, backend::name).ok()??;
        let message = bytes[at..].get(..header.total)?;
        match header.kind {
            b'1' if at == 0 => {}
            b'2' if !bound => {
                bound = true;
                begin = at + header.total;
            }
            b'T' if bound && at == begin => {}
            b'D' if bound && !completed => {}
            b'C' if bound && !completed && counts_rows(message) => completed = true,
            b'Z' if completed => return Some(&bytes[begin..at]),
            _ => return None,
        }
        at += header.total;
    }
}

/// Whether this CommandComplete is that of a SELECT. A name may stand for something else than is known here.
fn counts_rows(message: &[u8]) -> bool {
    message[HEADER_LENGTH..].starts_with(b"SELECT ")
}

/// Whether `messages` are those of a kept answer, where that is not known: perhaps RowDescription, rows, CommandComplete.
pub fn is_answer(messages: &[u8]) -> bool {
    let mut at = 0;
    loop {
        let Some(Ok(Some(header))) = messages.get(at..).map(|rest| Header::read(rest, backend::name)) else {
            return false;
        };
        match header.kind {
            b'T' if at == 0 => {}
            b'D' => {}
            b'C' => return at + header.total == messages.len(),
            _ => return false,
        }
        at += header.total;
    }
}

/// A kept answer, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// RowDescription, if it was kept.
    pub description: Option<&'a [u8]>,
    /// Rows and CommandComplete.
    pub rows: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Takes the messages of an entry apart.
    pub fn read(messages: &'a [u8]) -> Option<Self> {
        let header = Header::read(messages, backend::name).ok()??;
        if header.kind != b'T' {
            return Some(Self { description: None, rows: messages });
        }
        let (description, rows) = messages.split_at_checked(header.total)?;
        Some(Self { description: Some(description), rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{TransactionStatus, write};

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let encode = |entry: Entry| {
            let mut bytes = b"before".to_vec();
            entry.encode(&mut bytes);
            bytes
        };
        let entry = Entry { stamp: 7, expiry: Expiry::after(0), tables: Rc::new(TableSet::of("d", [1, 2, 3])) };
        let mut bytes = encode(entry.clone());
        let length = bytes.len();
        bytes.extend_from_slice(b"messages");
        assert_eq!(Entry::decode(&bytes), Some((entry.clone(), length)));
        assert_eq!(Entry::decode(&bytes[..length - 1]), None);
        assert_eq!(Entry::decode(&encode(Entry { expiry: Expiry(1), ..entry.clone() })), None);
        assert!(Entry::decode(&encode(Entry { expiry: Expiry::after(100), ..entry })).is_some());
    }

    #[test]
    fn what_others_have_kept_is_looked_at() {
        let message =
            |kind: u8, content: &[u8]| [&[kind][..], &(content.len() as u32 + 4).to_be_bytes(), content].concat();
        let (t, d, c) = (message(b'T', b"\0\0"), message(b'D', b"\0\0"), message(b'C', b"SELECT 1\0"));
        let whole = [&t[..], &d, &d, &c].concat();
        assert!(is_answer(&whole) && is_answer(&[&d[..], &c].concat()) && is_answer(&c));
        for cut in 0..whole.len() {
            assert!(!is_answer(&whole[..cut]), "{cut}");
        }
        let foreign = message(b'R', &[0, 0, 0, 3]);
        assert!(!is_answer(&[&whole[..], &foreign].concat()) && !is_answer(&[&foreign[..], &whole].concat()));
        assert!(
            !is_answer(&[&d[..], &t, &c].concat()) && !is_answer(b"D\0\0\0\x01") && !is_answer(b"C\xff\xff\xff\xff")
        );
    }

    #[test]
    fn rows_and_nothing_else_are_kept() {
        let mut rows = Vec::new();
        write::row_description(&mut rows, &["a"]);
        write::data_row(&mut rows, &["1"]);
        write::command_complete(&mut rows, "SELECT 1");
        let mut answer = rows.clone();
        write::ready_for_query(&mut answer, TransactionStatus::Idle);
        assert_eq!(answer_of_query(&answer), Some(&rows[..]));
        for length in 0..answer.len() {
            assert_eq!(answer_of_query(&answer[..length]), None);
        }
        let with = |message: fn(&mut Vec<u8>)| {
            let mut answer = Vec::new();
            message(&mut answer);
            answer.extend_from_slice(&rows);
            message(&mut answer);
            write::ready_for_query(&mut answer, TransactionStatus::Idle);
            answer
        };
        assert_eq!(answer_of_query(&with(|out| write::notice(out, "00000", b"x"))), None);
        assert_eq!(answer_of_query(&with(|out| write::parameter_status(out, b"a", b"b"))), None);
        assert_eq!(answer_of_query(&with(|out| write::command_complete(out, "SELECT 1"))), None);
        let mut written = Vec::new();
        write::row_description(&mut written, &["a"]);
        write::command_complete(&mut written, "INSERT 0 1");
        write::ready_for_query(&mut written, TransactionStatus::Idle);
        assert_eq!(answer_of_query(&written), None);
    }

    #[test]
    fn a_batch_is_kept_from_behind_its_bind() {
        let (mut description, mut rows) = (Vec::new(), Vec::new());
        write::row_description(&mut description, &["a"]);
        write::data_row(&mut rows, &["1"]);
        write::command_complete(&mut rows, "SELECT 1");
        for (parsed, described) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut answer = Vec::new();
            if parsed {
                write::parse_complete(&mut answer);
            }
            write::bind_complete(&mut answer);
            if described {
                answer.extend_from_slice(&description);
            }
            answer.extend_from_slice(&rows);
            write::ready_for_query(&mut answer, TransactionStatus::Idle);
            let kept = answer_of_batch(&answer).expect("it is complete");
            let expected = Answer { description: described.then_some(&description[..]), rows: &rows };
            assert_eq!(Answer::read(kept), Some(expected));
            for length in 0..answer.len() {
                assert_eq!(answer_of_batch(&answer[..length]), None);
            }
            assert_eq!(answer_of_batch(&[&answer[..answer.len() - 6], &answer[..]].concat()), None);
        }
        assert_eq!(Answer::read(b"T"), None);
        let mut written = Vec::new();
        write::bind_complete(&mut written);
        write::command_complete(&mut written, "INSERT 0 1");
        write::ready_for_query(&mut written, TransactionStatus::Idle);
        assert_eq!(answer_of_batch(&written), None, "a name may stand for something else than is known");
    }
}
