//! Checks that look at several settings together (config 5.3). They read a finished copy; nothing is in force yet.

use super::apply::Positions;
use super::checks::Checks;
use super::choices::{MemqcacheMethod, ProcessManagementMode, WdLifecheckMethod};
use super::problem::Problems;
use super::settings::Settings;
use crate::report::Report;

/// Runs all checks. Unlike the original, a failed one does not hide the others.
pub fn check(settings: &Settings, own_node: Option<usize>, positions: &Positions, problems: &mut Problems) {
    let mut checks = Checks { settings, positions, problems };
    checks.watchdog(own_node);
    checks.recovery();
    checks.quorum();
    checks.spare_children();
    checks.query_cache();
    checks.passwords();
    checks.nodes();
}

impl Checks<'_> {
    fn watchdog(&mut self, own_node: Option<usize>) {
        if self.settings.use_watchdog
            && let Some(id) = own_node
            && !self.settings.watchdog_nodes.get(id).is_some_and(|node| node.in_use())
        {
            let detail = format!("no watchdog configuration for local pgpool node, pgpool node id: {id} ");
            let report = Report::error("invalid watchdog configuration").detail(detail);
            self.at("use_watchdog", None, report.hint(format!("Set hostname{id}, wd_port{id} and pgpool_port{id}.")));
        }
        if self.settings.wd_lifecheck_method == WdLifecheckMethod::Heartbeat {
            for (id, slot) in self.settings.heartbeats.iter().enumerate() {
                if slot.in_use() && slot.hostname.is_empty() {
                    let report = Report::error("invalid watchdog configuration")
                        .detail(format!("heartbeat_hostname{id} is not defined"));
                    self.at("heartbeat_port", Some(id), report);
                }
            }
        }
    }

    fn recovery(&mut self) {
        let stages = [
            ("recovery_1st_stage_command", &self.settings.recovery_1st_stage_command),
            ("recovery_2nd_stage_command", &self.settings.recovery_2nd_stage_command),
        ];
        let Some((name, _)) = stages.iter().find(|(_, command)| !command.is_empty()) else { return };
        let without = |(id, node): (usize, &super::NodeSettings)| node.data_directory.is_empty().then_some(id);
        if let Some(id) = self.settings.used_nodes().find_map(without) {
            let message = "invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires \
                           backend_data_directory to be set";
            self.at(name, None, Report::error(message).hint(format!("backend_data_directory{id} is not set.")));
        }
    }

    fn quorum(&mut self) {
        if self.settings.failover_when_quorum_exists && self.settings.replication_mode {
            let message =
                "invalid configuration, failover_when_quorum_exists is not allowed in native replication mode";
            self.at("replication_mode", None, Report::error(message).hint("Set failover_when_quorum_exists = off."));
        }
    }

    fn spare_children(&mut self) {
        let Settings { min_spare_children: min, max_spare_children: max, num_init_children: all, .. } = self.settings;
        if self.settings.process_management_mode != ProcessManagementMode::Dynamic {
            return;
        }
        if min >= max {
            let message = format!(
                "invalid configuration, max_spare_children:{max} must be greater than min_spare_children:{min}"
            );
            self.at("max_spare_children", None, Report::error(message));
        } else if max > all {
            let message = format!(
                "invalid configuration, max_spare_children:{max} can't be greater than num_init_children:{all}"
            );
            self.at("max_spare_children", None, Report::error(message));
        }
    }

    fn query_cache(&mut self) {
        let Settings {
            memqcache_cache_block_size: block,
            memqcache_maxcache: largest,
            memqcache_total_size: total,
            ..
        } = self.settings;
        if self.settings.memqcache_method != MemqcacheMethod::Shmem {
            return;
        }
        let invalid = |detail: String| Report::error("invalid memory cache configuration").detail(detail);
        if block < largest {
            let detail = format!(
                "memqcache_cache_block_size {block} should be greater or equal to memqcache_maxcache {largest}"
            );
            self.at("memqcache_maxcache", None, invalid(detail));
        }
        if *total < i64::from(*block) {
            let detail = format!(
                "memqcache_total_size {total} should be greater or equal to memqcache_cache_block_size {block}"
            );
            self.at("memqcache_total_size", None, invalid(detail));
        }
    }

    /// Refused at first use; better said now.
    fn passwords(&mut self) {
        let passwords = [
            ("recovery_password", &self.settings.recovery_password),
            ("wd_lifecheck_password", &self.settings.wd_lifecheck_password),
        ];
        for (name, password) in passwords {
            let is_md5 = password.strip_prefix("md5");
            if is_md5.is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit())) {
                let report = Report::warning(format!("{name} cannot be used"))
                    .detail(format!("{name} is not allowed to be md5 hashed format"))
                    .hint("Write the password itself, or leave it empty and put it into pool_passwd.");
                self.at(name, None, report);
            }
        }
    }

    fn nodes(&mut self) {
        if self.settings.used_nodes().next().is_none() {
            let report = Report::warning("no backend node is configured, so no client can be served")
                .hint("Set backend_hostname0 and backend_port0.");
            return self.problems.add(report, None);
        }
        let all_zero = self.settings.used_nodes().all(|(_, node)| node.weight == 0.0);
        if self.settings.load_balance_mode && all_zero {
            let report = Report::warning("load_balance_mode is on but no node has a backend_weight above 0")
                .hint("Give the nodes that shall serve reads a weight, such as backend_weight0 = 1.");
            self.at("load_balance_mode", None, report);
        }
        let local =
            self.settings.used_nodes().find(|(_, node)| node.hostname.is_empty() || node.hostname.starts_with('/'));
        if let Some((id, _)) = local.filter(|_| !self.settings.enable_pool_hba) {
            let report = Report::warning(
                "nothing but the servers tells who clients are, and one is asked by a Unix socket",
            )
            .detail(
                "Where that server asks for no password (trust, peer) it may have taken pgpool's operating system \
                     user for a proof. Clients are refused then, except that user's own.",
            )
            .hint("Set enable_pool_hba = on, and tell in pool_hba.conf how clients prove themselves.");
            self.at("backend_hostname", Some(id), report);
        }
    }
}
