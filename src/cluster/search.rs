//! What the answers of the nodes mean: decisions alone (failover 7, 8). Who the primary is says the [`verdict`](super::verdict).

use super::sight::Sight;
use super::tell;
use super::verdict::{Outdated, Verdict, judge};
use super::verify::{Names, Verification, verify};
use crate::config::{BackendClusteringMode, Settings};
use crate::report::Report;
use crate::state::{Cluster, History, Node, NodeStatus, Role};

/// What a node has told when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was not asked.
    #[default]
    NotAsked,
    /// It answers queries, and this is what it says of itself.
    Tells(Sight),
    /// It is alive but does not let us ask: why.
    Closed(String),
    /// It could not be reached: why.
    Unreachable(String),
}

impl Answer {
    /// Whether both tell the same, in whatever words.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tells(one), Self::Tells(other)) => one.role == other.role,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// What it says of itself, if it does.
    pub fn sight(&self) -> Option<&Sight> {
        if let Self::Tells(sight) = self { Some(sight) } else { None }
    }
}

/// Whether there is a primary to be found in this mode (failover 1.2).
pub fn has_primary(settings: &Settings) -> bool {
    use BackendClusteringMode::{LogicalReplication, StreamingReplication};
    matches!(settings.backend_clustering_mode, StreamingReplication | LogicalReplication)
}

/// Whether it is for the nodes to say which of them is the primary: in streaming replication, unless one has
/// ALWAYS_PRIMARY.
pub(super) fn roles_decide(settings: &Settings) -> bool {
    settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication
        && always_primary(settings).is_none()
}

fn always_primary(settings: &Settings) -> Option<usize> {
    settings.used_nodes().find(|(_, node)| node.flags.always_primary).map(|(id, _)| id)
}

/// What all answers together mean.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub verdict: Verdict,
    /// Nodes that detach_false_primary is about, whether it is on or not.
    pub invalid: Vec<usize>,
    /// What the log is told of them.
    pub findings: Vec<Report>,
}

/// Who the primary is by what the nodes say (index = id), and who only says that it is (failover 7.4, 8).
pub(super) fn survey(settings: &Settings, cluster: &Cluster, sights: &[Option<&Sight>]) -> Outcome {
    let sure = |primary| Outcome { verdict: Verdict { primary, ..Verdict::default() }, ..Outcome::default() };
    if !has_primary(settings) {
        return sure(None);
    }
    if let Some(id) = always_primary(settings) {
        return sure(Some(id));
    }
    // In logical replication every node says that it is one: the known one counts, else the first.
    if !roles_decide(settings) {
        return sure(judge(cluster, sights, &[], false).primary);
    }
    let history = |id: usize| sights[id].and_then(|sight| sight.history);
    let is_late = |id: usize| history(id).zip(cluster.history).is_some_and(|(own, last)| own.is_older_than(last));
    let takes_writes = |id: &usize| sights[*id].is_some_and(|sight| sight.role == Role::Primary);
    let candidates: Vec<usize> =
        (0..sights.len()).filter(takes_writes).filter(|id| cluster.primary == Some(*id) || !is_late(*id)).collect();
    let Verification { mut invalid, mut findings } = if settings.detach_false_primary {
        let names = Names::new();
        verify(cluster, sights, &candidates, &|source, node| names.is_same_server(source, node))
    } else {
        Verification::default()
    };
    let verdict = judge(cluster, sights, &invalid, settings.search_primary_continuously);
    findings.extend(verdict.foreign.iter().map(|id| tell::foreign(*id)));
    let has_standbys = sights.iter().flatten().any(|sight| sight.role == Role::Standby);
    if settings.detach_false_primary && !has_standbys && verdict.primary.is_some_and(|id| takes_writes(&id)) {
        invalid.extend(&verdict.rivals);
    }
    Outcome { verdict, invalid, findings }
}

/// As [`survey`], of `answers` (index = id).
pub(super) fn survey_answers(settings: &Settings, cluster: &Cluster, answers: &[Answer]) -> Outcome {
    survey(settings, cluster, &answers.iter().map(Answer::sight).collect::<Vec<_>>())
}

/// The nodes to ask now: at first every attached one, later those from which something is still wanted. Nodes that are
/// detached are left alone, an administrator attaches them.
pub(super) fn to_ask(settings: &Settings, cluster: &Cluster, answers: &[Answer]) -> Vec<usize> {
    let anything_helps = has_primary(settings) && survey_answers(settings, cluster, answers).verdict.primary.is_none();
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
        (Answer::Tells(_), Answer::Closed(_) | Answer::Unreachable(_)) if node.status.is_attached() => known,
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

/// Takes what is known, and what follows from it, over into the node table. A primary that is known stays: to replace it is
/// the business of failovers and of the replication check. Returns the former primaries that are not used because of it.
pub(super) fn apply(
    settings: &Settings,
    cluster: &mut Cluster,
    answers: &[Answer],
    verdict: &Verdict,
    at_start: bool,
) -> Vec<Outdated> {
    let mut refused = Vec::new();
    let known = cluster.primary.filter(|id| roles_decide(settings) && cluster.attached().contains(*id));
    for (id, answer) in answers.iter().enumerate().take(cluster.nodes.len()) {
        let node = &mut cluster.nodes[id];
        if !(node.status.is_attached() || node.missing) {
            continue;
        }
        if let Answer::Tells(sight) = answer
            && has_primary(settings)
        {
            node.role = sight.role;
        }
        let may_be_detached = settings.search_primary_continuously && !node.disallow_to_failover && known != Some(id);
        let outdated = verdict.outdated.iter().find(|outdated| outdated.node == id && may_be_detached);
        if let Some(outdated) = outdated {
            cluster.set_status(id, NodeStatus::Down, &tell::reason(outdated));
            refused.push(*outdated);
            continue;
        }
        match answer {
            Answer::Tells(_) if node.status != NodeStatus::Up => cluster.set_status(id, NodeStatus::Up, "found up"),
            Answer::Closed(_) if node.status != NodeStatus::Up => {
                cluster.set_status(id, NodeStatus::Up, "found up, but it does not let us ask for its role");
            }
            Answer::Unreachable(cause) if at_start => cluster.set_missing(id, cause),
            _ => {}
        }
    }
    cluster.bar(verdict.barred);
    let primary = known.or(verdict.primary);
    cluster.set_primary(primary);
    let seen = primary.and_then(|id| answers.get(id)?.sight());
    remember(cluster, seen);
    refused
}

/// Keeps where the primary stands, if it says so.
pub(super) fn remember(cluster: &mut Cluster, primary: Option<&Sight>) {
    let history: Option<History> = primary.filter(|sight| sight.role == Role::Primary).and_then(|sight| sight.history);
    cluster.history = history.or(cluster.history);
}

#[cfg(test)]
mod tests {
    use super::Answer::{Closed, NotAsked, Unreachable};
    use super::*;
    use crate::config::NodeSettings;

    const STANDBY: Answer = says(Role::Standby);
    const PRIMARY: Answer = says(Role::Primary);

    const fn says(role: Role) -> Answer {
        Answer::Tells(Sight { role, history: None, receivers: 0, source: None })
    }

    fn primary(settings: &Settings, answers: &[Answer]) -> Option<usize> {
        survey_answers(settings, &cluster(&vec![NodeStatus::Up; answers.len()]), answers).verdict.primary
    }

    fn take(settings: &Settings, cluster: &mut Cluster, answers: &[Answer], at_start: bool) {
        let verdict = survey_answers(settings, cluster, answers).verdict;
        apply(settings, cluster, answers, &verdict, at_start);
    }

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
        take(&settings, &mut nodes, &[PRIMARY, unreachable(), NotAsked], true);
        let seen = |nodes: &Cluster| nodes.nodes.iter().map(|node| (node.status, node.missing)).collect::<Vec<_>>();
        let expected = [(NodeStatus::Up, false), (NodeStatus::Down, true), (NodeStatus::Down, false)];
        assert_eq!((seen(&nodes), nodes.primary), (expected.to_vec(), Some(0)));
        take(&settings, &mut nodes, &[PRIMARY, STANDBY, PRIMARY], false);
        let expected = [(NodeStatus::Up, false), (NodeStatus::Up, false), (NodeStatus::Down, false)];
        assert_eq!((seen(&nodes), nodes.nodes[1].role), (expected.to_vec(), Role::Standby));
        let silent = merge(&nodes.nodes[0], PRIMARY, unreachable());
        take(&settings, &mut nodes, &[silent, STANDBY], false);
        assert_eq!((nodes.nodes[0].status, nodes.primary), (NodeStatus::Up, Some(0)));
    }

    #[test]
    fn a_node_that_does_not_let_us_ask_is_up() {
        let mut nodes = cluster(&[NodeStatus::Waiting]);
        take(&Settings::default(), &mut nodes, &[closed()], true);
        assert_eq!((nodes.nodes[0].status, nodes.nodes[0].role), (NodeStatus::Up, Role::Unknown));
        assert_eq!((nodes.primary, nodes.write_node()), (None, Some(0)));
    }
    fn on(timeline: u32, role: Role) -> Answer {
        Answer::Tells(Sight { history: Some(History { system: 1, timeline }), ..Sight::of(role) })
    }

    #[test]
    fn a_former_primary_is_not_used_unless_it_must_not_be_detached() {
        let answers = [on(1, Role::Primary), on(2, Role::Primary), on(2, Role::Standby)];
        let taken = |settings: &Settings, disallow_to_failover| {
            let mut nodes = cluster(&[NodeStatus::Waiting; 3]);
            nodes.nodes[0].disallow_to_failover = disallow_to_failover;
            take(settings, &mut nodes, &answers, true);
            assert_eq!((nodes.primary, nodes.write_node()), (Some(1), Some(1)));
            assert_eq!(nodes.history, Some(History { system: 1, timeline: 2 }));
            let status = nodes.nodes[0].status;
            nodes.set_primary(None);
            nodes.set_status(1, NodeStatus::Down, "lost");
            assert_eq!(nodes.write_node(), Some(2), "rather a standby");
            status
        };
        let off = Settings { search_primary_continuously: false, ..Settings::default() };
        assert_eq!(taken(&Settings::default(), false), NodeStatus::Down);
        assert_eq!([taken(&Settings::default(), true), taken(&off, false)], [NodeStatus::Up; 2]);
    }

    #[test]
    fn a_known_primary_is_not_replaced() {
        let answers = [on(1, Role::Primary), on(2, Role::Primary), on(2, Role::Standby)];
        for search_primary_continuously in [true, false] {
            let settings = Settings { search_primary_continuously, ..Settings::default() };
            let mut nodes = cluster(&[NodeStatus::Up; 3]);
            nodes.set_primary(Some(0));
            take(&settings, &mut nodes, &answers, false);
            assert_eq!((nodes.primary, nodes.nodes[0].status), (Some(0), NodeStatus::Up));
        }
    }

    #[test]
    fn without_a_standby_only_one_of_equal_primaries_is_true() {
        let invalid = |detach_false_primary, primary, answers: &[Answer]| {
            let nodes = Cluster { primary, ..cluster(&[NodeStatus::Up; 3]) };
            survey_answers(&Settings { detach_false_primary, ..Settings::default() }, &nodes, answers).invalid
        };
        let equal = [on(1, Role::Primary), on(1, Role::Primary), on(1, Role::Primary)];
        assert_eq!(invalid(true, Some(1), &equal), [0, 2]);
        assert_eq!(invalid(true, None, &equal), [1, 2]);
        assert_eq!(invalid(false, None, &equal), [0; 0]);
        let silent = [NotAsked, on(1, Role::Primary), on(1, Role::Primary)];
        assert_eq!(invalid(true, Some(0), &silent), [0; 0], "the primary may be silent for once");
    }

    #[test]
    fn the_owner_of_the_standbys_is_no_former_primary() {
        let source = |port| Some(super::super::sight::Source { host: "/tmp".to_owned(), port });
        let mut nodes = cluster(&[NodeStatus::Up; 3]);
        (0..3).for_each(|id| nodes.nodes[usize::from(id)].port = 5432 + id);
        let standby = Answer::Tells(Sight { source: source(5432), ..Sight::of(Role::Standby) });
        let answers = [on(1, Role::Primary), on(2, Role::Primary), standby];
        let settings = Settings { detach_false_primary: true, ..Settings::default() };
        let survey = |primary, timeline| {
            let history = Some(History { system: 1, timeline });
            let nodes = Cluster { primary: Some(primary), history, ..nodes.clone() };
            let Outcome { verdict, invalid, .. } = survey_answers(&settings, &nodes, &answers);
            let outdated: Vec<_> = verdict.outdated.iter().map(|outdated| outdated.node).collect();
            (verdict.primary, outdated, invalid)
        };
        // Somebody has promoted node 1 by mistake.
        assert_eq!(survey(0, 1), (Some(0), vec![], vec![1]));
        // Node 0 has come back, and node 2 still follows it.
        assert_eq!(survey(1, 2), (Some(1), vec![0], vec![]));
    }
}
