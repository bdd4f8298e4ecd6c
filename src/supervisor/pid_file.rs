//! The pid file: one pgpool per file (process-model 1.4, 2).

use crate::report::{Report, Result};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest pid file that is read, in bytes.
const MAX_LENGTH: usize = 64;

/// The pid in the file; `Ok(None)`: there is no file.
///
/// # Errors
/// The file is empty or cannot be read. A text that is no number counts as no running pgpool.
pub fn read(path: &Path) -> Result<Option<Pid>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(
                Report::fatal(format!("could not open pid file \"{}\"", path.display())).detail(error.to_string())
            );
        }
    };
    if text.is_empty() {
        return Err(Report::fatal(format!("EOF detected while reading pid file \"{}\"", path.display()))
            .hint("If no pgpool is running, delete the file."));
    }
    let digits: String = text.iter().take(MAX_LENGTH).map(|b| *b as char).take_while(char::is_ascii_digit).collect();
    Ok(digits.parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw))
}

/// Whether a process with that pid is there and ours to signal.
pub fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

/// The file of a running pgpool; deleted by the process that wrote it.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes this process's pid, synchronised to disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(path: &Path) -> Result<Self> {
        let failed = |verb: &str, error: std::io::Error| {
            Report::fatal(format!("could not {verb} pid file \"{}\"", path.display()))
                .detail(error.to_string())
                .hint("The directory of pid_file_name must exist and be writable.")
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed("open", error))?;
        writeln!(file, "{}", std::process::id()).map_err(|error| failed("write", error))?;
        file.sync_all().map_err(|error| failed("fsync", error))?;
        Ok(Self(path.to_owned()))
    }

    /// Deletes the file.
    pub fn remove(self) {
        if let Err(error) = fs::remove_file(&self.0) {
            Report::log_line(format!("unlink failed for file at path \"{}\"", self.0.display()))
                .detail(error.to_string())
                .log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_and_the_original_write() {
        let path = std::env::temp_dir().join(format!("pgpool-pid-{}", std::process::id()));
        let file = PidFile::write(&path).expect("write");
        assert_eq!(read(&path).expect("read"), Some(Pid::this()));
        assert!(is_alive(Pid::this()));
        fs::write(&path, b"4711\0").expect("write");
        assert_eq!(read(&path).expect("read"), Some(Pid::from_raw(4711)));
        fs::write(&path, b"garbage").expect("write");
        assert_eq!(read(&path).expect("read"), None);
        fs::write(&path, b"").expect("write");
        assert!(read(&path).is_err());
        file.remove();
        assert_eq!(read(&path).expect("read"), None);
    }
}
