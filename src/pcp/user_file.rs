//! pcp.conf: who may log in to PCP (pcp 2.4). Lines `user:md5 of the password`, read anew for every login.
//!
//! A line that is none is left out with a warning; in the original it can lock out the users behind it.

use crate::report::{Report, Result};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a line at most.
const MAX_LINE: usize = 128;
/// Bytes of the file at most that are read.
const MAX_FILE: u64 = 1 << 20;

/// The stored hashes of `user`; he may have several lines.
///
/// # Errors
/// The file cannot be read.
pub(super) fn hashes(path: &Path, user: &[u8]) -> Result<Vec<Vec<u8>>> {
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
        Report::warning(format!("line {number} of {} is not \"user:hash\" and is left out", path.display())).log();
    }
    Ok(found)
}

/// The hashes of `user`, and the numbers of the lines that are none.
fn find(bytes: &[u8], user: &[u8]) -> (Vec<Vec<u8>>, Vec<usize>) {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match line.iter().position(|byte| *byte == b':').filter(|_| line.len() <= MAX_LINE) {
            Some(colon) if line[..colon] == *user => found.push(line[colon + 1..].to_ascii_lowercase()),
            Some(_) => {}
            None => bad.push(index + 1),
        }
    }
    (found, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_found_whatever_stands_around_them() {
        let long = format!("{}:abc", "x".repeat(126));
        let file = format!("# ann:000\n\nann:0A1\nno colon\n{long}\nbob:2:3\r\nann:4 \n:5\nlast:6");
        let find = |user: &str| find(file.as_bytes(), user.as_bytes());
        assert_eq!(find("ann"), (vec![b"0a1".to_vec(), b"4".to_vec()], vec![4, 5]));
        assert_eq!(find("bob").0, [b"2:3"]);
        assert_eq!((find("").0, find("last").0), (vec![b"5".to_vec()], vec![b"6".to_vec()]));
        assert!(find("# ann").0.is_empty() && find(&"x".repeat(126)).0.is_empty() && find("an").0.is_empty());
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
