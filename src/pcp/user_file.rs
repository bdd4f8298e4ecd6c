//! pcp.conf: who may log in to PCP (pcp 2.4). Lines `user:md5 of the password`, read anew for every login.
//!
//! A line that is none is left out with a warning; in the original it can lock out the users behind it. So is one whose
//! hash is none: an empty one would let everybody in who knows the name.

use crate::report::{Report, Result};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a line at most.
const MAX_LINE: usize = 128;
/// Bytes of the file at most that are read.
const MAX_FILE: u64 = 1 << 20;

/// MD5 of a password, as 32 digits in lower case.
pub(super) type Hash = [u8; 32];

/// The stored hashes of `user`; he may have several lines.
///
/// # Errors
/// The file cannot be read.
pub(super) fn hashes(path: &Path, user: &[u8]) -> Result<Vec<Hash>> {
    let mut bytes = Vec::new();
    // A pipe without a writer must not hold anybody up.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(|error| {
        Report::fatal("failed to authenticate PCP user")
            .detail(format!("could not open {}. reason: {error}", path.display()))
            .hint("Write pcp.conf (pg_md5 makes the hash), and let the user that runs pgpool read it.")
    })?;
    let (found, bad) = find(&bytes, user);
    for number in bad {
        Report::warning(format!("line {number} of {} is not \"user:hash\" and is left out", path.display()))
            .hint("pg_md5 makes the hash, which has 32 hexadecimal digits.")
            .log();
    }
    Ok(found)
}

/// The hashes of `user`, and the numbers of the lines that are none.
fn find(bytes: &[u8], user: &[u8]) -> (Vec<Hash>, Vec<usize>) {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match entry(line) {
            Some((name, hash)) if name == user => found.push(hash),
            Some(_) => {}
            None => bad.push(index + 1),
        }
    }
    (found, bad)
}

/// User and hash of a line.
fn entry(line: &[u8]) -> Option<(&[u8], Hash)> {
    let colon = line.iter().position(|byte| *byte == b':').filter(|_| line.len() <= MAX_LINE)?;
    let hash: Hash = line[colon + 1..].to_ascii_lowercase().try_into().ok()?;
    hash.iter().all(u8::is_ascii_hexdigit).then_some((&line[..colon], hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_found_whatever_stands_around_them() {
        let hash = |digit: &str| digit.repeat(32);
        let long = format!("{}:{}", "x".repeat(96), hash("0"));
        let file = format!(
            "# ann:{0}\n\nann:{1}\nno colon\n{long}\nbob:{2}\r\nann:{3} \n:{4}\nlast:{5}",
            hash("0"),
            hash("A"),
            hash("2"),
            hash("3"),
            hash("4"),
            hash("5"),
        );
        let find = |user: &str| find(file.as_bytes(), user.as_bytes());
        assert_eq!(find("ann"), (vec![[b'a'; 32], [b'3'; 32]], vec![4, 5]));
        assert_eq!((find("bob").0, find("").0, find("last").0), (vec![[b'2'; 32]], vec![[b'4'; 32]], vec![[b'5'; 32]]));
        assert!(find("# ann").0.is_empty() && find(&"x".repeat(96)).0.is_empty() && find("an").0.is_empty());
    }

    #[test]
    fn what_is_no_hash_lets_nobody_in() {
        let digits = "0123456789abcdef0123456789abcde";
        for none in ["", "   ", "secret", digits, &format!("{digits}g"), &format!("{digits}00"), &format!("{digits}0:")]
        {
            assert_eq!(find(format!("ann:{none}\n").as_bytes(), b"ann"), (vec![], vec![1]), "{none}");
        }
    }

    #[test]
    fn without_a_file_nobody_gets_in() {
        let report = hashes(Path::new("/nowhere/pcp.conf"), b"ann").expect_err("no file");
        assert_eq!(report.message, "failed to authenticate PCP user");
        assert!(report.detail.is_some_and(|detail| detail.starts_with("could not open /nowhere/pcp.conf. reason: ")));
    }

    proptest! {
        #[test]
        fn any_file_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..2000), user: Vec<u8>) {
            let (found, bad) = find(&bytes, &user);
            prop_assert!(found.len() + bad.len() <= bytes.split(|byte| *byte == b'\n').count());
        }
    }
}
