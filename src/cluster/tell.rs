//! What the log is told of who the primary is (failover 7.4).

use super::search::Answer;
use super::verdict::Outdated;
use crate::report::Report;
use crate::state::{Cluster, Node, Role};

/// Why a false primary is detached.
pub(super) const FALSE_PRIMARY: &str = "a false primary: not all standbys stream from it";

/// The line about what a node has answered. `is_invalid`: it is a false primary.
pub(super) fn heard(id: usize, answer: &Answer, is_invalid: bool) -> Option<Report> {
    match answer {
        Answer::Tells(_) if is_invalid => Some(Report::log_line(format!("find_primary_node: invalid node {id}"))),
        Answer::Tells(sight) => {
            let role = if sight.role == Role::Primary { "primary" } else { "standby" };
            Some(Report::log_line(format!("find_primary_node: {role} node is {id}")))
        }
        Answer::Unreachable(cause) | Answer::Closed(cause) => Some(
            Report::log_line(format!("find_primary_node: make_persistent_db_connection_noerror failed on node {id}"))
                .detail(cause),
        ),
        Answer::NotAsked => None,
    }
}

/// A node was the primary before another one, and still takes writes. What follows from it is the caller's detail.
pub(super) fn outdated(outdated: &Outdated, cluster: &Cluster, consequence: &str) -> Report {
    let Outdated { node, timeline, newer } = outdated;
    Report::warning(format!("DB node {node} takes writes but is not the primary any more"))
        .detail(format!("It is on timeline {timeline}, the primary has gone on to timeline {newer}. {consequence}"))
        .hint(format!("On its host: {}, then attach node {node}.", how_to_return(cluster)))
}

/// A node takes writes and is no copy of the others.
pub(super) fn foreign(id: usize) -> Report {
    Report::warning(format!("DB node {id} takes writes but holds another database system than the primary there was"))
        .detail("It is not taken for the primary: what is in it is not what is in the other nodes.")
        .hint(format!(
            "Check backend_hostname{id} and backend_port{id}. If all servers were made anew, restart pgpool."
        ))
}

/// What makes a standby of a former primary.
fn how_to_return(cluster: &Cluster) -> String {
    let source = match cluster.primary.and_then(|primary| cluster.nodes.get(primary)) {
        Some(Node { hostname, port, .. }) => format!("host={hostname} port={port}"),
        None => "...".to_owned(),
    };
    format!("stop the server, run pg_rewind --source-server=\"{source} ...\", create standby.signal, start it")
}

/// Why it is outdated, in a few words for SHOW and the failover's own lines.
pub(super) fn reason(Outdated { timeline, newer, .. }: &Outdated) -> String {
    format!("a former primary: it takes writes on timeline {timeline}, the primary is on timeline {newer}")
}
