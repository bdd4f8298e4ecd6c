//! Asking the parent to detach, attach or promote a node (failover 5.7, 5.9), from whatever process found out. What
//! administrators ask for is in [`operator`].
//!
//! The asking process checks whether the request makes sense and logs what became of it; the parent decides. It must not
//! change the node table, and waits for nothing but a lock that is held for microseconds.

pub mod operator;

use crate::report::Report;
use crate::state::{Cluster, MAX_NODES, Node, Request, RequestKind, Shared};
use crate::sys::signal::{ToHelper, ToParent};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Asks for the node to be detached: NODE_DOWN_REQUEST. Returns whether the parent was asked.
pub fn detach(shared: &Shared, node: usize, cause: &str) -> bool {
    if let Err(refusal) = admit_detach(&shared.nodes().view(), node) {
        Report::log_line(refusal).log();
        return false;
    }
    received("degenerate backend", node);
    ask(shared, &Request::new(RequestKind::Down, node, cause))
}

/// Asks for the node to be attached: NODE_UP_REQUEST. Returns whether the parent was asked.
pub fn attach(shared: &Shared, node: usize, cause: &str) -> bool {
    if shared.nodes().view().nodes.get(node).is_none_or(|node| node.port == 0) {
        Report::log_line(format!(
            "invalid failback request, node id: {node} is out of range. node id must be between [0 and {MAX_NODES}]"
        ))
        .log();
        return false;
    }
    received("failback", node);
    ask(shared, &Request::new(RequestKind::Up, node, cause))
}

/// Asks for the node to be taken for the primary, which it was seen to have become when `begun` failovers had begun: after
/// another one that is to be seen anew. Returns whether the parent was asked.
pub fn take_over(shared: &Shared, node: usize, begun: u64, cause: &str) -> bool {
    ask(shared, &Request { begun, ..Request::new(RequestKind::Takeover, node, cause) })
}

fn received(what: &str, node: usize) {
    Report::log_line(format!("received {what} request for node_id: {node} from pid [{}]", std::process::id())).log();
}

/// Why a node cannot be detached.
fn admit_detach(cluster: &Cluster, id: usize) -> Result<(), String> {
    if id >= MAX_NODES {
        return Err(format!(
            "invalid degenerate backend request, node id: {id} is out of range. node id must be between [0 and {MAX_NODES}]"
        ));
    }
    let unused = Node::default();
    let Node { status, quarantined, disallow_to_failover, .. } = cluster.nodes.get(id).unwrap_or(&unused);
    if !status.is_attached() && !quarantined {
        let status = *status as u8;
        return Err(format!(
            "invalid degenerate backend request, node id : {id} status: [{status}] is not valid for failover"
        ));
    }
    if *disallow_to_failover {
        return Err(format!(
            "degenerate backend request for node_id: {id} from pid [{}] is canceled because failover is disallowed on the \
             node",
            std::process::id()
        ));
    }
    Ok(())
}

fn ask(shared: &Shared, request: &Request) -> bool {
    if let Err(error) = shared.failover().ask(request) {
        Report::warning(format!("the request for DB node {} was not made", request.node))
            .detail(error.to_string())
            .hint("It is made again when the node fails again.")
            .log();
        return false;
    }
    wake_parent(shared);
    true
}

/// Tells the parent that there is something for it in shared memory, also from a process that is not its child.
pub fn wake_parent(shared: &Shared) {
    Report::log_line("signal_user1_to_parent_with_reason(0)").log();
    // If the parent is dead, this process is about to end as well.
    let _ = kill(Pid::from_raw(shared.parent() as i32), ToParent::Requests);
}

/// A session had trouble with the node: lets its health check process look at once, if the node is checked at all. That
/// confirms or clears the suspicion, with the retries that are configured.
pub fn suspect(shared: &Shared, node: usize) {
    if let Some(pid) = shared.health(node).want_check() {
        let _ = kill(Pid::from_raw(pid as i32), ToHelper::LookAtNode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NodeStatus;

    #[test]
    fn only_a_node_in_use_that_may_be_detached_is() {
        let node = |status, disallow_to_failover| Node { port: 5432, status, disallow_to_failover, ..Node::default() };
        let cluster = Cluster {
            nodes: vec![
                node(NodeStatus::Up, false),
                node(NodeStatus::Waiting, true),
                node(NodeStatus::Down, false),
                Node { quarantined: true, ..node(NodeStatus::Down, false) },
            ],
            ..Cluster::default()
        };
        let refusal = |id| admit_detach(&cluster, id).err().unwrap_or_default();
        assert_eq!((refusal(0), refusal(3)), (String::new(), String::new()));
        assert!(refusal(1).contains("is canceled because failover is disallowed on the node"), "{}", refusal(1));
        assert_eq!(refusal(2), "invalid degenerate backend request, node id : 2 status: [3] is not valid for failover");
        assert!(refusal(4).ends_with("node id : 4 status: [0] is not valid for failover"));
        assert!(refusal(128).ends_with("node id: 128 is out of range. node id must be between [0 and 128]"));
    }
}
