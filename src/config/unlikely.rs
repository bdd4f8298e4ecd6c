//! Settings that can be used and are hardly meant: each is a slip that would show only later, and elsewhere.

use super::apply::Positions;
use super::checks::Checks;
use super::problem::Problems;
use super::settings::Settings;
use crate::report::Report;

/// Adds a warning for each of them.
pub(super) fn check(settings: &Settings, positions: &Positions, problems: &mut Problems) {
    let mut checks = Checks { settings, positions, problems };
    checks.old_replication();
    checks.reserved();
    checks.ports();
    checks.hosts();
    checks.lookalikes();
}

impl Checks<'_> {
    /// Before release 4.2 this asked for native replication; whoever comes from there expects it.
    fn old_replication(&mut self) {
        if self.settings.replication_mode {
            let report = Report::warning("replication_mode does not select native replication any more")
                .detail("Writes reach the primary only. backend_clustering_mode says which mode is used.")
                .hint("Remove the line; if the nodes are kept in step by native replication, stay with Pgpool-II.");
            self.at("replication_mode", None, report);
        }
    }

    /// With as many reserved connections as there are processes everybody is refused.
    fn reserved(&mut self) {
        let Settings { reserved_connections: reserved, num_init_children: all, .. } = self.settings;
        if reserved >= all {
            let message = format!(
                "reserved_connections ({reserved}) leaves none of num_init_children ({all}) to clients: all are refused"
            );
            self.at("reserved_connections", None, Report::warning(message).hint("It is how many are kept free."));
        }
    }

    /// Two listeners on one port: the second one fails at start.
    fn ports(&mut self) {
        let has_metrics = !self.settings.metrics_listen_addresses.is_empty();
        let ports = [
            ("port", Some(self.settings.port)),
            ("pcp_port", Some(self.settings.pcp_port)),
            ("metrics_port", has_metrics.then_some(self.settings.metrics_port)),
        ];
        for (at, (name, port)) in ports.into_iter().enumerate() {
            if let Some((twin, _)) = ports[..at].iter().find(|(_, other)| port.is_some() && *other == port) {
                let report = Report::warning(format!("{twin} and {name} are the same: {}", port.unwrap_or_default()));
                self.at(name, None, report.hint("Each needs a port of its own."));
            }
        }
    }

    /// A node that is pgpool itself, and a port that stands where only a name can.
    fn hosts(&mut self) {
        let own_port = self.settings.port;
        for (id, node) in self.settings.used_nodes() {
            let host = node.hostname.as_str();
            if i32::from(node.port) == own_port && matches!(host, "localhost" | "127.0.0.1" | "::1") {
                let report = Report::warning(format!("node {id} is pgpool itself: {host}:{own_port}"))
                    .hint("port is where clients find pgpool, backend_port where pgpool finds a server.");
                self.at("backend_port", Some(id), report);
            }
            let port = host.split_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
            if let Some(port) = port {
                let report = Report::warning(format!("node {id} has a port in its name: \"{host}\""))
                    .hint(format!("Set backend_port{id} = {port}, and leave it out here."));
                self.at("backend_hostname", Some(id), report);
            }
        }
    }

    /// Two nodes with the same address, or the same application name, are probably one typing error.
    fn lookalikes(&mut self) {
        let used: Vec<_> = self.settings.used_nodes().collect();
        for (at, (id, node)) in used.iter().enumerate() {
            let earlier = &used[..at];
            if let Some((twin, _)) = earlier.iter().find(|(_, n)| (&n.hostname, n.port) == (&node.hostname, node.port))
            {
                let message = format!("nodes {twin} and {id} are the same server: {}:{}", node.hostname, node.port);
                self.at("backend_port", Some(*id), Report::warning(message));
            }
            let name = &node.application_name;
            if !name.is_empty()
                && let Some((twin, _)) = earlier.iter().find(|(_, n)| n.application_name == *name)
            {
                let message = format!("nodes {twin} and {id} have the same backend_application_name \"{name}\"");
                let hint = "The name tells the standbys apart in pg_stat_replication; each needs its own.";
                self.at("backend_application_name", Some(*id), Report::warning(message).hint(hint));
            }
        }
    }
}
