//! The lines of pool_passwd (auth 4.2): `user:password`, a backslash takes away the meaning of what follows it.

use super::super::Secret;
use std::collections::HashMap;

/// What stands in the file: the text of each user's entry.
#[derive(Debug, Default)]
pub struct Table(HashMap<Vec<u8>, Secret>);

impl Table {
    /// Reads a whole file. The first entry of a user counts; one without a password is none. What cannot be an entry is
    /// left out, as always.
    pub fn parse(content: &[u8]) -> Self {
        let mut table = HashMap::new();
        for line in content.split(|byte| *byte == b'\n') {
            if let Some((user, password)) = parse_line(line) {
                table.entry(user).or_insert_with(|| Secret::new(password));
            }
        }
        Self(table)
    }

    /// The text of a user's entry.
    pub fn get(&self, user: &[u8]) -> Option<&Secret> {
        self.0.get(user)
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// User and password of a line, unescaped.
fn parse_line(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (user, rest) = field(line);
    let (mut password, mut rest) = field(rest?);
    // The colons of a verifier are its own (auth 14.5).
    if password.starts_with(b"SCRAM-SHA-256$") {
        for _ in 0..2 {
            let Some(more) = rest.filter(|_| password.iter().filter(|byte| **byte == b':').count() < 2) else { break };
            let (part, behind) = field(more);
            password.push(b':');
            password.extend_from_slice(&part);
            rest = behind;
        }
    }
    (!password.is_empty()).then_some((user, password))
}

/// The field at the beginning of `text`, unescaped, and what follows its colon. `None`: no colon ends it.
pub(super) fn field(text: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b':' => return (value, Some(&text[at + 1..])),
            b'\\' => value.extend(bytes.next().map(|(_, escaped)| *escaped)),
            byte => value.push(*byte),
        }
    }
    (value, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(content: &str, user: &str) -> Option<String> {
        Table::parse(content.as_bytes())
            .get(user.as_bytes())
            .map(|text| String::from_utf8_lossy(text.bytes()).into_owned())
    }

    #[test]
    fn lines_as_in_the_reference() {
        for (content, user, password) in [
            ("u:secret", "u", Some("secret")),
            ("a:1\nu:2\nu:3\n", "u", Some("2")),
            ("u:\nu:later\n", "u", Some("later")),
            (" u:p \r\n", " u", Some("p \r")),
            (" u:p\n", "u", None),
            ("#u:p\n", "#u", Some("p")),
            (r"a\:b:c\:d\\e\f", "a:b", Some(r"c:d\ef")),
            ("u:p:backend:other\n", "u", Some("p")),
            ("u\nv:p", "u", None),
            ("u:p\\", "u", Some("p")),
            (":p", "", Some("p")),
            ("", "u", None),
            ("u:SCRAM-SHA-256$1:salt$stored:server", "u", Some("SCRAM-SHA-256$1:salt$stored:server")),
            (r"u:SCRAM-SHA-256$1\:salt$stored\:server:x:y", "u", Some("SCRAM-SHA-256$1:salt$stored:server")),
            ("u:SCRAM-SHA-256$1:salt$stored:server:x:y", "u", Some("SCRAM-SHA-256$1:salt$stored:server")),
            ("u:SCRAM-SHA-256$1", "u", Some("SCRAM-SHA-256$1")),
        ] {
            assert_eq!(get(content, user).as_deref(), password, "{content:?}");
        }
    }

    #[test]
    fn lines_and_passwords_may_be_long() {
        let long = "x".repeat(10_000);
        assert_eq!(get(&format!("{long}:p\nu:{long}\n"), "u"), Some(long));
    }
}
