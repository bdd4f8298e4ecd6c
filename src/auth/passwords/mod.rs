//! pool_passwd: the passwords pgpool knows (auth 4), and what follows from an entry.
//!
//! The file is looked at whenever a password is needed, so that a change counts at the next login, without a reload. The
//! server never writes it; [`set`] does it for the programs `pg_md5` and `pg_enc`.

mod entry;
mod file;
mod line;
mod review;
mod write;

pub use entry::Entry;
pub use file::{KeyFile, Passwords, create};
pub use line::Table;
pub use review::review;
pub use write::set;
