//! The lines of a script and their fields (tools 1.2).

use std::ops::Range;

/// The most elements of a list.
const MAX_ELEMENTS: i64 = 128;

/// The lines that say something, each with the line it goes on in: a backslash at its end and the end of the line stay
/// between the two.
pub(super) fn lines(script: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rest = script.split_inclusive(|byte| *byte == b'\n');
    std::iter::from_fn(move || {
        let mut line = rest.next()?.to_vec();
        while line.ends_with(b"\\\n") && !line.starts_with(b"#") {
            let Some(next) = rest.next() else { break };
            line.extend_from_slice(next);
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        Some(line)
    })
    .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// What is left of a line. Errors are the messages of the original.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The kind of a line and the fields behind it.
    pub fn of(line: &'a [u8]) -> Result<(u8, Self), Vec<u8>> {
        // The line's own end is what stands behind the last byte.
        let hex = |at: usize| format!("{:x}", line.get(at).unwrap_or(&b'\n'));
        match line {
            // Whatever parts the kind from its fields.
            [b'\'', kind, b'\'', rest @ ..] => Ok((*kind, Self(rest.get(1..).unwrap_or_default()))),
            [b'\'', ..] => {
                Err(format!("process_a_line: message kind is not followed by ' but {}\n", hex(2)).into_bytes())
            }
            _ => Err(format!("process_a_line: first character is not ' but {}\n", hex(0)).into_bytes()),
        }
    }

    fn skip_tabs(&mut self) {
        while let [b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// A text between double quotes; its end is the one before a tab or the end of the line. `\n` is an end of line, any
    /// other character behind a backslash is itself.
    pub fn text(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        self.skip_tabs();
        let [b'"', rest @ ..] = self.0 else {
            return Err([b"buffer_read_string: given string does not start with \" (", self.0, b")"].concat());
        };
        let mut text = Vec::new();
        // Whether the last character is an unescaped quote.
        let mut closed = false;
        let mut at = 0;
        while at < rest.len() && rest[at] != b'\t' {
            closed = rest[at] == b'"';
            match (rest[at], rest.get(at + 1)) {
                (b'\\', Some(b'n')) => {
                    text.push(b'\n');
                    at += 1;
                }
                (b'\\', Some(escaped)) => {
                    text.push(*escaped);
                    at += 1;
                }
                (byte, _) => text.push(byte),
            }
            at += 1;
        }
        self.0 = &rest[at..];
        let last = text.pop();
        if closed {
            return Ok(text);
        }
        let last = last.into_iter().collect::<Vec<_>>();
        Err([b"buffer_read_string: given string does not end with \"(", &last[..], b")"].concat())
    }

    /// A character between single quotes.
    pub fn character(&mut self) -> Result<u8, Vec<u8>> {
        self.skip_tabs();
        match self.0 {
            [b'\'', character, b'\'', rest @ ..] => {
                self.0 = rest;
                Ok(*character)
            }
            rest => Err([b"buffer_read_char: given string does not start with '' (", rest, b")"].concat()),
        }
    }

    /// A number as the C library reads one: no digits are 0.
    pub fn number(&mut self) -> i64 {
        self.skip_tabs();
        let end = self.0.iter().position(|byte| *byte == b'\t').unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        leading_number(word)
    }

    /// The number of elements of a list, as a range; `what` they are, for the message.
    pub fn count(&mut self, what: &str) -> Result<Range<i64>, Vec<u8>> {
        match self.number() {
            count if count > MAX_ELEMENTS => Err(format!("Too many {what} ({count})\n").into_bytes()),
            count => Ok(0..count.max(0)),
        }
    }
}

/// The number at the beginning of `word`: blanks, a sign, digits.
pub(super) fn leading_number(word: &[u8]) -> i64 {
    let word = word.trim_ascii_start();
    let (sign, digits) = match word {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    sign * digits.fold(0_i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_and_continued_lines() {
        let script = b"# comment \\\n\n'Q'\t\"a\\\nb\"\n'Y'\n#x\n'Z'\\";
        let lines = lines(script).map(|line| String::from_utf8(line).expect("text")).collect::<Vec<_>>();
        assert_eq!(lines, ["'Q'\t\"a\\\nb\"", "'Y'", "'Z'\\"]);
    }

    #[test]
    fn fields() {
        let (kind, mut fields) = Fields::of(b"'X'\t\t\"a\\\tb\\\\ \"c\" \\n\\q\"\t 12x\t-3\t'S'").expect("a kind");
        assert_eq!(kind, b'X');
        assert_eq!(fields.text().expect("text"), b"a\tb\\ \"c\" \nq");
        assert_eq!((fields.number(), fields.number()), (12, -3));
        assert_eq!(fields.character(), Ok(b'S'));
        assert_eq!(fields.number(), 0);
    }

    #[test]
    fn the_messages_of_the_original() {
        let message = |result: Result<Vec<u8>, Vec<u8>>| String::from_utf8(result.expect_err("wrong")).expect("text");
        let text = |line: &str| Fields::of(line.as_bytes()).and_then(|(_, mut fields)| fields.text());
        for (line, expected) in [
            ("abc", "process_a_line: first character is not ' but 61\n"),
            ("'Qx", "process_a_line: message kind is not followed by ' but 78\n"),
            ("'Q", "process_a_line: message kind is not followed by ' but a\n"),
            ("'Q'\tSELECT 1", "buffer_read_string: given string does not start with \" (SELECT 1)"),
            ("'Q'\t\"SELECT 1", "buffer_read_string: given string does not end with \"(1)"),
            ("'Q'\t\"SELECT 1\\\"", "buffer_read_string: given string does not end with \"(\")"),
            ("'Q'\t\"", "buffer_read_string: given string does not end with \"()"),
        ] {
            assert_eq!(message(text(line)), expected, "{line}");
        }
        let count = Fields::of(b"'P'\t200").and_then(|(_, mut fields)| fields.count("codes"));
        let parted = Fields::of(b"'Q' \"SELECT 1\"").and_then(|(_, mut fields)| fields.text());
        assert_eq!(parted, Ok(b"SELECT 1".to_vec()));
        assert_eq!(count, Err(b"Too many codes (200)\n".to_vec()));
        let target = Fields::of(b"'D'\tS").and_then(|(_, mut fields)| fields.character());
        assert_eq!(target, Err(b"buffer_read_char: given string does not start with '' (S)".to_vec()));
    }

    proptest! {
        #[test]
        fn a_text_is_read_as_it_was_written(text in "[a-z\"\\\\\t\n ]{0,20}") {
            let escaped: String = text
                .chars()
                .flat_map(|c| if matches!(c, '\\' | '\t' | '\n' | '"') { vec!['\\', c] } else { vec![c] })
                .collect();
            let script = format!("'Q'\t\"{escaped}\"\t7\n");
            let lines = lines(script.as_bytes()).collect::<Vec<_>>();
            prop_assert_eq!(lines.len(), 1);
            let (_, mut fields) = Fields::of(&lines[0]).expect("a kind");
            prop_assert_eq!(fields.text(), Ok(text.into_bytes()));
            prop_assert_eq!(fields.number(), 7);
        }
    }
}
