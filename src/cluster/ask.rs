//! Asking nodes what they are: all at the same time, so that a silent one does not keep the others waiting.

use super::search::{self, Answer};
use super::sight::Sight;
use crate::backend::{Account, LoginError, control};
use crate::config::Settings;
use crate::net::{Address, Deadline};
use crate::report::SqlState;
use crate::state::{Node, Role};
use crate::sys::thread::without_signals;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The longest that a node may take to answer, also if `connect_timeout` sets no limit.
const LIMIT: Duration = Duration::from_secs(10);

/// Where to ask, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub address: Address,
    pub account: Account,
}

/// Whom to ask, and for what.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Node id.
    pub node: usize,
    /// How long everything may take together.
    pub limit: Duration,
    pub place: Place,
    /// It is also asked for its history and for what it streams from. Managed services cannot tell, and need not.
    pub in_full: bool,
}

impl Question {
    /// The question to node `id`, asked with the sr_check account within `connect_timeout` (failover 7.4, 14.2).
    pub fn new(settings: &Settings, id: usize, node: &Node) -> Self {
        let connect_timeout = settings.nodes.get(id).map_or(settings.connect_timeout, |node| node.connect_timeout);
        let limit = u64::try_from(connect_timeout).ok().filter(|limit| *limit > 0).map(Duration::from_millis);
        let host = if node.hostname.is_empty() { "/tmp" } else { &node.hostname }.to_owned();
        let place = Place { address: Address { host, port: node.port }, account: Account::sr_check(settings) };
        let limit = limit.map_or(LIMIT, |limit| limit.min(LIMIT));
        Self { node: id, limit, place, in_full: search::roles_decide(settings) }
    }

    /// The same question with no more time for the answer than `limit`.
    pub fn within(self, limit: Duration) -> Self {
        Self { limit: self.limit.min(limit), ..self }
    }

    fn ask(&self) -> Answer {
        let deadline = Deadline::after(self.limit);
        let Place { address, account } = &self.place;
        let login = control::Connection::login(self.node, address, account, deadline);
        let mut connection = match login {
            Ok(connection) => connection,
            Err(LoginError::NotConnected(report, _) | LoginError::Unreachable(report)) => {
                return Answer::Unreachable(report.to_string());
            }
            Err(error) => {
                let report = error.into_report(self.node);
                // A server that starts up or is full answers too, but cannot serve anybody now.
                return match report.code {
                    SqlState::CANNOT_CONNECT_NOW | SqlState::TOO_MANY_CONNECTIONS => {
                        Answer::Unreachable(report.message)
                    }
                    _ => Answer::Closed(report.to_string()),
                };
            }
        };
        let rows = connection.query("SELECT pg_catalog.pg_is_in_recovery()", deadline);
        let role = match rows.as_ref().map(|rows| rows.first().and_then(|row| row.first()?.as_deref())) {
            Ok(Some("t")) => Role::Standby,
            Ok(Some("f")) => Role::Primary,
            Ok(_) => return Answer::Closed("pg_is_in_recovery() did not return a boolean".to_owned()),
            Err(report) => return Answer::Unreachable(report.to_string()),
        };
        let sight = if self.in_full { Sight::complete(&mut connection, role, deadline) } else { Ok(Sight::of(role)) };
        connection.close();
        sight.map_or_else(|report| Answer::Unreachable(report.to_string()), Answer::Tells)
    }
}

/// Asks all `questions` and waits for the answers, which takes no longer than the slowest may. `None`: `interrupted`,
/// asked whenever `wake` becomes readable, says that nobody wants to know any more; what still runs then ends by itself.
pub(super) fn ask_all(
    questions: Vec<Question>,
    wake: BorrowedFd<'_>,
    mut interrupted: impl FnMut() -> bool,
) -> Option<Vec<(usize, Answer)>> {
    // Each thread holds the writing end; when the last one has its answer, the reading end says so.
    let Ok((done, running)) = pipe2(OFlag::O_CLOEXEC) else {
        return Some(questions.iter().map(|question| (question.node, question.ask())).collect());
    };
    let running = Arc::new(running);
    let ask = |question: Question| {
        let running = Arc::clone(&running);
        let node = question.node;
        let thread = without_signals(|| {
            thread::Builder::new().name(format!("node {node}")).spawn(move || {
                let answer = question.ask();
                drop(running);
                answer
            })
        });
        (node, thread)
    };
    let threads: Vec<_> = questions.into_iter().map(ask).collect();
    drop(running);
    loop {
        let mut fds = [PollFd::new(wake, PollFlags::POLLIN), PollFd::new(done.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) if fds[1].any() == Some(true) => break,
            Ok(_) | Err(Errno::EINTR) if interrupted() => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    let answer = |(node, thread): (usize, std::io::Result<thread::JoinHandle<Answer>>)| {
        let answer = match thread.map(thread::JoinHandle::join) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::Closed("internal error while asking it".to_owned()),
            Err(error) => Answer::Unreachable(format!("no thread to ask it: {error}")),
        };
        (node, answer)
    };
    Some(threads.into_iter().map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    fn question(node: usize, port: u16, limit: u64) -> Question {
        let node_at = Node { hostname: "127.0.0.1".to_owned(), port, ..Node::default() };
        Question { limit: Duration::from_millis(limit), ..Question::new(&Settings::default(), node, &node_at) }
    }

    #[test]
    fn silent_and_absent_nodes_are_unreachable_within_their_limit_together() {
        crate::backend::configure_tls(&Settings::default()).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let absent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = silent.local_addr().unwrap().port();
        let (never, _keep) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let started = Instant::now();
        let questions = vec![question(0, port, 500), question(1, absent, 500), question(2, port, 500)];
        let answers = ask_all(questions, never.as_fd(), || false).unwrap();
        assert!(started.elapsed() < Duration::from_millis(1400));
        assert_eq!(answers.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(answers.iter().all(|(_, answer)| matches!(answer, Answer::Unreachable(_))), "{answers:?}");
    }

    #[test]
    fn nobody_waits_for_a_silent_node_when_told_to_leave() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let (wake, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        nix::unistd::write(&writer, b"1").unwrap();
        let questions = vec![question(0, silent.local_addr().unwrap().port(), 5000)];
        let started = Instant::now();
        assert_eq!(ask_all(questions, wake.as_fd(), || true), None);
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
