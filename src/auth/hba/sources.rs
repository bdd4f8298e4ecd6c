//! The files that rules were read from, as bytes.

use crate::state::parts;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
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
        let files = self.0.iter().flat_map(|(path, content)| [path.as_os_str().as_encoded_bytes(), content]);
        parts::join(&files.collect::<Vec<_>>())
    }

    /// The files of [`Sources::to_bytes`]. `None`: the bytes are something else, or none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let parts = parts::split(bytes)?;
        let (files, []) = parts.as_chunks() else { return None };
        let files = files.iter().map(|[path, content]| (PathBuf::from(OsStr::from_bytes(path)), content.to_vec()));
        Some(Self(files.collect())).filter(|sources| !sources.0.is_empty())
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
