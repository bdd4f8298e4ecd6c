//! pgpool: connection pooling, read load balancing and failover for PostgreSQL; a drop-in replacement for Pgpool-II.

pub mod config;
pub mod report;
