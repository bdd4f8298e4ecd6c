//! The attributes of SCRAM messages, `x=value` with commas between them.

use crate::report::{Report, SqlState};

/// Who has sent the message, for its errors.
pub(super) fn malformed(detail: impl Into<String>) -> Report {
    Report::fatal("malformed SCRAM message").detail(detail).code(SqlState::PROTOCOL_VIOLATION)
}

/// A message being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(&'a str);

impl<'a> Attributes<'a> {
    /// Of a whole message (auth 14.1).
    pub fn new(message: &'a [u8]) -> Result<Self, Report> {
        if message.is_empty() {
            return Err(malformed("The message is empty."));
        }
        if message.contains(&0) {
            return Err(malformed("Message length does not match input length."));
        }
        std::str::from_utf8(message).map(Self).map_err(|_| malformed("The message is not in UTF-8."))
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a str {
        self.0
    }

    /// Takes `count` bytes that have been looked at.
    pub fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    /// The value of the attribute `name`, which must come next, and the comma behind it.
    pub fn value(&mut self, name: char) -> Result<&'a str, Report> {
        match self.0.chars().next() {
            Some(found) if found == name => {}
            found => {
                let found = found.map_or_else(String::new, |found| found.escape_default().to_string());
                return Err(malformed(format!("Expected attribute \"{name}\" but found \"{found}\".")));
            }
        }
        let Some(value) = self.0[name.len_utf8()..].strip_prefix('=') else {
            return Err(malformed(format!("Expected character \"=\" for attribute \"{name}\".")));
        };
        Ok(self.up_to_comma(value))
    }

    /// The next attribute, whatever it is, and the comma behind it. `None`: the message ends here.
    pub fn any(&mut self) -> Result<Option<(char, &'a str)>, Report> {
        let Some(name) = self.0.chars().next() else { return Ok(None) };
        if !name.is_ascii_alphabetic() {
            let found = name.escape_default();
            return Err(malformed(format!("Attribute expected, but found invalid character \"{found}\".")));
        }
        self.value(name).map(|value| Some((name, value)))
    }

    fn up_to_comma(&mut self, value: &'a str) -> &'a str {
        let (value, rest) = value.split_once(',').unwrap_or((value, ""));
        self.0 = rest;
        value
    }
}

/// A nonce may hold anything printable but a comma.
pub(super) fn check_nonce(nonce: &str) -> Result<(), Report> {
    if nonce.is_empty() || !nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b',') {
        return Err(Report::fatal("non-printable characters in SCRAM nonce").code(SqlState::PROTOCOL_VIOLATION));
    }
    Ok(())
}
