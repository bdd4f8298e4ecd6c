//! What a client gets (pcp 3.2, 3.3, 4).

use crate::report::{Report, Severity};
use crate::wire::pcp::{ARRAY_SIZE, AUTHENTICATED, AUTHENTICATED_REPLY, COMPLETE, ERROR, NOTICE, SALT_REPLY};
use crate::wire::write::message;

/// The salt for a login.
pub fn salt(out: &mut Vec<u8>, salt: [u8; 4]) {
    message(out, SALT_REPLY, |out| out.extend_from_slice(&salt));
}

/// The login was right.
pub fn authenticated(out: &mut Vec<u8>) {
    message(out, AUTHENTICATED_REPLY, |out| text(out, AUTHENTICATED));
}

/// The end of an answer, with the results if it has no records of its own.
pub fn complete<T: AsRef<str>>(out: &mut Vec<u8>, kind: u8, results: &[T]) {
    message(out, kind, |out| {
        text(out, COMPLETE);
        results.iter().for_each(|result| text(out, result.as_ref().as_bytes()));
    });
}

/// An answer of records, each with `tag` in front.
pub fn records(out: &mut Vec<u8>, kind: u8, tag: &[u8], records: &[Vec<String>]) {
    message(out, kind, |out| {
        text(out, ARRAY_SIZE);
        text(out, records.len().to_string().as_bytes());
    });
    each(out, kind, tag, records);
}

/// The same with the number of records as four bytes instead of text: only pool status has it so.
pub fn counted_records(out: &mut Vec<u8>, kind: u8, tag: &[u8], records: &[Vec<String>]) {
    message(out, kind, |out| {
        text(out, ARRAY_SIZE);
        out.extend_from_slice(&u32::try_from(records.len()).unwrap_or(u32::MAX).to_be_bytes());
    });
    each(out, kind, tag, records);
}

fn each(out: &mut Vec<u8>, kind: u8, tag: &[u8], records: &[Vec<String>]) {
    for record in records {
        message(out, kind, |out| {
            text(out, tag);
            record.iter().for_each(|field| text(out, field.as_bytes()));
        });
    }
    complete::<&str>(out, kind, &[]);
}

/// A report: an error from ERROR up, else a notice. Where in the source it was made is not recorded.
pub fn report(out: &mut Vec<u8>, report: &Report) {
    let kind = if report.severity >= Severity::Error { ERROR } else { NOTICE };
    message(out, kind, |out| {
        let mut field = |tag: u8, value: &str| {
            out.push(tag);
            text(out, value.as_bytes());
        };
        field(b'S', report.severity.word());
        field(b'C', "XX000");
        field(b'M', &legible(&report.message));
        if let Some(detail) = &report.detail {
            field(b'D', &legible(detail));
        }
        if let Some(hint) = &report.hint {
            field(b'H', &legible(hint));
        }
        field(b'F', "pcp");
        field(b'L', "0");
        out.push(0);
    });
}

/// Real clients take a value that begins with S, M or D for a field of its own (pcp 4.4); in lower case they do not.
fn legible(value: &str) -> String {
    let mut value = value.to_owned();
    if value.starts_with(['S', 'M', 'D']) {
        value[..1].make_ascii_lowercase();
    }
    value
}

/// Text and its end. A NUL within it would end it early.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|byte| **byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(make: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        make(&mut out);
        out
    }

    #[test]
    fn replies_have_the_bytes_of_the_reference() {
        assert_eq!(made(|out| salt(out, [1, 2, 3, 4])), b"m\0\0\0\x08\x01\x02\x03\x04");
        assert_eq!(made(authenticated), b"r\0\0\0\x15AuthenticationOK\0");
        assert_eq!(made(|out| complete::<&str>(out, b'd', &[])), b"d\0\0\0\x14CommandComplete\0");
        assert_eq!(made(|out| complete(out, b'l', &["2"])), b"l\0\0\0\x16CommandComplete\x002\0");
        let two = [vec!["a".to_owned(), String::new()], vec!["b".to_owned(), "c\0d".to_owned()]];
        assert_eq!(
            made(|out| records(out, b'i', b"NodeInfo", &two)),
            b"i\0\0\0\x10ArraySize\x002\0i\0\0\0\x10NodeInfo\0a\0\0i\0\0\0\x12NodeInfo\0b\0cd\0i\0\0\0\x14CommandComplete\0"
        );
        assert_eq!(made(|out| counted_records(out, b'b', b"", &[]))[..19], *b"b\0\0\0\x12ArraySize\0\0\0\0\0");
    }

    #[test]
    fn reports_have_their_fields_in_order() {
        let error = Report::error("informing node info failed").detail("invalid node ID : 9").hint("Mind the number");
        assert_eq!(
            made(|out| report(out, &error))[5..],
            *b"SERROR\0CXX000\0Minforming node info failed\0Dinvalid node ID : 9\0Hmind the number\0Fpcp\0L0\0\0"
        );
        assert_eq!(made(|out| report(out, &Report::debug("Such a text")))[..24], *b"N\0\0\0\x28SDEBUG\0CXX000\0Msuch");
    }
}
