//! The log as syslog wants it (process-model 10.5): datagrams to `/dev/log`, cut at newlines and at 900 bytes.
//!
//! A message waits a moment at most for a syslog that is slow. What it does not take goes to stderr instead, and then
//! nothing waits until it takes something again.

use super::Severity;
use super::sink::is_ready;
use chrono::{DateTime, Local};
use parking_lot::Mutex;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::Duration;

/// Bytes of a piece at most.
const PIECE: usize = 900;
/// How long a message may wait for a slow syslog.
const PATIENCE: Duration = Duration::from_millis(100);
/// Where syslog listens.
const SOCKET: &str = "/dev/log";

/// `syslog_facility` and `syslog_ident`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// N of LOCALN.
    pub local: u8,
    /// The name of the program.
    pub ident: String,
}

/// This process's way to syslog.
#[derive(Debug)]
struct Connection {
    socket: Option<UnixDatagram>,
    /// The last datagram was not taken in time.
    is_slow: bool,
    /// Messages sent by `owner`.
    sequence: u64,
    owner: u32,
}

static CONNECTION: Mutex<Connection> = Mutex::new(Connection { socket: None, is_slow: false, sequence: 0, owner: 0 });

impl Syslog {
    /// Sends the lines of a message. `false`: syslog has not taken all of them.
    pub(super) fn send(&self, severity: Severity, lines: &str) -> bool {
        CONNECTION.lock().send(self, SOCKET, severity, lines)
    }

    /// What is in front of every piece.
    fn header(&self, severity: Severity, now: DateTime<Local>) -> String {
        let priority = (16 + u32::from(self.local & 7)) * 8 + level(severity);
        format!("<{priority}>{} {}[{}]: ", now.format("%b %e %H:%M:%S"), self.ident, process::id())
    }
}

impl Connection {
    fn send(&mut self, syslog: &Syslog, path: &str, severity: Severity, lines: &str) -> bool {
        if self.owner != process::id() {
            (self.owner, self.sequence) = (process::id(), 0);
        }
        self.sequence += 1;
        let header = syslog.header(severity, Local::now());
        let pieces = lines.lines().filter(|line| !line.is_empty()).flat_map(pieces);
        let sequence = self.sequence;
        pieces.enumerate().fold(true, |all, (at, piece)| {
            self.put(path, format!("{header}[{sequence}-{}] {piece}", at + 1).as_bytes()) && all
        })
    }

    /// Sends a datagram; connects, and connects anew to a syslog that was restarted.
    fn put(&mut self, path: &str, datagram: &[u8]) -> bool {
        if let Some(socket) = &self.socket {
            let patience = if self.is_slow { Duration::ZERO } else { PATIENCE };
            self.is_slow = !is_ready(socket, patience);
            if self.is_slow {
                return false;
            }
            if socket.send(datagram).is_ok() {
                return true;
            }
        }
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_nonblocking(true)?;
            socket.send(datagram)?;
            Ok::<_, std::io::Error>(socket)
        };
        self.socket = connect().ok();
        self.socket.is_some()
    }
}

fn level(severity: Severity) -> u32 {
    match severity {
        Severity::Panic => 2,
        Severity::Fatal => 3,
        Severity::Error => 4,
        Severity::Notice | Severity::Warning => 5,
        Severity::Log | Severity::Info => 6,
        _ => 7,
    }
}

/// `line` in pieces, cut behind a blank if there is one, and never within a character.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.len() <= PIECE {
            rest.len()
        } else {
            let limit = (0..=PIECE).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(PIECE);
            rest[..limit].rfind(' ').map_or(limit, |blank| blank + 1)
        };
        let (piece, left) = rest.split_at(end);
        rest = left;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syslog() -> Syslog {
        Syslog { local: 3, ident: "pgpool".to_owned() }
    }

    #[test]
    fn long_lines_are_cut_at_blanks_and_characters() {
        let cut = |line: &str| pieces(line).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cut("short"), ["short"]);
        let words = format!("{} {}", "a".repeat(800), "b".repeat(200));
        assert_eq!(cut(&words), [format!("{} ", "a".repeat(800)), "b".repeat(200)]);
        let dense = "\u{e9}".repeat(700);
        let parts = cut(&dense);
        assert!(parts.len() == 2 && parts.iter().all(|part| part.len() <= PIECE) && parts.concat() == dense);
    }

    #[test]
    fn facility_and_severity_make_the_priority() {
        let header = |severity| syslog().header(severity, Local::now());
        for (severity, priority) in [
            (Severity::Debug1, 159),
            (Severity::Log, 158),
            (Severity::Warning, 157),
            (Severity::Error, 156),
            (Severity::Fatal, 155),
            (Severity::Panic, 154),
        ] {
            let header = header(severity);
            assert!(header.starts_with(&format!("<{priority}>")), "{header}");
            assert!(header.ends_with(&format!(" pgpool[{}]: ", process::id())), "{header}");
        }
    }

    #[test]
    fn a_message_is_numbered_and_a_restarted_syslog_is_found_again() {
        let path = std::env::temp_dir().join(format!("pgpool-syslog-{}", process::id()));
        let name = path.display().to_string();
        let mut connection = Connection { socket: None, is_slow: false, sequence: 0, owner: 0 };
        assert!(!connection.send(&syslog(), &name, Severity::Log, "nobody listens\n"));
        let listen = || {
            let _ = std::fs::remove_file(&path);
            let socket = UnixDatagram::bind(&path).expect("bind");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            socket
        };
        let heard = |socket: &UnixDatagram| {
            let mut buffer = [0; 2048];
            let count = socket.recv(&mut buffer).expect("a datagram");
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            text.split_once("]: ").map(|(_, piece)| piece.to_owned()).expect("a header")
        };
        let first = listen();
        assert!(connection.send(&syslog(), &name, Severity::Log, "LOG:  one\n\nDETAIL:  two\n"));
        assert_eq!([heard(&first), heard(&first)], ["[2-1] LOG:  one", "[2-2] DETAIL:  two"]);
        drop(first);
        let second = listen();
        assert!(connection.send(&syslog(), &name, Severity::Log, "again"));
        assert_eq!(heard(&second), "[3-1] again");
        std::fs::remove_file(&path).expect("remove");
    }
}
