//! Who the primary is, by what all nodes say: a decision alone (failover 7.4, 8).
//!
//! Invariants:
//! - At most one node is the primary.
//! - It never goes to a node whose timeline is older than that of the primary there was: whoever is promoted begins a new
//!   timeline, so that one was the primary before.
//! - Nor to a node of another database system than the primary there was, or than all standbys.
//! - A primary that answers as such stays it, unless another one was promoted since.
//! - A node that takes writes without being the primary is barred from them, until it says otherwise.
//! - A primary that is silent is given up only for one that was promoted since; else its health check decides.

use super::sight::Sight;
use crate::state::{Cluster, History, NodeSet, Role};

/// What follows from the answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Who the primary is.
    pub primary: Option<usize>,
    /// Nodes that take writes but were the primary before another one.
    pub outdated: Vec<Outdated>,
    /// Nodes that take writes but hold another database system.
    pub foreign: Vec<usize>,
    /// Nodes that take writes beside the primary, and nothing tells who is right.
    pub rivals: Vec<usize>,
    /// All that take writes without being the primary, for whatever reason; those that are silent stay what they were.
    pub barred: NodeSet,
}

/// A node that takes writes on an older timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outdated {
    /// Node id.
    pub node: usize,
    pub timeline: u32,
    /// The timeline that has taken its place.
    pub newer: u32,
}

/// What the nodes say, index = id; `None`: it is silent, or was not asked. `excluded`: false primaries, which count as
/// nothing. `wary`: a node that is the only one to take writes is not the primary either if it is outdated or foreign.
pub(super) fn judge(cluster: &Cluster, sights: &[Option<&Sight>], excluded: &[usize], wary: bool) -> Verdict {
    let nodes = Nodes { cluster, sights };
    let known = cluster.primary.filter(|id| cluster.attached().contains(*id));
    let writable: Vec<usize> = nodes.with(Role::Primary).filter(|id| !excluded.contains(id)).collect();
    let mut verdict = Verdict { primary: known, ..Verdict::default() };
    let mut left = Vec::new();
    for node in writable.iter().copied() {
        let newer = nodes.newer(node, &writable).or_else(|| if wary { nodes.missed(node, known) } else { None });
        match nodes.history(node).zip(newer) {
            Some((own, newer)) => {
                verdict.outdated.push(Outdated { node, timeline: own.timeline, newer: newer.timeline });
            }
            None if wary && known != Some(node) && nodes.is_foreign(node) => verdict.foreign.push(node),
            None => left.push(node),
        }
    }
    verdict.primary = match known {
        Some(known) if left.contains(&known) => Some(known),
        Some(known) if verdict.outdated.iter().any(|outdated| outdated.node == known) => nodes.first_choice(&left),
        Some(known) => nodes.successor(known, &left).or(Some(known)),
        None => nodes.first_choice(&left),
    };
    verdict.rivals = left.into_iter().filter(|id| Some(*id) != verdict.primary).collect();
    verdict.barred = nodes.barred(verdict.primary);
    verdict
}

struct Nodes<'a> {
    cluster: &'a Cluster,
    sights: &'a [Option<&'a Sight>],
}

impl Nodes<'_> {
    fn sight(&self, id: usize) -> Option<&Sight> {
        self.sights.get(id).copied().flatten()
    }

    fn history(&self, id: usize) -> Option<History> {
        self.sight(id)?.history
    }

    fn with(&self, role: Role) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let is = move |id: &usize| self.sight(*id).is_some_and(|sight| sight.role == role);
        (0..self.sights.len()).filter(is)
    }

    /// Whether it is known to be no copy of the others.
    fn is_foreign(&self, id: usize) -> bool {
        self.history(id).zip(self.system()).is_some_and(|(own, system)| own.system != system)
    }

    /// The database system of the primary there was, else of all standbys if they agree.
    fn system(&self) -> Option<u64> {
        let mut standbys = self.with(Role::Standby).filter_map(|standby| self.history(standby)).map(|own| own.system);
        let of_primary = self.cluster.history.map(|history| history.system);
        of_primary.or_else(|| standbys.next().filter(|first| standbys.all(|other| other == *first)))
    }

    fn barred(&self, primary: Option<usize>) -> NodeSet {
        let is_barred = |id: &usize| match self.sight(*id) {
            Some(sight) => sight.role == Role::Primary && primary != Some(*id),
            None => self.cluster.nodes.get(*id).is_some_and(|node| node.barred),
        };
        (0..self.sights.len()).filter(is_barred).collect()
    }

    /// The newest of the histories before which `id` was the primary, among `others`.
    fn newer(&self, id: usize, others: &[usize]) -> Option<History> {
        let own = self.history(id)?;
        let others = others.iter().filter_map(|other| self.history(*other));
        others.filter(|other| own.is_older_than(*other)).max_by_key(|other| other.timeline)
    }

    /// What a node that is not the primary has missed, although no other one takes writes now: the primary there was has
    /// been promoted since, or a standby follows one that was, while nobody follows this node.
    fn missed(&self, id: usize, known: Option<usize>) -> Option<History> {
        let own = self.history(id).filter(|_| known != Some(id))?;
        let followed = self.sight(id).is_some_and(|sight| sight.receivers > 0);
        let standbys = self.with(Role::Standby).filter(|_| !followed).filter_map(|standby| self.history(standby));
        let seen = self.cluster.history.into_iter().chain(standbys);
        seen.filter(|seen| own.is_older_than(*seen)).max_by_key(|seen| seen.timeline)
    }

    /// The one of `candidates`, none of which is outdated, that has taken the place of `known`, which does not say any more
    /// that it is the primary.
    fn successor(&self, known: usize, candidates: &[usize]) -> Option<usize> {
        let is_silent = self.sight(known).is_none();
        let was_promoted = |id: &usize| match (self.cluster.history, self.history(*id)) {
            (Some(before), Some(now)) => before.is_older_than(now),
            _ => false,
        };
        // One that takes writes without having been promoted may be a copy that never was a standby.
        let candidates = candidates.iter().copied().filter(|id| !is_silent || was_promoted(id)).collect::<Vec<_>>();
        match candidates[..] {
            [only] => Some(only),
            _ => self.followed(&candidates),
        }
    }

    /// The primary where none was known. With several that are equal it is the one most standbys follow, else the one the
    /// original would take.
    fn first_choice(&self, candidates: &[usize]) -> Option<usize> {
        let has_standbys = self.with(Role::Standby).next().is_some();
        let guess = if has_standbys { candidates.last() } else { candidates.first() };
        self.followed(candidates).or(guess.copied())
    }

    /// The one of `candidates` from which more stream than from any other.
    fn followed(&self, candidates: &[usize]) -> Option<usize> {
        let receivers = |id: usize| self.sight(id).map_or(0, |sight| sight.receivers);
        let most = candidates.iter().map(|id| receivers(*id)).max().filter(|most| *most > 0)?;
        let mut with_most = candidates.iter().copied().filter(|id| receivers(*id) == most);
        with_most.next().filter(|_| with_most.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Node, NodeStatus};

    const SYSTEM: u64 = 7;

    /// One word per node: P takes writes, S is a standby, - is silent, x is detached. Behind it the timeline, ? if unknown,
    /// and +N for N that stream from it; ! for another database system.
    fn nodes(text: &str) -> Vec<Option<Sight>> {
        let node = |word: &str| {
            let role = match &word[..1] {
                "P" => Role::Primary,
                "S" => Role::Standby,
                _ => return None,
            };
            let (timeline, receivers) = word[1..].trim_end_matches('!').split_once('+').unwrap_or((&word[1..], "0"));
            let system = if word.ends_with('!') { SYSTEM + 1 } else { SYSTEM };
            let timeline = timeline.trim_end_matches('!').parse();
            let history = timeline.ok().map(|timeline| History { system, timeline });
            Some(Sight { role, history, receivers: receivers.parse().expect("a number"), source: None })
        };
        text.split(' ').map(node).collect()
    }

    /// `known`: the primary so far and its timeline, such as `0:1`.
    fn verdict(known: &str, text: &str) -> String {
        let (primary, timeline) = known.split_once(':').unwrap_or((known, ""));
        let status = |word: &str| if word == "x" { NodeStatus::Down } else { NodeStatus::Up };
        let cluster = Cluster {
            nodes: text.split(' ').map(|word| Node { status: status(word), ..Node::default() }).collect(),
            primary: primary.parse().ok(),
            history: timeline.parse().ok().map(|timeline| History { system: SYSTEM, timeline }),
            ..Cluster::default()
        };
        let sights = nodes(text);
        let Verdict { primary, outdated, foreign, rivals, .. } =
            judge(&cluster, &sights.iter().map(Option::as_ref).collect::<Vec<_>>(), &[], true);
        let mut words = vec![primary.map_or_else(|| "none".to_owned(), |id| id.to_string())];
        words.extend(outdated.iter().map(|outdated| format!("outdated:{}", outdated.node)));
        words.extend(foreign.iter().map(|foreign| format!("foreign:{foreign}")));
        words.extend(rivals.iter().map(|rival| format!("rival:{rival}")));
        words.join(" ")
    }

    #[test]
    fn who_the_primary_is() {
        for (known, nodes, expected, why) in [
            ("0:1", "P1+2 S1 S1", "0", "nothing has happened"),
            ("0:1", "S2 P2 S1", "1", "a switchover"),
            ("0:1", "S1 P2+1 S2", "1", "a switchover, the old one is not there yet"),
            ("0:1", "- P2 S1", "1", "the old one is gone, another one was promoted"),
            ("0:1", "P1+1 P2 S1", "1 outdated:0", "the old one has come back and writes"),
            ("1:2", "P1+1 P2 S1", "1 outdated:0", "the same, and that is known already"),
            ("1:2", "P1+1 - S1", "1 outdated:0", "the same, and the new one is silent for once"),
            ("1:2", "P1 S2 S2", "1 outdated:0", "the new one was demoted, but the old one has missed its time"),
            ("1:2", "P3 S2 S2", "0", "switched back"),
            ("0:1", "P2+1 S2 S2", "0", "it was promoted itself"),
            ("0:2", "P1+1 S1 S1", "0", "restored where it stands"),
            ("0:1", "- P1 S1", "0 rival:1", "a copy that never was a standby, the primary is silent for once"),
            ("0:1", "S1 P1 S1", "1", "the same, but there is no other one"),
            ("0:1", "- P? S1", "0 rival:1", "silent, and the other one does not tell"),
            ("0:1", "S1 P? S1", "1", "a standby, and the other one does not tell"),
            ("0:?", "P? P? S?", "0 rival:1", "nobody tells"),
            ("0:1", "P1 P1 S1", "0 rival:1", "both the same: the known one stays"),
            ("0:1", "P1 P1+2 S1", "0 rival:1", "both the same: whoever is followed"),
            ("2:1", "P1 P1 P1", "2 rival:0 rival:1", "all the same"),
            ("0:1", "P1 P5! S1", "0 foreign:1", "another database system"),
            ("0:1", "- P5! S1", "0 foreign:1", "another database system, the primary is silent for once"),
            ("0:1", "S1 P5! S1", "0 foreign:1", "another database system, the primary is a standby now"),
            ("0:1", "S2 P5! P2", "2 foreign:1", "a switchover beside another database system"),
            ("0:1", "P1! S1! S1!", "0", "all were made anew"),
            ("0:1", "P1 P2 P2+1", "2 outdated:0 rival:1", "two promotions, one is followed"),
            ("0:1", "P1 P2 P2 S1", "2 outdated:0 rival:1", "two promotions: never the outdated one"),
            ("0:1", "- P2 P2", "0 rival:1 rival:2", "two promotions, and nothing tells who is right"),
            ("0:1", "P1 P2 P3", "2 outdated:0 outdated:1", "one promotion after the other"),
            ("0:1", "S1 S1 S1", "0", "nobody takes writes: it stays"),
            ("0:1", "- - -", "0", "nobody answers: it stays"),
        ] {
            assert_eq!(verdict(known, nodes), expected, "{known} {nodes}: {why}");
        }
    }

    #[test]
    fn who_it_is_when_none_is_known() {
        for (known, nodes, expected, why) in [
            ("", "P1 S1 S1", "0", "a start"),
            ("", "P1 P2 S1", "1 outdated:0", "two of them: the newer one"),
            ("", "P2 P1 S2", "0 outdated:1", "the same, the other way round"),
            ("", "P1 S2 S2", "none outdated:0", "the primary of the standbys is not there"),
            ("", "P1+1 S2 S1", "0", "a standby that went its own way"),
            ("", "P1 P1", "0 rival:1", "no standby: the first, as the original"),
            ("", "P1 S1 P1", "2 rival:0", "a standby: the last, as the original"),
            ("", "P1+1 S1 P1", "0 rival:2", "who is followed"),
            ("", "- S1", "none", "nobody"),
            ("x:2", "x P1 S1", "none outdated:1", "after the primary was lost, its predecessor"),
            ("0:2", "x P1 S1", "none outdated:1", "the same, while it is being lost"),
            ("0:2", "x P3 S2", "1", "its successor"),
            ("0:2", "x P? S2", "1", "one that does not tell"),
            ("0:1", "x P5! S1", "none foreign:1", "after the primary was lost, another database system"),
            ("0:1", "x P5! P2", "2 foreign:1", "the same beside its successor"),
            ("", "P5! S1 S1", "none foreign:0", "a start, and all standbys are of another database system"),
            ("", "P1 P5! S1", "0 foreign:1", "a start with another database system"),
            ("", "P5! S1 S5!", "0", "a start, and the standbys do not agree"),
            ("", "P1 P5!", "0 rival:1", "a start without a standby"),
        ] {
            assert_eq!(verdict(known, nodes), expected, "{known} {nodes}: {why}");
        }
    }

    #[test]
    fn what_an_outdated_one_has_missed() {
        let sights = nodes("P1 P3 P2");
        let cluster = Cluster { nodes: vec![Node::default(); 3], ..Cluster::default() };
        let verdict = judge(&cluster, &sights.iter().map(Option::as_ref).collect::<Vec<_>>(), &[], true);
        let outdated = |node, timeline| Outdated { node, timeline, newer: 3 };
        assert_eq!(verdict.outdated, [outdated(0, 1), outdated(2, 2)]);
    }

    #[test]
    fn false_primaries_do_not_count_and_the_unwary_take_whom_there_is() {
        let sights = nodes("P1 P2 S1");
        let sights: Vec<_> = sights.iter().map(Option::as_ref).collect();
        let node = || Node { status: NodeStatus::Up, ..Node::default() };
        let cluster = Cluster { nodes: vec![node(), node(), node()], ..Cluster::default() };
        let expected = Verdict { primary: Some(0), ..Verdict::default() };
        assert_eq!(judge(&cluster, &sights, &[1], true), Verdict { barred: NodeSet::of(1), ..expected.clone() });
        let sights = nodes("P1 S2 S2");
        let sights: Vec<_> = sights.iter().map(Option::as_ref).collect();
        assert_eq!(judge(&cluster, &sights, &[], false), expected);
    }

    #[test]
    fn who_takes_writes_without_being_the_primary_is_barred() {
        let barred = |text: &str, primary, barred: usize| {
            let sights = nodes(text);
            let mut cluster = Cluster { nodes: vec![Node::default(); sights.len()], primary, ..Cluster::default() };
            (0..sights.len()).for_each(|id| cluster.set_status(id, NodeStatus::Up, ""));
            cluster.bar(NodeSet::of(barred));
            let sights: Vec<_> = sights.iter().map(Option::as_ref).collect();
            judge(&cluster, &sights, &[], true).barred.iter().collect::<Vec<_>>()
        };
        assert_eq!(barred("P1 S2 S2", None, 9), [0], "outdated, without a primary");
        assert_eq!(barred("P1 P1 S1", Some(1), 9), [0], "a rival");
        assert_eq!(barred("- S2", None, 0), [0], "silent: as before");
        assert_eq!(barred("S2 P2", Some(1), 0), [0; 0], "a standby now");
        assert_eq!(barred("P3 S2", None, 0), [0; 0], "promoted");
    }
}
