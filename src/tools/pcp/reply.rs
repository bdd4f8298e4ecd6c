//! What the frames of a reply say (pcp 5).

use crate::wire::Cursor;
use crate::wire::backend::ErrorFields;
use crate::wire::pcp::{ARRAY_SIZE, COMPLETE, NODE_INFO, PROCESS_CONFIG, PROCESS_INFO};

/// The texts of one record, in the order of the protocol.
pub(super) type Record = Vec<Vec<u8>>;

/// A frame of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Records will follow, so many of them.
    Announcement(usize),
    /// One of them.
    Record(Record),
    /// The end; a reply that has no announcement carries its only record here.
    End(Record),
}

/// Reads the content of a frame. `None`: it is not as the protocol wants it.
pub(super) fn read(content: &[u8]) -> Option<Part> {
    let mut cursor = Cursor::new(content);
    match cursor.text()? {
        COMPLETE => Some(Part::End(texts(cursor)?)),
        NODE_INFO | PROCESS_INFO | PROCESS_CONFIG => Some(Part::Record(texts(cursor)?)),
        ARRAY_SIZE => match cursor.rest() {
            // Four bytes without an end in the reply about parameters, else a text (pcp 5.5).
            &[0, b, c, d] => usize::try_from(u32::from_be_bytes([0, b, c, d])).ok(),
            _ => std::str::from_utf8(cursor.text()?).ok()?.parse().ok(),
        }
        .map(Part::Announcement),
        _ => None,
    }
}

fn texts(mut cursor: Cursor<'_>) -> Option<Record> {
    let mut texts = Vec::new();
    while !cursor.rest().is_empty() {
        texts.push(cursor.text()?.to_vec());
    }
    Some(texts)
}

/// An error or notice as the programs print it (pcp 8.4), with its hint if there is one.
pub(super) fn message(content: &[u8]) -> String {
    let fields = ErrorFields::new(content);
    let text = |tag| fields.get(tag).map(String::from_utf8_lossy);
    let mut message = format!("{}:  {}\n", text(b'S').unwrap_or_default(), text(b'M').unwrap_or_default());
    for (tag, word) in [(b'D', "DETAIL"), (b'H', "HINT")] {
        if let Some(text) = text(tag) {
            message.push_str(&format!("{word}:  {text}\n"));
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_kinds_of_frames() {
        let record = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Record>();
        let cases: [(&[u8], Option<Part>); 10] = [
            (b"CommandComplete\0", Some(Part::End(vec![]))),
            (b"CommandComplete\x003\0", Some(Part::End(record(&["3"])))),
            (b"NodeInfo\0a\0\0", Some(Part::Record(record(&["a", ""])))),
            (b"NodeInfo\0a", None),
            (b"ArraySize\x0016\0", Some(Part::Announcement(16))),
            (b"ArraySize\x00160\0", Some(Part::Announcement(160))),
            (b"ArraySize\0\0\0\0\xa5", Some(Part::Announcement(165))),
            (b"ArraySize\0\0\0\x01\0", Some(Part::Announcement(256))),
            (b"ArraySize\0x\0", None),
            (b"", None),
        ];
        for (content, expected) in cases {
            assert_eq!(read(content), expected, "{}", content.escape_ascii());
        }
    }

    #[test]
    fn messages_keep_texts_that_begin_with_a_field_letter() {
        let content = b"SERROR\0CXX000\0MServer says\0DDetail\0HHelp\0Fpcp.c\0L1\0\0";
        assert_eq!(message(content), "ERROR:  Server says\nDETAIL:  Detail\nHINT:  Help\n");
        assert_eq!(message(b"SERROR\0Mno detail\0\0"), "ERROR:  no detail\n");
        assert_eq!(message(b"S"), ":  \n");
    }

    proptest! {
        #[test]
        fn no_frame_harms(content: Vec<u8>) {
            read(&content);
            message(&content);
            read(&[b"ArraySize\0", &content[..]].concat());
        }
    }
}
