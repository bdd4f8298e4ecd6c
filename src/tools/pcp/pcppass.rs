//! The password file `.pcppass` (pcp 8.3): lines `host:port:user:password`.

use super::SOCKET_DIRECTORY;
use crate::tools::{account, complain};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The password for `user` at `host`, which is empty if none was given. A file that others could read is not used, and
/// that is told on stderr.
pub(super) fn look_up(host: &str, port: u16, user: &[u8]) -> Option<Vec<u8>> {
    let path = path()?;
    let metadata = fs::metadata(&path).ok()?;
    if !metadata.is_file() {
        complain(format!("WARNING: password file \"{}\" is not a plain file\n", path.display()));
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        complain(format!(
            "WARNING: password file \"{}\" has group or world access; permissions should be u=rw (0600) or less\n",
            path.display()
        ));
        return None;
    }
    find(&fs::read(&path).ok()?, host, port, user)
}

fn path() -> Option<PathBuf> {
    match std::env::var_os("PCPPASSFILE").filter(|path| !path.is_empty()) {
        Some(path) => Some(path.into()),
        None => Some(account::home()?.join(".pcppass")),
    }
}

/// The password of the first line of `file` that matches.
fn find(file: &[u8], host: &str, port: u16, user: &[u8]) -> Option<Vec<u8>> {
    if user.is_empty() {
        return None;
    }
    let host = if host.is_empty() || host == SOCKET_DIRECTORY { "localhost" } else { host };
    let wanted = [host.as_bytes(), port.to_string().as_bytes(), user].map(<[u8]>::to_vec);
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let mut rest = line;
        for wanted in &wanted {
            let (raw, field) = take_field(&mut rest)?;
            (raw == b"*" || field == *wanted).then_some(())?;
        }
        Some(unescaped(rest).1)
    })
}

/// Takes a field and its colon from the front of `line`: as it is written, and as it is meant. `None` without a colon.
fn take_field<'a>(line: &mut &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
    let (length, field) = unescaped(line);
    let raw = &line[..length];
    *line = line[length..].strip_prefix(b":")?;
    Some((raw, field))
}

/// The text up to an unescaped colon, without its backslashes, and how long it is with them.
fn unescaped(text: &[u8]) -> (usize, Vec<u8>) {
    let mut field = Vec::new();
    let mut at = 0;
    while at < text.len() && text[at] != b':' {
        // A backslash at the very end stands for itself.
        if text[at] == b'\\' && at + 1 < text.len() {
            at += 1;
        }
        field.push(text[at]);
        at += 1;
    }
    (at, field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn password(file: &str, host: &str, user: &str) -> Option<String> {
        find(file.as_bytes(), host, 9898, user.as_bytes()).map(|found| String::from_utf8(found).expect("text"))
    }

    #[test]
    fn the_first_line_that_matches() {
        let file = "# hosts\nother:9898:joe:no\ndb:9898:joe:one\ndb:*:*:two\n*:9898:ann:three\n";
        assert_eq!(password(file, "db", "joe").as_deref(), Some("one"));
        assert_eq!(password(file, "db", "max").as_deref(), Some("two"));
        assert_eq!(password(file, "elsewhere", "ann").as_deref(), Some("three"));
        assert_eq!(password(file, "elsewhere", "joe"), None);
        assert_eq!(password("*:*:*:x", "db", ""), None);
    }

    #[test]
    fn no_host_and_the_default_directory_are_localhost() {
        let file = "localhost:9898:joe:here\n/run:9898:joe:there";
        assert_eq!(password(file, "", "joe").as_deref(), Some("here"));
        assert_eq!(password(file, "/tmp", "joe").as_deref(), Some("here"));
        assert_eq!(password(file, "/run", "joe").as_deref(), Some("there"));
        assert_eq!(password(file, "127.0.0.1", "joe"), None);
    }

    #[test]
    fn backslashes_and_ends() {
        assert_eq!(password(r"\:\:1:9898:a\\b:p\:q\r:rest", "::1", r"a\b").as_deref(), Some("p:qr"));
        assert_eq!(password(r"*:*:*:end\", "db", "joe").as_deref(), Some(r"end\"));
        assert_eq!(password("*:*:*:", "db", "joe").as_deref(), Some(""));
        // An escaped star is a star.
        assert_eq!(password(r"\*:*:*:x", "db", "joe"), None);
        for short in ["", "*", "*:*", "*:*:*", "db:9898:joe"] {
            assert_eq!(password(short, "db", "joe"), None, "{short}");
        }
    }

    fn escaped(text: &str) -> String {
        text.replace('\\', r"\\").replace(':', r"\:")
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_found_again(host in "[a-z:\\\\*/]{1,8}", user in "[a-z:\\\\*]{1,8}", secret in "[a-z:\\\\*]{0,8}") {
            prop_assume!(host != SOCKET_DIRECTORY);
            let line = format!("{}:9898:{}:{}\n", escaped(&host), escaped(&user), escaped(&secret));
            prop_assert_eq!(password(&line, &host, &user), Some(secret.clone()));
            // A star matches everything, so only others can be told apart.
            prop_assume!(user != "*");
            prop_assert_eq!(password(&line, &host, &format!("{user}x")), None);
        }

        #[test]
        fn no_file_harms(file: Vec<u8>, host: String, user: Vec<u8>) {
            find(&file, &host, 9898, &user);
        }
    }
}
