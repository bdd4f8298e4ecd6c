//! `pgpool_status.reasons`: why each node is up or down, since when, and whether an administrator has detached it.
//!
//! It lies beside `pgpool_status`, which stays as the original reads it. One line per node: id, state, seconds since 1970,
//! `administrator` or `-`, and the reason. What it says of a node counts only if the state is the one in `pgpool_status`; a
//! file that is damaged or missing takes nothing but what it would have told. It is written before `pgpool_status`: a crash
//! in between leaves remarks on a state that never came into force.

use super::status_file::{self, replace};
use crate::report::{Report, Result};
use crate::state::{Cluster, MAX_NODES, NodeStatus};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes.
const MAX_LENGTH: u64 = 128 * 1024;
const HEADING: &str = "# Why each node is up or down, and since when. The states that count are in pgpool_status.\n";
const BY_ADMINISTRATOR: &str = "administrator";

/// What is remembered of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    /// The state it is about.
    pub status: NodeStatus,
    /// When the node got into it, seconds since 1970.
    pub since: u64,
    /// An administrator has detached the node.
    pub kept_out: bool,
    /// Why.
    pub reason: String,
}

/// Where the file is.
pub(super) fn path(status_file: &Path) -> PathBuf {
    status_file.with_extension("reasons")
}

/// What the file beside `status_file` tells, index = node id.
pub(super) fn read(status_file: &Path) -> Vec<Option<Remark>> {
    let path = path(status_file);
    let mut content = Vec::new();
    if let Err(error) = File::open(&path).and_then(|file| file.take(MAX_LENGTH).read_to_end(&mut content)) {
        if error.kind() != ErrorKind::NotFound {
            Report::warning(format!("could not read file \"{}\"", path.display()))
                .detail(error.to_string())
                .hint("Nodes that an administrator has detached stay detached; auto_failback may attach them.")
                .log();
        }
        return Vec::new();
    }
    let mut remarks = vec![None; MAX_NODES];
    for (id, remark) in String::from_utf8_lossy(&content).lines().filter_map(parse) {
        remarks[id] = Some(remark);
    }
    remarks
}

fn parse(line: &str) -> Option<(usize, Remark)> {
    let mut words = line.splitn(5, ' ');
    let id = words.next()?.parse().ok().filter(|id| *id < MAX_NODES)?;
    let status = match words.next()? {
        "up" => NodeStatus::Up,
        "down" => NodeStatus::Down,
        _ => return None,
    };
    let since = words.next()?.parse().ok()?;
    let kept_out = words.next()? == BY_ADMINISTRATOR;
    Some((id, Remark { status, since, kept_out, reason: words.next()?.to_owned() }))
}

/// Writes the file beside `status_file`.
///
/// # Errors
/// It cannot be written; then it is as before.
pub(super) fn write(status_file: &Path, cluster: &Cluster) -> Result<()> {
    let used = cluster.nodes.iter().enumerate().filter(|(_, node)| node.status != NodeStatus::Unused);
    let lines = used.map(|(id, node)| {
        let state = status_file::word(node);
        let who = if node.kept_out { BY_ADMINISTRATOR } else { "-" };
        // One line, whatever a server has said.
        let reason: String = node.reason.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        format!("{id} {state} {} {who} {reason}\n", node.last_status_change)
    });
    let text: String = std::iter::once(HEADING.to_owned()).chain(lines).collect();
    let path = path(status_file);
    replace(&path, &text).map_err(|error| {
        Report::warning(format!("could not write file \"{}\"", path.display()))
            .detail(error.to_string())
            .hint("After a restart pgpool does not know why nodes are detached, or by whom.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Node;
    use NodeStatus::{Down, Up};
    use std::fs;

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pgpool-reasons-{name}-{}", std::process::id()))
    }

    #[test]
    fn remarks_survive() {
        let status_file = file("survive");
        let mut cluster = Cluster { nodes: vec![Node::default(); 4], ..Cluster::default() };
        cluster.set_status(0, NodeStatus::Waiting, "configured");
        cluster.set_status(2, Down, "refused:\n  \"too bad\"");
        cluster.keep_out(2);
        cluster.set_status(3, Down, "");
        (0..4).for_each(|id| cluster.nodes[id].last_status_change = 1_795_376_294 + id as u64);
        write(&status_file, &cluster).expect("write");
        let told = read(&status_file);
        let remark =
            |status, since, kept_out, reason: &str| Some(Remark { status, since, kept_out, reason: reason.to_owned() });

        let expected = [
            remark(Up, 1_795_376_294, false, "configured"),
            None,
            remark(Down, 1_795_376_296, true, "refused:   \"too bad\""),
            remark(Down, 1_795_376_297, false, ""),
        ];
        assert_eq!(told[..4], expected);
        fs::remove_file(path(&status_file)).expect("remove");
        assert!(read(&status_file).is_empty());
    }

    #[test]
    fn what_is_damaged_tells_nothing() {
        let status_file = file("damaged");
        let content =
            b"0 down 17 administrator\n1 down x - why\n\xff\n200 down 1 - why\n3 gone 1 - why\n4 up 5 - well\n5 do";
        fs::write(path(&status_file), content).expect("write");
        let told = read(&status_file);
        let known: Vec<usize> = (0..MAX_NODES).filter(|id| told[*id].is_some()).collect();
        assert_eq!(known, [4]);
        fs::remove_file(path(&status_file)).expect("remove");
    }
}
