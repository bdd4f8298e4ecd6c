//! `pgpool_status`: which nodes were detached when pgpool ended (process-model 12.1).
//!
//! One line per node: `up`, `down` or `unused`; why is in [`reasons_file`](super::reasons_file). A node stays down across restarts until an administrator attaches it: it
//! may have missed writes. Unlike the original, a node that nobody has used yet starts as waiting, as it was added since;
//! and a node that was merely not reached is not written as down.

use crate::report::{Report, Result};
use crate::state::{Cluster, MAX_NODES, Node, NodeStatus};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes.
const MAX_LENGTH: u64 = 64 * 1024;
/// Bytes of the form of earlier releases: 128 native 32-bit integers.
const BINARY_LENGTH: usize = MAX_NODES * 4;

/// Where the file is.
pub fn path(work_dir: &str) -> PathBuf {
    Path::new(work_dir).join("pgpool_status")
}

/// The states a file tells, index = node id; `None` where it does not tell any. Empty if every node starts as waiting:
/// there is no file, or no node is up in it.
pub fn read(path: &Path) -> Vec<Option<NodeStatus>> {
    let mut content = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_LENGTH).read_to_end(&mut content)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Report::log_line(format!("Backend status file {} does not exist", path.display())).log();
            return Vec::new();
        }
        Err(error) => {
            Report::warning(format!("could not read status file \"{}\"", path.display()))
                .detail(error.to_string())
                .hint("Every node is used, also those that were detached.")
                .log();
            return Vec::new();
        }
    }
    let states = parse_binary(&content).unwrap_or_else(|| parse_text(&String::from_utf8_lossy(&content)));
    // With no node up the file would only keep pgpool from ever serving again.
    if states.contains(&Some(NodeStatus::Up)) { states } else { Vec::new() }
}

fn parse_binary(content: &[u8]) -> Option<Vec<Option<NodeStatus>>> {
    let numbers = content.get(..BINARY_LENGTH)?.chunks_exact(4);
    let status = |number: &[u8]| match i32::from_ne_bytes(number.try_into().ok()?) {
        0 => Some(NodeStatus::Unused),
        1 | 2 => Some(NodeStatus::Up),
        3 => Some(NodeStatus::Down),
        _ => None,
    };
    numbers.map(|number| status(number).map(Some)).collect()
}

fn parse_text(text: &str) -> Vec<Option<NodeStatus>> {
    text.lines().take(MAX_NODES).enumerate().map(|(id, line)| parse_line(id, line)).collect()
}

fn parse_line(id: usize, line: &str) -> Option<NodeStatus> {
    let words = [("up", NodeStatus::Up), ("down", NodeStatus::Down), ("unused", NodeStatus::Unused)];
    let lower = line.to_ascii_lowercase();
    let Some((word, status)) = words.into_iter().find(|(word, _)| lower.starts_with(word)) else {
        let shown: String = line.chars().take(40).collect();
        Report::warning("invalid data in status file, ignoring...")
            .detail(format!("backend:{id} status is invalid: \"{}\"", shown.escape_default()))
            .hint("The node counts as new, and is used. If it should not be, detach it by pcp_detach_node.")
            .log();
        return None;
    };
    Report::log_line(format!("reading status file: {id} th backend is set to {word} status")).log();
    Some(status)
}

/// Writes the states of `cluster`; never while all nodes are down.
///
/// # Errors
/// The file cannot be written; then it is as before.
pub fn write(path: &Path, cluster: &Cluster) -> Result<()> {
    if !is_worth_writing(cluster) {
        Report::warning("All the DB nodes are in down status and skip writing status file.").log();
        return Ok(());
    }
    let text: String = cluster.nodes.iter().map(|node| format!("{}\n", word(node))).collect();
    replace(path, &text).map_err(|error| {
        Report::warning(format!("could not write status file \"{}\"", path.display())).detail(error.to_string()).hint(
            "work_dir must exist and be writable. Without the file a detached node is used again after a restart.",
        )
    })
}

/// Whether a node is left that could serve; else the file keeps the last good set.
pub(super) fn is_worth_writing(cluster: &Cluster) -> bool {
    cluster.nodes.iter().any(counts_as_up)
}

fn counts_as_up(node: &Node) -> bool {
    node.status.is_attached() || node.missing
}

/// The state of a node as the file tells it.
pub(super) fn word(node: &Node) -> &'static str {
    match node.status {
        _ if counts_as_up(node) => "up",
        NodeStatus::Down => "down",
        _ => "unused",
    }
}

/// A crash at any moment leaves the old or the new file, never half of one.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // work_dir may be /tmp, where others could have put a link of that name to a file of ours.
    fs::remove_file(&temporary)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The new name survives a crash of the machine; where the directory cannot be opened the old one does.
    let _ = path.parent().and_then(|directory| File::open(directory).ok()).map(|directory| directory.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodeStatus::{Down, Unused, Up, Waiting};

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pgpool-status-{name}-{}", std::process::id()))
    }

    fn cluster(states: &[NodeStatus]) -> Cluster {
        let nodes = states.iter().map(|status| Node { status: *status, ..Node::default() }).collect();
        Cluster { nodes, ..Cluster::default() }
    }

    #[test]
    fn a_link_in_its_way_is_not_followed() {
        let (path, other) = (file("link"), file("other"));
        fs::write(&other, "precious").expect("write");
        std::os::unix::fs::symlink(&other, path.with_extension("new")).expect("link");
        write(&path, &cluster(&[Up])).expect("write");
        assert_eq!(fs::read_to_string(&other).expect("read"), "precious");
        assert_eq!(read(&path), [Some(Up)]);
        [path, other].iter().for_each(|file| fs::remove_file(file).expect("remove"));
    }

    #[test]
    fn states_survive() {
        let path = file("survive");
        let mut five = cluster(&[Up, Down, Unused, Waiting, Waiting]);
        five.set_missing(4, "not reached");
        write(&path, &five).expect("write");
        assert_eq!(fs::read_to_string(&path).expect("read"), "up\ndown\nunused\nup\nup\n");
        assert_eq!(read(&path), [Up, Down, Unused, Up, Up].map(Some));
        write(&path, &cluster(&[Down, Down])).expect("skipped");
        assert_eq!(read(&path).len(), 5);
        fs::remove_file(&path).expect("remove");
        assert!(read(&path).is_empty());
    }

    #[test]
    fn odd_files_are_understood_or_ignored() {
        let path = file("odd");
        let cases: [(&[u8], &[Option<NodeStatus>]); 5] = [
            (b"UP\nwhat\nDownhill", &[Some(Up), None, Some(Down)]),
            (b"down\ndown\n", &[]),
            (b"", &[]),
            (b"\xff\xfe\nup", &[None, Some(Up)]),
            (b"up\r\ndown\r\n", &[Some(Up), Some(Down)]),
        ];
        for (content, expected) in cases {
            fs::write(&path, content).expect("write");
            assert_eq!(read(&path), expected, "{content:?}");
        }
        fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn the_form_of_earlier_releases_is_read() {
        let path = file("binary");
        let mut numbers = [0_i32; MAX_NODES];
        numbers[..3].copy_from_slice(&[2, 3, 1]);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        fs::write(&path, bytes).expect("write");
        assert_eq!(read(&path)[..4], [Up, Down, Up, Unused].map(Some));
        fs::remove_file(&path).expect("remove");
    }
}
