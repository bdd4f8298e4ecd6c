//! The command line (process-model 1): arguments become one command, which is carried out. Returns exit statuses.

mod check;
mod control;
mod options;

use crate::config::{self, FileLocations, Problems, Settings};
use crate::report::{self, Report, Severity, version};
use crate::supervisor::{self, pid_file};
use crate::sys::{Fork, descriptor, fork, title};
use options::{Command, Options, Usage};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Exit status of usage errors.
const EXIT_USAGE: i32 = 1;
/// Exit status of configuration errors and failed starts (process-model 9).
const EXIT_FATAL: i32 = 3;

/// Runs `pgpool` with the arguments behind the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    title::init();
    report::init();
    let options = match options::parse(arguments) {
        Ok(options) => options,
        Err(Usage::Help) => {
            eprint!("{}", options::usage());
            return 0;
        }
        Err(Usage::Version) => {
            eprintln!("pgpool-II version {}", version::text());
            return 0;
        }
        Err(Usage::Wrong(message)) => {
            eprint!("pgpool: {message}\n{}", options::usage());
            return EXIT_USAGE;
        }
    };
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let files = FileLocations::find(
        options.config_file.as_deref(),
        options.pcp_file.as_deref(),
        options.hba_file.as_deref(),
        &directory,
    );
    let loaded = config::load(&files.config);
    match options.command {
        Command::Check => check::run(&loaded),
        Command::Stop => control::stop(&files, loaded.as_ref().ok(), options.mode),
        Command::Reload => control::reload(&files, loaded.as_ref().ok()),
        Command::Start => match loaded {
            Ok(loaded) => {
                loaded.warnings.log(Severity::Warning);
                start(loaded.settings, files, &options)
            }
            Err(problems) => refuse(&problems),
        },
    }
}

fn refuse(problems: &Problems) -> i32 {
    problems.log(Severity::Fatal);
    EXIT_FATAL
}

fn start(mut settings: Settings, files: FileLocations, options: &Options) -> i32 {
    if options.debug {
        settings.log_min_messages = settings.log_min_messages.min(config::MessageLevel::Debug1);
    }
    report::configure(settings.log_settings());
    match pid_file::read(Path::new(&settings.pid_file_name)) {
        Ok(Some(pid)) if pid_file::is_alive(pid) => {
            eprintln!("ERROR: pid file found. is another pgpool({pid}) is running?");
            return EXIT_USAGE;
        }
        Ok(Some(_)) => eprintln!("NOTICE: pid file found but it seems bogus. Trying to start pgpool anyway..."),
        Ok(None) => {}
        Err(report) => {
            report.log();
            return EXIT_FATAL;
        }
    }
    if options.foreground {
        return supervisor::run(settings, files, options.discard_status, None);
    }
    if settings.log_destination.stderr && !settings.logging_collector {
        Report::warning("a daemon has no stderr: nothing will be logged")
            .hint("Set logging_collector = on, or log_destination = 'syslog', or start with -n.")
            .log();
    }
    daemonise(settings, files, options.discard_status)
}

/// Starts a daemon and waits for its word. Unlike the original, the exit status tells whether it serves.
fn daemonise(settings: Settings, files: FileLocations, discard_status: bool) -> i32 {
    let failed = |errno: nix::errno::Errno| {
        Report::fatal("could not start a daemon").detail(errno.desc()).log();
        EXIT_FATAL
    };
    descriptor::close_inherited();
    let (reader, writer) = match nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC) {
        Ok(pipe) => pipe,
        Err(errno) => return failed(errno),
    };
    match fork() {
        Err(errno) => failed(errno),
        Ok(Fork::Child) => {
            drop(reader);
            serve(settings, files, discard_status, writer)
        }
        Ok(Fork::Parent(_)) => {
            drop(writer);
            let mut byte = [0];
            match nix::unistd::read(&reader, &mut byte) {
                Ok(1) => 0,
                _ => {
                    Report::fatal("pgpool could not be started").detail("The reason is in its log above.").log();
                    EXIT_FATAL
                }
            }
        }
    }
}

fn serve(settings: Settings, files: FileLocations, discard_status: bool, starter: OwnedFd) -> i32 {
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    supervisor::run(settings, files, discard_status, Some(starter))
}
