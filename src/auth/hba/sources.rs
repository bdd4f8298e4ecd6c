//! The files that rules were read from, as bytes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The bit of a mode that lets everybody read.
const OTHERS_READ: u32 = 0o004;

/// Files with their contents, in the order read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<(PathBuf, Vec<u8>)>);

impl Sources {
    /// These files.
    pub fn new(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        Self(files.into_iter().collect())
    }

    /// Reads a file, and keeps it.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let content = std::fs::read(path)?;
        if self.get(path).is_err() {
            self.0.push((path.to_owned(), content.clone()));
        }
        Ok(content)
    }

    /// A file read before.
    pub(super) fn get(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.0.iter().find(|(known, _)| known == path);
        found.map(|(_, content)| content.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// One that every user of this machine may read.
    pub(super) fn open_to_all(&self) -> Option<&Path> {
        let is_open = |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & OTHERS_READ != 0);
        self.0.iter().map(|(path, _)| path.as_path()).find(|path| is_open(path))
    }

    /// The file that the others are included in.
    pub fn main(&self) -> Option<&Path> {
        self.0.first().map(|(path, _)| path.as_path())
    }

    /// All of it as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, content) in &self.0 {
            for part in [path.as_os_str().as_encoded_bytes(), content] {
                bytes.extend((part.len() as u64).to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    /// The files of [`Sources::to_bytes`]. `None`: the bytes are something else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let mut next = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
            bytes = rest;
            Some((part.to_vec(), rest.is_empty()))
        };
        let mut files = Vec::new();
        loop {
            let (path, _) = next()?;
            let (content, is_last) = next()?;
            files.push((PathBuf::from(OsStr::from_bytes(&path)), content));
            if is_last {
                return Some(Self(files));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let sources = Sources(vec![("/a".into(), b"one".to_vec()), ("/b/c".into(), Vec::new())]);
        assert_eq!(Sources::from_bytes(&sources.to_bytes()), Some(sources.clone()));
        let bytes = sources.to_bytes();
        assert!((0..bytes.len()).all(|end| Sources::from_bytes(&bytes[..end]) != Some(sources.clone())));
        assert_eq!(Sources::from_bytes(&[255; 40]), None);
    }
}
