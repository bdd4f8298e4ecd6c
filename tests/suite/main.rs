//! The suite: real clients in front of the pgpool under test in front of real PostgreSQL servers.
//!
//! One test program, so that it is linked once. `harness` starts and ends everything; each other module tests one
//! subject. How to run it, and against what, is told in docs/testing.md.

mod auth;
mod balance;
mod cancel;
mod clients;
mod collector;
mod dynamic;
mod exhaustion;
mod explain;
mod failover;
mod faults;
mod garbage;
mod harness;
mod health;
mod interplay;
mod killed;
mod lab;
mod limits;
mod log_lines;
mod logging;
mod metrics;
mod new_primary;
mod own_servers;
mod pauses;
mod pcp;
mod pcp_clients;
mod pgproto;
mod pool;
mod primary;
mod process;
mod query_cache;
mod queue;
mod relcache;
mod replication;
mod resent;
mod routing;
mod scripts;
mod service_manager;
mod session;
mod show;
mod tls;
mod top;
mod transactions;
mod upgrade;
mod upkeep;
