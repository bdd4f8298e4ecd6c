//! `stop` and `reload`: signals to the pgpool that the pid file names (process-model 1.5, 1.6).

use super::options::StopMode;
use crate::config::{FileLocations, Loaded, Settings};
use crate::report::Report;
use crate::supervisor::pid_file;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A dot is printed so often; after five the signal is sent again.
const DOT: Duration = Duration::from_secs(1);
/// How often the end of the process is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Stops pgpool and waits for its end. Returns the exit status.
pub(super) fn stop(files: &FileLocations, loaded: Option<&Loaded>, mode: StopMode) -> i32 {
    let path = pid_path(files, loaded);
    let Some(pid) = running(&path) else { return 3 };
    let signal = match mode {
        StopMode::Smart => Signal::SIGTERM,
        StopMode::Fast => Signal::SIGINT,
        StopMode::Immediate => Signal::SIGQUIT,
    };
    if let Err(errno) = kill(pid, signal) {
        Report::fatal(format!("could not stop process with pid: {pid}")).detail(errno.desc()).log();
        return 3;
    }
    eprintln!("LOG:  stop request sent to pgpool (pid: {pid}). waiting for termination...");
    let mut dots = 0;
    let mut last_dot = Instant::now();
    while pid_file::is_alive(pid) {
        std::thread::sleep(LOOK);
        if last_dot.elapsed() >= DOT {
            eprint!(".");
            last_dot = Instant::now();
            dots += 1;
            if dots % 5 == 0 {
                let _ = kill(pid, signal);
            }
        }
    }
    eprintln!("done.");
    let _ = std::fs::remove_file(path);
    0
}

/// Lets pgpool read its files again. Returns the exit status.
pub(super) fn reload(files: &FileLocations, loaded: Option<&Loaded>) -> i32 {
    let Some(pid) = running(&pid_path(files, loaded)) else { return 1 };
    match kill(pid, Signal::SIGHUP) {
        Ok(()) => 0,
        Err(errno) => {
            Report::fatal(format!("could not reload configuration file pid: {pid}")).detail(errno.desc()).log();
            1
        }
    }
}

fn running(path: &Path) -> Option<Pid> {
    let found = pid_file::read(path).unwrap_or_else(|report| {
        report.log();
        None
    });
    if found.is_none() {
        Report::fatal("could not read pid file")
            .detail(format!("No pid is in \"{}\".", path.display()))
            .hint("Is pgpool running, and was it started with this pgpool.conf?")
            .log();
    }
    found
}

/// Where the pid file is. A pgpool.conf with errors must not keep a running pgpool from being stopped: then the line is
/// looked for in its text.
fn pid_path(files: &FileLocations, loaded: Option<&Loaded>) -> PathBuf {
    if let Some(loaded) = loaded {
        return PathBuf::from(&loaded.settings.pid_file_name);
    }
    let text = std::fs::read_to_string(&files.config).unwrap_or_default();
    let written = text.lines().rev().find_map(|line| {
        let value = line.trim_start().strip_prefix("pid_file_name")?.trim_start();
        let value = value.strip_prefix('=').unwrap_or(value).trim_start().strip_prefix('\'')?;
        value.split_once('\'').map(|(path, _)| path.to_owned())
    });
    let path = written.unwrap_or_else(|| Settings::default().pid_file_name);
    files.config.parent().unwrap_or(Path::new("/")).join(path)
}
