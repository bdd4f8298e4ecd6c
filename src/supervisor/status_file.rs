//! `pgpool_status`: which nodes were attached when pgpool ended (process-model 12.1).
//!
//! One line per node: `up`, `down` or `unused`. Unlike the original, a node without a line starts as waiting: it was
//! added since. A node that is only missing was not detached by anybody: it counts as up.

use crate::report::{Report, Result};
use crate::state::{Cluster, Node, NodeStatus};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// Where the file is.
pub fn path(work_dir: &str) -> PathBuf {
    Path::new(work_dir).join("pgpool_status")
}

/// The states a file tells, index = node id; `None` where it does not tell any.
pub fn read(path: &Path) -> Vec<Option<NodeStatus>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(_) => {
            Report::log_line(format!("Backend status file {} does not exist", path.display())).log();
            return Vec::new();
        }
    };
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_LENGTH)]).to_ascii_lowercase();
    let states: Vec<_> = text.lines().enumerate().map(|(id, line)| parse(id, line)).collect();
    // With no node up the file would only keep pgpool from ever serving again.
    if states.contains(&Some(NodeStatus::Up)) { states } else { Vec::new() }
}

fn parse(id: usize, line: &str) -> Option<NodeStatus> {
    let (status, word) = match line {
        line if line.starts_with("up") => (NodeStatus::Up, "up"),
        line if line.starts_with("down") => (NodeStatus::Down, "down"),
        line if line.starts_with("unused") => (NodeStatus::Unused, "unused"),
        line => {
            Report::warning("invalid data in status file, ignoring...")
                .detail(format!("backend:{id} status is invalid: \"{}\"", line.escape_default()))
                .log();
            return None;
        }
    };
    Report::log_line(format!("reading status file: {id} th backend is set to {word} status")).log();
    Some(status)
}

/// Writes the states of `cluster`.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, cluster: &Cluster) -> Result<()> {
    if !cluster.nodes.iter().any(|node| node.status.is_attached()) {
        Report::warning("All the DB nodes are in down status and skip writing status file.").log();
        return Ok(());
    }
    let word = |node: &Node| match node.status {
        NodeStatus::Unused => "unused\n",
        NodeStatus::Down if !node.missing => "down\n",
        _ => "up\n",
    };
    let text: String = cluster.nodes.iter().map(word).collect();
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        Report::warning(format!("could not write status file \"{}\"", path.display()))
            .detail(error.to_string())
            .hint("Check work_dir. Without the file a detached node is used again after a restart.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive() {
        let path = std::env::temp_dir().join(format!("pgpool-status-{}", std::process::id()));
        let node = |status| Node { status, ..Node::default() };
        let nodes =
            vec![node(NodeStatus::Up), node(NodeStatus::Down), node(NodeStatus::Unused), node(NodeStatus::Waiting)];
        let missing = Node { missing: true, ..node(NodeStatus::Down) };
        let nodes = [nodes, vec![missing]].concat();
        write(&path, &Cluster { nodes, ..Cluster::default() }).expect("write");
        assert_eq!(fs::read_to_string(&path).expect("read"), "up\ndown\nunused\nup\nup\n");
        assert_eq!(read(&path)[..2], [Some(NodeStatus::Up), Some(NodeStatus::Down)]);
        fs::write(&path, "UP\nwhat\n").expect("write");
        assert_eq!(read(&path), [Some(NodeStatus::Up), None]);
        fs::write(&path, "down\ndown\n").expect("write");
        assert!(read(&path).is_empty());
        fs::remove_file(&path).expect("remove");
    }
}
