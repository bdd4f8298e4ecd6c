//! pool_passwd: the passwords pgpool knows (auth 4), and what follows from an entry.
//!
//! The file is looked at whenever a password is needed, so that a change counts at the next login, without a reload. It is
//! never written here.

mod entry;
mod file;
mod line;

pub use entry::Entry;
pub use file::{KeyFile, Passwords, create};
pub use line::Table;
