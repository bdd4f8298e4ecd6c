//! What a line of a script does (tools 1.3).

use super::line::{Fields, leading_number};
use crate::wire::write::{self, message};

/// A step of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A message, and what is told of it.
    Send { told: Vec<u8>, message: Vec<u8> },
    /// Messages are received and told.
    Receive(Until),
    /// A line of a kind that does not exist.
    Unknown(u8),
}

/// When to stop receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// At ReadyForQuery.
    Ready,
    /// At ReadyForQuery, or when nothing has come for a while.
    ReadyOrQuiet,
    /// After one message, or when none has come for a while.
    One,
}

/// The step of a line. Errors are messages that end the program.
pub(super) fn parse(line: &[u8]) -> Result<Step, Vec<u8>> {
    let (kind, mut fields) = Fields::of(line)?;
    match kind {
        b'Q' => query(&mut fields),
        b'P' => parse_message(&mut fields),
        b'B' => bind(&mut fields),
        b'D' => object(kind, "Describe", &mut fields),
        b'C' => object(kind, "Close", &mut fields),
        b'E' => execute(&mut fields),
        b'F' => function_call(&mut fields),
        b'd' => copy_data(&mut fields),
        b'f' => copy_fail(&mut fields),
        b'S' => Ok(bare(kind, "Sync")),
        b'H' => Ok(bare(kind, "Flush")),
        b'X' => Ok(bare(kind, "Terminate")),
        b'c' => Ok(bare(kind, "CopyDone")),
        b'Y' => Ok(Step::Receive(Until::Ready)),
        b'y' => Ok(Step::Receive(Until::ReadyOrQuiet)),
        b'z' => Ok(Step::Receive(Until::One)),
        other => Ok(Step::Unknown(other)),
    }
}

/// A message of this kind, whose content `content` writes. `told` are texts and values in turn.
fn send(kind: u8, told: &[&[u8]], content: impl FnOnce(&mut Vec<u8>)) -> Step {
    let mut bytes = Vec::new();
    message(&mut bytes, kind, content);
    Step::Send { told: [&told.concat(), &b"\n"[..]].concat(), message: bytes }
}

fn bare(kind: u8, name: &str) -> Step {
    send(kind, &[b"FE=> ", name.as_bytes()], |_| {})
}

fn query(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let sql = fields.text()?;
    let mut bytes = Vec::new();
    write::query(&mut bytes, &sql);
    Ok(Step::Send { told: [b"FE=> Query (query=\"", sql.as_slice(), b"\")\n"].concat(), message: bytes })
}

fn parse_message(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let (name, sql) = (fields.text()?, fields.text()?);
    let oids = fields.count("oid params for parse message")?.map(|_| fields.number()).collect::<Vec<_>>();
    // Without a brace at the end, as the original.
    let list = oids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let list = if oids.is_empty() { String::new() } else { format!(", oids={{{list}") };
    let told: [&[u8]; 6] = [b"FE=> Parse(stmt=\"", &name, b"\", query=\"", &sql, b"\")", list.as_bytes()];
    Ok(send(b'P', &told, |out| {
        text(out, &name);
        text(out, &sql);
        int16(out, oids.len() as i64);
        oids.iter().for_each(|oid| int32(out, *oid));
    }))
}

fn bind(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let (portal, name) = (fields.text()?, fields.text()?);
    let formats = fields.count("codes for bind message")?.map(|_| fields.number()).collect::<Vec<_>>();
    let mut values = Vec::new();
    for at in fields.count("params for bind message")? {
        // One code is for all, none means text.
        let format = formats.get(at as usize).or(formats.first().filter(|_| formats.len() == 1));
        values.push(value(fields, format.is_some_and(|format| *format != 0))?);
    }
    let results = fields.count("result codes for bind message")?.map(|_| fields.number()).collect::<Vec<_>>();
    Ok(send(b'B', &[b"FE=> Bind(stmt=\"", &name, b"\", portal=\"", &portal, b"\")"], |out| {
        text(out, &portal);
        text(out, &name);
        list16(out, &formats);
        int16(out, values.len() as i64);
        values.iter().for_each(|value| sized(out, value.as_deref()));
        list16(out, &results);
    }))
}

fn function_call(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let oid = fields.number();
    let formats = fields.count("codes for function call message")?.map(|_| fields.number()).collect::<Vec<_>>();
    let arguments = fields
        .count("arguments for function call message")?
        .map(|_| value(fields, false))
        .collect::<Result<Vec<_>, _>>()?;
    let result = fields.number();
    Ok(send(b'F', &[], |out| {
        int32(out, oid);
        list16(out, &formats);
        int16(out, arguments.len() as i64);
        arguments.iter().for_each(|argument| sized(out, argument.as_deref()));
        int16(out, result);
    }))
}

/// A length and, if there is one, a value: so many bytes of it, or as a binary number. `None` is NULL.
fn value(fields: &mut Fields<'_>, binary: bool) -> Result<Option<Vec<u8>>, Vec<u8>> {
    let Ok(length) = usize::try_from(fields.number()) else { return Ok(None) };
    if length == 0 {
        return Ok(Some(Vec::new()));
    }
    let mut value = fields.text()?;
    if binary {
        let mut number = Vec::new();
        int32(&mut number, leading_number(&value));
        value = number;
    }
    if value.len() < length {
        let have = value.len();
        return Err(format!("a value of length {length} was announced, but there are {have} bytes\n").into_bytes());
    }
    value.truncate(length);
    Ok(Some(value))
}

fn object(kind: u8, name: &str, fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let target = fields.character()?;
    let object = fields.text()?;
    let what = match target {
        b'S' => "stmt",
        b'P' => "portal",
        // The original calls both so.
        other => return Err([b"Close: unknown kind:", &[other][..], b"\n"].concat()),
    };
    let told: [&[u8]; 6] = [b"FE=> ", name.as_bytes(), b"(", what.as_bytes(), b"=\"", &object];
    Ok(send(kind, &[&told.concat(), b"\")"], |out| {
        out.push(target);
        text(out, &object);
    }))
}

fn execute(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let (portal, rows) = (fields.text()?, fields.number());
    Ok(send(b'E', &[b"FE=> Execute(portal=\"", &portal, b"\")"], |out| {
        text(out, &portal);
        int32(out, rows);
    }))
}

fn copy_data(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let data = fields.text()?;
    Ok(send(b'd', &[b"FE=> CopyData (copy data=\"", &data, b"\")"], |out| out.extend_from_slice(&data)))
}

fn copy_fail(fields: &mut Fields<'_>) -> Result<Step, Vec<u8>> {
    let reason = fields.text()?;
    Ok(send(b'f', &[b"FE=> CopyFail (error message=\"", &reason, b"\")"], |out| text(out, &reason)))
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// What does not fit is cut, so that a script can send any bits.
fn int16(out: &mut Vec<u8>, number: i64) {
    out.extend((number as u16).to_be_bytes());
}

fn int32(out: &mut Vec<u8>, number: i64) {
    out.extend((number as u32).to_be_bytes());
}

fn list16(out: &mut Vec<u8>, numbers: &[i64]) {
    int16(out, numbers.len() as i64);
    numbers.iter().for_each(|number| int16(out, *number));
}

fn sized(out: &mut Vec<u8>, value: Option<&[u8]>) {
    int32(out, value.map_or(-1, |value| value.len() as i64));
    out.extend_from_slice(value.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(line: &str) -> (String, Vec<u8>) {
        match parse(line.as_bytes()) {
            Ok(Step::Send { told, message }) => (String::from_utf8(told).expect("text"), message),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn messages_and_what_is_told_of_them() {
        let cases: [(&str, &str, &[u8]); 13] = [
            ("'Q'\t\"SELECT 1\"", "FE=> Query (query=\"SELECT 1\")", b"Q\0\0\0\x0dSELECT 1\0"),
            ("'P'\t\"s\"\t\"x\"\t0", "FE=> Parse(stmt=\"s\", query=\"x\")", b"P\0\0\0\x0as\0x\0\0\0"),
            (
                "'P'\t\"\"\t\"x\"\t2\t23\t25",
                "FE=> Parse(stmt=\"\", query=\"x\"), oids={23,25",
                b"P\0\0\0\x11\0x\0\0\x02\0\0\0\x17\0\0\0\x19",
            ),
            (
                "'B'\t\"p\"\t\"s\"\t0\t3\t2\t\"ab\"\t-1\t0\t0",
                "FE=> Bind(stmt=\"s\", portal=\"p\")",
                b"B\0\0\0\x1cp\0s\0\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\0",
            ),
            (
                "'B'\t\"\"\t\"\"\t1\t1\t2\t4\t\"7\"\t4\t\"-1\"\t1\t1",
                "FE=> Bind(stmt=\"\", portal=\"\")",
                b"B\0\0\0\x20\0\0\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x04\xff\xff\xff\xff\0\x01\0\x01",
            ),
            ("'D'\t'S'\t\"s\"", "FE=> Describe(stmt=\"s\")", b"D\0\0\0\x07Ss\0"),
            ("'C'\t'P'\t\"p\"", "FE=> Close(portal=\"p\")", b"C\0\0\0\x07Pp\0"),
            ("'E'\t\"p\"\t7", "FE=> Execute(portal=\"p\")", b"E\0\0\0\x0ap\0\0\0\0\x07"),
            ("'S'", "FE=> Sync", b"S\0\0\0\x04"),
            ("'d'\t\"1\\n\"", "FE=> CopyData (copy data=\"1\n\")", b"d\0\0\0\x061\n"),
            ("'c'", "FE=> CopyDone", b"c\0\0\0\x04"),
            ("'f'\t\"no\"", "FE=> CopyFail (error message=\"no\")", b"f\0\0\0\x07no\0"),
            ("'F'\t1397\t1\t0\t1\t2\t\"-3\"\t0", "", b"F\0\0\0\x16\0\0\x05\x75\0\x01\0\0\0\x01\0\0\0\x02-3\0\0"),
        ];
        for (line, told, message) in cases {
            assert_eq!(sent(line), (format!("{told}\n"), message.to_vec()), "{line}");
        }
    }

    #[test]
    fn receiving_unknown_kinds_and_slips() {
        assert_eq!(parse(b"'Y'"), Ok(Step::Receive(Until::Ready)));
        assert_eq!(parse(b"'y'"), Ok(Step::Receive(Until::ReadyOrQuiet)));
        assert_eq!(parse(b"'z'"), Ok(Step::Receive(Until::One)));
        assert_eq!(parse(b"'k'\t3"), Ok(Step::Unknown(b'k')));
        for (line, message) in [
            ("'D'\t'X'\t\"a\"", "Close: unknown kind:X\n"),
            ("'P'\t\"a\"\t\"select 1\"\t200", "Too many oid params for parse message (200)\n"),
            ("'B'\t\"\"\t\"a\"\t300", "Too many codes for bind message (300)\n"),
            ("'B'\t\"\"\t\"a\"\t0\t300", "Too many params for bind message (300)\n"),
            ("'B'\t\"\"\t\"a\"\t0\t1\t5\t\"abc\"\t0", "a value of length 5 was announced, but there are 3 bytes\n"),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(message.as_bytes().to_vec()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_harms(line: Vec<u8>, words in "'[QPBDCEFdfSHXcYyz]'(\t(\"[a-z\\\\\"]{0,5}\"|-?[0-9]{1,30}|'[SPX]'|)){0,9}") {
            let _ = parse(&line);
            if let Ok(Step::Send { message, .. }) = parse(words.as_bytes()) {
                let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
                prop_assert_eq!(length as usize + 1, message.len());
            }
        }
    }
}
