//! The pid file: one pgpool per file (process-model 1.4, 2).

use crate::report::{Report, Result};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest pid file that is read, in bytes.
const MAX_LENGTH: u64 = 64;

/// The pid in the file; `Ok(None)`: there is no file, or no pid in it.
///
/// # Errors
/// The file is empty or cannot be read.
pub fn read(path: &Path) -> Result<Option<Pid>> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_LENGTH).read_to_end(&mut text)) {
        Ok(0) => Err(Report::fatal(format!("EOF detected while reading pid file \"{}\"", path.display()))
            .detail("The file is empty.")
            .hint("If no pgpool is running, delete the file.")),
        Ok(_) => {
            let digits: String = text.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
            Ok(digits.parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Report::fatal(format!("could not open pid file \"{}\"", path.display()))
            .detail(error.to_string())
            .hint("See pid_file_name, and who may read it.")),
    }
}

/// Whether the process that a pid file names keeps another pgpool from starting. A dead one does not, nor one that may
/// not be signalled (process-model 1.4), nor this process or its parent: after a restart of a container or a machine an
/// old file may name them.
pub fn is_in_the_way(pid: Pid) -> bool {
    pid != Pid::this() && pid != Pid::parent() && kill(pid, None).is_ok() && is_alive(pid)
}

/// Whether there is a process with that pid that has not ended yet.
pub fn is_alive(pid: Pid) -> bool {
    // The state stands behind the command's name in parentheses; Z and X have ended and wait to be reaped.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])))
}

/// Deletes the file if it still names `pid`: a successor's stays.
pub fn delete(path: &Path, pid: Pid) {
    if !matches!(read(path), Ok(Some(found)) if found == pid) {
        return;
    }
    if let Err(error) = fs::remove_file(path) {
        Report::log_line(format!("unlink failed for file at path \"{}\"", path.display()))
            .detail(error.to_string())
            .log();
    }
}

/// The file of a running pgpool.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes this process's pid, synchronised to disk.
    ///
    /// # Errors
    /// The file cannot be written. It is not left behind empty then, which would be in the way of the next start.
    pub fn write(path: &Path) -> Result<Self> {
        let failed = |verb: &str, error: io::Error| {
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
        let written = writeln!(file, "{}", Pid::this())
            .map_err(|error| failed("write", error))
            .and_then(|()| file.sync_all().map_err(|error| failed("fsync", error)));
        match written {
            Ok(()) => Ok(Self(path.to_owned())),
            Err(report) => {
                // Whatever else somebody has put there is not ours to delete.
                if file.metadata().is_ok_and(|file| file.is_file()) {
                    let _ = fs::remove_file(path);
                }
                Err(report)
            }
        }
    }

    /// Writes this process's pid in place of another's: whoever reads it finds the one or the other.
    ///
    /// # Errors
    /// The file cannot be written; it is what it was.
    pub fn take_over(path: &Path) -> Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let file = Self::write(Path::new(&new))?;
        fs::rename(&file.0, path).map_err(|error| {
            let _ = fs::remove_file(&file.0);
            Report::error(format!("could not write pid file \"{}\"", path.display())).detail(error.to_string())
        })?;
        Ok(Self(path.to_owned()))
    }

    /// Deletes the file.
    pub fn remove(self) {
        delete(&self.0, Pid::this());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signal::{self, Signal};
    use crate::sys::{Fork, fork};
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::process::Command;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pgpool-pid-{name}-{}", std::process::id()))
    }

    #[test]
    fn reads_what_it_and_the_original_write() {
        let path = path("read");
        let file = PidFile::write(&path).expect("write");
        assert_eq!(read(&path).expect("read"), Some(Pid::this()));
        assert_eq!(fs::read_to_string(&path).expect("read"), format!("{}\n", std::process::id()));
        for (text, pid) in [(&b"4711\0"[..], Some(4711)), (b"garbage", None), (b"0\n", None), (&[b'9'; 5000], None)] {
            fs::write(&path, text).expect("write");
            assert_eq!(read(&path).expect("read"), pid.map(Pid::from_raw));
        }
        fs::write(&path, b"").expect("write");
        assert!(read(&path).is_err());
        fs::write(&path, b"4711\n").expect("write");
        file.remove();
        assert!(path.exists(), "a successor's file stays");
        PidFile::write(&path).expect("write").remove();
        assert_eq!(read(&path).expect("read"), None);
    }

    #[test]
    fn only_another_living_process_is_in_the_way() {
        let mut other = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pid = Pid::from_raw(other.id() as i32);
        assert!(is_in_the_way(pid) && is_alive(pid));
        other.kill().expect("kill");
        // Until it is waited for it is a zombie.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(pid) && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(!is_alive(pid) && !is_in_the_way(pid));
        other.wait().expect("wait");
        assert!(!is_alive(pid));
        assert!(is_alive(Pid::this()) && !is_in_the_way(Pid::this()));
    }

    #[test]
    fn a_full_disk_leaves_no_empty_file() {
        let path = path("full");
        let Fork::Parent(child) = fork().expect("fork") else {
            signal::ignore(&[Signal::SIGXFSZ]).expect("ignore");
            let left_nothing =
                setrlimit(Resource::RLIMIT_FSIZE, 0, 0).is_ok() && PidFile::write(&path).is_err() && !path.exists();
            std::process::exit(i32::from(!left_nothing));
        };
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    }

    #[test]
    fn an_unwritable_place_is_an_error() {
        let report = PidFile::write(Path::new("/nonexistent/pgpool.pid")).expect_err("no directory");
        assert_eq!(report.message, "could not open pid file \"/nonexistent/pgpool.pid\"");
    }
}
