//! The command line (tools 1.1).

use crate::net::Address;
use crate::tools::account;
use crate::tools::getopt::{Long, Reader, long};
use nix::unistd::Uid;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SHORT: &str = "h:p:u:d:f:r:Dv?";
const TIMEOUT: u8 = b't';
const LONG: &[Long] = &[
    long("host", true, b'h'),
    long("port", true, b'p'),
    long("username", true, b'u'),
    long("database", true, b'd'),
    long("proto-data-file", true, b'f'),
    long("read-nap", true, b'r'),
    long("debug", false, b'D'),
    long("help", false, b'?'),
    long("version", false, b'v'),
    long("timeout", true, TIMEOUT),
    // The usage text of the original calls them so.
    long("hostname", true, b'h'),
    long("user", true, b'u'),
];

/// Where Unix sockets are when no host is given: the first directory that has one.
const SOCKET_DIRECTORIES: &[&str] = &["/var/run/postgresql", "/tmp"];
/// The port when none is given.
const DEFAULT_PORT: u16 = 5432;
/// How long a message may take to come.
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);

/// The usage text.
pub(super) const USAGE: &str = "Usage: pgpool-II
-h, --hostname=HOSTNAME (default: UNIX domain socket)
-p, --port=PORT (default: 5432)
-u, --user USERNAME (default: OS user)
-d, --database DATABASENAME (default: same as user)
-f, --proto-data-file FILENAME (default: pgproto.data)
-r, --read-nap NAPTIME (in micro seconds. default: 0)
--timeout=SECONDS (wait no longer for a message, 0: for ever. default: 600)
-D, --debug
-?, --help
-v, --version
";

/// A command line that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub address: Address,
    pub user: String,
    pub database: String,
    pub script: PathBuf,
    /// To sleep after each message received.
    pub nap: Duration,
    /// How long a message may take to come; `None`: for ever.
    pub limit: Option<Duration>,
    /// What was asked for, as libpq writes it.
    pub conninfo: String,
}

/// A command line that ends here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slip {
    Help,
    Version,
    Wrong(String),
}

/// Reads `arguments`, which begin with the program's name. What they do not say is taken from libpq's environment.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Slip> {
    let mut reader = Reader::new(arguments, SHORT, LONG);
    let [mut host, mut port, mut user, mut database] = [const { None::<String> }; 4];
    let mut script = PathBuf::from("pgproto.data");
    let mut nap = Duration::ZERO;
    let mut limit = Some(DEFAULT_LIMIT);
    while let Some((letter, value)) = reader.next().map_err(Slip::Wrong)? {
        let text = value.as_ref().map(|value| value.to_string_lossy().into_owned());
        match letter {
            b'h' => host = text,
            b'p' => port = text,
            b'u' => user = text,
            b'd' => database = text,
            b'f' => script = value.unwrap_or_default().into(),
            b'r' => nap = Duration::from_micros(number("nap time", &text.unwrap_or_default())?.into()),
            TIMEOUT => {
                let seconds = number("timeout", &text.unwrap_or_default())?;
                limit = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
            }
            b'?' => return Err(Slip::Help),
            b'v' => return Err(Slip::Version),
            _ => {}
        }
    }
    let conninfo = conninfo(host.as_deref(), port.as_deref(), user.as_deref(), database.as_deref());
    let from_environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let port = match port.or_else(|| from_environment("PGPORT")) {
        Some(port) => port.parse().map_err(|_| Slip::Wrong(format!("invalid port \"{port}\"\n")))?,
        None => DEFAULT_PORT,
    };
    let host = host.or_else(|| from_environment("PGHOST")).filter(|host| !host.is_empty());
    let user = user.or_else(|| from_environment("PGUSER")).or_else(|| account::name(Uid::effective()));
    let user = user.ok_or_else(|| Slip::Wrong("could not find out the name of the user, give -u\n".to_owned()))?;
    let database = database.or_else(|| from_environment("PGDATABASE")).unwrap_or_else(|| user.clone());
    let address = Address { host: host.unwrap_or_else(|| socket_directory(port)), port };
    Ok(Options { address, user, database, script, nap, limit, conninfo })
}

fn number(what: &str, word: &str) -> Result<u32, Slip> {
    word.parse().map_err(|_| Slip::Wrong(format!("invalid {what} \"{word}\"\n")))
}

fn socket_directory(port: u16) -> String {
    let has_socket = |directory: &&&str| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists();
    SOCKET_DIRECTORIES.iter().find(has_socket).unwrap_or(&SOCKET_DIRECTORIES[0]).to_string()
}

fn conninfo(host: Option<&str>, port: Option<&str>, user: Option<&str>, database: Option<&str>) -> String {
    let part = |name: &str, value: Option<&str>| value.map(|value| format!("{name}={value}")).unwrap_or_default();
    [
        part("host", host),
        part(" port", port),
        part(" user", user),
        part(" dbname", database),
        " application_name=pgproto".to_owned(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, Slip> {
        parse(["pgproto"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn all_forms() {
        let options = read(&["-h", "/run", "-p5433", "--user=joe", "-d", "shop", "-f", "x", "-r", "10", "-D"]);
        let options = options.expect("read");
        assert_eq!(options.address, Address { host: "/run".to_owned(), port: 5433 });
        assert_eq!((options.user.as_str(), options.database.as_str()), ("joe", "shop"));
        assert_eq!((options.nap, options.limit), (Duration::from_micros(10), Some(DEFAULT_LIMIT)));
        assert_eq!(options.conninfo, "host=/run port=5433 user=joe dbname=shop application_name=pgproto");
        let options = read(&["--username", "joe", "--timeout=0"]).expect("read");
        assert_eq!((options.limit, options.conninfo.as_str()), (None, " user=joe application_name=pgproto"));
        assert_eq!(read(&["-?"]), Err(Slip::Help));
        assert_eq!(read(&["--version"]), Err(Slip::Version));
        for wrong in [&["-x"][..], &["-p", "x"], &["-r", "-1"], &["--timeout", "x"]] {
            assert!(matches!(read(wrong), Err(Slip::Wrong(_))), "{wrong:?}");
        }
    }
}
