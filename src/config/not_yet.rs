//! What can be configured but does not exist yet (config 5.3). A parameter that asks for it is never silently ignored:
//! where data would be at risk the configuration is refused, else it is warned of, with what to do until then.
//!
//! Whoever builds one of these features deletes its entry here; this file goes when the last one is gone.

use super::apply::Positions;
use super::choices::BackendClusteringMode;
use super::problem::Problems;
use super::settings::Settings;
use crate::report::Report;

/// A feature to come.
struct Feature {
    /// The parameter that asks for it, and whether it does.
    name: &'static str,
    is_wanted: fn(&Settings) -> bool,
    /// What that means now.
    detail: &'static str,
    /// What to do instead.
    hint: &'static str,
}

const FEATURES: &[Feature] = &[Feature {
    name: "use_watchdog",
    is_wanted: |settings| settings.use_watchdog,
    detail: "Other pgpool nodes are not watched, and delegate_ip is not taken.",
    hint: "Let a cluster manager watch pgpool and hold the address.",
}];

/// Adds what `settings` ask for in vain.
pub(super) fn check(settings: &Settings, positions: &Positions, problems: &mut Problems) {
    use BackendClusteringMode::{NativeReplication, SnapshotIsolation};
    let mode = settings.backend_clustering_mode;
    if matches!(mode, NativeReplication | SnapshotIsolation) {
        let name = settings.get("backend_clustering_mode").unwrap_or_default();
        let report = Report::error(format!("mode {name} is not supported yet"))
            .detail("Writes would reach the main node only, and the nodes would differ from then on.")
            .hint("Use streaming_replication, logical_replication or raw, or stay with Pgpool-II.");
        problems.add(report, positions.place("backend_clustering_mode", None));
    }
    for Feature { name, is_wanted, detail, hint } in FEATURES {
        if is_wanted(settings) {
            let report = Report::warning(format!("{name} has no effect yet"));
            let first = || (0..settings.nodes.len()).find_map(|id| positions.place(name, Some(id)));
            problems.add(report.detail(*detail).hint(*hint), positions.place(name, None).or_else(first));
        }
    }
}
