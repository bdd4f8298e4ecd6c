//! detach_false_primary: a primary from which not all standbys stream, while they do from another, is a false one: a
//! decision alone (failover 8).

use super::sight::{Sight, Source};
use crate::net::{Address, Deadline, resolve};
use crate::report::Report;
use crate::state::{Cluster, Node, Role};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The longest that all names may take to be resolved.
const RESOLVE_LIMIT: Duration = Duration::from_secs(1);

/// What the verification has found.
#[derive(Debug, Default)]
pub(super) struct Verification {
    /// Primaries that are none.
    pub invalid: Vec<usize>,
    /// What the log is told, for each primary that does not own all standbys.
    pub findings: Vec<Report>,
}

/// What host names mean during one verification: each is looked up once, and all together take no longer than a moment.
pub(super) struct Names {
    deadline: Deadline,
    known: RefCell<HashMap<String, Vec<IpAddr>>>,
}

impl Names {
    /// None is known yet.
    pub fn new() -> Self {
        Self { deadline: Deadline::after(RESOLVE_LIMIT), known: RefCell::default() }
    }

    /// Whether both are one server: the same port, and the same host in word or by address. The names need not be spelled
    /// alike.
    pub fn is_same_server(&self, source: &Source, node: &Node) -> bool {
        let is_socket = |host: &str| host.is_empty() || host.starts_with('/');
        if source.port != node.port {
            return false;
        }
        if source.host == node.hostname {
            return true;
        }
        if is_socket(&node.hostname) {
            return is_socket(&source.host) || source.host == "localhost";
        }
        let addresses =
            |host: &str| self.addresses(host, |address| resolve(address, self.deadline).unwrap_or_default());
        let of_node = addresses(&node.hostname);
        !is_socket(&source.host) && addresses(&source.host).iter().any(|address| of_node.contains(address))
    }

    fn addresses(&self, host: &str, look_up: impl FnOnce(&Address) -> Vec<SocketAddr>) -> Vec<IpAddr> {
        let mut known = self.known.borrow_mut();
        if !known.contains_key(host) {
            let found = look_up(&Address { host: host.to_owned(), port: 0 });
            known.insert(host.to_owned(), found.iter().map(SocketAddr::ip).collect());
        }
        known.get(host).cloned().unwrap_or_default()
    }
}

/// Who owns which standby. `candidates`: the nodes that take writes. `is_same`: whether a standby means that node by its
/// source.
pub(super) fn verify(
    cluster: &Cluster,
    sights: &[Option<&Sight>],
    candidates: &[usize],
    is_same: &dyn Fn(&Source, &Node) -> bool,
) -> Verification {
    let mut found = Verification::default();
    let sight = |id: usize| sights.get(id).copied().flatten();
    let standbys: Vec<usize> =
        (0..sights.len()).filter(|id| sight(*id).is_some_and(|sight| sight.role == Role::Standby)).collect();
    if standbys.is_empty() {
        return found;
    }
    let source = |id: usize| sight(id).and_then(|sight| sight.source.as_ref());
    let follows = |standby: usize, node: usize| {
        source(standby).is_some_and(|source| cluster.nodes.get(node).is_some_and(|node| is_same(source, node)))
    };
    // A standby also belongs to the primary of the standby it streams from. No chain is longer than there are nodes.
    let belongs = |standby: usize, primary: usize| {
        let mut at = standby;
        for _ in 0..sights.len() {
            if follows(at, primary) {
                return true;
            }
            match standbys.iter().find(|other| **other != at && follows(at, **other)) {
                Some(next) => at = *next,
                None => return false,
            }
        }
        false
    };
    let mut partial = Vec::new();
    let mut has_true_one = false;
    for primary in candidates.iter().copied() {
        let owned = standbys.iter().filter(|standby| belongs(**standby, primary)).count();
        if owned == standbys.len() {
            has_true_one = true;
            continue;
        }
        let strangers = standbys.iter().filter(|standby| source(**standby).is_some() && !belongs(**standby, primary));
        for (standby, source) in strangers.filter_map(|standby| Some((standby, source(*standby)?))) {
            let Node { hostname, port, .. } = &cluster.nodes[primary];
            found.findings.push(
                Report::log_line(format!(
                    "verify_backend_node_status: primary {primary} does not connect to standby {standby}"
                ))
                .detail(format!(
                    "pgpool.conf backend: (host=\"{hostname}\" port={port}) does not match PostgreSQL primary_conninfo: \
                     (host=\"{}\" port={})",
                    source.host, source.port
                )),
            );
        }
        let all = standbys.len();
        found.findings.push(Report::log_line(format!(
            "verify_backend_node_status: primary {primary} owns only {owned} standbys out of {all}"
        )));
        partial.push(primary);
    }
    if has_true_one {
        found.invalid = partial;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_once_whether_it_means_something_or_not() {
        let names = Names::new();
        let never = |_: &Address| -> Vec<SocketAddr> { panic!("again") };
        let found: SocketAddr = "10.0.0.1:0".parse().expect("address");
        assert_eq!(names.addresses("db0", |_| vec![found]), [found.ip()]);
        assert_eq!(names.addresses("db0", never), [found.ip()]);
        assert!(names.addresses("gone", |_| Vec::new()).is_empty() && names.addresses("gone", never).is_empty());
    }

    fn node(id: u16) -> Node {
        Node { hostname: format!("db{id}"), port: 5432, ..Node::default() }
    }

    /// One word per node: P takes writes, S is a standby without a visible source, a number is a standby of that node.
    fn found(text: &str) -> (Vec<usize>, Vec<String>) {
        let source = |word: &str| word.parse::<u16>().ok().map(|id| Source { host: format!("db{id}"), port: 5432 });
        let sight = |word: &str| {
            let role = if word == "P" { Role::Primary } else { Role::Standby };
            (word != "-").then(|| Sight { source: source(word), ..Sight::of(role) })
        };
        let sights: Vec<_> = text.split(' ').map(sight).collect();
        let cluster = Cluster { nodes: (0..sights.len() as u16).map(node).collect(), ..Cluster::default() };
        let is_primary = |id: &usize| sights[*id].as_ref().is_some_and(|sight| sight.role == Role::Primary);
        let candidates: Vec<_> = (0..sights.len()).filter(is_primary).collect();
        let is_same = |source: &Source, node: &Node| source.host == node.hostname;
        let sights: Vec<_> = sights.iter().map(Option::as_ref).collect();
        let Verification { invalid, findings } = verify(&cluster, &sights, &candidates, &is_same);
        (invalid, findings.into_iter().map(|report| report.message).collect())
    }

    fn invalid(text: &str) -> Vec<usize> {
        found(text).0
    }

    #[test]
    fn the_primary_that_owns_all_standbys_is_the_true_one() {
        assert_eq!(invalid("P P 0"), [1]);
        assert_eq!(invalid("P P 1"), [0]);
        assert_eq!(invalid("P P 0 0 P"), [1, 4]);
        assert_eq!(invalid("P P 0 2 3"), [1], "a cascade belongs to its head");
    }

    #[test]
    fn without_one_that_owns_all_nobody_is_accused() {
        for text in ["P P 0 1", "P P S", "P P 0 S", "P P", "P 7", "P P 3 2", "P 0 -"] {
            assert_eq!(invalid(text), [0; 0], "{text}");
        }
    }

    #[test]
    fn the_lines() {
        assert_eq!(
            found("P P 0").1,
            [
                "verify_backend_node_status: primary 1 does not connect to standby 2",
                "verify_backend_node_status: primary 1 owns only 0 standbys out of 1",
            ]
        );
        assert_eq!(found("P S").1, ["verify_backend_node_status: primary 0 owns only 0 standbys out of 1"]);
        assert!(found("P 0 0").1.is_empty() && found("P P").1.is_empty() && found("0 0").1.is_empty());
    }

    #[test]
    fn one_server_under_several_names() {
        let source = |host: &str, port| Source { host: host.to_owned(), port };
        let node = |host: &str| Node { hostname: host.to_owned(), port: 5432, ..Node::default() };
        assert!(Names::new().is_same_server(&source("localhost", 5432), &node("127.0.0.1")));
        assert!(Names::new().is_same_server(&source("db.invalid", 5432), &node("db.invalid")));
        assert!(Names::new().is_same_server(&source("/run/postgresql", 5432), &node("/tmp")));
        assert!(Names::new().is_same_server(&source("localhost", 5432), &node("/tmp")));
        assert!(!Names::new().is_same_server(&source("127.0.0.1", 5433), &node("127.0.0.1")));
        assert!(!Names::new().is_same_server(&source("127.0.0.2", 5432), &node("127.0.0.1")));
        assert!(!Names::new().is_same_server(&source("/tmp", 5432), &node("127.0.0.1")));
    }
}
