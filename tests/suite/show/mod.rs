//! What pgpool answers itself: SHOW POOL_... (show-commands), PGPOOL SHOW, SET and RESET (config 7, 8).

mod counters;
mod extended;
mod live;
mod oracle;
mod parameters;
mod tables;

use crate::harness::{Pgpool, shared};

/// A pgpool in front of the shared cluster, all reads on a standby.
fn pool() -> Pgpool {
    Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start()
}
