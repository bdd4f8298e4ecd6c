//! The form without a word: starts pgpool, in the foreground or as a daemon (process-model 1.4, 2).

use super::options::Options;
use super::{EXIT_FATAL, EXIT_USAGE, tell};
use crate::auth::passwords::KeyFile;
use crate::config::{self, FileLocations, Settings};
use crate::report::{self, Report};
use crate::supervisor::{self, Again, pid_file};
use crate::sys::{Fork, descriptor, fork, inherited};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// How a pgpool that replaces this one is to be started: the same, but in the foreground, and with a status file that counts.
fn again(files: &FileLocations, options: &Options) -> Again {
    let mut program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if program.components().count() > 1 {
        program = std::path::absolute(&program).unwrap_or(program);
    }
    let mut arguments: Vec<OsString> = vec!["-n".into()];
    for (option, path) in [
        ("-f", files.config.as_path()),
        ("-F", files.pcp.as_path()),
        ("-a", files.hba.as_path()),
        ("-k", KeyFile::path()),
    ] {
        arguments.extend([option.into(), path.into()]);
    }
    if options.debug {
        arguments.push("-d".into());
    }
    Again { program, arguments }
}

/// Returns the exit status: in the foreground when pgpool has ended, for a daemon when it serves or has failed.
pub(super) fn run(mut settings: Settings, files: FileLocations, options: &Options) -> i32 {
    let again = again(&files, options);
    if options.debug {
        settings.log_min_messages = settings.log_min_messages.min(config::MessageLevel::Debug1);
        report::configure(settings.log_settings());
    }
    match pid_file::read(Path::new(&settings.pid_file_name)) {
        Ok(Some(pid)) if pid_file::is_in_the_way(pid) => {
            tell(&format!("ERROR: pid file found. is another pgpool({pid}) is running?\n"));
            return EXIT_USAGE;
        }
        Ok(Some(_)) if inherited::is_handed_over() => {}
        Ok(Some(_)) => tell("NOTICE: pid file found but it seems bogus. Trying to start pgpool anyway...\n"),
        Ok(None) => {}
        Err(report) => {
            report.log();
            return EXIT_FATAL;
        }
    }
    if options.foreground {
        return supervisor::run(settings, files, options.discard_status, None, again);
    }
    if !settings.logging_collector && !settings.log_destination.syslog {
        Report::warning("a daemon has no stderr: nothing will be logged once it has started")
            .hint("Set logging_collector = on or log_destination = 'syslog', or start with -n under a service manager.")
            .log();
    }
    daemonise(settings, files, options.discard_status, again)
}

/// Starts a daemon and waits for its word. Unlike the original's, the exit status tells whether it serves.
fn daemonise(settings: Settings, files: FileLocations, discard_status: bool, again: Again) -> i32 {
    let failed = |errno: Errno| {
        Report::fatal("could not start a daemon").detail(errno.desc()).log();
        EXIT_FATAL
    };
    descriptor::close_inherited();
    let (reader, writer) = match nix::unistd::pipe2(OFlag::O_CLOEXEC) {
        Ok(pipe) => pipe,
        Err(errno) => return failed(errno),
    };
    match fork() {
        Err(errno) => failed(errno),
        Ok(Fork::Child) => {
            drop(reader);
            let _ = nix::unistd::setsid();
            let _ = nix::unistd::chdir("/");
            supervisor::run(settings, files, discard_status, Some(writer), again)
        }
        Ok(Fork::Parent(_)) => {
            drop(writer);
            // The end of the daemon closes the pipe.
            match nix::unistd::read(&reader, &mut [0]) {
                Ok(1) => 0,
                _ => EXIT_FATAL,
            }
        }
    }
}
