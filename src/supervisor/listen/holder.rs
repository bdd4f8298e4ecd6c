//! Who has a TCP port, as far as /proc tells.

use std::fs;

/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// The process that listens on a TCP port, in words; none if it cannot be found, for example as it is another user's.
pub(super) fn find(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors.find(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim()))
    })
}

/// The inode of the socket that listens on `port`, in the text of /proc/net/tcp (proc_net(5): the second field is the
/// local address, the fourth the state, the tenth the inode).
fn listening_inode(table: &str, port: u16) -> Option<String> {
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_socket_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:A001 0100007F:270F 01 00000000:00000000 00:00000000 00000000   115        0 11 1 0 20 4 30 10 -1\n   \
            1: 0100007F:270F 00000000:0000 0A 00000000:00000000 00:00000000 00000000   115        0 22 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inode(table, 9999).as_deref(), Some("22"));
        assert_eq!(listening_inode(table, 0xA001), None);
    }
}
