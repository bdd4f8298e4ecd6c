//! The administrator at his terminal: the original's pcp_* programs, with pcp.conf and .pcppass as he has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::harness::{Outcome, Pgpool, Program, target_dir};

/// His user and password.
const USER: &str = "pgpool";
const PASSWORD: &str = "secreto";

/// Where the programs are.
pub fn directory() -> PathBuf {
    target_dir().join("pgpool2/bin")
}

/// Ends the test, with a word, where the programs cannot be had.
macro_rules! needs_pcp_programs {
    () => {
        if !$crate::lab::pcp::directory().join("pcp_node_info").exists() {
            println!("skipped: the programs of Debian's pgpool2 are missing (scripts/setup --pgpool2)");
            return;
        }
    };
}
pub(super) use needs_pcp_programs;

/// Writes pcp.conf, by pg_md5, and .pcppass.
pub fn set_up(pool: &Pgpool) {
    let hash = Program::new(directory().join("pg_md5")).args([PASSWORD]).run().succeeded();
    fs::write(pool.path("pcp.conf"), format!("{USER}:{}\n", hash.trim())).expect("pcp.conf");
    let file = pool.path(".pcppass");
    fs::write(&file, format!("127.0.0.1:{}:{USER}:{PASSWORD}\n", pool.pcp_port())).expect(".pcppass");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect(".pcppass");
}

/// What nodes.sh needs so that follow_primary.sh attaches nodes.
pub fn script_settings(pool: &Pgpool) -> String {
    format!(
        "PCP_HOST=127.0.0.1 PCP_PORT={} PCP_USER={USER} PATH=$PATH:{}\nexport PCPPASSFILE={}",
        pool.pcp_port(),
        directory().display(),
        pool.path(".pcppass").display()
    )
}

/// Runs a program such as `pcp_attach_node` with these further arguments.
pub fn run(pool: &Pgpool, name: &str, arguments: &[&str]) -> Outcome {
    let port = pool.pcp_port().to_string();
    Program::new(directory().join(name))
        .env("PCPPASSFILE", &pool.path(".pcppass").display().to_string())
        .args(["-h", "127.0.0.1", "-p", &port, "-U", USER, "-w"])
        .args(arguments)
        .run()
}

/// The same from SQL, by pgpool_adm: the call of a function with these first arguments.
pub fn call(pool: &Pgpool, function: &str, first: &str) -> String {
    format!("SELECT {function}({first}, '127.0.0.1', {}, '{USER}', '{PASSWORD}')", pool.pcp_port())
}
