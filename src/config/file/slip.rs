//! What a syntax error was probably meant to be: the well-known slips of people who write configuration files.

use super::statement::{Line, Statement};
use super::token::{Token, TokenKind};

/// A syntax error with its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip {
    /// Where it begins in the line.
    pub start: usize,
    /// What is wrong.
    pub kind: SlipKind,
    /// What was probably meant.
    pub hint: String,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlipKind {
    /// This token cannot stand where it stands.
    Token(String, TokenKind),
    /// This parameter has no value.
    MissingValue(String),
    /// A line of words, beginning with this one, that sets nothing. The original reads it as unknown parameters and
    /// goes on, so it is worth a warning only.
    Prose(String),
}

const PROSE_HINT: &str = "This line looks like prose: put # in front of it to make it a comment.";

/// Explains why token `wrong` cannot stand where it stands.
pub(super) fn explain(line: &[u8], tokens: &[Token<'_>], wrong: usize, is_known: &dyn Fn(&[u8]) -> bool) -> Slip {
    let token = tokens[wrong];
    let text = String::from_utf8_lossy(token.bytes).into_owned();
    let hint = hint(line, tokens, wrong, is_known);
    let start = if is_prose(tokens, is_known) { tokens[0].start } else { token.start };
    Slip { start, kind: SlipKind::Token(text, token.kind), hint }
}

fn hint(line: &[u8], tokens: &[Token<'_>], wrong: usize, is_known: &dyn Fn(&[u8]) -> bool) -> String {
    let token = tokens[wrong];
    let rest = &line[token.start..];
    if rest.starts_with(b"--") || rest.starts_with(b"//") || rest.starts_with(b"/*") {
        let mark = if rest[0] == b'-' { "--" } else { &String::from_utf8_lossy(&rest[..2]) };
        return format!("A comment begins with #, not with {mark}.");
    }
    if is_prose(tokens, is_known) {
        return PROSE_HINT.to_owned();
    }
    match (token.kind, token.bytes) {
        (TokenKind::Other, b"'") => return "The closing quote is missing.".to_owned(),
        (TokenKind::Other, b";") if wrong == 0 => return "A comment begins with #, not with ;.".to_owned(),
        (TokenKind::Other, b";") => return "Leave out the semicolon: a setting ends with its line.".to_owned(),
        (TokenKind::Other, b"[") if wrong == 0 => return "There are no [sections]; leave the line out.".to_owned(),
        (TokenKind::Equals, _) => return "Write one equal sign, or none, between name and value.".to_owned(),
        _ => {}
    }
    if let Some(value) = wrong.checked_sub(1).map(|at| tokens[at]).filter(|value| value.end() == token.start) {
        return match value.bytes {
            b"\"" => "Texts stand in single quotes.".to_owned(),
            _ => format!("Put the value in quotes: '{}'", run_of(line, value)),
        };
    }
    "A parameter's name was expected here. Each setting is name = value; a comment begins with #.".to_owned()
}

/// The run of characters without blanks that `token` is part of.
fn run_of(line: &[u8], token: Token<'_>) -> String {
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'#' | b';' | b'\'');
    let length = line[token.start..].iter().position(is_end).unwrap_or(line.len() - token.start);
    String::from_utf8_lossy(&line[token.start..token.start + length]).into_owned()
}

/// Whether the line is text for people: it begins with words that are no parameters and sets nothing.
fn is_prose(tokens: &[Token<'_>], is_known: &dyn Fn(&[u8]) -> bool) -> bool {
    let is_word = |token: &Token<'_>| matches!(token.kind, TokenKind::Key | TokenKind::Unquoted);
    let words = tokens.iter().filter(|token| is_word(token)).count();
    words >= 3 && is_word(&tokens[0]) && !is_known(tokens[0].bytes) && tokens[1].kind != TokenKind::Equals
}

/// Looks at a line that parsed: a setting without a value, and prose that by chance has no forbidden character.
pub(super) fn missing_value(line: &mut Line<'_>, tokens: &[Token<'_>], is_known: &dyn Fn(&[u8]) -> bool) {
    if is_prose(tokens, is_known) && !tokens.iter().any(|token| token.kind == TokenKind::Equals) {
        line.statements.clear();
        line.slip = Some(Slip {
            start: tokens[0].start,
            kind: SlipKind::Prose(String::from_utf8_lossy(tokens[0].bytes).into_owned()),
            hint: PROSE_HINT.to_owned(),
        });
        return;
    }
    let [.., Statement { name, value: None, equals }] = line.statements[..] else { return };
    let is_setting = equals || is_known(name.bytes);
    let before = line.statements.len().checked_sub(2).map(|at| line.statements[at]);
    let text = String::from_utf8_lossy(name.bytes).into_owned();
    let unit_of = before
        .and_then(|before| before.value)
        .filter(|value| matches!(value.kind, TokenKind::Integer | TokenKind::Real) && is_unit(name.bytes));
    let hint = match unit_of {
        Some(number) if !equals => {
            let number = String::from_utf8_lossy(number.bytes);
            format!("Write number and unit together, or in quotes: {number}{text} or '{number} {text}'.")
        }
        None if is_word_for_unit(name.bytes) && follows_a_number(before) => {
            "Units are us, ms, s, min, h, d, and B, kB, MB, GB, TB. Write number and unit together: 5min.".to_owned()
        }
        _ if is_setting => "Write name = value; an empty text is ''.".to_owned(),
        // A lone unknown word is reported as an unknown name.
        _ => return,
    };
    line.statements.pop();
    line.slip = Some(Slip { start: name.start, kind: SlipKind::MissingValue(text), hint });
}

fn follows_a_number(before: Option<Statement<'_>>) -> bool {
    let value = before.and_then(|before| before.value);
    value.is_some_and(|value| matches!(value.kind, TokenKind::Integer | TokenKind::Real))
}

/// `minutes`, `secs`, `kb`: units as people write them.
fn is_word_for_unit(word: &[u8]) -> bool {
    let word = word.to_ascii_lowercase();
    let stem = word.strip_suffix(b"s").unwrap_or(&word);
    let stems: [&[u8]; 15] = [
        b"second",
        b"sec",
        b"millisecond",
        b"msec",
        b"minute",
        b"min",
        b"hour",
        b"hr",
        b"day",
        b"byte",
        b"b",
        b"kb",
        b"mb",
        b"gb",
        b"tb",
    ];
    stems.contains(&stem)
}

fn is_unit(word: &[u8]) -> bool {
    matches!(word, b"B" | b"kB" | b"MB" | b"GB" | b"TB" | b"us" | b"ms" | b"s" | b"min" | b"h" | b"d")
}

#[cfg(test)]
mod tests {
    use super::super::statement::parse;
    use super::*;

    fn slip(line: &str) -> Slip {
        let known: [&[u8]; 4] = [b"port", b"log_destination", b"work_dir", b"child_life_time"];
        parse(line.as_bytes(), |name| known.contains(&name)).slip.unwrap_or_else(|| panic!("no slip: {line}"))
    }

    #[test]
    fn well_known_slips_are_recognised() {
        let cases = [
            ("port = 9999 --- the port", 12, "A comment begins with #, not with --."),
            ("-- a comment of SQL", 0, "A comment begins with #, not with --."),
            ("// a comment of C", 0, "A comment begins with #, not with //."),
            ("; an ini comment", 0, "A comment begins with #, not with ;."),
            ("[pgpool]", 0, "There are no [sections]; leave the line out."),
            ("port = 9999;", 11, "Leave out the semicolon: a setting ends with its line."),
            ("work_dir = 'x", 11, "The closing quote is missing."),
            ("work_dir = \"x\"", 12, "Texts stand in single quotes."),
            ("port == 9999", 6, "Write one equal sign, or none, between name and value."),
            ("log_destination = stderr,syslog", 24, "Put the value in quotes: 'stderr,syslog'"),
            ("work_dir = /tmp/x # here", 12, "Put the value in quotes: '/tmp/x'"),
            ("Texto con, coma y punto.", 0, PROSE_HINT),
            ("port =", 0, "Write name = value; an empty text is ''."),
            (
                "child_life_time = 5 minutes",
                20,
                "Units are us, ms, s, min, h, d, and B, kB, MB, GB, TB. Write number and unit together: 5min.",
            ),
            ("child_life_time = 5 min", 20, "Write number and unit together, or in quotes: 5min or '5 min'."),
        ];
        for (line, start, hint) in cases {
            let slip = slip(line);
            assert_eq!((slip.start, slip.hint.as_str()), (start, hint), "{line}");
            assert!(!matches!(slip.kind, SlipKind::Prose(_)), "{line}");
        }
    }

    #[test]
    fn prose_without_punctuation_is_harmless() {
        assert_eq!(slip("esto no es un parametro").kind, SlipKind::Prose("esto".to_owned()));
        assert_eq!(slip("nor is this").kind, SlipKind::Prose("nor".to_owned()));
    }

    #[test]
    fn the_original_s_token_is_kept() {
        assert_eq!(slip("Texto con, coma").kind, SlipKind::Token(",".to_owned(), TokenKind::Other));
        assert_eq!(slip("port = 1 2").kind, SlipKind::Token("2".to_owned(), TokenKind::Integer));
    }
}
