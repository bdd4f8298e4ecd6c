//! What can be said about a text without a grammar.

/// How a text begins (routing 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// The text's very first byte; None for empty text.
    pub first: Option<u8>,
    /// The first byte that is not white space; None if there is none.
    pub first_visible: Option<u8>,
    /// Blanks aside, the text begins with a comment.
    pub comment: bool,
}

impl Lead {
    /// Looks at the beginning of `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        let visible = trim_space(text);
        Self {
            first: text.first().copied(),
            first_visible: visible.first().copied(),
            comment: visible.starts_with(b"--") || visible.starts_with(b"/*"),
        }
    }
}

/// The first word of `text` in upper case, for process titles: `SELECT`, `BEGIN`. Works on any bytes, and skips leading
/// blanks, comments and parentheses; empty if there is no word. At most 32 bytes long.
pub fn command_word(text: &[u8]) -> CommandWord {
    let mut rest = skip_ignored(text);
    while let [b'(' | b';', after @ ..] = rest {
        rest = skip_ignored(after);
    }
    let length = rest.iter().take(32).take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_').count();
    let mut word = CommandWord { bytes: [0; 32], length };
    word.bytes[..length].copy_from_slice(&rest[..length]);
    word.bytes[..length].make_ascii_uppercase();
    word
}

/// A word without memory of its own: one is made for every statement.
#[derive(Clone, Copy, Debug)]
pub struct CommandWord {
    bytes: [u8; 32],
    length: usize,
}

impl CommandWord {
    /// The word.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// `text` behind leading blanks and comments; a comment without end swallows the rest.
pub(super) fn skip_ignored(text: &[u8]) -> &[u8] {
    let mut rest = trim_space(text);
    loop {
        rest = match rest {
            [b'-', b'-', after @ ..] => {
                let line = memchr::memchr2(b'\n', b'\r', after).unwrap_or(after.len());
                trim_space(&after[line..])
            }
            [b'/', b'*', after @ ..] => trim_space(after_block_comment(after)),
            _ => return rest,
        };
    }
}

/// `text` begins inside a block comment; the rest behind its end. Block comments nest.
fn after_block_comment(text: &[u8]) -> &[u8] {
    let mut depth = 1usize;
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'*', b'/', rest) {
        rest = match rest[at..] {
            [b'*', b'/', ..] => {
                depth -= 1;
                if depth == 0 {
                    return &rest[at + 2..];
                }
                &rest[at + 2..]
            }
            [b'/', b'*', ..] => {
                depth += 1;
                &rest[at + 2..]
            }
            _ => &rest[at + 1..],
        };
    }
    &[]
}

/// `text` behind leading white space.
pub(super) fn trim_space(text: &[u8]) -> &[u8] {
    // The scanner's white space; Rust's lacks the vertical tab.
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'\x0b');
    let blanks = text.iter().take_while(|byte| is_space(byte)).count();
    &text[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_word_is_found_behind_blanks_comments_and_parentheses() {
        for (text, word) in [
            ("select 1", "SELECT"),
            (" \n /* a /* b */ c */ -- x\n  ((Select 1))", "SELECT"),
            ("bogus!", "BOGUS"),
            ("/* never closed", ""),
            ("-- only", ""),
            ("", ""),
            ("1 + 1", ""),
            ("; commit", "COMMIT"),
            ("\u{fc}ber", ""),
        ] {
            assert_eq!(command_word(text.as_bytes()).as_str(), word, "{text}");
        }
        assert_eq!(command_word(&[b'a'; 1000]).as_str().len(), 32);
    }

    #[test]
    fn the_lead_tells_blanks_from_comments() {
        let lead = Lead::of(b"  /* x */ select");
        assert_eq!((lead.first, lead.first_visible, lead.comment), (Some(b' '), Some(b'/'), true));
        let lead = Lead::of(b"- 1");
        assert_eq!((lead.first, lead.first_visible, lead.comment), (Some(b'-'), Some(b'-'), false));
        assert_eq!(Lead::of(b""), Lead::default());
    }
}
