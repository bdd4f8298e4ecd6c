//! Who may come in: every pair of methods with every kind of entry, and what clients and files can do wrong (auth).

mod directory;
mod files;
mod guessing;
mod hostile;
mod ldap;
mod matrix;
mod os_user;
mod own_users;
mod pam;
mod programs;
mod query;
mod secrets;
pub mod stage;
