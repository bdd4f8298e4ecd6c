//! What the new pgpool lets the old one know of the nodes, after every change: the old one decides nothing itself, but its
//! sessions must write where those of the new one write.
//!
//! One line per node: status, address and reason. A node is known again by its address, since a new configuration may have
//! other numbers.

use crate::state::{Cluster, Node, NodeSet, NodeStatus};

/// It is not used.
const DOWN: &str = "down";
const UP: &str = "up";
/// It is the primary.
const PRIMARY: &str = "primary";
/// It gets no writes.
const BARRED: &str = "barred";

/// The nodes as they are.
pub(super) fn write(cluster: &Cluster) -> String {
    let of = |(id, node): (usize, &Node)| {
        let state = match () {
            () if !node.status.is_attached() => DOWN,
            () if cluster.primary == Some(id) => PRIMARY,
            () if node.barred => BARRED,
            () => UP,
        };
        let reason = node.reason.replace(char::is_control, " ");
        format!("{state}\t{}\t{}\t{reason}\n", node.hostname, node.port)
    };
    let is_used = |(_, node): &(usize, &Node)| node.status != NodeStatus::Unused;
    cluster.nodes.iter().enumerate().filter(is_used).map(of).collect()
}

/// Makes `cluster` like that. Nodes that the new configuration does not have stay as they are.
pub(super) fn apply(news: &str, cluster: &mut Cluster) {
    let (mut barred, mut primary) = (NodeSet::EMPTY, None);
    for line in news.lines() {
        let mut words = line.split('\t');
        let (Some(state), Some(hostname), Some(port)) = (words.next(), words.next(), words.next()) else { continue };
        let is_it = |node: &Node| node.hostname == hostname && node.port.to_string() == port;
        let Some(id) = cluster.nodes.iter().position(is_it) else {
            if state == PRIMARY {
                // Whoever does not know it has none.
                barred = (0..cluster.nodes.len()).collect();
            }
            continue;
        };
        if (state == DOWN) == cluster.nodes[id].status.is_attached() {
            let status = if state == DOWN { NodeStatus::Down } else { NodeStatus::Waiting };
            cluster.set_status(id, status, words.next().unwrap_or_default());
        }
        match state {
            PRIMARY => primary = Some(id),
            BARRED => barred.insert(id),
            _ => {}
        }
    }
    cluster.set_primary(primary);
    cluster.bar(barred);
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

    #[test]
    fn the_old_one_sees_nodes_as_the_new_one_does() {
        let (mut new, mut old) = (cluster(&[1, 2, 3]), cluster(&[3, 2, 1]));
        apply(&write(&new), &mut old);
        assert_eq!((old.primary, old.attached().len()), (Some(2), 3));
        new.set_status(0, NodeStatus::Down, "lost\nto the network");
        new.set_primary(Some(1));
        new.bar(NodeSet::of(2));
        apply(&write(&new), &mut old);
        assert_eq!((old.primary, old.write_node()), (Some(1), Some(1)));
        assert_eq!((old.nodes[2].status, old.nodes[2].reason.as_str()), (NodeStatus::Down, "lost to the network"));
        assert!(old.nodes[0].barred);
        new.set_status(0, NodeStatus::Waiting, "attached");
        new.bar(NodeSet::EMPTY);
        apply(&write(&new), &mut old);
        assert_eq!((old.attached().len(), old.nodes[0].barred), (3, false));
    }

    #[test]
    fn who_does_not_know_the_primary_writes_nowhere() {
        let (new, mut old) = (cluster(&[9, 1]), cluster(&[1, 2]));
        apply(&write(&new), &mut old);
        assert_eq!((old.primary, old.write_node()), (None, None));
        let before = old.clone();
        apply("nonsense\nup\thost\n", &mut old);
        assert_eq!(old.attached(), before.attached());
    }
}
