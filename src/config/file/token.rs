//! From one line to tokens (config 2.1). The longest match wins; no token spans lines.

/// Kind of a token; the numbers are those of the original's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A word that can be a name.
    Key = 1,
    /// A whole number, perhaps with letters behind it.
    Integer = 2,
    /// A fractional number, perhaps with letters behind it.
    Real = 3,
    /// A text in quotes.
    Text = 4,
    /// A word with dots, slashes, colons or hyphens.
    Unquoted = 5,
    /// The equal sign.
    Equals = 6,
    /// The end of the line.
    EndOfLine = 7,
    /// Any other single byte.
    Other = 8,
}

/// A piece of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Its bytes, with quotes.
    pub bytes: &'a [u8],
    /// Where it begins in the line.
    pub start: usize,
}

impl Token<'_> {
    /// Where the next byte of the line is.
    pub fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// A line's tokens without blanks and comment; the last one is always `EndOfLine`, which is empty.
pub fn tokens(line: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < line.len() && line[at] != b'#' {
        if matches!(line[at], b' ' | b'\t' | b'\r') {
            at += 1;
            continue;
        }
        let (kind, length) = longest(&line[at..]);
        tokens.push(Token { kind, bytes: &line[at..at + length], start: at });
        at += length;
    }
    tokens.push(Token { kind: TokenKind::EndOfLine, bytes: &[], start: at });
    tokens
}

/// The longest token at the beginning of `line`, which is not empty.
fn longest(line: &[u8]) -> (TokenKind, usize) {
    if line[0] == b'=' {
        return (TokenKind::Equals, 1);
    }
    let word = word(line).or_else(|| text(line).map(|length| (TokenKind::Text, length)));
    word.or_else(|| number(line)).unwrap_or((TokenKind::Other, 1))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn count(line: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    line.iter().take_while(|byte| wanted(**byte)).count()
}

fn word(line: &[u8]) -> Option<(TokenKind, usize)> {
    if !is_letter(line[0]) {
        return None;
    }
    let key = count(line, |byte| is_letter(byte) || byte.is_ascii_digit());
    let unquoted = count(line, |byte| is_letter(byte) || byte.is_ascii_digit() || b"-._:/".contains(&byte));
    Some(if unquoted > key { (TokenKind::Unquoted, unquoted) } else { (TokenKind::Key, key) })
}

/// Length of a text in quotes. A quote inside is written `''` or `\'`.
fn text(line: &[u8]) -> Option<usize> {
    if line[0] != b'\'' {
        return None;
    }
    let mut at = 1;
    loop {
        match (line.get(at)?, line.get(at + 1)) {
            (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return Some(at + 1),
            (b'\\', Some(_)) => at += 2,
            _ => at += 1,
        }
    }
}

/// `[sign] digits letters`, `[sign] 0x hex letters`, or `[sign] digits . digits [exponent] letters`.
fn number(line: &[u8]) -> Option<(TokenKind, usize)> {
    let sign = usize::from(matches!(line[0], b'+' | b'-'));
    let digits = &line[sign..];
    if digits.starts_with(b"0x") {
        let hex = count(&digits[2..], |byte| byte.is_ascii_hexdigit());
        if hex > 0 {
            let letters = count(&digits[2 + hex..], |byte| byte.is_ascii_alphabetic());
            return Some((TokenKind::Integer, sign + 2 + hex + letters));
        }
    }
    let whole = count(digits, |byte| byte.is_ascii_digit());
    let rest = &digits[whole..];
    if rest.first() == Some(&b'.') {
        let fraction = count(&rest[1..], |byte| byte.is_ascii_digit());
        if whole + fraction > 0 {
            let mut end = sign + whole + 1 + fraction;
            end += exponent(&line[end..]);
            end += count(&line[end..], |byte| byte.is_ascii_alphabetic());
            return Some((TokenKind::Real, end));
        }
    }
    let letters = count(rest, |byte| byte.is_ascii_alphabetic());
    (whole > 0).then_some((TokenKind::Integer, sign + whole + letters))
}

fn exponent(line: &[u8]) -> usize {
    let [b'e' | b'E', rest @ ..] = line else { return 0 };
    let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
    let digits = count(&rest[sign..], |byte| byte.is_ascii_digit());
    if digits > 0 { 1 + sign + digits } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::TokenKind::*;
    use super::*;

    fn kinds(line: &str) -> Vec<(TokenKind, &str)> {
        let all = tokens(line.as_bytes());
        let (_, shown) = all.split_last().unwrap();
        shown.iter().map(|t| (t.kind, std::str::from_utf8(t.bytes).unwrap())).collect()
    }

    #[test]
    fn the_longest_match_wins() {
        assert_eq!(kinds("port = 9999\r"), [(Key, "port"), (Equals, "="), (Integer, "9999")]);
        assert_eq!(kinds("a host1:5432/x-y"), [(Key, "a"), (Unquoted, "host1:5432/x-y")]);
        assert_eq!(
            kinds("5min -0x1fkB 1.5min .5 5. +1.e3"),
            [(Integer, "5min"), (Integer, "-0x1fkB"), (Real, "1.5min"), (Real, ".5"), (Real, "5."), (Real, "+1.e3"),]
        );
        assert_eq!(kinds("127.0.0.1"), [(Real, "127.0"), (Real, ".0"), (Real, ".1")].map(|(k, t)| (k, t)));
        assert_eq!(kinds("* --- x"), [(Other, "*"), (Other, "-"), (Other, "-"), (Other, "-"), (Key, "x")]);
        assert_eq!(kinds("año=x"), [(Key, "año"), (Equals, "="), (Key, "x")]);
    }

    #[test]
    fn texts_in_quotes() {
        assert_eq!(
            kinds(r"'a' 'it''s' 'a\'b' '\\' ''"),
            [(Text, "'a'"), (Text, "'it''s'"), (Text, r"'a\'b'"), (Text, r"'\\'"), (Text, "''"),]
        );
        assert_eq!(kinds("'# no comment' # comment"), [(Text, "'# no comment'")]);
        assert_eq!(kinds("'open"), [(Other, "'"), (Key, "open")]);
        assert_eq!(kinds(r"'open\'"), [(Other, "'"), (Key, "open"), (Other, "\\"), (Other, "'")]);
    }
}
