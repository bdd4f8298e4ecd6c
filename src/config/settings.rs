//! [`Settings`]: every parameter's value, typed. Generated from the catalogue; this file adds what data cannot say.

use super::choices::*;
use super::value::{LogDestinations, NodeFlags, RedirectList, RegexList, RelationPairs, StringList};

include!(concat!(env!("OUT_DIR"), "/settings.rs"));

impl Settings {
    /// Ids and settings of the nodes in use (config 5.3, rule 2).
    pub fn used_nodes(&self) -> impl Iterator<Item = (usize, &NodeSettings)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.in_use())
    }

    /// The configured share of balanced reads of node `id`, 0 to 1. All weights 0 give no node a share.
    pub fn weight_share(&self, id: usize) -> f64 {
        let sum: f64 = self.used_nodes().map(|(_, node)| node.weight).sum();
        match self.nodes.get(id) {
            Some(node) if node.in_use() && sum > 0.0 => node.weight / sum,
            _ => 0.0,
        }
    }
}

impl NodeSettings {
    /// Whether the slot holds a node: it has a port.
    pub fn in_use(&self) -> bool {
        self.port != 0
    }
}

impl WatchdogNodeSettings {
    /// Whether the slot holds a pgpool node.
    pub fn in_use(&self) -> bool {
        self.wd_port != 0
    }
}

impl HeartbeatSettings {
    /// Whether the slot holds an address.
    pub fn in_use(&self) -> bool {
        self.port != 0
    }
}

/// Row `index`, made with defaults if it is not there yet.
pub(super) fn row_mut<T: Default + Clone>(rows: &mut Vec<T>, index: usize) -> &mut T {
    if rows.len() <= index {
        rows.resize(index + 1, T::default());
    }
    &mut rows[index]
}
