//! PCP: the server against raw bytes, the original's programs, and the extension pgpool_adm.

mod bytes;
mod extension;
mod limits;
mod operator;
mod orders;
mod programs;
pub mod raw;

use crate::harness::{Config, Pgpool};
use raw::Raw;

/// The user of the tests, and his password.
const USER: &str = "pgpool";
const PASSWORD: &str = "secret";

/// Starts the pgpool with that user.
#[track_caller]
pub fn start(config: Config) -> Pgpool {
    let pool = config.prepare();
    admit(&pool);
    pool.started()
}

/// Lets that user in, from the next login on.
pub fn admit(pool: &Pgpool) {
    pool.write("pcp.conf", &format!("# who\n{USER}:{}\n", raw::md5_hex(&[PASSWORD.as_bytes()])));
}

/// A connection that has logged in.
#[track_caller]
pub fn login(pool: &Pgpool) -> Raw {
    let mut raw = Raw::open(pool.pcp_port());
    assert_eq!(raw.log_in(USER, PASSWORD), (b'r', b"AuthenticationOK\0".to_vec()), "{}", pool.log());
    raw
}
