//! Lines to fields to tokens (auth 3.2).

use super::rules::{Slips, cause};
use crate::report::Report;
use std::fmt;
use std::io;
use std::path::Path;

/// The longest line, its end included, in bytes.
const MAX_LINE: usize = 8191;
/// The longest token in bytes.
const MAX_TOKEN: usize = 255;
/// The longest name of an option that is shown, in bytes.
const MAX_SHOWN: usize = 30;
/// How deep files may include each other.
const MAX_DEPTH: usize = 10;
/// How many may be included in all: files that include themselves many times are not read for ever.
const MAX_INCLUDED: usize = 1000;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub text: Vec<u8>,
    /// Begins with a quote: a keyword loses its meaning.
    pub quoted: bool,
}

impl Token {
    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword.as_bytes()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

/// A line that holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub number: usize,
    pub fields: Vec<Vec<Token>>,
}

/// Takes the files apart.
pub(super) struct Tokenizer<'a> {
    /// How files are read.
    pub read: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    pub slips: &'a mut Slips,
    /// Files included so far.
    pub included: usize,
}

impl Tokenizer<'_> {
    /// The lines of the file at `path`, of this content.
    pub fn lines(&mut self, path: &Path, content: &[u8], depth: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let number = number + 1;
            if line.len() >= MAX_LINE {
                self.slip(path, number, Report::log_line("authentication file line too long"));
                continue;
            }
            let fields = self.fields(path, number, line, depth);
            if !fields.is_empty() {
                lines.push(Line { number, fields });
            }
        }
        lines
    }

    fn fields(&mut self, path: &Path, number: usize, line: &[u8], depth: usize) -> Vec<Vec<Token>> {
        let mut fields = Vec::new();
        for words in split(line) {
            let mut field = Vec::new();
            for Word { token, .. } in &words {
                if token.text.len() > MAX_TOKEN {
                    self.slip(path, number, too_long(token));
                } else if !token.quoted && token.text.len() > 1 && token.text[0] == b'@' {
                    field.extend(self.included(path, number, token, depth));
                } else {
                    field.push(token.clone());
                }
            }
            fields.push(field);
        }
        // An included file may be empty; a field then has no token.
        fields.retain(|field| !field.is_empty());
        fields
    }

    /// All tokens of the file that `token` names.
    fn included(&mut self, path: &Path, number: usize, token: &Token, depth: usize) -> Vec<Token> {
        let name = String::from_utf8_lossy(&token.text[1..]).into_owned();
        let full = path.parent().unwrap_or(Path::new("/")).join(&name);
        let failed = |why: &str| {
            let place = full.display();
            Report::log_line(format!("could not open secondary authentication file \"@{name}\" as \"{place}\": {why}"))
        };
        self.included += 1;
        if self.included > MAX_INCLUDED {
            // Said once; nothing of the file is taken.
            if self.included == MAX_INCLUDED + 1 {
                self.slip(path, number, failed("too many files are included"));
            }
            return Vec::new();
        }
        if depth >= MAX_DEPTH {
            self.slip(path, number, failed("files include each other too deeply"));
            return Vec::new();
        }
        match (self.read)(&full) {
            Ok(content) => {
                let lines = self.lines(&full, &content, depth + 1);
                lines.into_iter().flat_map(|line| line.fields).flatten().collect()
            }
            Err(error) => {
                self.slip(path, number, failed(&cause(&error)));
                Vec::new()
            }
        }
    }

    fn slip(&mut self, path: &Path, number: usize, report: Report) {
        self.slips.add(path, number, report);
    }
}

/// It may hold a password: only the name of an option is shown.
fn too_long(token: &Token) -> Report {
    let length = token.text.len();
    let text = token.to_string();
    let shown = match text.split_once('=') {
        Some((name, _)) if name.len() <= MAX_SHOWN => format!("\"{name}=...\", of {length} bytes"),
        _ => format!("{length} bytes"),
    };
    Report::log_line(format!("authentication file token too long, skipping: {shown}"))
}

/// A token, and whether a comma follows.
struct Word {
    token: Token,
    goes_on: bool,
}

/// The fields of a line: lists of tokens.
fn split(line: &[u8]) -> Vec<Vec<Word>> {
    let mut fields: Vec<Vec<Word>> = Vec::new();
    let mut rest = line;
    while let Some(word) = word(&mut rest) {
        match fields.last_mut() {
            Some(field) if field.last().is_some_and(|last| last.goes_on) => field.push(word),
            _ => fields.push(vec![word]),
        }
    }
    fields
}

/// The next token of a line.
fn word(rest: &mut &[u8]) -> Option<Word> {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r');
    let begin = rest.iter().position(|byte| !is_blank(*byte) && *byte != b',')?;
    let (mut text, mut quotes, mut in_quotes, mut goes_on) = (Vec::new(), 0, false, false);
    let quoted = rest[begin] == b'"';
    let mut at = begin;
    while let Some(byte) = rest.get(at).copied() {
        at += 1;
        match byte {
            b'"' if in_quotes => in_quotes = false,
            b'"' => {
                // A quote right behind a closing one stands for itself.
                if quotes > 0 && rest[at - 2] == b'"' {
                    text.push(b'"');
                }
                quotes += 1;
                in_quotes = true;
            }
            byte if in_quotes => text.push(byte),
            b'#' => {
                at = rest.len();
                break;
            }
            b',' => {
                goes_on = true;
                break;
            }
            byte if is_blank(byte) => break,
            byte => text.push(byte),
        }
    }
    *rest = &rest[at..];
    if text.is_empty() && quotes == 0 {
        return None;
    }
    Some(Word { token: Token { text, quoted }, goes_on })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a line, written as `token token|token`; quoted ones in quotes.
    fn shape(line: &str) -> String {
        let token = |word: &Word| match word.token.quoted {
            true => format!("\"{}\"", word.token),
            false => word.token.to_string(),
        };
        let field = |words: &Vec<Word>| words.iter().map(token).collect::<Vec<_>>().join(" ");
        split(line.as_bytes()).iter().map(field).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn fields_and_tokens() {
        for (line, expected) in [
            ("host all all 10.0.0.0/8 md5", "host|all|all|10.0.0.0/8|md5"),
            ("  local\tall   a, b ,c trust\r", "local|all|a b|c|trust"),
            (",a,,b,", "a b"),
            ("", ""),
            ("   # comment", ""),
            ("foo#bar baz", "foo"),
            (r#""a b,#c" x"#, r#""a b,#c"|x"#),
            (r#""" x"#, r#"""|x"#),
            (r#""a""b" c"#, r#""a"b"|c"#),
            (r#"a"b c"d"#, "ab cd"),
            (r#"x="a b""#, "x=a b"),
            (r#""open to the end"#, r#""open to the end""#),
            (r#"@"a file""#, "@a file"),
            (r#""@file""#, r#""@file""#),
        ] {
            assert_eq!(shape(line), expected, "{line}");
        }
    }
}
