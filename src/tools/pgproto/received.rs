//! What is told of a message of the server (tools 1.5).

use crate::wire::Cursor;

/// The line about a message, with its end.
pub(super) fn told(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut cursor = Cursor::new(content);
    let mut line = b"<= BE ".to_vec();
    let mut append = |parts: &[&[u8]]| parts.iter().for_each(|part| line.extend_from_slice(part));
    match kind {
        b'C' => append(&[b"CommandComplete(", cursor.text().unwrap_or_default(), b")"]),
        b'Z' => append(&[b"ReadyForQuery(", cursor.take(1).unwrap_or_default(), b")"]),
        b'E' => append(&[b"ErrorResponse(", &fields(content), b")"]),
        b'N' => append(&[b"NoticeResponse(", &fields(content), b")"]),
        b'S' => {
            let (name, value) = (cursor.text().unwrap_or_default(), cursor.text().unwrap_or_default());
            append(&[b"ParameterStatus(name: \"", name, b"\" value: \"", value, b"\")"]);
        }
        b'A' => {
            let pid = cursor.u32().unwrap_or_default().to_string();
            let (channel, payload) = (cursor.text().unwrap_or_default(), cursor.text().unwrap_or_default());
            append(&[b"Notification response. pid: ", pid.as_bytes(), b" channel: ", channel]);
            append(&[b" payload: \"", payload, b"\""]);
        }
        _ => match name(kind) {
            Some(name) => append(&[name.as_bytes()]),
            None => append(&[b"(", &[kind], b")"]),
        },
    }
    line.push(b'\n');
    line
}

fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'D' => "DataRow",
        b'T' => "RowDescription",
        b'I' => "EmptyQueryResponse",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'W' => "CopyBothResponse",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'n' => "NoData",
        b's' => "PortalSuspended",
        b't' => "ParameterDescription",
        b'V' => "FunctionCallResponse",
        _ => return None,
    })
}

/// The fields of an error or notice: letter, blank, text, blank.
fn fields(content: &[u8]) -> Vec<u8> {
    let mut cursor = Cursor::new(content);
    let mut all = Vec::new();
    while let Some(letter) = cursor.u8().filter(|letter| *letter != 0) {
        all.extend([letter, b' ']);
        all.extend_from_slice(cursor.text().unwrap_or_default());
        all.push(b' ');
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        let cases: [(u8, &[u8], &str); 9] = [
            (b'1', b"", "ParseComplete"),
            (b'C', b"SELECT 1\0", "CommandComplete(SELECT 1)"),
            (b'Z', b"T", "ReadyForQuery(T)"),
            (b'E', b"SERROR\0C22012\0Mno\0\0", "ErrorResponse(S ERROR C 22012 M no )"),
            (b'N', b"\0", "NoticeResponse()"),
            (b'S', b"TimeZone\0UTC\0", "ParameterStatus(name: \"TimeZone\" value: \"UTC\")"),
            (b'A', b"\0\0\0\x7bc\0p\0", "Notification response. pid: 123 channel: c payload: \"p\""),
            (b'x', b"", "(x)"),
            (b'C', b"cut", "CommandComplete()"),
        ];
        for (kind, content, expected) in cases {
            assert_eq!(String::from_utf8_lossy(&told(kind, content)), format!("<= BE {expected}\n"));
        }
    }

    proptest! {
        #[test]
        fn no_message_harms(kind: u8, content: Vec<u8>) {
            told(kind, &content);
        }
    }
}
