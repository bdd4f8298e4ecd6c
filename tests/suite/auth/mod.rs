//! Who may come in: every pair of methods with every kind of entry, and what clients and files can do wrong (auth).

mod files;
mod hostile;
mod matrix;
mod own_users;
mod programs;
mod query;
mod stage;
