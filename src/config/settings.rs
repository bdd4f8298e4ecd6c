//! [`Settings`]: every parameter's value, typed. Generated from the catalogue; this file adds what data cannot say.

use super::choices::*;
use super::value::{LogDestinations, NodeFlags, RedirectList, RegexList, RelationPairs, StringList};

include!(concat!(env!("OUT_DIR"), "/settings.rs"));

impl Settings {
    /// Ids and settings of the nodes in use (config 5.3, rule 2).
    pub fn used_nodes(&self) -> impl Iterator<Item = (usize, &NodeSettings)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.in_use())
    }

    /// Whether `connected` clients, the newest included, are more than there is room for, so that it is refused
    /// (process-model 7.4). Without `reserved_connections` nobody is.
    pub fn is_crowded_by(&self, connected: usize) -> bool {
        let room = usize::try_from(self.num_init_children.saturating_sub(self.reserved_connections)).unwrap_or(0);
        self.reserved_connections > 0 && connected > room
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_places_are_not_given_away() {
        let settings = |num_init_children, reserved_connections| Settings {
            num_init_children,
            reserved_connections,
            ..Settings::default()
        };
        assert!(!settings(32, 0).is_crowded_by(32));
        assert!(!settings(32, 2).is_crowded_by(30) && settings(32, 2).is_crowded_by(31));
        assert!(settings(32, 40).is_crowded_by(1));
    }
}
