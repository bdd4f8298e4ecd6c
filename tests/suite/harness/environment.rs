//! What is tested, and with which programs: decided by environment variables.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::unistd::{Uid, User};

/// What the tests talk to.
pub enum UnderTest {
    /// Our own build.
    Ours,
    /// Another installation, PGPOOL_UNDER_TEST=<prefix>.
    Other(PathBuf),
    /// No pgpool at all but node 0 itself, PGPOOL_UNDER_TEST=server: the oracle for tests of the protocol.
    Server,
}

/// What PGPOOL_UNDER_TEST says.
pub fn under_test() -> UnderTest {
    match std::env::var_os("PGPOOL_UNDER_TEST") {
        None => UnderTest::Ours,
        Some(word) if word == "server" => UnderTest::Server,
        Some(prefix) => UnderTest::Other(prefix.into()),
    }
}

/// Whether tests that lack a program fail instead of being left out: PGPOOL_TEST_NO_SKIPS, as before a change is taken.
pub fn no_skips() -> bool {
    std::env::var_os("PGPOOL_TEST_NO_SKIPS").is_some()
}

/// The program `pgpool` under test.
pub fn pgpool_program() -> PathBuf {
    match under_test() {
        UnderTest::Other(prefix) => prefix.join("bin/pgpool"),
        UnderTest::Ours | UnderTest::Server => PathBuf::from(env!("CARGO_BIN_EXE_pgpool")),
    }
}

/// Is it another pgpool than ours?
pub fn foreign() -> bool {
    matches!(under_test(), UnderTest::Other(_))
}

/// Is there no pgpool at all?
pub fn is_bare_server() -> bool {
    matches!(under_test(), UnderTest::Server)
}

/// Cargo's target directory, which holds our caches and the logs of failed tests.
pub fn target_dir() -> PathBuf {
    // CARGO_TARGET_TMPDIR is <target>/tmp.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target directory").to_owned()
}

/// A program of the PostgreSQL server under test (initdb, postgres): version PG=<major> as unpacked by
/// `scripts/setup --pg`, else the distribution's newest.
pub fn server_program(name: &str) -> PathBuf {
    match std::env::var("PG") {
        Ok(major) if !major.is_empty() => {
            let program = target_dir().join("pg").join(&major).join("bin").join(name);
            assert!(program.exists(), "{} is missing: run scripts/setup --pg {major}", program.display());
            program
        }
        _ => distribution_program(name).unwrap_or_else(|| panic!("no PostgreSQL server found: run scripts/setup")),
    }
}

/// Whether the server under test comes with this program; the packages of other versions have but few.
pub fn has_server_program(name: &str) -> bool {
    server_program("postgres").with_file_name(name).exists()
}

/// A client program (psql, pgbench, pg_dump): always the distribution's, the packages of other versions have none.
pub fn client_program(name: &str) -> PathBuf {
    distribution_program(name).unwrap_or_else(|| PathBuf::from(name))
}

fn distribution_program(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name))))
        .filter(|(_, program)| program.exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, program)| program)
}

/// The server's complete version, such as `15.13`.
pub fn full_server_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| version_of(&server_program("postgres")))
}

/// The server's major version.
pub fn server_version() -> u32 {
    major(full_server_version())
}

/// The client programs' major version; pg_dump refuses newer servers.
pub fn client_version() -> u32 {
    major(&version_of(&client_program("psql")))
}

fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("major version")
}

fn version_of(program: &Path) -> String {
    let output =
        Command::new(program).arg("--version").output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.13 (Debian ...)"
    text.split_whitespace().nth(2).unwrap_or_else(|| panic!("no version in {text:?}")).to_owned()
}

/// Whom the servers run as: root must lend them user postgres, everybody else runs them himself.
pub fn server_user() -> Option<User> {
    Uid::effective().is_root().then(|| {
        User::from_name("postgres").expect("user database").expect("root needs a user postgres for the servers")
    })
}
