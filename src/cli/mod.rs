//! The command line (process-model 1): arguments become one command, which is carried out. Returns exit statuses.
//!
//! What the commands do is in other rooms; here is who asks them, and what the person at the terminal gets to see.

mod check;
mod control;
mod options;
mod route;
mod start;
mod top;

use crate::auth::outside;
use crate::auth::passwords::KeyFile;
use crate::config::{self, FileLocations};
use crate::report::{self, Severity, version};
use crate::sys::title;
use options::{Command, Options, Usage};
use std::ffi::OsString;
use std::io::{self, Write};

/// Exit status of usage errors.
const EXIT_USAGE: i32 = 1;
/// Exit status of configuration errors and failed starts (process-model 9).
const EXIT_FATAL: i32 = 3;

/// Runs `pgpool` with the arguments behind the program's name. Called first thing in the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    title::init();
    report::init();
    let mut arguments = arguments.into_iter().peekable();
    if arguments.peek().is_some_and(|first| first == outside::VERB) {
        return outside::serve();
    }
    match options::parse(arguments) {
        Ok(options) => carry_out(&options),
        Err(Usage::Help) => {
            tell(&options::usage());
            0
        }
        Err(Usage::Version) => {
            tell(&format!("pgpool-II version {}\n", version::text()));
            0
        }
        Err(Usage::Wrong(message)) => {
            tell(&format!("pgpool: {message}\nTry \"pgpool --help\" for more information.\n"));
            EXIT_USAGE
        }
    }
}

/// Says something to whoever has given the command. Unlike `eprint` it does not panic when nobody can hear it.
fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn carry_out(options: &Options) -> i32 {
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let files = FileLocations::find(
        options.config_file.as_deref(),
        options.pcp_file.as_deref(),
        options.hba_file.as_deref(),
        &directory,
    );
    KeyFile::choose(options.key_file.clone());
    let loaded = config::load(&files.config);
    if options.command == Command::Check {
        return check::run(&loaded, &files.hba);
    }
    if options.command == Command::Route {
        return route::run(&options.route, loaded);
    }
    if options.command == Command::Top {
        return top::run(&options.top, loaded);
    }
    if let Ok(loaded) = &loaded {
        report::configure(loaded.settings.log_settings());
    }
    match (options.command, loaded) {
        (Command::Stop, loaded) => control::stop(&files, loaded, options.mode),
        (Command::Reload, loaded) => control::reload(&files, loaded),
        (Command::Upgrade, Ok(loaded)) => control::upgrade(&loaded.settings),
        (_, Ok(loaded)) => {
            loaded.warnings.log(Severity::Warning);
            start::run(loaded.settings, files, options)
        }
        (_, Err(problems)) => {
            problems.log(Severity::Fatal);
            EXIT_FATAL
        }
    }
}
