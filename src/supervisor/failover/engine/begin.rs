//! How each kind of request begins.

use super::{Engine, cluster_main};
use crate::state::{NodeStatus, Progress, Request, RequestKind};
use crate::supervisor::failover::action::Action;
use crate::supervisor::failover::command::Subject;
use crate::supervisor::failover::run::Run;
use crate::supervisor::failover::step::Step;

impl Engine {
    /// Failover 6.4. Returns whether it has begun.
    pub(super) fn begin_down(&mut self, step: &mut Step<'_>, request: Request) -> bool {
        let node = request.node;
        // Of one that was attached before its turn others have asked this while it was down, before the administrator; of one
        // that has returned, too, but not he.
        let is_of_before = |(returned, last)| returned == node && request.number <= last && !request.by_operator;
        let was_down = self.early.contains(node) || self.returned.is_some_and(is_of_before);
        let is_attached = step.cluster.attached().contains(node) && !was_down;
        if request.by_operator && step.cluster.nodes.get(node).is_some_and(|node| node.status != NodeStatus::Unused) {
            step.keep_out(node, !is_attached);
        }
        if !is_attached {
            step.log("failover: no backends are degenerated");
            return false;
        }
        self.degenerate(step, request, node, None);
        true
    }

    /// The primary goes down and failover_command is to promote the node of the request (failover 13.3). Returns whether it
    /// has begun.
    pub(super) fn begin_switchover(&mut self, step: &mut Step<'_>, request: Request) -> bool {
        let target = request.node;
        let primary = step.attached_primary().filter(|primary| *primary != target);
        let Some(primary) = primary.filter(|_| step.cluster.attached().contains(target)) else {
            step.log("failover: no backends are degenerated");
            return false;
        };
        self.degenerate(step, request, primary, Some(target));
        true
    }

    /// `node` goes down. `promoted`: the node that is to take its place, if somebody has said so.
    fn degenerate(&mut self, step: &mut Step<'_>, request: Request, node: usize, promoted: Option<usize>) {
        let old_primary = step.cluster.primary;
        let writes = step.cluster.write_node() == Some(node);
        self.begin(step, if writes { Progress::Primary } else { Progress::Standby });
        step.log(format!("=== Starting degeneration. shutdown host {} ===", step.place(node)));
        let subject = Subject { node, new_main: None, old_main: cluster_main(&step.cluster), old_primary };
        step.set_status(node, NodeStatus::Down, &request.cause);
        let new_main = promoted.or_else(|| step.attached_main());
        if new_main.is_none() {
            step.log("failover: no valid backend node found");
        }
        if step.is_streaming() && !writes {
            step.log(format!(
                "Do not restart children because we are switching over node id {node} {} and we are in streaming \
                 replication mode",
                step.host_and_port(node)
            ));
        } else {
            step.log("Restart all children");
        }
        step.actions.push(Action::TellWorkers);
        self.run = Some(Run::new(request, node, old_primary, false, step.now));
        self.run_command(step, &step.settings.failover_command, Subject { new_main, ..subject });
    }

    /// The node has been promoted by other means: it is the primary from now on (failover 13.3). If nobody has asked for that,
    /// the others stay as they are: whoever promotes takes care of them. Returns whether it has begun.
    pub(super) fn begin_promote(&mut self, step: &mut Step<'_>, request: Request) -> bool {
        let node = request.node;
        let old_primary = step.cluster.primary;
        // Whoever has become the primary before the last failover need not be it after that. The next check sees.
        if request.kind == RequestKind::Takeover && request.begun != self.begun {
            step.log(format!("failover: DB node {node} was seen to be the primary before the last failover"));
            step.log("failover: no backends are promoted");
            return false;
        }
        if !step.is_streaming() || !step.cluster.attached().contains(node) || old_primary == Some(node) {
            step.log("failover: no backends are promoted");
            return false;
        }
        self.begin(step, Progress::Primary);
        if request.kind == RequestKind::Promote {
            step.log(format!("starting promotion. promote host {}", step.place(node)));
        }
        step.log("Restart all children");
        self.run = Some(Run::new(request, node, old_primary, false, step.now));
        self.conclude(step, Some(node));
        true
    }

    /// Failover 6.3. Returns whether it has begun.
    pub(super) fn begin_up(&mut self, step: &mut Step<'_>, request: Request) -> bool {
        let node = request.node;
        let Some(status) = step.cluster.nodes.get(node).map(|node| node.status) else { return false };
        let is_early = self.early.contains(node);
        self.early.remove(node);
        if status.is_attached() && !is_early {
            let status = status as u8;
            step.log(format!(
                "invalid failback request, status: [{status}] of node id : {node} is invalid for failback"
            ));
            return false;
        }
        if step.cluster.nodes[node].kept_out && !request.by_operator {
            step.log(format!("invalid failback request, node id : {node} was detached by an administrator"));
            return false;
        }
        let old_primary = step.cluster.primary;
        let old_main = cluster_main(&step.cluster);
        let first = step.attached_main();
        self.begin(step, if first.is_none() { Progress::Primary } else { Progress::Standby });
        step.log(format!("=== Starting fail back. reconnect host {} ===", step.place(node)));
        if let Some(first) = first {
            let status = step.cluster.nodes[first].status as u8;
            step.log(format!("Node {first} is not down (status: {status})"));
        }
        step.set_status(node, NodeStatus::Waiting, &request.cause);
        self.run = Some(Run::new(request, node, old_primary, first.is_none(), step.now));
        let primary = step.attached_primary().or(step.attached_main());
        let subject = Subject { node, new_main: step.attached_main(), old_main, old_primary: primary };
        self.run_command(step, &step.settings.failback_command, subject);
        true
    }
}
