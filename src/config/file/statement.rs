//! From tokens to statements (config 2.2), one line at a time: `name [=] value [name [=] value ...]`.
//!
//! A syntax error spoils the rest of its line only; the next line starts afresh.

use super::slip::{self, Slip};
use super::token::{Token, TokenKind, tokens};

/// What one line says.
#[derive(Debug, Default)]
pub struct Line<'a> {
    /// The settings before the first syntax error.
    pub statements: Vec<Statement<'a>>,
    /// The syntax error, if there is one.
    pub slip: Option<Slip>,
}

/// `name [=] value`.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The name.
    pub name: Token<'a>,
    /// The value; none if the line ends before it.
    pub value: Option<Token<'a>>,
    /// Whether there was an equal sign.
    pub equals: bool,
}

/// Parses `line`, which does not contain its line end. `is_known` tells parameters' names from other words.
pub fn parse<'a>(line: &'a [u8], is_known: impl Fn(&[u8]) -> bool) -> Line<'a> {
    let tokens = tokens(line);
    let mut parsed = Line::default();
    let mut at = 0;
    while tokens[at].kind != TokenKind::EndOfLine {
        match statement(&tokens, at) {
            Ok((statement, next)) => {
                parsed.statements.push(statement);
                at = next;
            }
            Err(wrong) => {
                parsed.slip = Some(slip::explain(line, &tokens, wrong, &is_known));
                // Words in front of the error that are no parameters belong to the slip.
                parsed.statements.retain(|statement| is_known(statement.name.bytes));
                return parsed;
            }
        }
    }
    slip::missing_value(&mut parsed, &tokens, &is_known);
    parsed
}

/// The statement that begins at token `at`, and the position behind it; or the position of the wrong token.
fn statement<'a>(tokens: &[Token<'a>], at: usize) -> Result<(Statement<'a>, usize), usize> {
    let name = tokens[at];
    if name.kind != TokenKind::Key {
        return Err(at);
    }
    let equals = tokens[at + 1].kind == TokenKind::Equals;
    let value_at = at + 1 + usize::from(equals);
    let value = tokens[value_at];
    match value.kind {
        TokenKind::EndOfLine => Ok((Statement { name, value: None, equals }, value_at)),
        TokenKind::Equals => Err(value_at),
        TokenKind::Other if value.bytes == b"'" => Err(value_at),
        // `stderr,syslog`, `/tmp/x`, `10.0.0.1`: a value ends at a blank, so the rest would be taken for a name.
        kind if kind != TokenKind::Text && is_glued(value, tokens[value_at + 1]) => Err(value_at + 1),
        _ => Ok((Statement { name, value: Some(value), equals }, value_at + 1)),
    }
}

fn is_glued(value: Token<'_>, next: Token<'_>) -> bool {
    next.kind != TokenKind::EndOfLine && value.end() == next.start
}

/// The text of a value: without quotes, and with `''` and `\'` inside them as a quote (config 2.2).
pub fn value_bytes(token: Token<'_>) -> Vec<u8> {
    if token.kind != TokenKind::Text {
        return token.bytes.to_vec();
    }
    let inside = &token.bytes[1..token.bytes.len() - 1];
    let mut value = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\'' | b'\\', Some(b'\'')) => value.extend(bytes.next()),
            // Another backslash stays, and protects what follows it.
            (b'\\', Some(_)) => value.extend(std::iter::once(byte).chain(bytes.next())),
            _ => value.push(byte),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Line<'_> {
        parse(line.as_bytes(), |name| matches!(name, b"port" | b"pcp_port" | b"log_destination"))
    }

    fn settings(line: &str) -> Vec<(String, String)> {
        let parsed = parse_line(line);
        assert!(parsed.slip.is_none(), "{line}: {:?}", parsed.slip);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pair = |s: &Statement<'_>| (text(s.name.bytes), text(&value_bytes(s.value.unwrap())));
        parsed.statements.iter().map(pair).collect()
    }

    #[test]
    fn several_settings_may_stand_on_a_line_and_the_equal_sign_may_be_missing() {
        let expected = [("port".to_owned(), "9998".to_owned()), ("pcp_port".to_owned(), "9897".to_owned())];
        assert_eq!(settings("port 9998 pcp_port=9897 # comment"), expected);
        assert_eq!(settings("port='9998'pcp_port = 9897"), expected);
        assert_eq!(settings("# port = 1"), []);
        assert_eq!(settings("listen = *"), [("listen".to_owned(), "*".to_owned())]);
    }

    #[test]
    fn quotes_and_backslashes() {
        let value = |line: &str| settings(line).remove(0).1;
        assert_eq!(value("a = 'it''s'"), "it's");
        assert_eq!(value(r"a = 'it\'s'"), "it's");
        assert_eq!(value(r"a = 'foo\.bar\\'"), r"foo\.bar\\");
        assert_eq!(value(r"a = '\\''x'"), r"\\'x");
        assert_eq!(value("a = ''"), "");
    }

    #[test]
    fn an_error_keeps_the_settings_in_front_of_it() {
        let parsed = parse_line("port = 9999 --- default");
        assert_eq!(parsed.statements.len(), 1);
        assert_eq!(parsed.slip.unwrap().start, 12);
    }
}
