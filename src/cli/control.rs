//! `stop`, `reload` and `upgrade`: signals to the pgpool that the pid file names (process-model 1.5, 1.6).
//!
//! Unlike in the original, a pgpool.conf with errors does not keep a running pgpool from being stopped.

use super::options::StopMode;
use super::tell;
use crate::config::{self, FileLocations, LoadResult, Settings};
use crate::report::{Report, Severity};
use crate::supervisor::{Outcome, pid_file};
use crate::sys::signal::ToParent;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A dot is printed so often; after five the signal is sent again.
const DOT: Duration = Duration::from_secs(1);
/// How often the end of the process is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Exit status of a stop that was not possible.
const EXIT_NOT_STOPPED: i32 = 3;
/// Exit status of a reload that was not possible.
const EXIT_NOT_RELOADED: i32 = 1;
/// Exit status of an upgrade that was not possible.
const EXIT_NOT_UPGRADED: i32 = 1;
/// How much longer than the new pgpool may take the old one has to say how it ended.
const MARGIN: Duration = Duration::from_secs(10);

/// What helps where a signal does not get through.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::ESRCH => "It has not taken its pid file with it; the next start does not mind.",
        _ => "Only root and the user that runs pgpool may do that.",
    }
}

/// Stops pgpool and waits for its end. Returns the exit status.
pub(super) fn stop(files: &FileLocations, loaded: LoadResult, mode: StopMode) -> i32 {
    let path = pid_path(files, &loaded);
    let Some(pid) = running(&path) else { return EXIT_NOT_STOPPED };
    let signal = match mode {
        StopMode::Smart => ToParent::SmartStop,
        StopMode::Fast => ToParent::FastStop,
        StopMode::Immediate => ToParent::ImmediateStop,
    };
    if let Err(errno) = kill(pid, signal) {
        Report::fatal(format!("could not stop process with pid: {pid}")).detail(errno.desc()).hint(remedy(errno)).log();
        return EXIT_NOT_STOPPED;
    }
    Report::log_line(format!("stop request sent to pgpool (pid: {pid}). waiting for termination...")).log();
    let pid = wait_for_end(&path, pid, signal);
    tell("done.\n");
    pid_file::delete(&path, pid);
    0
}

/// Waits for the end of `pid`, or of who replaces it meanwhile and ends last; which one that was.
fn wait_for_end(path: &Path, mut pid: Pid, signal: ToParent) -> Pid {
    let started = Instant::now();
    let mut dots = 0;
    while pid_file::is_alive(pid) {
        std::thread::sleep(LOOK);
        // Not one that was started after its end.
        if let Some(new) = successor(path).filter(|_| pid_file::is_alive(pid)) {
            pid = new;
        }
        if started.elapsed() >= DOT * (dots + 1) {
            tell(".");
            dots += 1;
            if dots % 5 == 0 {
                let _ = kill(pid, signal);
            }
        }
    }
    pid
}

/// Whom the pid file names now, if it lives.
fn successor(path: &Path) -> Option<Pid> {
    pid_file::read(path).ok()?.filter(|pid| pid_file::is_alive(*pid))
}

/// Lets pgpool read its files again. Returns the exit status. What is wrong with them is shown here as well.
pub(super) fn reload(files: &FileLocations, loaded: LoadResult) -> i32 {
    let Some(pid) = running(&pid_path(files, &loaded)) else { return EXIT_NOT_RELOADED };
    if let Err(problems) = loaded {
        problems.log(Severity::Error);
        Report::warning("the configuration has errors: pgpool will go on with the old one").log();
    }
    match kill(pid, ToParent::Reload) {
        Ok(()) => 0,
        Err(errno) => {
            Report::fatal(format!("could not reload configuration file pid: {pid}"))
                .detail(errno.desc())
                .hint(remedy(errno))
                .log();
            EXIT_NOT_RELOADED
        }
    }
}

/// Has pgpool replaced by the program it was started from, and waits until the new one serves. Returns the exit status.
/// A configuration that this program cannot use never comes here.
pub(super) fn upgrade(settings: &Settings) -> i32 {
    let path = Path::new(&settings.pid_file_name);
    let Some(pid) = running(path) else { return EXIT_NOT_UPGRADED };
    let outcome = Outcome::of(path);
    if let Err(errno) = kill(pid, ToParent::Upgrade) {
        Report::fatal(format!("could not upgrade process with pid: {pid}"))
            .detail(errno.desc())
            .hint(remedy(errno))
            .log();
        return EXIT_NOT_UPGRADED;
    }
    let patience = Duration::from_secs(u64::try_from(settings.upgrade_start_timeout).unwrap_or(0)) + MARGIN;
    let started = Instant::now();
    let mut is_alive = true;
    while started.elapsed() < patience && is_alive {
        // It may say it with its last breath.
        is_alive = pid_file::is_alive(pid);
        if let Some(text) = outcome.told() {
            return tell_upgrade(pid, text.trim_end());
        }
        std::thread::sleep(LOOK);
    }
    if is_alive {
        Report::fatal(format!("process {pid} does not say how the upgrade ended"))
            .hint("See its log. Is it a release that cannot be replaced in this way? Then restart it.")
            .log();
    } else {
        // A stop takes the file with it.
        Report::fatal(format!("upgrade failed: process {pid} has ended")).hint("See its log. Was it stopped?").log();
    }
    EXIT_NOT_UPGRADED
}

fn tell_upgrade(pid: Pid, outcome: &str) -> i32 {
    let said = outcome.split_once(": ");
    match said {
        Some(("ready", new)) => {
            tell(&format!("pgpool({new}) has taken over from pgpool({pid}), which ends with its last session.\n"));
            0
        }
        _ => {
            let reason = said.map_or(outcome, |(_, reason)| reason);
            let failure = Report::fatal(format!("upgrade failed: {reason}"));
            match said {
                Some(("stopped", _)) => failure,
                _ => failure
                    .detail(format!("Process {pid} goes on serving as before."))
                    .hint("What the new process had to say is in the log."),
            }
            .log();
            EXIT_NOT_UPGRADED
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
            .detail(format!("There is no pid in \"{}\".", path.display()))
            .hint("Is pgpool running, and was it started with this pgpool.conf?")
            .log();
    }
    found
}

/// Where the pid file is. From a pgpool.conf with errors only the line that tells it is taken.
fn pid_path(files: &FileLocations, loaded: &LoadResult) -> PathBuf {
    if let Ok(loaded) = loaded {
        return PathBuf::from(&loaded.settings.pid_file_name);
    }
    let text = fs::read_to_string(&files.config).unwrap_or_default();
    let line = text.lines().rev().find(|line| line.trim_start().starts_with("pid_file_name")).unwrap_or_default();
    let directory = files.config.parent().unwrap_or(Path::new("/"));
    match config::load_text(&files.config, line.as_bytes()) {
        Ok(loaded) => PathBuf::from(loaded.settings.pid_file_name),
        Err(_) => directory.join(Settings::default().pid_file_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_still_tells_where_the_pid_file_is() {
        let directory = std::env::temp_dir().join(format!("pgpool-control-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let config = directory.join("pgpool.conf");
        let files = FileLocations::find(Some(&config), None, None, &directory);
        let default = PathBuf::from(Settings::default().pid_file_name);
        for (text, expected) in [
            ("port = nonsense\n pid_file_name='run/x.pid' # here", directory.join("run/x.pid")),
            ("pid_file_name = '/run/old'\npid_file_name = '/run/it''s'\n = 'x'", PathBuf::from("/run/it's")),
            ("port = 'nonsense'\n", default.clone()),
        ] {
            fs::write(&config, text).expect("write");
            assert_eq!(pid_path(&files, &config::load(&config)), expected, "{text}");
        }
        fs::remove_dir_all(&directory).expect("remove");
        assert_eq!(pid_path(&files, &config::load(&config)), default);
    }
}
