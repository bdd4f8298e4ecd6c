//! Log files: their names, and writing to them (process-model 10.6).

use crate::config::Settings;
use chrono::{DateTime, Local};
use nix::sys::stat::{Mode, umask};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The link to the file that is written to.
const LINK: &str = "current";
/// The clock of files may be so much behind.
const CLOCKS: Duration = Duration::from_secs(1);

/// The file of `log_directory` and `log_filename` for this time. A pattern that is none is a name as it stands.
pub fn name(settings: &Settings, time: DateTime<Local>) -> PathBuf {
    let mut name = String::new();
    if write!(name, "{}", time.format(&settings.log_filename)).is_err() {
        name.clone_from(&settings.log_filename);
    }
    Path::new(&settings.log_directory).join(name)
}

/// A log file that is written to.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// The last line was written in part.
    is_cut: bool,
}

impl LogFile {
    /// Opens `path`, and makes its directory if only that is missing. An existing file goes on growing, unless it was written
    /// to last before the time `outdated`: then it is truncated. What was written since is of another pgpool, which is
    /// replaced by this one or replaces it.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn open(path: PathBuf, settings: &Settings, outdated: Option<DateTime<Local>>) -> io::Result<Self> {
        if let Some(directory) = path.parent()
            && let Err(error) = DirBuilder::new().mode(0o700).create(directory)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let mode = settings.log_file_mode as u32 & 0o777 | 0o200;
        // log_file_mode is meant as it is written, whatever the shell's mask.
        let mask = umask(Mode::empty());
        let file = OpenOptions::new().append(true).create(true).mode(mode).open(&path);
        umask(mask);
        let file = file?;
        let written = DateTime::<Local>::from(file.metadata()?.modified()?) + CLOCKS;
        if outdated.is_some_and(|time| written < time) {
            file.set_len(0)?;
        }
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, is_cut: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the link `current` in its directory name this file.
    pub fn point_at(&self) {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        if name == LINK {
            return;
        }
        // Renamed into place, so that there always is one. A directory that has no place for it logs all the same.
        let new = directory.join(format!(".{LINK}"));
        let _ = fs::remove_file(&new);
        let _ = symlink(name, &new).and_then(|()| fs::rename(&new, directory.join(LINK)));
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// Those of write(2). Part of `lines` may be in the file then; the next ones begin on a line of their own.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_cut {
            self.file.write_all(b"\n")?;
            self.is_cut = false;
            self.size += 1;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(count) => {
                    self.size += count as u64;
                    self.is_cut = rest[..count].last().is_some_and(|last| *last != b'\n');
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use std::os::unix::fs::PermissionsExt;

    fn settings(directory: &Path, pattern: &str) -> Settings {
        let (log_directory, log_filename) = (directory.display().to_string(), pattern.to_owned());
        Settings { log_directory, log_filename, ..Settings::default() }
    }

    #[test]
    fn names_follow_the_pattern() {
        let time = Local.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).single().expect("a time");
        let named = |pattern| name(&settings(Path::new("/logs"), pattern), time).display().to_string();
        assert_eq!(named("pgpool-%Y-%m-%d_%H%M%S.log"), "/logs/pgpool-2026-03-04_050607.log");
        assert_eq!(named("pgpool-%a.log"), "/logs/pgpool-Wed.log");
        assert_eq!(named("%j%%"), "/logs/063%");
        assert_eq!(named("plain.log"), "/logs/plain.log");
        assert_eq!(named("odd%Q%"), "/logs/odd%Q%");
    }

    #[test]
    fn files_have_the_mode_and_grow_unless_they_are_outdated() {
        let directory = std::env::temp_dir().join(format!("pgpool-log-file-{}", std::process::id()));
        let mut settings = settings(&directory, "x.log");
        settings.log_file_mode = 0o444;
        let open = |outdated| LogFile::open(directory.join("x.log"), &settings, outdated).expect("open");
        open(None).write(b"one\n").expect("write");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("x.log"))), (0o700, 0o644));
        let mut file = open(None);
        assert_eq!(file.size(), 4);
        file.point_at();
        file.point_at();
        assert_eq!(fs::read_link(directory.join(LINK)).expect("link"), Path::new("x.log"));
        file.is_cut = true;
        file.write(b"two\n").expect("write");
        assert_eq!((fs::read(file.path()).expect("read"), file.size()), (b"one\n\ntwo\n".to_vec(), 9));
        let hour = Duration::from_secs(3600);
        assert_eq!(open(Some(Local::now() - hour)).size(), 9, "somebody has begun it already");
        assert_eq!(open(Some(Local::now() + hour)).size(), 0);
        fs::remove_dir_all(&directory).expect("remove");
        let nowhere = directory.join("a/b/x.log");
        assert_eq!(LogFile::open(nowhere, &settings, None).expect_err("no directory").kind(), io::ErrorKind::NotFound);
    }
}
