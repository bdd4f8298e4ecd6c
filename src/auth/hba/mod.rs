//! pool_hba.conf: which client must prove itself how (auth 3).
//!
//! A file is taken as a whole or not at all; all its slips are found in one go. The parent reads it, and hands the bytes of
//! all files read to its children ([`Sources`]), so that an edit in between cannot make them differ.

mod address;
mod ldap;
mod matching;
mod method;
mod record;
mod rules;
mod sources;
mod token;

pub use address::{Address, Names, confirmed_name};
pub use ldap::{Ldap, Scope};
pub use matching::Client;
pub use method::{Method, Pam};
pub use record::{ClientCert, Connection, Record};
pub use rules::{Rules, Slips};
pub use sources::Sources;
