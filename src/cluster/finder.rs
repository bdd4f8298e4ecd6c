//! The finder: asks every node at start what it is, and goes on asking while something is missing (failover 7).
//!
//! It writes what it learns to the node table. Nodes that the status file says are down are left alone: an administrator
//! attaches them. While nothing is missing it sleeps until a signal comes.

use super::search::{Answer, primary};
use crate::backend::{LoginError, control};
use crate::config::{self, FileLocations, Settings};
use crate::net::{Address, Deadline};
use crate::report::{self, Report};
use crate::state::{Cluster, Node, NodeStatus, Role, Shared};
use crate::sys::signal::{Signal, Signals};
use crate::sys::title;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How often a missing node is looked for when `sr_check_period` does not say.
const DEFAULT_PERIOD: Duration = Duration::from_secs(10);
/// The longest that one node may keep the others waiting.
const NODE_LIMIT: Duration = Duration::from_secs(10);

/// The life of the forked helper. A byte is written to `ready` when every node has been asked once. Returns the exit
/// status.
pub fn run(settings: Arc<Settings>, files: FileLocations, shared: Shared, ready: OwnedFd) -> i32 {
    report::set_process("sr_check_worker", "WORKER");
    title::set("worker process");
    let Ok(signals) = Signals::install(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP]) else {
        return 1;
    };
    let mut finder = Finder { settings, shared };
    let mut complete = finder.search();
    let _ = nix::unistd::write(&ready, b"1");
    drop(ready);
    loop {
        let deadline = if complete { Deadline::NEVER } else { Deadline::after(finder.period()) };
        let _ = poll(&mut [PollFd::new(signals.fd(), PollFlags::POLLIN)], deadline.poll_timeout());
        let taken = signals.take();
        if [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().any(|signal| taken.has(signal)) {
            return 0;
        }
        if taken.has(Signal::SIGHUP)
            && let Ok(loaded) = config::load(&files.config)
            && let Ok(reloaded) = config::reload::reload(&finder.settings, &loaded, |_| false)
        {
            finder.settings = Arc::new(reloaded.settings);
            report::configure(finder.settings.log_settings());
        }
        if deadline.passed() {
            complete = finder.search();
        }
    }
}

struct Finder {
    settings: Arc<Settings>,
    shared: Shared,
}

impl Finder {
    fn period(&self) -> Duration {
        match u64::try_from(self.settings.sr_check_period) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => DEFAULT_PERIOD,
        }
    }

    /// Asks the nodes. Returns whether nothing is missing.
    fn search(&mut self) -> bool {
        let cluster = self.shared.nodes().view();
        let answers: Vec<_> = cluster.nodes.iter().enumerate().map(|(id, node)| self.ask(id, node)).collect();
        let found = primary(&self.settings, &answers);
        self.tell(&cluster, &answers);
        let outcome = self.shared.nodes().update(|cluster| self.apply(cluster, &answers, found));
        if let Err(error) = outcome {
            Report::warning("the node table could not be updated").detail(error.to_string()).log();
            return false;
        }
        let missing = answers.iter().any(|answer| matches!(answer, Answer::Unreachable(_)));
        let needs_primary = answers.contains(&Answer::Role(Role::Standby));
        !missing && (found.is_some() || !needs_primary)
    }

    fn ask(&self, id: usize, node: &Node) -> Answer {
        if node.port == 0 || !(node.status.is_attached() || node.missing) {
            return Answer::NotAsked;
        }
        let user = if self.settings.sr_check_user.is_empty() { "postgres" } else { &self.settings.sr_check_user };
        let database =
            if self.settings.sr_check_database.is_empty() { "postgres" } else { &self.settings.sr_check_database };
        let host = if node.hostname.is_empty() { "/tmp" } else { &node.hostname };
        let address = Address { host: host.to_owned(), port: node.port };
        let limit = self.settings.nodes.get(id).map_or(0, |node| node.connect_timeout);
        let deadline = Deadline::after_milliseconds(limit).min(Deadline::after(NODE_LIMIT));
        let mut connection = match control::Connection::login(id, &address, user, database, deadline) {
            Ok(connection) => connection,
            Err(LoginError::Unreachable(report)) => return Answer::Unreachable(report.to_string()),
            // A server that starts up or is full answers too, but cannot serve anybody now.
            Err(error @ LoginError::Refused(_)) => {
                let report = error.into_report(id);
                return match report.code.as_str() {
                    "57P03" | "53300" => Answer::Unreachable(report.message),
                    _ => Answer::Closed(report.message),
                };
            }
            Err(error) => return Answer::Closed(error.into_report(id).message),
        };
        let answer = connection.query("SELECT pg_catalog.pg_is_in_recovery()", deadline);
        connection.close();
        match answer.as_ref().map(|rows| rows.first().and_then(|row| row.first()?.as_deref())) {
            Ok(Some("t")) => Answer::Role(Role::Standby),
            Ok(Some(_)) => Answer::Role(Role::Primary),
            Ok(None) => Answer::Closed("pg_is_in_recovery() returned nothing".to_owned()),
            Err(report) => Answer::Unreachable(report.to_string()),
        }
    }

    /// The log lines of a search (failover 7.4); a node still missing is not told again.
    fn tell(&self, cluster: &Cluster, answers: &[Answer]) {
        for (id, answer) in answers.iter().enumerate() {
            match answer {
                Answer::Role(Role::Primary) => {
                    Report::log_line(format!("find_primary_node: primary node is {id}")).log()
                }
                Answer::Role(_) => Report::log_line(format!("find_primary_node: standby node is {id}")).log(),
                Answer::Closed(cause) => {
                    Report::warning(format!("DB node {id} does not tell whether it is the primary"))
                        .detail(cause)
                        .hint("Check sr_check_user, sr_check_password, sr_check_database and the server's pg_hba.conf.")
                        .log()
                }
                Answer::Unreachable(cause) if !cluster.nodes[id].missing => {
                    let node = &cluster.nodes[id];
                    Report::log_line(format!(
                        "find_primary_node: make_persistent_db_connection_noerror failed on node {id}"
                    ))
                    .detail(cause)
                    .log();
                    Report::warning(format!(
                        "DB node {id} ({}:{}) is not used until it is found up",
                        node.hostname, node.port
                    ))
                    .log();
                }
                Answer::Unreachable(_) | Answer::NotAsked => {}
            }
        }
    }

    fn apply(&self, cluster: &mut Cluster, answers: &[Answer], found: Option<usize>) {
        for (id, answer) in answers.iter().enumerate() {
            let Some(node) = cluster.nodes.get_mut(id) else { continue };
            // Detached by somebody since it was asked.
            if node.status == NodeStatus::Down && !node.missing {
                continue;
            }
            match answer {
                Answer::Role(role) => {
                    node.role = *role;
                    if node.status != NodeStatus::Up {
                        cluster.set_status(id, NodeStatus::Up, "found up");
                    }
                }
                Answer::Closed(_) if node.status != NodeStatus::Up => {
                    cluster.set_status(id, NodeStatus::Up, "found up, its role is not known");
                }
                Answer::Unreachable(cause) if node.status != NodeStatus::Down => cluster.set_missing(id, cause),
                _ => {}
            }
        }
        cluster.set_primary(found);
    }
}
