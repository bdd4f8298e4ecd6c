//! One look at the nodes for a command of the shell: what the finder does at start, once and without shared memory.

use super::ask::{Question, ask_all};
use super::search::{self, Answer};
use crate::config::Settings;
use crate::state::Cluster;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::os::fd::AsFd;
use std::time::Duration;

/// Asks the attached nodes what they are, all at the same time and for no longer than `limit`, and takes it over into
/// `cluster`: nodes that do not answer count as down. If no node answers nothing changes, and the answer is false.
pub fn look(settings: &Settings, cluster: &mut Cluster, limit: Duration) -> bool {
    let question = |id: usize| Question::new(settings, id, &cluster.nodes[id]).within(limit);
    let questions = cluster.attached().iter().map(question).collect();
    // Nobody writes to it: only the answers end the wait.
    let Ok((never, _writer)) = pipe2(OFlag::O_CLOEXEC) else { return false };
    let mut answers = vec![Answer::NotAsked; cluster.nodes.len()];
    for (id, answer) in ask_all(questions, never.as_fd(), || false).unwrap_or_default() {
        answers[id] = answer;
    }
    let has_answered = answers.iter().any(|answer| matches!(answer, Answer::Tells(_) | Answer::Closed(_)));
    if has_answered {
        let verdict = search::survey_answers(settings, cluster, &answers).verdict;
        search::apply(settings, cluster, &answers, &verdict, true);
    }
    has_answered
}

/// Takes a node for the primary without asking, in modes that have one: the one with ALWAYS_PRIMARY, else the main node.
pub fn assume(settings: &Settings, cluster: &mut Cluster) {
    if search::has_primary(settings) {
        let primary = search::survey(settings, cluster, &[]).verdict.primary;
        cluster.set_primary(primary.or(cluster.main));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendClusteringMode, NodeSettings};
    use crate::state::{Node, NodeStatus};
    use std::net::TcpListener;

    fn cluster(port: u16) -> Cluster {
        let node = || Node { hostname: "127.0.0.1".to_owned(), port, ..Node::default() };
        let mut cluster = Cluster { nodes: vec![node(), node()], ..Cluster::default() };
        (0..2).for_each(|id| cluster.set_status(id, NodeStatus::Waiting, "configured"));
        cluster
    }

    #[test]
    fn if_nobody_answers_nothing_changes() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
        let mut cluster = cluster(silent.local_addr().expect("address").port());
        assert!(!look(&Settings::default(), &mut cluster, Duration::from_millis(200)));
        assert_eq!((cluster.attached().iter().count(), cluster.primary), (2, None));
    }

    #[test]
    fn a_primary_is_assumed_where_there_is_one() {
        let assumed = |settings: &Settings| {
            let mut cluster = cluster(5432);
            assume(settings, &mut cluster);
            cluster.primary
        };
        assert_eq!(assumed(&Settings::default()), Some(0));
        let mut node = NodeSettings { port: 5432, ..NodeSettings::default() };
        let first = node.clone();
        node.flags.always_primary = true;
        assert_eq!(assumed(&Settings { nodes: vec![first, node], ..Settings::default() }), Some(1));
        let backend_clustering_mode = BackendClusteringMode::Raw;
        assert_eq!(assumed(&Settings { backend_clustering_mode, ..Settings::default() }), None);
    }
}
