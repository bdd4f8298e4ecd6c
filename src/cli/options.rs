//! Options and words of the command line (process-model 1.1, 1.2).

use crate::report::version;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    #[default]
    Start,
    Stop,
    Reload,
    Check,
    Route,
    Top,
    Upgrade,
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
    /// For [`Command::Route`].
    pub route: RouteOptions,
    /// For [`Command::Top`].
    pub top: TopOptions,
}

/// What is asked of `route`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteOptions {
    /// Who would send the statement, and to which database.
    pub user: Option<String>,
    pub database: Option<String>,
    pub application_name: Option<String>,
    /// The server to be asked for tables and functions, if not the primary.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// No server is asked anything.
    pub offline: bool,
    pub statement: Vec<u8>,
}

/// What is asked of `top`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TopOptions {
    /// Where the metrics process listens, if not where pgpool.conf says.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// A user of pcp.conf.
    pub user: Option<String>,
    pub once: bool,
}

/// A command line that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Help,
    Version,
    Wrong(String),
}

/// Reads the arguments. Options may stand before and behind the word, but those of `route` and `top` behind it; `-h` and `-v` act
/// where they are met.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Usage> {
    use lexopt::Arg::{Long, Short, Value};
    let wrong = |error: lexopt::Error| Usage::Wrong(error.to_string());
    let mut options = Options::default();
    let mut words = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(wrong)? {
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
            Value(word) if words.is_empty() && word == "route" => {
                options.command = Command::Route;
                read_route(&mut parser, &mut options)?;
            }
            Value(word) if words.is_empty() && word == "top" => {
                options.command = Command::Top;
                read_top(&mut parser, &mut options)?;
            }
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            other => return Err(Usage::Wrong(other.unexpected().to_string())),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["stop"] => options.command = Command::Stop,
        ["reload"] => options.command = Command::Reload,
        ["upgrade"] => options.command = Command::Upgrade,
        ["check"] => options.command = Command::Check,
        [other, ..] => return Err(Usage::Wrong(format!("unknown command \"{other}\""))),
    }
    Ok(options)
}

/// Reads what follows the word `route`: options like those of psql, and the statement. Takes all that is left.
fn read_route(parser: &mut lexopt::Parser, options: &mut Options) -> Result<(), Usage> {
    use lexopt::Arg::{Long, Short, Value};
    use lexopt::ValueExt;
    let wrong = |error: lexopt::Error| Usage::Wrong(error.to_string());
    let text = |parser: &mut lexopt::Parser| parser.value().and_then(|value| value.string()).map_err(wrong);
    let route = &mut options.route;
    let mut statements = Vec::new();
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Short('U') | Long("user" | "username") => route.user = Some(text(parser)?),
            Short('d') | Long("dbname") => route.database = Some(text(parser)?),
            Long("application-name") => route.application_name = Some(text(parser)?),
            Short('h') | Long("host") => route.host = Some(text(parser)?),
            Short('p') | Long("port") => {
                route.port = Some(parser.value().and_then(|value| value.parse()).map_err(wrong)?);
            }
            Short('f') | Long("config-file") => options.config_file = Some(parser.value().map_err(wrong)?.into()),
            Long("offline") => route.offline = true,
            Long("help") => return Err(Usage::Help),
            Value(statement) => statements.push(statement.into_vec()),
            other => return Err(Usage::Wrong(other.unexpected().to_string())),
        }
    }
    match <[Vec<u8>; 1]>::try_from(statements) {
        Ok([statement]) => route.statement = statement,
        Err(none) if none.is_empty() => return Err(Usage::Wrong("route needs a statement".to_owned())),
        Err(_) => return Err(Usage::Wrong("route takes one statement: put it in quotes".to_owned())),
    }
    Ok(())
}

/// Reads what follows the word `top`. Takes all that is left.
fn read_top(parser: &mut lexopt::Parser, options: &mut Options) -> Result<(), Usage> {
    use lexopt::Arg::{Long, Short};
    use lexopt::ValueExt;
    let wrong = |error: lexopt::Error| Usage::Wrong(error.to_string());
    while let Some(argument) = parser.next().map_err(wrong)? {
        let top = &mut options.top;
        match argument {
            Short('h') | Long("host") => top.host = Some(parser.value().and_then(|it| it.string()).map_err(wrong)?),
            Short('p') | Long("port") => top.port = Some(parser.value().and_then(|it| it.parse()).map_err(wrong)?),
            Short('U') | Long("user" | "username") => {
                top.user = Some(parser.value().and_then(|it| it.string()).map_err(wrong)?);
            }
            Short('f') | Long("config-file") => options.config_file = Some(parser.value().map_err(wrong)?.into()),
            Long("once") => top.once = true,
            Long("help") => return Err(Usage::Help),
            other => return Err(Usage::Wrong(other.unexpected().to_string())),
        }
    }
    Ok(())
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
  pgpool [OPTION]... upgrade         replace a running pgpool by this program without losing a session
  pgpool [OPTION]... check           check the configuration without starting
  pgpool [OPTION]... route [ROUTE OPTION]... STATEMENT
                                     tell where a statement would go and why
  pgpool [OPTION]... top [TOP OPTION]...
                                     show nodes and load in the terminal, anew every second

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

Route options, for a statement sent by this client; no pgpool needs to run:
  -U, --user=NAME          user, also to ask the primary what tables and functions are (sr_check_user)
  -d, --dbname=NAME        database (sr_check_database)
      --application-name=NAME
  -h, --host=HOST          ask this server instead of the primary
  -p, --port=PORT          its port
      --offline            ask no server
  -f, --config-file=FILE   pgpool.conf

Top options; metrics_listen_addresses must be set:
  -h, --host=HOST          where pgpool's metrics are (metrics_listen_addresses)
  -p, --port=PORT          their port (metrics_port)
  -U, --user=NAME          user of pcp.conf; asks for the password
      --once               once, and not again and again
  -f, --config-file=FILE   pgpool.conf
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
        let options = read(&["check", "-f", "x.conf"]).expect("read");
        assert_eq!((options.command, options.config_file), (Command::Check, Some("x.conf".into())));
        assert_eq!(read(&["stop", "-m", "fast"]).expect("read").mode, StopMode::Fast);
        assert_eq!(read(&["--check-config"]).expect("read").command, Command::Check);
        assert_eq!(read(&[]).expect("read").command, Command::Start);
    }

    #[test]
    fn route_has_options_of_its_own() {
        let options = read(&["-d", "route", "-U", "joe", "-dshop", "-h", "db", "-p", "5433", "-f", "x", "select 1"]);
        let options = options.expect("read");
        assert_eq!((options.command, options.debug), (Command::Route, true));
        assert_eq!(options.config_file, Some("x".into()));
        let expected = RouteOptions {
            user: Some("joe".to_owned()),
            database: Some("shop".to_owned()),
            host: Some("db".to_owned()),
            port: Some(5433),
            statement: b"select 1".to_vec(),
            ..RouteOptions::default()
        };
        assert_eq!(options.route, expected);
        let route = read(&["route", "--offline", "--application-name=app", "--", "-- x"]).expect("read").route;
        assert_eq!((route.offline, route.application_name.as_deref()), (true, Some("app")));
        assert_eq!(route.statement, b"-- x");
        assert_eq!(read(&["route", "--help"]), Err(Usage::Help));
    }

    #[test]
    fn top_has_options_of_its_own() {
        let options = read(&["top", "--once", "-h", "db", "-p5433", "-U", "ann", "-f", "x"]).expect("read");
        assert_eq!((options.command, options.config_file), (Command::Top, Some("x".into())));
        let (host, user) = (Some("db".to_owned()), Some("ann".to_owned()));
        assert_eq!(options.top, TopOptions { host, port: Some(5433), user, once: true });
        assert_eq!(read(&["top", "--help"]), Err(Usage::Help));
        assert!(matches!(read(&["top", "now"]), Err(Usage::Wrong(_))));
    }

    #[test]
    fn slips_are_usage_errors() {
        for arguments in [
            &["--conf", "x"][..],
            &["-q"],
            &["-m", "x", "stop"],
            &["go"],
            &["stop", "now"],
            &["stop", "route", "x"],
            &["route"],
            &["route", "select", "1"],
            &["route", "-p", "x", "select 1"],
            &["route", "-x", "select 1"],
        ] {
            assert!(matches!(read(arguments), Err(Usage::Wrong(_))), "{arguments:?}");
        }
        assert_eq!(read(&["-h", "--nonsense"]), Err(Usage::Help));
        assert_eq!(read(&["-v"]), Err(Usage::Version));
    }
}
