//! What the answers of the nodes mean: decisions alone (failover 7).

use crate::config::{BackendClusteringMode, Settings};
use crate::state::{Cluster, Node, NodeStatus, Role};

/// What a node has told when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was not asked.
    #[default]
    NotAsked,
    /// It answers queries and says so of itself.
    Role(Role),
    /// It is alive but does not let us ask: why.
    Closed(String),
    /// It could not be reached: why.
    Unreachable(String),
}

impl Answer {
    /// Whether both tell the same, in whatever words.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Role(one), Self::Role(other)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// Whether there is a primary to be found in this mode (failover 1.2).
pub(super) fn has_primary(settings: &Settings) -> bool {
    use BackendClusteringMode::{LogicalReplication, StreamingReplication};
    matches!(settings.backend_clustering_mode, StreamingReplication | LogicalReplication)
}

/// The primary among `answers` (index = node id), if there is one (failover 7.4).
pub(super) fn primary(settings: &Settings, answers: &[Answer]) -> Option<usize> {
    if !has_primary(settings) {
        return None;
    }
    if let Some((id, _)) = settings.used_nodes().find(|(_, node)| node.flags.always_primary) {
        return Some(id);
    }
    let with = |role: Role| {
        let is = move |(_, answer): &(usize, &Answer)| **answer == Answer::Role(role);
        answers.iter().enumerate().filter(is).map(|(id, _)| id)
    };
    // Several primaries are a broken cluster; with standbys beside them the last one is the newest guess, as the
    // original makes it. In logical replication every node says that it is one: the first counts.
    if with(Role::Standby).next().is_some() { with(Role::Primary).next_back() } else { with(Role::Primary).next() }
}

/// The nodes to ask now: at first every attached one, later those from which something is still wanted. Nodes that are
/// detached are left alone, an administrator attaches them.
pub(super) fn to_ask(settings: &Settings, cluster: &Cluster, answers: &[Answer]) -> Vec<usize> {
    let anything_helps = has_primary(settings) && primary(settings, answers).is_none();
    let is_wanted = |(id, node): &(usize, &Node)| {
        node.port != 0
            && match answers.get(*id) {
                _ if node.missing => true,
                _ if !node.status.is_attached() => false,
                None | Some(Answer::NotAsked) => true,
                Some(_) => anything_helps,
            }
    };
    cluster.nodes.iter().enumerate().filter(is_wanted).map(|(id, _)| id).collect()
}

/// What is known of a node after it has said `new`. A node in use that does not answer for once stays what it is: giving
/// it up is the business of the health check.
pub(super) fn merge(node: &Node, known: Answer, new: Answer) -> Answer {
    match (&known, &new) {
        (Answer::Role(_), Answer::Closed(_) | Answer::Unreachable(_)) if node.status.is_attached() => known,
        _ => new,
    }
}

/// What a node said does not count any more once it was detached.
pub(super) fn forget_detached(cluster: &Cluster, answers: &mut Vec<Answer>) {
    answers.resize(cluster.nodes.len(), Answer::NotAsked);
    for (node, answer) in cluster.nodes.iter().zip(answers) {
        if !(node.status.is_attached() || node.missing) {
            *answer = Answer::NotAsked;
        }
    }
}

/// Takes what is known over into the node table.
pub(super) fn apply(settings: &Settings, cluster: &mut Cluster, answers: &[Answer], at_start: bool) {
    for (id, answer) in answers.iter().enumerate().take(cluster.nodes.len()) {
        let node = &mut cluster.nodes[id];
        if !(node.status.is_attached() || node.missing) {
            continue;
        }
        if let Answer::Role(role) = answer
            && has_primary(settings)
        {
            node.role = *role;
        }
        match answer {
            Answer::Role(_) if node.status != NodeStatus::Up => cluster.set_status(id, NodeStatus::Up, "found up"),
            Answer::Closed(_) if node.status != NodeStatus::Up => {
                cluster.set_status(id, NodeStatus::Up, "found up, but it does not let us ask for its role");
            }
            Answer::Unreachable(cause) if at_start => cluster.set_missing(id, cause),
            _ => {}
        }
    }
    cluster.set_primary(primary(settings, answers));
}

#[cfg(test)]
mod tests {
    use super::Answer::{Closed, NotAsked, Unreachable};
    use super::*;
    use crate::config::NodeSettings;

    const STANDBY: Answer = Answer::Role(Role::Standby);
    const PRIMARY: Answer = Answer::Role(Role::Primary);

    fn closed() -> Answer {
        Closed("role does not exist".to_owned())
    }

    fn unreachable() -> Answer {
        Unreachable("connection refused".to_owned())
    }

    fn cluster(statuses: &[NodeStatus]) -> Cluster {
        let node = |status: &NodeStatus| Node { port: 5432, status: *status, ..Node::default() };
        Cluster { nodes: statuses.iter().map(node).collect(), ..Cluster::default() }
    }

    fn mode(backend_clustering_mode: BackendClusteringMode) -> Settings {
        Settings { backend_clustering_mode, ..Settings::default() }
    }

    #[test]
    fn roles_decide() {
        let settings = Settings::default();
        let cases = [
            (vec![STANDBY, PRIMARY, STANDBY], Some(1)),
            (vec![PRIMARY, STANDBY, PRIMARY], Some(2)),
            (vec![PRIMARY, PRIMARY], Some(0)),
            (vec![STANDBY, STANDBY], None),
            (vec![unreachable(), closed(), NotAsked], None),
            (vec![], None),
        ];
        for (answers, expected) in cases {
            assert_eq!(primary(&settings, &answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn mode_and_flag_decide_before_roles() {
        assert_eq!(primary(&mode(BackendClusteringMode::Raw), &[PRIMARY]), None);
        assert_eq!(primary(&mode(BackendClusteringMode::LogicalReplication), &[PRIMARY, PRIMARY]), Some(0));
        let mut node = NodeSettings { port: 5432, ..NodeSettings::default() };
        let first = node.clone();
        node.flags.always_primary = true;
        let settings = Settings { nodes: vec![first, node], ..Settings::default() };
        assert_eq!(primary(&settings, &[PRIMARY, unreachable()]), Some(1));
    }

    #[test]
    fn only_who_has_something_to_tell_is_asked() {
        let settings = Settings::default();
        let mut nodes = cluster(&[NodeStatus::Waiting, NodeStatus::Down, NodeStatus::Up, NodeStatus::Unused]);
        assert_eq!(to_ask(&settings, &nodes, &[]), [0, 2]);
        nodes.set_missing(2, "");
        assert_eq!(to_ask(&settings, &nodes, &[PRIMARY, NotAsked, unreachable()]), [2]);
        assert_eq!(to_ask(&settings, &nodes, &[STANDBY, NotAsked, unreachable()]), [0, 2]);
        nodes.set_status(2, NodeStatus::Up, "");
        assert!(to_ask(&settings, &nodes, &[PRIMARY, NotAsked, closed()]).is_empty());
        let raw = mode(BackendClusteringMode::Raw);
        assert!(to_ask(&raw, &nodes, &[PRIMARY, NotAsked, closed()]).is_empty());
        let mut answers = vec![PRIMARY, PRIMARY];
        forget_detached(&nodes, &mut answers);
        assert_eq!(answers, [PRIMARY, NotAsked, NotAsked, NotAsked]);
    }

    #[test]
    fn silence_makes_a_node_missing_at_start_and_only_then() {
        let settings = Settings::default();
        let mut nodes = cluster(&[NodeStatus::Waiting, NodeStatus::Waiting, NodeStatus::Down]);
        apply(&settings, &mut nodes, &[PRIMARY, unreachable(), NotAsked], true);
        let seen = |nodes: &Cluster| nodes.nodes.iter().map(|node| (node.status, node.missing)).collect::<Vec<_>>();
        let expected = [(NodeStatus::Up, false), (NodeStatus::Down, true), (NodeStatus::Down, false)];
        assert_eq!((seen(&nodes), nodes.primary), (expected.to_vec(), Some(0)));
        apply(&settings, &mut nodes, &[PRIMARY, STANDBY, PRIMARY], false);
        let expected = [(NodeStatus::Up, false), (NodeStatus::Up, false), (NodeStatus::Down, false)];
        assert_eq!((seen(&nodes), nodes.nodes[1].role), (expected.to_vec(), Role::Standby));
        let silent = merge(&nodes.nodes[0], PRIMARY, unreachable());
        apply(&settings, &mut nodes, &[silent, STANDBY], false);
        assert_eq!((nodes.nodes[0].status, nodes.primary), (NodeStatus::Up, Some(0)));
    }

    #[test]
    fn a_node_that_does_not_let_us_ask_is_up() {
        let mut nodes = cluster(&[NodeStatus::Waiting]);
        apply(&Settings::default(), &mut nodes, &[closed()], true);
        assert_eq!((nodes.nodes[0].status, nodes.nodes[0].role), (NodeStatus::Up, Role::Unknown));
        assert_eq!((nodes.primary, nodes.write_node()), (None, Some(0)));
    }
}
