//! pgpool: connection pooling, read load balancing and failover for PostgreSQL; a drop-in replacement for Pgpool-II.

pub mod backend;
pub mod config;
pub mod net;
pub mod report;
pub mod sql;
pub mod wire;
