//! pgpool: connection pooling, read load balancing and failover for PostgreSQL; a drop-in replacement for Pgpool-II.

pub mod admin;
pub mod backend;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod net;
pub mod report;
pub mod route;
pub mod session;
pub mod sql;
pub mod state;
pub mod supervisor;
pub mod sys;
pub mod wire;
pub mod worker;
