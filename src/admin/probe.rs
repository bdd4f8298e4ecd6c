//! Asks the servers themselves how they are (show-commands 5.3).
//!
//! All nodes are asked at once, each in a thread of its own that has ended before the answer is given, and one deadline
//! holds for all of them. The original asks one after the other, and each that does not answer costs its full timeout.

use super::words::is_streaming;
use crate::backend::{Account, LoginError, control};
use crate::config::{NodeSettings, Settings};
use crate::net::{Address, Deadline};
use crate::report::SqlState;
use crate::state::{Node, Role};
use crate::sys::thread::without_signals;
use std::thread;
use std::time::Duration;

/// How long asking all nodes may take together; `connect_timeout` may make it shorter.
pub(super) const LIMIT: Duration = Duration::from_secs(3);

/// What a server says at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Whether it accepts connections; `None` if it was not asked, health checks being off or pgpool having no means left.
    pub accepts: Option<bool>,
    /// What it says about itself.
    pub role: Role,
}

/// Asks every node that `is_wanted`, index = node id. A node without health checks (`health_check_period` 0) is left alone.
pub(super) fn ask(settings: &Settings, nodes: &[Node], is_wanted: impl Fn(usize) -> bool) -> Vec<Answer> {
    let deadline = Deadline::after(LIMIT);
    thread::scope(|scope| {
        let ask_one = |(id, node): (usize, &Node)| {
            let configured = settings.nodes.get(id).filter(|node| node.health_check_period > 0)?;
            if node.port == 0 || !is_wanted(id) {
                return None;
            }
            let address = Address { host: node.hostname.clone(), port: node.port };
            let deadline = deadline.min(Deadline::after_milliseconds(configured.connect_timeout));
            let server = Server { id, address, settings, configured, deadline };
            thread::Builder::new().spawn_scoped(scope, move || server.answer()).ok()
        };
        let asked: Vec<_> = without_signals(|| nodes.iter().enumerate().map(ask_one).collect());
        asked.into_iter().map(|thread| thread.and_then(|thread| thread.join().ok()).unwrap_or_default()).collect()
    })
}

/// A server about to be asked.
struct Server<'a> {
    id: usize,
    address: Address,
    settings: &'a Settings,
    configured: &'a NodeSettings,
    deadline: Deadline,
}

impl Server<'_> {
    fn answer(&self) -> Answer {
        let accepts = self.accepts_connections();
        let role = if accepts == Some(true) { self.role().unwrap_or_default() } else { Role::Unknown };
        Answer { accepts, role }
    }

    /// As `pg_isready` sees it: a server that refuses this user, or wants a password, accepts connections; one that starts
    /// up or shuts down does not.
    fn accepts_connections(&self) -> Option<bool> {
        Some(match self.login(&Account::health_check(self.settings, self.configured)) {
            Ok(connection) => {
                connection.close();
                true
            }
            Err(LoginError::NotConnected(..) | LoginError::Unreachable(_)) => false,
            Err(error @ LoginError::Refused(_)) => error.into_report(self.id).code != SqlState::CANNOT_CONNECT_NOW,
            Err(LoginError::Unsupported(_)) => true,
            Err(LoginError::Ours(_)) => return None,
        })
    }

    /// Asked only where it means something and `sr_check_period` says how to log in.
    fn role(&self) -> Option<Role> {
        if !is_streaming(self.settings) || self.settings.sr_check_period == 0 {
            return None;
        }
        let mut connection = self.login(&Account::sr_check(self.settings)).ok()?;
        let rows = connection.query("SELECT pg_catalog.pg_is_in_recovery()", self.deadline).ok()?;
        connection.close();
        match rows.first()?.first()?.as_deref() {
            Some("t") => Some(Role::Standby),
            Some("f") => Some(Role::Primary),
            _ => None,
        }
    }

    fn login(&self, account: &Account) -> Result<control::Connection, LoginError> {
        control::Connection::login(self.id, &self.address, account, self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::wire::{TransactionStatus, write};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// A server whose connections are all served by `serve`; returns its port.
    fn server(serve: fn(TcpStream)) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        thread::spawn(move || listener.incoming().flatten().for_each(serve));
        port
    }

    fn receive(stream: &mut TcpStream) -> usize {
        stream.read(&mut [0; 1024]).unwrap_or(0)
    }

    /// Lets everybody in and answers every query with `t`.
    fn standby(mut stream: TcpStream) {
        let mut out = Vec::new();
        write::authentication_ok(&mut out);
        write::ready_for_query(&mut out, TransactionStatus::Idle);
        receive(&mut stream);
        stream.write_all(&out).expect("login");
        if receive(&mut stream) > 5 {
            let mut out = Vec::new();
            write::row_description(&mut out, &["pg_is_in_recovery"]);
            write::data_row(&mut out, &["t"]);
            write::command_complete(&mut out, "SELECT 1");
            write::ready_for_query(&mut out, TransactionStatus::Idle);
            stream.write_all(&out).expect("answer");
            receive(&mut stream);
        }
    }

    fn refuse(mut stream: TcpStream, code: SqlState) {
        let mut out = Vec::new();
        Report::fatal("no").code(code).encode(&mut out);
        receive(&mut stream);
        stream.write_all(&out).expect("refusal");
    }

    fn ask_servers(change: impl Fn(&mut Settings), ports: &[u16]) -> Vec<Answer> {
        let configured = NodeSettings { health_check_period: 10, connect_timeout: 500, ..NodeSettings::default() };
        let mut settings = Settings { nodes: vec![configured; ports.len()], ..Settings::default() };
        change(&mut settings);
        crate::backend::configure_tls(&settings).expect("no TLS");
        let node = |port: &u16| Node { hostname: "127.0.0.1".to_owned(), port: *port, ..Node::default() };
        ask(&settings, &ports.iter().map(node).collect::<Vec<_>>(), |_| true)
    }

    const UNKNOWN: Answer = Answer { accepts: None, role: Role::Unknown };
    const DOWN: Answer = Answer { accepts: Some(false), role: Role::Unknown };
    const UP: Answer = Answer { accepts: Some(true), role: Role::Unknown };

    #[test]
    fn servers_answer_for_themselves() {
        let closed = TcpListener::bind("127.0.0.1:0").expect("listener").local_addr().expect("address").port();
        let starting = server(|stream| refuse(stream, SqlState::CANNOT_CONNECT_NOW));
        let strict = server(|stream| refuse(stream, SqlState::INVALID_AUTHORIZATION));
        let answers = ask_servers(|_| {}, &[server(standby), closed, starting, strict, 0]);
        assert_eq!(answers, [Answer { role: Role::Standby, ..UP }, DOWN, DOWN, UP, UNKNOWN]);
    }

    #[test]
    fn without_checks_nobody_is_asked() {
        let port = server(standby);
        let no_health_check = |settings: &mut Settings| settings.nodes[0].health_check_period = 0;
        assert_eq!(ask_servers(no_health_check, &[port]), [UNKNOWN]);
        assert_eq!(ask_servers(|settings| settings.sr_check_period = 0, &[port]), [UP]);
    }

    #[test]
    fn silent_servers_cost_one_deadline_together() {
        let listeners: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").expect("listener")).collect();
        let ports: Vec<_> = listeners.iter().map(|silent| silent.local_addr().expect("address").port()).collect();
        let began = Instant::now();
        assert_eq!(ask_servers(|_| {}, &ports), [DOWN; 8]);
        assert!(began.elapsed() < LIMIT);
    }
}
