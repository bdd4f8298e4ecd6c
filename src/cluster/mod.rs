//! Helper processes that watch the servers.
//!
//! They must never touch sessions, and never wait for a server without a deadline.

pub mod finder;
mod search;
