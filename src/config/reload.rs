//! What a reload takes over (config 6.3): a pure function from the settings in force and those of the file.
//!
//! Which parameter may change how is data of the catalogue (`context`, `reload_rule`). All or nothing: a file with an
//! error never gets here, and if what would result is not consistent the settings in force stay as a whole.

use super::apply::Positions;
use super::by_name::HIDDEN;
use super::catalogue::{Access, Context, PARAMETERS, Parameter, ReloadRule, Table, Target};
use super::cross_check;
use super::load::Loaded;
use super::problem::Problems;
use super::settings::Settings;
use super::value::Value;
use crate::report::{Report, Severity};

/// The outcome of a reload.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What is in force from now on.
    pub settings: Settings,
    /// What changed.
    pub changes: Vec<Change>,
    /// What the file says differently but cannot change while pgpool runs.
    pub ignored: Vec<Change>,
    /// Remarks on the file and both kinds of differences, for the log.
    pub log: Vec<Report>,
}

/// A difference between the settings in force and the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name with index.
    pub name: String,
    /// Value in force before.
    pub old: String,
    /// Value of the file.
    pub new: String,
}

/// Merges a freshly loaded file into the settings in force. `node_is_down` tells the state of nodes.
pub fn reload(old: &Settings, new: &Loaded, node_is_down: impl Fn(usize) -> bool) -> Result<Reloaded, Problems> {
    let mut run = Run {
        old,
        new: &new.settings,
        positions: &new.positions,
        merged: old.clone(),
        changes: Vec::new(),
        ignored: Vec::new(),
        log: Vec::new(),
    };
    for parameter in PARAMETERS.iter().filter(|p| p.alias_of.is_none()) {
        if parameter.has_plain_form() {
            run.plain(parameter);
        }
        match &parameter.access {
            Access::Numbered(numbered) if numbered.table == Table::Nodes => run.nodes(parameter, &node_is_down),
            Access::Numbered(_) => run.other_rows(parameter),
            Access::Plain(_) => {}
        }
    }
    run.nodes_come_and_go();
    run.finish(new)
}

struct Run<'a> {
    old: &'a Settings,
    new: &'a Settings,
    positions: &'a Positions,
    merged: Settings,
    changes: Vec<Change>,
    ignored: Vec<Change>,
    log: Vec<Report>,
}

impl Run<'_> {
    fn plain(&mut self, parameter: &'static Parameter) {
        let target = Target { parameter, index: None };
        if self.differs(target) {
            self.decide(target, parameter.context >= Context::Reload);
        }
    }

    /// Rows of nodes that exist before and after; those that come or go are dealt with as a unit.
    fn nodes(&mut self, parameter: &'static Parameter, node_is_down: &impl Fn(usize) -> bool) {
        for id in 0..self.new.nodes.len() {
            let target = Target { parameter, index: Some(id) };
            match (in_use(self.old, id), in_use(self.new, id)) {
                (false, true) => self.take(target),
                (true, true) if self.differs(target) => {
                    let taken = match parameter.reload_rule {
                        ReloadRule::UnusedSlot => false,
                        ReloadRule::NodeDown => node_is_down(id),
                        ReloadRule::Take | ReloadRule::NewSessions | ReloadRule::MergeFlags => true,
                    };
                    self.decide(target, taken);
                }
                _ => {}
            }
        }
    }

    fn other_rows(&mut self, parameter: &'static Parameter) {
        let Access::Numbered(numbered) = &parameter.access else { return };
        let (old, new) = (self.old, self.new);
        let exists = |index: &usize| [old, new].iter().any(|settings| (numbered.get)(settings, *index).is_some());
        for index in (0..numbered.table.slots()).take_while(exists) {
            let target = Target { parameter, index: Some(index) };
            if self.differs(target) {
                self.decide(target, true);
            }
        }
    }

    fn nodes_come_and_go(&mut self) {
        for id in 0..self.old.nodes.len().max(self.new.nodes.len()) {
            let address = |settings: &Settings| {
                let node = settings.nodes.get(id).filter(|node| node.in_use());
                node.map_or(String::new(), |node| format!("{}:{}", node.hostname, node.port))
            };
            let change = Change { name: format!("node {id}"), old: address(self.old), new: address(self.new) };
            if change.old.is_empty() && !change.new.is_empty() {
                self.log.push(
                    Report::log_line(format!("node {id} ({}) is new and starts as down", change.new))
                        .hint(format!("Attach it with pcp_attach_node -n {id}.")),
                );
                self.changes.push(change);
            } else if !change.old.is_empty() && change.new.is_empty() {
                self.log.push(
                    Report::warning(format!("node {id} ({}) cannot be removed while pgpool runs", change.old))
                        .hint(format!("Detach it with pcp_detach_node -n {id}, or restart pgpool.")),
                );
                self.ignored.push(change);
            }
        }
    }

    fn differs(&self, target: Target) -> bool {
        target.parameter.value(self.old, target.index) != target.parameter.value(self.new, target.index)
    }

    fn take(&mut self, target: Target) {
        let value = target.parameter.value(self.new, target.index);
        let value = match (target.parameter.reload_rule, value, target.parameter.value(self.old, target.index)) {
            (ReloadRule::MergeFlags, Value::NodeFlags(mut flags), Value::NodeFlags(old)) => {
                flags.always_primary |= old.always_primary;
                Value::NodeFlags(flags)
            }
            (_, value, _) => value,
        };
        target.parameter.store(&mut self.merged, target.index, value);
    }

    /// Takes or ignores a difference, and says so.
    fn decide(&mut self, target: Target, taken: bool) {
        let change = Change { name: target.name(), old: target.show(self.old), new: target.show(self.new) };
        if taken {
            self.take(target);
            if !self.follows_the_global_value(target) {
                self.log.push(self.describe(target, &change));
                self.changes.push(change);
            }
        } else {
            self.log.push(
                Report::warning(format!("parameter \"{}\" cannot be changed while pgpool runs", change.name))
                    .detail(format!("It stays {}; the file says {}.", quoted(&change.old), quoted(&change.new)))
                    .hint("Restart pgpool to change it, or use \"pgpool upgrade\", which loses no session."),
            );
            self.ignored.push(change);
        }
    }

    fn describe(&self, target: Target, change: &Change) -> Report {
        if target.parameter.reload_rule == ReloadRule::NewSessions
            && let (Value::Double(old), Value::Double(new), Some(id)) = (
                target.parameter.value(self.old, target.index),
                target.parameter.value(self.new, target.index),
                target.index,
            )
        {
            let message = format!(
                "initializing pool configuration: backend weight for backend:{id} changed from {old:.6} to {new:.6}"
            );
            return Report::log_line(message).detail("This change will be effective from next client session");
        }
        let report = Report::log_line(format!("parameter \"{}\" changed to {}", change.name, quoted(&change.new)));
        if self.positions.is_set(target.parameter.name, target.index) {
            report
        } else {
            report.detail(format!("It was {}. The file does not set it any more.", quoted(&change.old)))
        }
    }

    /// Whether a node's value is and was just the one without an index, whose change is reported already.
    fn follows_the_global_value(&self, target: Target) -> bool {
        let same = |settings: &Settings| {
            target.parameter.value(settings, target.index) == target.parameter.value(settings, None)
        };
        target.index.is_some() && target.parameter.has_plain_form() && same(self.old) && same(self.new)
    }

    /// Checks what would be in force now.
    fn finish(self, new: &Loaded) -> Result<Reloaded, Problems> {
        let mut problems = Problems::default();
        cross_check::check(&self.merged, new.own_node, &new.positions, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        let Self { merged: settings, changes, ignored, log: differences, .. } = self;
        let remarks = new.warnings.iter().map(|problem| problem.to_report(Severity::Warning));
        let log = remarks.chain(differences).collect();
        Ok(Reloaded { settings, changes, ignored, log })
    }
}

fn in_use(settings: &Settings, id: usize) -> bool {
    settings.nodes.get(id).is_some_and(|node| node.in_use())
}

fn quoted(value: &str) -> String {
    if value == HIDDEN { "another value".to_owned() } else { format!("\"{value}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use std::path::Path;

    const BASE: &str = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1\n";

    fn loaded(more: &str) -> Loaded {
        load_text(Path::new("/etc/pgpool.conf"), format!("{BASE}{more}").as_bytes()).unwrap()
    }

    fn reload_from(old: &str, new: &str) -> Reloaded {
        reload(&loaded(old).settings, &loaded(new), |_| false).unwrap()
    }

    fn names(changes: &[Change]) -> Vec<&str> {
        changes.iter().map(|change| change.name.as_str()).collect()
    }

    #[test]
    fn nothing_changes_without_a_difference() {
        let same = reload_from("port = 9998", "port = 9998");
        assert!(same.changes.is_empty() && same.ignored.is_empty() && same.log.is_empty());
    }

    #[test]
    fn the_context_decides() {
        let outcome = reload_from("", "port = 9998\nclient_idle_limit = 5\nlog_connections = on");
        assert_eq!(names(&outcome.ignored), ["port"]);
        assert_eq!(names(&outcome.changes), ["client_idle_limit", "log_connections"]);
        let settings = outcome.settings;
        assert_eq!((settings.port, settings.client_idle_limit, settings.log_connections), (9999, 5, true));
    }

    #[test]
    fn a_removed_line_falls_back_to_the_default_and_says_so() {
        let outcome = reload_from("client_idle_limit = 5\nwrite_function_list = 'a'", "");
        assert_eq!(outcome.settings.client_idle_limit, 0);
        assert!(outcome.settings.write_function_list.is_empty());
        let detail = outcome.log[0].detail.as_deref().unwrap();
        assert_eq!(detail, "It was \"5s\". The file does not set it any more.");
    }

    #[test]
    fn a_new_node_is_a_unit_and_an_old_one_stays() {
        let outcome = reload_from(
            "backend_hostname1 = 'b'\nbackend_port1 = 5432\nbackend_weight1 = 2\nhealth_check_user = 'u'",
            "backend_port2 = 5433\nbackend_hostname2 = 'c'\nbackend_weight2 = 3\nhealth_check_user = 'u'",
        );
        assert_eq!(names(&outcome.changes), ["node 2"]);
        assert_eq!(names(&outcome.ignored), ["node 1"]);
        let nodes = &outcome.settings.nodes;
        assert_eq!((nodes[1].hostname.as_str(), nodes[1].weight), ("b", 2.0));
        assert_eq!((nodes[2].hostname.as_str(), nodes[2].port, nodes[2].weight), ("c", 5433, 3.0));
        assert_eq!(nodes[2].health_check_user, "u");
    }

    #[test]
    fn numbered_parameters_follow_their_rules() {
        let old = loaded("backend_flag0 = 'ALWAYS_PRIMARY'").settings;
        let text = "backend_hostname0 = 'z'\nbackend_weight0 = 0.5\nbackend_data_directory0 = '/d'\n\
                    backend_flag0 = 'DISALLOW_TO_FAILOVER'\nbackend_application_name0 = 'n'";
        let new = loaded(text);
        let up = reload(&old, &new, |_| false).unwrap();
        assert_eq!(names(&up.ignored), ["backend_hostname0", "backend_data_directory0"]);
        let node = &up.settings.nodes[0];
        assert!(node.flags.disallow_to_failover && node.flags.always_primary);
        assert_eq!((node.hostname.as_str(), node.weight, node.application_name.as_str()), ("a", 0.5, "n"));
        let expected =
            "initializing pool configuration: backend weight for backend:0 changed from 1.000000 to 0.500000";
        assert!(up.log.iter().any(|report| report.message == expected));
        let down = reload(&old, &new, |_| true).unwrap();
        assert_eq!(down.settings.nodes[0].data_directory, "/d");
    }

    #[test]
    fn a_global_health_check_value_is_handed_down_and_reported_once() {
        let outcome = reload_from("", "health_check_period = 10\nhealth_check_timeout0 = 3");
        assert_eq!(names(&outcome.changes), ["health_check_period", "health_check_timeout0"]);
        let node = &outcome.settings.nodes[0];
        assert_eq!((node.health_check_period, node.health_check_timeout), (10, 3));
    }

    #[test]
    fn an_inconsistent_mixture_is_refused_as_a_whole() {
        let old = loaded("").settings;
        let new = loaded("process_management_mode = dynamic\nnum_init_children = 100\nmax_spare_children = 50");
        let problems = reload(&old, &new, |_| false).unwrap_err();
        let message = "invalid configuration, max_spare_children:50 can't be greater than num_init_children:32";
        assert_eq!(problems.iter().next().unwrap().report.message, message);
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let outcome = reload_from("sr_check_password = 'one'", "sr_check_password = 'two'");
        assert_eq!(outcome.log[0].message, "parameter \"sr_check_password\" changed to another value");
    }
}
