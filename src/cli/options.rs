//! Options and words of the command line (process-model 1.1, 1.2).

use crate::report::version;
use std::ffi::OsString;
use std::path::PathBuf;

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    #[default]
    Start,
    Stop,
    Reload,
    Check,
}

/// How to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StopMode {
    #[default]
    Smart,
    Fast,
    Immediate,
}

/// A command line that can be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub command: Command,
    pub config_file: Option<PathBuf>,
    pub hba_file: Option<PathBuf>,
    pub pcp_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub clear_oidmaps: bool,
    pub discard_status: bool,
    pub debug: bool,
    pub foreground: bool,
    pub mode: StopMode,
}

/// A command line that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Help,
    Version,
    Wrong(String),
}

/// Reads the arguments. Options stand before the word; `-h` and `-v` act where they are met.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Usage> {
    use lexopt::Arg::{Long, Short, Value};
    let wrong = |error: lexopt::Error| Usage::Wrong(error.to_string());
    let mut options = Options::default();
    let mut words = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(wrong)? {
        if !words.is_empty() && !matches!(argument, Value(_)) {
            return Err(Usage::Wrong("options must stand before the command".to_owned()));
        }
        match argument {
            Short('a') | Long("hba-file") => options.hba_file = Some(parser.value().map_err(wrong)?.into()),
            Short('f') | Long("config-file") => options.config_file = Some(parser.value().map_err(wrong)?.into()),
            Short('F') | Long("pcp-file") => options.pcp_file = Some(parser.value().map_err(wrong)?.into()),
            Short('k') | Long("key-file") => options.key_file = Some(parser.value().map_err(wrong)?.into()),
            Short('C') | Long("clear-oidmaps") => options.clear_oidmaps = true,
            Short('D') | Long("discard-status") => options.discard_status = true,
            Short('d') | Long("debug") => options.debug = true,
            Short('n') | Long("dont-detach") => options.foreground = true,
            Short('x') | Long("debug-assertions") => {}
            Short('m') | Long("mode") => options.mode = stop_mode(&parser.value().map_err(wrong)?)?,
            Long("check-config") => options.command = Command::Check,
            Short('h') | Long("help") => return Err(Usage::Help),
            Short('v') | Long("version") => return Err(Usage::Version),
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            other => return Err(Usage::Wrong(other.unexpected().to_string())),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["stop"] => options.command = Command::Stop,
        ["reload"] => options.command = Command::Reload,
        ["check"] => options.command = Command::Check,
        [other, ..] => return Err(Usage::Wrong(format!("unknown command \"{other}\""))),
    }
    Ok(options)
}

/// Only the first letter counts.
fn stop_mode(word: &OsString) -> Result<StopMode, Usage> {
    match word.to_string_lossy().chars().next() {
        Some('s') => Ok(StopMode::Smart),
        Some('f') => Ok(StopMode::Fast),
        Some('i') => Ok(StopMode::Immediate),
        _ => Err(Usage::Wrong("the stop mode must be smart, fast or immediate".to_owned())),
    }
}

/// The usage text.
pub(super) fn usage() -> String {
    format!(
        "pgpool-II version {},
  a connection pool, load balancer and failover manager for PostgreSQL

Usage:
  pgpool [OPTION]...                 start
  pgpool [OPTION]... [-m MODE] stop  stop a running pgpool
  pgpool [OPTION]... reload          let a running pgpool read its files again
  pgpool [OPTION]... check           check the configuration without starting

Options:
  -a, --hba-file=FILE      pool_hba.conf
  -f, --config-file=FILE   pgpool.conf
  -F, --pcp-file=FILE      pcp.conf
  -k, --key-file=FILE      key file for encrypted passwords
  -C, --clear-oidmaps      delete the table maps of the query cache at start
  -D, --discard-status     forget which nodes were detached
  -d, --debug              log debugging messages
  -n, --dont-detach        stay in the foreground
  -x, --debug-assertions   accepted, no effect
  -m, --mode=MODE          stop: smart (wait for sessions), fast, immediate
      --check-config       the same as check
  -v, --version            print the version
  -h, --help               print this text
",
        version::text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, Usage> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn all_forms_of_options() {
        let options =
            read(&["-nD", "-fx.conf", "--pcp-file", "p", "--hba-file=h", "-m", "fast", "stop"]).expect("read");
        assert_eq!((options.command, options.mode), (Command::Stop, StopMode::Fast));
        assert!(options.foreground && options.discard_status);
        assert_eq!(options.config_file, Some("x.conf".into()));
        assert_eq!((options.pcp_file, options.hba_file), (Some("p".into()), Some("h".into())));
        assert_eq!(read(&["-m", "slow", "stop"]).expect("read").mode, StopMode::Smart);
        assert_eq!(read(&["--check-config"]).expect("read").command, Command::Check);
        assert_eq!(read(&[]).expect("read").command, Command::Start);
    }

    #[test]
    fn slips_are_usage_errors() {
        for arguments in
            [&["stop", "-m", "fast"][..], &["--conf", "x"], &["-q"], &["-m", "x", "stop"], &["go"], &["stop", "now"]]
        {
            assert!(matches!(read(arguments), Err(Usage::Wrong(_))), "{arguments:?}");
        }
        assert_eq!(read(&["-h", "--nonsense"]), Err(Usage::Help));
        assert_eq!(read(&["-v"]), Err(Usage::Version));
    }
}
