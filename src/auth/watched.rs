//! A file whose content is looked at anew whenever it has changed, without anybody having to say so.

use crate::report::Report;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The longest file that is read, in bytes.
const MAX_LENGTH: u64 = 64 << 20;
/// A file changed less than this before it was read may change again without looking different.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What was made of a file.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    read: fn(&[u8]) -> T,
    stamp: Option<Stamp>,
    value: T,
    /// The file could not be read, and the log knows, or need not know.
    is_missing: bool,
    is_optional: bool,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl<T: Default> Watched<T> {
    /// Of the file at `path`, of whose content `read` makes the value.
    pub fn new(path: &Path, read: fn(&[u8]) -> T) -> Self {
        Self { path: path.to_owned(), read, stamp: None, value: T::default(), is_missing: false, is_optional: false }
    }

    /// The same, of a file that need not be there.
    pub fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// The value of the file as it is now. A file that cannot be read is as good as empty; the log is told once.
    pub fn get(&mut self) -> &T {
        if self.path.as_os_str().is_empty() {
            return &self.value;
        }
        let now = fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata));
        if !matches!((&now, self.stamp), (Ok(now), Some(known)) if *now == known) {
            match self.load() {
                Ok(()) => self.is_missing = false,
                Err(error) => self.lose(&error),
            }
        }
        &self.value
    }

    /// The value as it was when it was looked at last.
    pub fn last(&self) -> &T {
        &self.value
    }

    fn load(&mut self) -> io::Result<()> {
        let file = fs::File::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.len() > MAX_LENGTH {
            return Err(io::Error::other("the file is too long"));
        }
        let mut content = Vec::new();
        file.take(MAX_LENGTH).read_to_end(&mut content)?;
        self.value = (self.read)(&content);
        content.fill(0);
        std::hint::black_box(&content);
        let settled = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .is_some_and(|age| age >= UNSETTLED);
        self.stamp = settled.then(|| Stamp::of(&metadata));
        Ok(())
    }

    fn lose(&mut self, error: &io::Error) {
        self.stamp = None;
        self.value = T::default();
        if !self.is_missing && !self.is_optional {
            Report::warning(format!("could not read file \"{}\"", self.path.display()))
                .detail(error.to_string())
                .hint("Until it can be read, nothing in it counts.")
                .log();
        }
        self.is_missing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen() {
        let directory = std::env::temp_dir().join(format!("pgpool-watched-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let (path, other) = (directory.join("file"), directory.join("other"));
        let mut watched = Watched::new(&path, |bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(watched.get(), "");
        fs::write(&path, "one").expect("write");
        assert_eq!(watched.get(), "one");
        // The same length, at once.
        fs::write(&path, "two").expect("write");
        assert_eq!(watched.get(), "two");
        // An old file, which could look settled, takes its place.
        fs::write(&other, "six").expect("write");
        fs::File::options()
            .write(true)
            .open(&other)
            .and_then(|file| file.set_modified(SystemTime::now() - Duration::from_secs(100)))
            .expect("old");
        fs::rename(&other, &path).expect("rename");
        assert_eq!(watched.get(), "six");
        assert!(watched.stamp.is_some() && watched.get() == "six");
        fs::remove_file(&path).expect("remove");
        assert_eq!(watched.get(), "");
        fs::remove_dir_all(&directory).expect("clean up");
    }
}
