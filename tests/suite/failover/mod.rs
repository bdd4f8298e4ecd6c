//! Nodes come and go on real clusters, and the service stays (failover 5 to 10, 17).
//!
//! - `standbys`, `primaries`: a node of that role is lost, or comes back
//! - `sessions`: what a session notices of its server, and what follows from that
//! - `commands`: failover_command and the others, that do or do not what they should
//! - `faults`: odd faults at the wrong moment
//! - `load`: all of it under load, with figures

use crate::harness::Cluster;

mod commands;
mod faults;
mod load;
mod primaries;
mod sessions;
mod standbys;

const PORT: &str = "SELECT current_setting('port')";

/// A failover script that promotes node 1 of the cluster when node 0 is lost.
fn promoting(cluster: &Cluster) -> String {
    format!("if [ \"$1\" = 0 ]; then {}; fi", cluster.node(1).promotion())
}
