//! Writing an entry of pool_passwd (auth 4.7).

use super::line::field;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Makes `entry` the entry of `user` in the file at `path`, which is made if it is missing, for its owner alone.
///
/// Whoever reads the file meanwhile sees it as it was or as it will be. Only where the directory does not allow that, it
/// is written in place. Mode and owner stay.
///
/// # Errors
/// The file cannot be read or written, or the name or the entry has more than one line.
pub fn set(path: &Path, user: &[u8], entry: &[u8]) -> io::Result<()> {
    if user.contains(&b'\n') || entry.contains(&b'\n') {
        return Err(io::Error::new(ErrorKind::InvalidInput, "an entry must be one line"));
    }
    // Behind a link is the file that is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let content = match fs::read(&path) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let changed = with_entry(content.as_deref().unwrap_or_default(), user, entry);
    match replace(&path, content.is_some(), &changed) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied && content.is_some() => fs::write(&path, changed),
        outcome => outcome,
    }
}

/// Writes another file and gives it the name of the first.
fn replace(path: &Path, exists: bool, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let other = path.with_file_name(name);
    let written = write_as(&other, exists.then_some(path), content).and_then(|()| fs::rename(&other, path));
    if written.is_err() {
        let _ = fs::remove_file(other);
    }
    written
}

/// Writes a new file with mode and owner of `model`.
fn write_as(path: &PathBuf, model: Option<&Path>, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(model) = model {
        let model = fs::metadata(model)?;
        let made = file.metadata()?;
        if (model.uid(), model.gid()) != (made.uid(), made.gid()) {
            fchown(&file, Some(model.uid()), Some(model.gid()))?;
        }
        file.set_permissions(model.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

/// The file with this entry: in the place of the user's first, else at the end. All else stays byte for byte.
fn with_entry(content: &[u8], user: &[u8], entry: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    for byte in user {
        if matches!(byte, b':' | b'\\') {
            line.push(b'\\');
        }
        line.push(*byte);
    }
    line.push(b':');
    line.extend_from_slice(entry);
    line.push(b'\n');
    let mut changed = Vec::with_capacity(content.len() + line.len() + 1);
    let mut rest = content;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (old, behind) = rest.split_at(end);
        if matches!(field(old), (name, Some(_)) if name == user) {
            return [&changed, line.as_slice(), behind].concat();
        }
        changed.extend_from_slice(old);
        rest = behind;
    }
    if !changed.is_empty() && !changed.ends_with(b"\n") {
        changed.push(b'\n');
    }
    changed.extend(line);
    changed
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn changed(content: &str, user: &str) -> String {
        String::from_utf8(with_entry(content.as_bytes(), user.as_bytes(), b"new")).expect("text")
    }

    #[test]
    fn an_entry_is_replaced_or_appended() {
        assert_eq!(changed("", "joe"), "joe:new\n");
        assert_eq!(changed("a:1\njoe:2\nb:3", "joe"), "a:1\njoe:new\nb:3");
        assert_eq!(changed("a:1\njoe:2", "joe"), "a:1\njoe:new\n");
        assert_eq!(changed("a:1\n\nno colon", "joe"), "a:1\n\nno colon\njoe:new\n");
        // The first one counts.
        assert_eq!(changed("joe:1\njoe:2\n", "joe"), "joe:new\njoe:2\n");
        assert_eq!(changed("a\\:b:1\na:b\n", "a:b"), "a\\:b:new\na:b\n");
        assert_eq!(changed("", "a\\b"), "a\\\\b:new\n");
        assert_eq!(changed("joe\n", "joe"), "joe\njoe:new\n");
    }

    #[test]
    fn mode_and_links_stay() {
        let directory = std::env::temp_dir().join(format!("pgpool-set-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let (path, link) = (directory.join("pool_passwd"), directory.join("link"));
        let mode = || fs::metadata(&path).expect("there").mode() & 0o777;
        set(&path, b"joe", b"one").expect("made");
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        set(&link, b"ann", b"two").expect("changed");
        assert_eq!((fs::read(&path).expect("read"), mode()), (b"joe:one\nann:two\n".to_vec(), 0o640));
        assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
        assert_eq!(fs::read_dir(&directory).expect("list").count(), 2, "nothing else is left");
        set(&path, b"two\nlines", b"one").expect_err("two lines");
        set(&directory.join("no/file"), b"joe", b"one").expect_err("no directory");
        fs::remove_dir_all(&directory).expect("clean up");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content: Vec<u8>, user in "[a-z:\\\\ ]{0,6}", others in "[a-z:\\\\ \n]{0,40}") {
            for content in [&content[..], others.as_bytes()] {
                let changed = with_entry(content, user.as_bytes(), b"md5x");
                let table = Table::parse(&changed);
                // An older entry without a password is none, so it may be another line that was replaced.
                let found = table.get(user.as_bytes()).map(|text| text.bytes().to_vec());
                prop_assert_eq!(found, Some(b"md5x".to_vec()));
            }
        }
    }
}
