//! Nodes follow a new primary, one after the other (failover 10).

use super::action::Follow;
use super::command::{self, Subject};
use super::script::Script;
use crate::report::Report;
use crate::state::NodeStatus;
use crate::supervisor::Supervisor;
use crate::supervisor::children::ScriptKind;
use std::collections::VecDeque;

/// follow_primary_command, for one node after the other.
#[derive(Debug)]
pub(super) struct Following {
    follow: Follow,
    /// Nodes to come.
    left: VecDeque<usize>,
    pub running: Option<(usize, Script)>,
}

impl Supervisor {
    /// These nodes follow, behind those that wait already.
    pub(super) fn follow(&mut self, follow: Follow) {
        let left = follow.nodes.iter().copied().collect();
        self.failover.following.push_back(Following { follow, left, running: None });
        if self.failover.following.len() == 1 {
            self.follow_next();
        }
    }

    /// The command for one of them has ended: the next one's turn.
    pub(super) fn follow_command_ended(&mut self, how: &str, is_success: bool) {
        let running = self.failover.following.front_mut().and_then(|following| following.running.take());
        if let Some((node, script)) = running {
            script.ended(how, is_success, &mut self.failover.output);
            Report::log_line(format!("=== Follow primary command for node {node} ended ===")).log();
        }
        self.follow_next();
    }

    /// The next node that is still down follows the new primary (failover 10.2), as long as that is the primary.
    fn follow_next(&mut self) {
        while self.stopping.is_none() {
            let Some(following) = self.failover.following.front_mut() else { return };
            let Some(node) = following.left.pop_front() else {
                self.failover.following.pop_front();
                continue;
            };
            let cluster = self.shared.nodes().view();
            let primary = cluster.primary.filter(|primary| cluster.attached().contains(*primary));
            let wanted = following.follow.new_primary;
            if primary != Some(wanted) {
                let text =
                    format!("node {node} is not told to follow node {wanted}, which is not the primary any more");
                Report::log_line(text).log();
                continue;
            }
            if cluster.nodes.get(node).is_none_or(|node| node.status != NodeStatus::Down) {
                continue;
            }
            let Follow { new_primary, old_primary, .. } = following.follow;
            let subject = Subject { node, new_main: Some(new_primary), old_main: old_primary, old_primary };
            let text = command::expand(&self.settings.follow_primary_command, subject, &cluster, &self.settings);
            Report::log_line(format!("=== Starting follow primary command for node {node} ===")).log();
            Report::log_line(format!("execute command: {text}")).log();
            let running = self.start_script(ScriptKind::Follow, "follow_primary_command", &text);
            let Some(following) = self.failover.following.front_mut() else { return };
            following.running = running.map(|script| (node, script));
            if following.running.is_some() {
                return;
            }
        }
    }
}
