//! What administrators have ordered at the old pgpool when the new one served already: they were told that it will be done,
//! so it is passed on. What processes of the old one ask for is not: the new one looks for itself.
//!
//! One line per order: what, the node's address, and why.

use crate::state::{Cluster, Request, RequestKind};

/// The orders among `requests`; empty if there are none.
pub(super) fn write(requests: &[Request], cluster: &Cluster) -> String {
    let orders = requests.iter().filter(|request| request.by_operator).filter_map(|request| {
        let node = cluster.nodes.get(request.node)?;
        let cause = request.cause.replace(char::is_control, " ");
        Some(format!("{}\t{}\t{}\t{cause}\n", request.kind.word(), node.hostname, node.port))
    });
    orders.collect()
}

/// The orders, for the nodes of `cluster`; a line that makes no sense here as it is.
pub(super) fn read<'a>(orders: &'a str, cluster: &Cluster) -> Vec<Result<Request, &'a str>> {
    let read = |line: &'a str| {
        let mut words = line.split('\t');
        let (word, hostname, port) = (words.next()?, words.next()?, words.next()?);
        let kind = RequestKind::ALL.into_iter().find(|kind| kind.word() == word)?;
        let is_it = |node: &crate::state::Node| node.hostname == hostname && node.port.to_string() == port;
        let node = cluster.nodes.iter().position(is_it)?;
        let request = Request::new(kind, node, words.next().unwrap_or_default());
        Some(Request { by_operator: true, ..request })
    };
    orders.lines().map(|line| read(line).ok_or(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Node;

    #[test]
    fn only_orders_are_passed_on_and_nodes_are_known_by_their_addresses() {
        let node = |port| Node { hostname: "host".to_owned(), port, ..Node::default() };
        let (old, new) = ([1, 2, 3].map(node).to_vec(), [3, 2].map(node).to_vec());
        let [old, new] = [old, new].map(|nodes| Cluster { nodes, ..Cluster::default() });
        let request = |kind, node, by_operator| Request { by_operator, ..Request::new(kind, node, "by\nAnn") };
        let requests = [
            request(RequestKind::Down, 2, true),
            request(RequestKind::Down, 1, false),
            request(RequestKind::Promote, 1, true),
            request(RequestKind::Up, 0, true),
        ];
        let orders = write(&requests, &old) + "nonsense\n";
        let read = read(&orders, &new);
        let told = |request: &Request| (request.kind, request.node, request.cause.clone(), request.by_operator);
        let told: Vec<_> = read.iter().map(|read| read.as_ref().map(told).map_err(|line| *line)).collect();
        let order = |kind, node| Ok((kind, node, "by Ann".to_owned(), true));
        assert_eq!(told[..2], [order(RequestKind::Down, 0), order(RequestKind::Promote, 1)]);
        assert_eq!(told[2..], [Err("failback\thost\t1\tby Ann"), Err("nonsense")]);
    }
}
