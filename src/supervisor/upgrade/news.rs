//! What one pgpool lets the other know of the nodes. The old one says once, at the start of the new one, which nodes it uses.
//! The new one says it after every change: the old one decides nothing itself any more, but its sessions must write where
//! those of the new one write.
//!
//! One line per node: status, address and reason. A node is known again by its address, since a new configuration may have
//! other numbers. The address may be another one as well. So the old one heeds changes: what it hears first takes no node
//! away, and a primary of a name that it does not know is the one it has.

use crate::state::{Cluster, Node, NodeSet, NodeStatus};

/// It is not used.
const DOWN: &str = "down";
/// An administrator has detached it.
const KEPT_OUT: &str = "kept_out";
/// It is used again as soon as it is reached.
const MISSING: &str = "missing";
const UP: &str = "up";
/// It is the primary.
const PRIMARY: &str = "primary";
/// It gets no writes.
const BARRED: &str = "barred";

/// One line.
struct Told<'a> {
    state: &'a str,
    hostname: &'a str,
    port: &'a str,
    reason: &'a str,
}

/// The nodes as they are.
pub(super) fn write(cluster: &Cluster) -> String {
    let of = |(id, node): (usize, &Node)| {
        let state = match () {
            () if node.status.is_attached() => attached(cluster, id),
            () if node.missing => MISSING,
            () if node.kept_out => KEPT_OUT,
            () => DOWN,
        };
        let reason = node.reason.replace(char::is_control, " ");
        format!("{state}\t{}\t{}\t{reason}\n", node.hostname, node.port)
    };
    let is_used = |(_, node): &(usize, &Node)| node.status != NodeStatus::Unused;
    cluster.nodes.iter().enumerate().filter(is_used).map(of).collect()
}

fn attached(cluster: &Cluster, id: usize) -> &'static str {
    match () {
        () if cluster.primary == Some(id) => PRIMARY,
        () if cluster.nodes[id].barred => BARRED,
        () => UP,
    }
}

fn read(news: &str) -> Vec<Told<'_>> {
    news.lines()
        .filter_map(|line| {
            let mut words = line.split('\t');
            let (state, hostname, port) = (words.next()?, words.next()?, words.next()?);
            Some(Told { state, hostname, port, reason: words.next().unwrap_or_default() })
        })
        .collect()
}

impl Told<'_> {
    fn find(&self, cluster: &Cluster) -> Option<usize> {
        cluster.nodes.iter().position(|node| node.hostname == self.hostname && node.port.to_string() == self.port)
    }

    fn is_down(&self) -> bool {
        [DOWN, KEPT_OUT, MISSING].contains(&self.state)
    }

    fn address(&self) -> String {
        format!("{}:{}", self.hostname, self.port)
    }
}

/// Makes an empty pgpool's `cluster` as another one has it that says `news`: which nodes are detached, and by whom.
pub(super) fn adopt(news: &str, cluster: &mut Cluster) {
    for told in read(news) {
        let Some(id) = told.find(cluster) else { continue };
        let is_detached = told.is_down() && told.state != MISSING;
        if is_detached == cluster.nodes[id].status.is_attached() {
            cluster.set_status(id, if is_detached { NodeStatus::Down } else { NodeStatus::Waiting }, told.reason);
        }
        if told.state == KEPT_OUT {
            cluster.keep_out(id);
        }
    }
}

/// What of the nodes in `news`, which another pgpool uses, is not to be had with `cluster`, in words for a person.
/// `has_primary`: one of the nodes should be the primary.
pub(super) fn lack(news: &str, cluster: &Cluster, has_primary: bool) -> Option<String> {
    let used: Vec<_> = read(news).into_iter().filter(|told| !told.is_down()).collect();
    let missing = used.iter().find_map(|told| {
        let id = told.find(cluster)?;
        let Node { missing, reason, disallow_to_failover, .. } = &cluster.nodes[id];
        // A standby that nobody may detach is used there whether it is reached or not.
        let says_nothing = has_primary && *disallow_to_failover && told.state != PRIMARY;
        (*missing && !says_nothing).then(|| format!("DB node {id} ({}) is not reached: {reason}", told.address()))
    });
    let primary = used.iter().find(|told| told.state == PRIMARY).filter(|_| has_primary && cluster.primary.is_none());
    missing.or_else(|| primary.map(|told| format!("the primary, which is {}, is not found", told.address())))
}

/// What the old one has heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What is not entered yet, one after the other: each tells what has changed since the one before it.
    pending: Vec<String>,
    /// It has heard something.
    has_begun: bool,
    /// The nodes that the new one did not use when it was heard last.
    down: NodeSet,
    /// The new one has named a primary.
    knows_primary: bool,
    /// By which address it has named it, if that is none here, and which node that must be.
    alias: Option<(String, usize)>,
}

impl Heard {
    /// The new one has said this.
    pub(super) fn note(&mut self, news: String) {
        self.pending.push(news);
    }

    /// Something is to be entered.
    pub(super) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Makes `cluster` as the new one says that its nodes are. Nodes that its configuration does not have stay as they are.
    pub(super) fn apply(&mut self, cluster: &mut Cluster) {
        for news in std::mem::take(&mut self.pending) {
            self.apply_one(&news, cluster);
        }
    }

    fn apply_one(&mut self, news: &str, cluster: &mut Cluster) {
        let told = read(news);
        self.meet_primary(&told, cluster);
        let (mut barred, mut primary, mut down) = (NodeSet::EMPTY, None, NodeSet::EMPTY);
        for told in &told {
            let alias = || self.alias.as_ref().filter(|(address, _)| *address == told.address()).map(|(_, id)| *id);
            let Some(id) = told.find(cluster).or_else(alias) else {
                if told.state == PRIMARY {
                    // Whoever does not know it has none.
                    barred = (0..cluster.nodes.len()).collect();
                }
                continue;
            };
            let is_down = told.is_down();
            let has_changed = self.has_begun && is_down != self.down.contains(id);
            if has_changed && is_down == cluster.nodes[id].status.is_attached() {
                cluster.set_status(id, if is_down { NodeStatus::Down } else { NodeStatus::Waiting }, told.reason);
            }
            if is_down {
                down.insert(id);
            }
            match told.state {
                PRIMARY => primary = Some(id),
                BARRED => barred.insert(id),
                _ => {}
            }
        }
        if self.knows_primary {
            cluster.set_primary(primary);
        }
        cluster.bar(barred);
        (self.has_begun, self.down) = (true, down);
    }

    /// The first primary that the new one names is the node that takes writes here, if it has a name that is none here, and
    /// that node is not among those it names.
    fn meet_primary(&mut self, told: &[Told<'_>], cluster: &Cluster) {
        let primary = told.iter().find(|told| told.state == PRIMARY);
        let Some(primary) = primary.filter(|_| !self.knows_primary) else { return };
        self.knows_primary = true;
        if primary.find(cluster).is_none() {
            let ours = cluster.write_node().filter(|ours| !told.iter().any(|told| told.find(cluster) == Some(*ours)));
            self.alias = ours.map(|ours| (primary.address(), ours));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(ports: &[u16]) -> Cluster {
        let node = |port: &u16| Node { hostname: "host".to_owned(), port: *port, ..Node::default() };
        let mut cluster = Cluster { nodes: ports.iter().map(node).collect(), ..Cluster::default() };
        (0..ports.len()).for_each(|id| cluster.set_status(id, NodeStatus::Up, "configured"));
        cluster.set_primary(Some(0));
        cluster
    }

    fn hear(heard: &mut Heard, new: &Cluster, old: &mut Cluster) {
        heard.note(write(new));
        heard.apply(old);
    }

    #[test]
    fn the_old_one_sees_nodes_as_the_new_one_does() {
        let (mut new, mut old) = (cluster(&[1, 2, 3]), cluster(&[3, 2, 1]));
        let mut heard = Heard::default();
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.attached().len()), (Some(2), 3));
        new.set_status(0, NodeStatus::Down, "lost\nto the network");
        new.set_primary(Some(1));
        new.bar(NodeSet::of(2));
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.write_node()), (Some(1), Some(1)));
        assert_eq!((old.nodes[2].status, old.nodes[2].reason.as_str()), (NodeStatus::Down, "lost to the network"));
        assert!(old.nodes[0].barred);
        new.set_status(0, NodeStatus::Waiting, "attached");
        new.bar(NodeSet::EMPTY);
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.attached().len(), old.nodes[0].barred), (3, false));
    }

    #[test]
    fn who_does_not_know_the_primary_writes_nowhere() {
        let (new, mut old) = (cluster(&[9, 1]), cluster(&[1, 2]));
        let mut heard = Heard::default();
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.write_node()), (None, None));
        let before = old.clone();
        heard.note("nonsense\nup\thost\n".to_owned());
        heard.apply(&mut old);
        assert_eq!(old.attached(), before.attached());
    }

    #[test]
    fn a_primary_of_another_name_is_the_one_that_is_known() {
        // The primary and a standby have other addresses now.
        let (mut new, mut old) = (cluster(&[11, 12, 3]), cluster(&[1, 2, 3]));
        let mut heard = Heard::default();
        hear(&mut heard, &new, &mut old);
        assert_eq!(
            (old.primary, old.write_node(), old.nodes.iter().any(|node| node.barred)),
            (Some(0), Some(0), false)
        );
        new.set_status(0, NodeStatus::Down, "lost");
        new.set_primary(None);
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.nodes[0].reason.as_str()), (None, "lost"));
        new.set_primary(Some(2));
        hear(&mut heard, &new, &mut old);
        assert_eq!(old.write_node(), Some(2));
        // Nobody here knows which node that is.
        new.set_primary(Some(1));
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.write_node()), (None, None));
    }

    #[test]
    fn what_is_heard_first_takes_nothing_away() {
        let (mut new, mut old) = (cluster(&[1, 2]), cluster(&[1, 2]));
        new.set_missing(1, "no answer");
        new.set_primary(None);
        let mut heard = Heard::default();
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.attached().len()), (Some(0), 2));
        new.set_status(1, NodeStatus::Waiting, "found");
        hear(&mut heard, &new, &mut old);
        new.set_status(1, NodeStatus::Down, "detached");
        new.set_primary(Some(0));
        hear(&mut heard, &new, &mut old);
        assert_eq!((old.primary, old.attached().len()), (Some(0), 1));
    }

    #[test]
    fn what_is_said_in_one_breath_is_heard_word_by_word() {
        let (mut new, mut old) = (cluster(&[1, 2]), cluster(&[1, 2]));
        let mut heard = Heard::default();
        heard.note(write(&new));
        new.set_status(0, NodeStatus::Down, "detached");
        new.set_primary(None);
        heard.note(write(&new));
        heard.apply(&mut old);
        assert_eq!((old.primary, old.nodes[0].status), (None, NodeStatus::Down));
        assert!(!heard.is_behind());
    }

    #[test]
    fn what_is_detached_stays_so_and_nothing_else() {
        let (mut new, mut old) = (cluster(&[4, 3, 2, 1, 5]), cluster(&[1, 2, 3, 4]));
        old.set_status(1, NodeStatus::Down, "maintenance");
        old.keep_out(1);
        old.set_status(2, NodeStatus::Down, "lost");
        old.set_missing(3, "not reached");
        // By its number that was another node.
        new.set_status(3, NodeStatus::Down, "down in the status file");
        adopt(&write(&old), &mut new);
        let told =
            |id: usize| (new.nodes[id].status.is_attached(), new.nodes[id].kept_out, new.nodes[id].reason.as_str());
        assert_eq!([0, 3, 4].map(|id| told(id).0), [true; 3]);
        assert_eq!([1, 2].map(told), [(false, false, "lost"), (false, true, "maintenance")]);
        let heard = lack(&write(&old), &new, true);
        assert_eq!(heard, None, "neither uses them");
    }

    #[test]
    fn who_reaches_less_than_the_other_uses_lacks_something() {
        let (mut new, mut old) = (cluster(&[1, 2, 9]), cluster(&[1, 2]));
        let lacks = |new: &Cluster, old: &Cluster| lack(&write(old), new, true).unwrap_or_default();
        new.set_missing(2, "the other one does not have it");
        assert_eq!(lacks(&new, &old), "");
        new.set_missing(1, "no answer");
        assert_eq!(lacks(&new, &old), "DB node 1 (host:2) is not reached: no answer");
        new.nodes[1].disallow_to_failover = true;
        assert_eq!(lacks(&new, &old), "", "the other one uses it in any case");
        assert_ne!(lack(&write(&old), &new, false), None, "every node counts");
        new.nodes[1].disallow_to_failover = false;
        old.set_status(1, NodeStatus::Down, "lost");
        assert_eq!(lacks(&new, &old), "");
        new.set_primary(None);
        assert_eq!(lacks(&new, &old), "the primary, which is host:1, is not found");
        assert_eq!(lack(&write(&old), &new, false), None, "it has none");
    }
}
