//! One attempt to log in to a node, and what its failure means.

use crate::backend::{Account, LoginError, control};
use crate::config::{NodeSettings, Settings};
use crate::net::{Address, ConnectError, Deadline};
use crate::report::{Report, SqlState};
use std::path::Path;

/// Why a node did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The time for the whole attempt was over (`health_check_timeout`).
    TimedOut,
    /// `connect_timeout` was over.
    NotConnectedInTime,
    /// Nobody listens there, or no way leads there.
    NotConnected,
    /// Its name has no address.
    NoAddress,
    /// It went away during the login.
    Lost,
    /// It is starting up or shutting down.
    Starting,
    /// It is alive and has said why it lets nobody in now.
    Refused,
    /// It could not be asked: pgpool's machine has no descriptor, port or memory left. That tells nothing of the node.
    Unasked,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// The cause, in words.
    pub cause: String,
}

impl Failure {
    /// What the log says of it (failover 4.8), with the true cause as the detail.
    pub fn report(&self, id: usize, node: &NodeSettings) -> Report {
        let place = format!("failed to connect to PostgreSQL server on \"{}:{}\"", node.hostname, node.port);
        let text = match self.kind {
            Kind::TimedOut => format!("{place} using INET socket"),
            Kind::NotConnectedInTime => format!("{place}, timed out"),
            Kind::NotConnected if node.hostname.starts_with('/') || node.hostname.is_empty() => {
                "failed to connect to PostgreSQL server by unix domain socket".to_owned()
            }
            Kind::NotConnected => format!("{place}, getsockopt() failed"),
            Kind::NoAddress => "failed to connect to PostgreSQL server, getaddrinfo() failed".to_owned(),
            Kind::Lost => format!("{place}, the login was not completed"),
            Kind::Starting => format!("{place}, it is not ready yet"),
            Kind::Refused => format!("health check: DB node {id} is alive but refuses the login"),
            Kind::Unasked => format!("health check: DB node {id} cannot be asked, and nobody knows how it is"),
        };
        let detail = match self.kind {
            Kind::TimedOut => format!("health check timer expired: {}", self.cause),
            _ => self.cause.clone(),
        };
        Report::log_line(text).detail(detail)
    }
}

/// Logs in to node `id` once, name, connection, login and all within `health_check_timeout`, and says goodbye.
pub(super) fn probe(settings: &Settings, id: usize, node: &NodeSettings) -> Result<(), Failure> {
    let whole = Deadline::after_seconds(node.health_check_timeout);
    let connect = Deadline::after_milliseconds(node.connect_timeout).min(whole);
    let host = if node.hostname.is_empty() { "/tmp" } else { &node.hostname };
    let address = Address { host: host.to_owned(), port: node.port };
    let attempt = || {
        let account = Account::health_check(settings, node);
        control::Connection::login_within(id, &address, &account, connect, whole)
            .map(control::Connection::close)
            .or_else(|error| judge(id, error, whole.passed()).map_or(Ok(()), Err))
    };
    match attempt() {
        // Perhaps it was cut off with all others because one process of that server has crashed: then the server tells, asked
        // once more, that it is about to be back.
        Err(lost) if lost.kind == Kind::Lost => match attempt() {
            Err(failure) if failure.kind != Kind::Starting => Err(lost),
            outcome => outcome,
        },
        outcome => outcome,
    }
}

/// What a failed login tells about the node; `None`: it is well.
fn judge(id: usize, error: LoginError, too_late: bool) -> Option<Failure> {
    let kind = match &error {
        LoginError::NotConnected(..) | LoginError::Unreachable(_) if too_late => Kind::TimedOut,
        LoginError::NotConnected(_, cause) => match **cause {
            ConnectError::TimedOut => Kind::NotConnectedInTime,
            ConnectError::Resolve { .. } => Kind::NoAddress,
            ConnectError::Failed(_) | ConnectError::Ours(_) | ConnectError::Stopped => Kind::NotConnected,
        },
        LoginError::Unreachable(_) => Kind::Lost,
        // It wants a password that we do not have: that is an answer of a server in good health.
        LoginError::Unsupported(_) => return None,
        LoginError::Refused(_) => Kind::Refused,
        LoginError::Ours(_) => Kind::Unasked,
    };
    let report = error.into_report(id);
    let kind = match report.code {
        SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN if kind == Kind::Refused => {
            Kind::Starting
        }
        _ => kind,
    };
    Some(Failure { kind, cause: report.detail.unwrap_or(report.message) })
}

/// What a node's line in the request file of `health_check_test` makes of it (failover 4.7).
pub(super) fn pretended(id: usize, work_dir: &str) -> Result<(), Failure> {
    let path = Path::new(work_dir).join("backend_down_request");
    let requests = match std::fs::read_to_string(&path) {
        Ok(requests) => requests,
        Err(error) => {
            Report::warning(format!("check_backend_down_request: failed to open file {}", path.display()))
                .detail(error.to_string())
                .log();
            return Ok(());
        }
    };
    let is_down =
        |line: &str| line.split_once('\t').is_some_and(|(node, word)| (node, word) == (&*id.to_string(), "down"));
    if requests.lines().any(is_down) {
        return Err(Failure { kind: Kind::NotConnected, cause: format!("{} says that it is down", path.display()) });
    }
    Ok(())
}

/// Whether the failure counts as one of the node (`failover_on_login_refused`).
pub(super) fn counts(settings: &Settings, failure: &Failure) -> bool {
    settings.failover_on_login_refused || failure.kind != Kind::Refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    fn node(port: u16) -> NodeSettings {
        crate::backend::configure_tls(&Settings::default()).expect("no TLS");
        NodeSettings { hostname: "127.0.0.1".to_owned(), port, health_check_timeout: 1, ..NodeSettings::default() }
    }

    /// A server that answers startup packets, one after the other, with an ErrorResponse of this SQLSTATE, or not at all.
    fn answering(answers: &'static [Option<&'static str>]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        thread::spawn(move || {
            for answer in answers {
                let (mut client, _) = listener.accept().expect("accept");
                let _ = client.read(&mut [0; 1024]);
                let Some(code) = answer else { continue };
                let fields = format!("SFATAL\0VFATAL\0C{code}\0Mnot now\0\0");
                let mut message = vec![b'E'];
                message.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
                message.extend_from_slice(fields.as_bytes());
                let _ = client.write_all(&message);
            }
        });
        port
    }

    #[test]
    fn causes_are_told_apart() {
        let absent = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let told = |node: &NodeSettings| {
            let failure = probe(&Settings::default(), 1, node).expect_err("a failure");
            (failure.kind, failure.report(1, node).to_string())
        };
        let (kind, text) = told(&node(absent));
        assert_eq!(kind, Kind::NotConnected);
        assert!(text.contains("\", getsockopt() failed (") && text.contains("refused"), "{text}");
        let (kind, text) = told(&NodeSettings { hostname: "no such host".to_owned(), ..node(5432) });
        assert!(kind == Kind::NoAddress && text.contains("cannot be resolved"), "{text}");
        let (kind, text) = told(&NodeSettings { hostname: "/nowhere".to_owned(), ..node(5432) });
        assert!(kind == Kind::NotConnected && text.contains("by unix domain socket"), "{text}");
        let (kind, text) = told(&node(answering(&[Some("57P03")])));
        assert!(kind == Kind::Starting && text.contains("not now"), "{text}");
        for answer in [&[Some("28P01")], &[Some("53300")], &[Some("3D000")]] {
            let failure = probe(&Settings::default(), 1, &node(answering(answer))).expect_err("refused");
            assert_eq!(failure.kind, Kind::Refused);
            assert!(counts(&Settings::default(), &failure), "as the original");
            assert!(!counts(&Settings { failover_on_login_refused: false, ..Settings::default() }, &failure));
        }
    }

    #[test]
    fn a_login_that_was_cut_off_is_tried_once_more() {
        let kind = |answers| probe(&Settings::default(), 1, &node(answering(answers))).map_err(|failure| failure.kind);
        assert_eq!(kind(&[None, Some("57P03")]), Err(Kind::Starting));
        assert_eq!(kind(&[None, None]), Err(Kind::Lost));
    }

    #[test]
    fn what_pgpool_lacks_tells_nothing_of_the_node() {
        let lack = || Report::fatal("no connection to DB node 1 can be made").code(SqlState::TOO_MANY_CONNECTIONS);
        for too_late in [false, true] {
            let failure = judge(1, LoginError::Ours(lack()), too_late).expect("not well");
            assert_eq!(failure.kind, Kind::Unasked);
        }
        assert_eq!(judge(1, LoginError::Unsupported(lack()), false), None, "the server has answered");
    }

    #[test]
    fn the_request_file_of_a_test_is_believed() {
        let directory = std::env::temp_dir().join(format!("pgpool-probe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("directory");
        let pretended = |id| pretended(id, &directory.display().to_string());
        assert_eq!(pretended(1), Ok(()), "there is no file");
        std::fs::write(directory.join("backend_down_request"), "0\tup\n1\tdown\n12\tdown").expect("write");
        assert_eq!([0, 1, 2, 12].map(|id| pretended(id).is_ok()), [true, false, true, false]);
        std::fs::remove_dir_all(&directory).expect("remove");
    }

    #[test]
    fn a_server_that_accepts_and_never_answers_has_the_whole_time_and_no_more() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
        let begun = Instant::now();
        let failure =
            probe(&Settings::default(), 0, &node(silent.local_addr().expect("address").port())).expect_err("silence");
        assert_eq!(failure.kind, Kind::TimedOut);
        assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&begun.elapsed()));
    }
}
