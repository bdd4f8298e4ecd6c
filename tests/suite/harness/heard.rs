//! What a server has heard, by its own log: `log_statement = all` writes every statement that arrives.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::Node;

/// Reads the log of one server piece by piece, for the sessions of one application. The server writes a statement down
/// before it answers, so what was answered has been heard.
pub struct Listener {
    log: PathBuf,
    application: String,
    /// Server processes that have served the application; SET application_name must not hide them.
    pids: BTreeSet<String>,
    read: usize,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `LOG`, `ERROR`, `STATEMENT`, ...
    pub kind: String,
    pub text: String,
}

impl Entry {
    /// The text of a statement that was run, or refused before it could be run.
    pub fn statement(&self) -> Option<&str> {
        match self.kind.as_str() {
            "STATEMENT" => Some(&self.text),
            "LOG" => self.text.strip_prefix("statement: ").or_else(|| {
                let (portal, text) = self.text.strip_prefix("execute ")?.split_once(": ")?;
                (!portal.contains(' ')).then_some(text)
            }),
            _ => None,
        }
    }

    /// `NAME: TEXT` of a Parse, which is logged with its duration (`log_min_duration_statement = 0`).
    pub fn parse(&self) -> Option<&str> {
        self.text.strip_prefix("duration: ")?.split_once("  parse ").map(|(_, parse)| parse)
    }

    /// Is it the error of a server that only reads (25006)?
    pub fn refuses_write(&self) -> bool {
        let texts = ["in a read-only transaction", "during recovery"];
        self.kind == "ERROR" && texts.iter().any(|text| self.text.contains(text))
    }
}

impl Listener {
    /// Listens from now on; `application` is a name without blanks.
    pub fn new(node: &Node, application: &str) -> Listener {
        let application = application.to_owned();
        let mut listener = Listener { log: node.log_file().to_owned(), application, pids: BTreeSet::new(), read: 0 };
        listener.hear();
        listener
    }

    /// The entries since the last call, in order.
    pub fn hear(&mut self) -> Vec<Entry> {
        let log = fs::read(&self.log).expect("server log");
        // An entry is written in one piece, but others may be in the middle of theirs.
        let end = log.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let new = String::from_utf8_lossy(&log[self.read.min(end)..end]).into_owned();
        self.read = end;
        let mut entries: Vec<Entry> = Vec::new();
        let mut is_ours = false;
        for line in new.split_terminator('\n') {
            match (head(line), line.strip_prefix('\t')) {
                (Some((pid, application, kind, text)), _) => {
                    if application == self.application {
                        self.pids.insert(pid.to_owned());
                    }
                    is_ours = self.pids.contains(pid);
                    if is_ours {
                        entries.push(Entry { kind: kind.to_owned(), text: text.to_owned() });
                    }
                }
                (None, Some(continued)) if is_ours => {
                    let entry = entries.last_mut().expect("a line that can be continued");
                    entry.text.push('\n');
                    entry.text.push_str(continued);
                }
                _ => {}
            }
        }
        entries
    }
}

/// Process id, application, kind and text of an entry's first line: `DATE TIME ZONE [PID] APPLICATION KIND:  TEXT`.
fn head(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (time, rest) = line.split_once(" [")?;
    let (pid, rest) = rest.split_once("] ")?;
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && pid.bytes().all(|byte| byte.is_ascii_digit());
    let (before, text) = rest.split_once(":  ")?;
    let (application, kind) = before.rsplit_once(' ')?;
    is_time.then_some((pid, application, kind, text))
}
