//! Helper processes that watch the servers.
//!
//! A helper asks (`ask`, `sight`), decides without I/O (`search`, `verdict`, `verify`) and writes what it found to the node
//! table (`finder`). A command that needs no running pgpool takes one `look` instead. How far standbys are behind, and
//! whether the primary is still the same, is the business of [`replication`].
//! The health check ([`health`]) asks the parent to detach a node that fails; in a failover the parent lets the new
//! [`primary`] be searched.
//!
//! They must never touch sessions, and never wait for a server without a deadline.

mod ask;
pub mod finder;
pub mod health;
mod look;
pub mod primary;
pub mod replication;
mod search;
mod sight;
#[cfg(test)]
mod simulation;
mod tell;
mod verdict;
mod verify;

pub use look::{assume, look};
pub use search::has_primary;
