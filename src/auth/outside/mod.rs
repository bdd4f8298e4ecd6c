//! Asking others whether a password is right: PAM and LDAP (auth 20, 21).
//!
//! Both are libraries that wait, read files of their own, start threads or processes, and may crash. So they run in a
//! process that does nothing else and lives for one login: the worker starts pgpool's own program anew ([`VERB`]), which
//! knows nothing but what it is told over a socket, and has until the worker's deadline.
//!
//! ```text
//!     worker:  Errand --- request, password of binddn --------------> process: serve()
//!                     <-- "ask for the password" | a log line --------  pam | ldap
//!                     --- the password ----------------------------->
//!                     <-- granted | refused -------------------------
//! ```
//!
//! Invariants:
//! - Only the message `granted` lets anybody in; a process that ends in any other way has refused.
//! - Passwords go through the socket only, never through arguments, environment or files.
//! - The process does not outlive the [`Errand`], nor the worker; what a module has started does not outlive one that had to
//!   be ended.

mod attempt;
mod errand;
mod escape;
mod ldap;
mod line;
mod orphans;
mod pam;
mod serve;

pub use errand::{Errand, Event};
pub use serve::serve;

use super::hba::Ldap;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// The one argument that makes pgpool's program ask for a worker, for nobody else to use.
pub const VERB: &str = "--authenticate-outside";

/// Who is to be asked what. No secret is in it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The user that wants in.
    pub user: Vec<u8>,
    /// Who decides.
    pub judge: Judge,
    /// How long it may take.
    pub within: Duration,
}

/// Who decides.
#[derive(Debug, Serialize, Deserialize)]
pub enum Judge {
    /// A service of PAM.
    Pam {
        /// Its name.
        service: String,
        /// Where the client is; `None`: on this machine.
        address: Option<IpAddr>,
        /// PAM is to be told the name of the address.
        by_name: bool,
    },
    /// A directory.
    Ldap(Box<Ldap>),
}
