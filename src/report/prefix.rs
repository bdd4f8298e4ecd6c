//! `log_line_prefix`: parsed once, expanded for every log line (process-model 10.2).

use super::identity::Identity;
use chrono::{DateTime, Local};
use std::fmt::Write;

/// A parsed `log_line_prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LinePrefix(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Escape { letter: u8, left: bool, width: usize },
}

/// A width beyond this is somebody's slip, not a column.
const MAX_WIDTH: usize = 255;

impl LinePrefix {
    /// Parses `%[-][width]letter` escapes. Unknown letters are dropped with their `%`; a prefix that ends in `%` or in a
    /// width is cut there.
    pub fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            let left = chars.next_if_eq(&'-').is_some();
            let mut width = 0usize;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                width = (width * 10 + digit as usize - '0' as usize).min(MAX_WIDTH);
            }
            match chars.next() {
                Some('%') => literal.push('%'),
                Some(c @ ('a' | 'P' | 'u' | 'd' | 'p' | 'l' | 't' | 'm')) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Escape { letter: c as u8, left, width });
                }
                _ => {}
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Self(pieces)
    }

    pub(super) fn expand(&self, identity: &Identity, now: DateTime<Local>, line: u64, out: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Escape { letter, left, width } => {
                    let value = value_of(*letter, identity, now, line);
                    let _ = if *left { write!(out, "{value:<width$}") } else { write!(out, "{value:>width$}") };
                }
            }
        }
    }
}

fn value_of(letter: u8, identity: &Identity, now: DateTime<Local>, line: u64) -> String {
    let session_part = |part: fn(&(String, String)) -> &String| match identity.session.as_ref().map(part) {
        None => "[No Connection]".to_owned(),
        Some(name) if name.is_empty() => "[unknown]".to_owned(),
        Some(name) => name.clone(),
    };
    match letter {
        b'a' => identity.application.clone().unwrap_or_else(|| identity.process.to_owned()),
        b'P' => identity.label.to_owned(),
        b'u' => session_part(|session| &session.0),
        b'd' => session_part(|session| &session.1),
        b'p' => std::process::id().to_string(),
        b'l' => line.to_string(),
        b't' => now.format("%Y-%m-%d %H:%M:%S").to_string(),
        _ => now.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> String {
        let identity = Identity {
            process: "child",
            label: "CHILD",
            application: None,
            session: Some(("alice".into(), String::new())),
        };
        let mut out = String::new();
        LinePrefix::parse(text).expand(&identity, Local::now(), 7, &mut out);
        out
    }

    #[test]
    fn escapes_widths_and_slips() {
        assert_eq!(expand("%a|%P|%u|%d|%l|%%"), "child|CHILD|alice|[unknown]|7|%");
        assert_eq!(expand("[%8a][%-8a]"), "[   child][child   ]");
        assert_eq!(expand("x%zy%"), "xy");
        assert_eq!(expand("cut%-12"), "cut");
        assert_eq!(expand("%p"), std::process::id().to_string());
    }
}
