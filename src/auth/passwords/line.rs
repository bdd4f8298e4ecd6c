//! The lines of pool_passwd (auth 4.2): `user:password`, a backslash takes away the meaning of what follows it.

use super::super::Secret;
use super::super::scram::Verifier;
use std::collections::HashMap;

/// What stands in the file.
#[derive(Debug, Default)]
pub struct Table {
    /// The text of each user's entry.
    texts: HashMap<Vec<u8>, Secret>,
    usual_iterations: Option<u32>,
}

impl Table {
    /// Reads a whole file. The first entry of a user counts; one without a password is none. What cannot be an entry is
    /// left out, as always.
    pub fn parse(content: &[u8]) -> Self {
        let mut texts = HashMap::new();
        for line in content.split(|byte| *byte == b'\n') {
            if let Some((user, password)) = parse_line(line) {
                texts.entry(user).or_insert_with(|| Secret::new(password));
            }
        }
        let usual_iterations = usual_iterations(texts.values());
        Self { texts, usual_iterations }
    }

    /// The number of iterations that most of its verifiers have.
    pub fn usual_iterations(&self) -> Option<u32> {
        self.usual_iterations
    }

    /// The text of a user's entry.
    pub fn get(&self, user: &[u8]) -> Option<&Secret> {
        self.texts.get(user)
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// Of as many, the greater number.
fn usual_iterations<'a>(texts: impl Iterator<Item = &'a Secret>) -> Option<u32> {
    let mut counts = HashMap::<u32, usize>::new();
    for verifier in texts.filter_map(|text| Verifier::parse(text.bytes())) {
        *counts.entry(verifier.iterations()).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(iterations, count)| (*count, *iterations)).map(|(iterations, _)| iterations)
}

/// User and password of a line, unescaped.
pub(super) fn parse_line(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
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
    fn most_verifiers_tell_how_many_iterations_are_usual() {
        let keys = "$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let line = |user: usize, iterations: u32| format!("u{user}:SCRAM-SHA-256${iterations}:c2FsdA=={keys}\n");
        let usual = |iterations: &[u32]| {
            let lines = iterations.iter().enumerate().map(|(user, iterations)| line(user, *iterations));
            Table::parse((lines.collect::<String>() + "x:secret\n").as_bytes()).usual_iterations()
        };
        assert_eq!((usual(&[]), usual(&[4096]), usual(&[10, 4096, 10])), (None, Some(4096), Some(10)));
        assert_eq!(usual(&[1, 3, 2]), Some(3));
    }

    #[test]
    fn lines_and_passwords_may_be_long() {
        let long = "x".repeat(10_000);
        assert_eq!(get(&format!("{long}:p\nu:{long}\n"), "u"), Some(long));
    }
}
