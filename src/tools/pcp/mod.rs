//! The fifteen client programs of PCP (pcp 8, 9) in one: the name it is called by, or its first argument, says which.
//!
//! Reading the command line ([`options`]), the password file ([`pcppass`]) and replies ([`reply`], [`nodes`],
//! [`processes`], ...) is pure; [`connection`] alone talks to pgpool, and never waits without a limit.

mod connection;
mod health;
mod help;
mod nodes;
mod options;
mod pcppass;
mod pool_status;
mod processes;
mod program;
mod records;
mod reply;
mod watchdog;

use super::{account, base_name, complain, legible, prompt, say};
use crate::report::version::VERSION;
use crate::wire::pcp::{ALL, Request};
use connection::{Connection, Failure};
use nix::unistd::Uid;
use options::{Asking, Options, Slip};
use program::{Kind, Program};
use reply::Record;
use std::ffi::OsString;
use std::io::{self, IsTerminal};

/// The port when none is given.
const DEFAULT_PORT: u16 = 9898;
/// Directory of the Unix socket when no host is given.
const SOCKET_DIRECTORY: &str = "/tmp";
/// Bytes that count of a password typed in.
const MAX_PASSWORD: usize = 100;

/// Runs the program that `arguments` name: by the name it is called by, or, as `pcp`, by the word behind it. Returns the
/// exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let mut arguments = arguments.into_iter().collect::<Vec<_>>();
    let called = arguments.first().map(|name| base_name(name)).unwrap_or_default();
    if called == "pcp" {
        arguments.remove(0);
        return run_command(arguments);
    }
    match Program::named(&called) {
        Some(program) => carry_out(program, arguments),
        None => {
            complain(format!("{called} is a invalid PCP utility\n"));
            1
        }
    }
}

/// `pcp node_info ...`: `arguments` begin with the command.
fn run_command(mut arguments: Vec<OsString>) -> i32 {
    let Some(command) = arguments.first_mut() else {
        complain(help::overview());
        return 1;
    };
    match command.to_string_lossy().as_ref() {
        "-?" | "--help" | "help" => i32::from(!say(help::overview())),
        "-V" | "--version" => i32::from(!say(format!("pcp (pgpool-II) {VERSION}\n"))),
        word => match Program::named(&format!("pcp_{}", word.replace('-', "_"))) {
            Some(program) => {
                *command = program.name.into();
                carry_out(program, arguments)
            }
            None => {
                complain(format!("pcp: unknown command \"{word}\"\nTry \"pcp --help\" for more information.\n\n"));
                1
            }
        },
    }
}

fn carry_out(program: &'static Program, arguments: Vec<OsString>) -> i32 {
    let options = match options::parse(program, arguments) {
        Ok(options) => options,
        Err(Slip::Help) => {
            complain(help::text(program));
            return 0;
        }
        Err(Slip::Version) => {
            complain(format!("{} (pgpool-II) {VERSION}\n", program.name));
            return 0;
        }
        Err(Slip::Wrong { message, status }) => {
            complain(message);
            return status;
        }
    };
    complain(options.warnings.concat());
    let mut connection = match log_in(&options) {
        Ok(connection) => connection,
        Err(failure) => return report(Err(failure), &options),
    };
    let answer = connection.ask(&request(program.kind, &options), options.limit);
    let status = report(answer.and_then(|answer| show(program, &options, &answer)), &options);
    connection.leave();
    status
}

/// Prints what came of it. Returns the exit status, which is 0 for what pgpool refused, unless it is to be strict.
fn report(outcome: Result<Vec<u8>, Failure>, options: &Options) -> i32 {
    let complain = |message: String| complain(legible(message.into_bytes(), io::stderr().is_terminal()));
    match outcome {
        Ok(text) => i32::from(!say(legible(text, io::stdout().is_terminal()))),
        Err(Failure::Refused(message)) => {
            complain(message);
            i32::from(options.strict)
        }
        Err(Failure::Trouble(message)) => {
            complain(message);
            1
        }
    }
}

/// A session as the user whose name and password are given or known.
fn log_in(options: &Options) -> Result<Connection, Failure> {
    let typed = (options.asking == Asking::Always).then(|| prompt::on_terminal("Password: ", MAX_PASSWORD));
    let user = match &options.user {
        Some(user) => user.clone(),
        None => account::name(Uid::effective())
            .ok_or_else(|| Failure::trouble("ERROR: could not find out the name of the user, give -U"))?
            .into_bytes(),
    };
    let mut connection = Connection::open(options)?;
    let password = match typed.filter(|password| !password.is_empty()) {
        Some(password) => password,
        None => saved_password(options, &user)?,
    };
    connection.log_in(&user, &password)?;
    Ok(connection)
}

/// The password of .pcppass, or one that is asked for.
fn saved_password(options: &Options, user: &[u8]) -> Result<Vec<u8>, Failure> {
    if let Some(password) = pcppass::look_up(&options.host, options.port, user) {
        return Ok(password);
    }
    match options.asking {
        Asking::Never => {
            Err(Failure::trouble("ERROR: no password: none was found in the password file, and -w was given"))
        }
        // Asked already: the empty password it was is tried.
        Asking::Always => Ok(Vec::new()),
        Asking::IfNeeded => Ok(prompt::on_terminal("Password: ", MAX_PASSWORD)),
    }
}

/// What the program asks.
fn request(kind: Kind, options: &Options) -> Request<'static> {
    let node = options.id.unwrap_or(ALL);
    let Options { gracefully, switchover, scope, .. } = *options;
    match kind {
        Kind::NodeCount => Request::NodeCount,
        Kind::NodeInfo => Request::NodeInfo(node),
        Kind::HealthCheckStats => Request::HealthCheckStats(node),
        Kind::ProcCount => Request::ProcessCount,
        Kind::ProcInfo => Request::ProcessInfo(options.id.unwrap_or(0)),
        Kind::PoolStatus => Request::PoolStatus,
        Kind::WatchdogInfo => Request::WatchdogInfo(node),
        Kind::AttachNode => Request::Attach(node),
        Kind::DetachNode => Request::Detach { node, gracefully },
        Kind::PromoteNode => Request::Promote { node, gracefully, switchover },
        Kind::RecoveryNode => Request::Recover(node),
        Kind::StopPgpool => Request::Stop(options.mode, scope),
        Kind::ReloadConfig => Request::Reload(scope),
        Kind::LogRotate => Request::RotateLog(scope),
        Kind::InvalidateQueryCache => Request::InvalidateCache,
    }
}

/// The reply in the form that was asked for.
fn show(program: &Program, options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    match program.kind {
        Kind::NodeCount => nodes::count(options, answer),
        Kind::NodeInfo => nodes::info(options, answer),
        Kind::HealthCheckStats => health::stats(options, answer),
        Kind::ProcCount => processes::count(options, answer),
        Kind::ProcInfo => processes::info(options, answer),
        Kind::PoolStatus => pool_status::items(options, answer),
        Kind::WatchdogInfo => watchdog::info(options, answer),
        _ => Ok(format!("{} -- Command Successful\n", program.name).into_bytes()),
    }
}
