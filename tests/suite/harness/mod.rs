//! Starts real servers and the pgpool under test, talks to them, and cleans up whatever happens.
//!
//! - `Cluster`: PostgreSQL servers, streaming or independent; `shared()` is the one for tests that break nothing.
//! - `Pgpool`: the pgpool under test, ours or another installation.
//! - `Wire`: a raw protocol client; `frontend` builds its messages.
//! - `Listener`: what arrived at a server, by its own log.
//! - `Load`: many clients at work while something happens.
//! - `Memcached`: one for the query cache.
//! - `Program`: any client program, with a deadline; `Service`: one that runs beside the test.
//!
//! Nothing here waits for a fixed time: `wait_for` polls a condition until its deadline. Every process is registered
//! with the reaper, which ends them all when the test program is gone, in whatever way.

mod cluster;
mod config;
mod environment;
pub mod frontend;
mod heard;
mod load;
mod logs;
mod memcached;
mod names;
mod network;
mod node;
mod password;
mod pgpool;
mod ports;
mod processes;
mod program;
pub mod reading;
mod reply;
mod scratch;
mod service;
mod template;
mod wait;
mod wire;

pub use cluster::{Cluster, shared, without_lag};
pub use config::Config;
pub use environment::{
    client_program, client_version, foreign, has_server_program, is_bare_server, no_skips, pgpool_program,
    server_program, server_user, server_version, target_dir,
};
pub use heard::{Entry, Listener};
pub use load::{Habit, Load};
pub use logs::{checks_started, failovers, lines_in_order};
pub use memcached::Memcached;
pub use names::{NameServer, Names, Record};
pub use network::{Network, can_make_namespaces};
pub use node::{Node, Stop};
pub use password::Attempt;
pub use pgpool::Pgpool;
pub use ports::free_port;
pub use processes::{children_of, cpu_time, process_title};
pub use program::{Outcome, Program};
pub use reply::{Message, Reply};
pub use scratch::{Scratch, forget_process, give_to_server_user, register_process};
pub use service::Service;
pub use wait::{PATIENCE, eventually, wait_for};
pub use wire::{LOGIN, Wire};

/// Ends the test here, with a word, when the pgpool under test is not ours: the original behaves differently.
#[macro_export]
macro_rules! only_ours {
    ($why:literal) => {
        if $crate::harness::foreign() {
            println!("skipped on another installation: {}", $why);
            return;
        }
    };
}

/// Ends the test here, with a word, when it talks to a server without a pgpool.
#[macro_export]
macro_rules! needs_pgpool {
    () => {
        if $crate::harness::is_bare_server() {
            println!("skipped on a bare server");
            return;
        }
    };
}

/// Ends the test here, with a word, when the servers are older than this major version.
#[macro_export]
macro_rules! needs_server {
    ($major:literal, $why:literal) => {
        if $crate::harness::server_version() < $major {
            println!("skipped before PostgreSQL {}: {}", $major, $why);
            return;
        }
    };
}

/// Ends the test here, with a word, when the server under test comes without this program or library.
#[macro_export]
macro_rules! needs_program {
    ($name:literal) => {
        if !$crate::harness::has_server_program($name) {
            println!("skipped: {} is not there for this version of the server", $name);
            return;
        }
    };
}
