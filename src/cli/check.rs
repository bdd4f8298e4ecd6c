//! `pgpool check`: what a start would say about the configuration, without starting.

use crate::backend::Account;
use crate::backend::control::Connection;
use crate::config::check::{ServerLimits, report};
use crate::config::{LoadResult, NodeSettings, Settings};
use crate::net::{Address, Deadline};
use std::io::Write;
use std::time::Duration;

/// How long a server may take to tell its limits.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

/// Prints the report on stdout. Returns 0 for a configuration that can be used, else 1.
pub(super) fn run(outcome: &LoadResult) -> i32 {
    let limits = match outcome {
        Ok(loaded) => ask_servers(&loaded.settings),
        Err(_) => Vec::new(),
    };
    let report = report(outcome, &limits);
    // Nobody may be there to read it; the exit status tells all the same.
    let _ = std::io::stdout().write_all(report.text.as_bytes());
    i32::from(report.exit_code)
}

fn ask_servers(settings: &Settings) -> Vec<ServerLimits> {
    settings.used_nodes().filter_map(|(id, node)| ask(settings, id, node)).collect()
}

/// What a server allows, if it tells.
fn ask(settings: &Settings, id: usize, node: &NodeSettings) -> Option<ServerLimits> {
    let address = Address { host: node.hostname.clone(), port: node.port };
    let deadline = Deadline::after(SERVER_LIMIT);
    let mut connection = Connection::open(id, &address, &Account::sr_check(settings), deadline).ok()?;
    let sql = "SELECT pg_catalog.current_setting('max_connections'), \
               pg_catalog.current_setting('superuser_reserved_connections')";
    let rows = connection.query(sql, deadline).ok()?;
    connection.close();
    let number = |column: usize| rows.first()?.get(column)?.as_deref()?.parse().ok();
    Some(ServerLimits { node: id, max_connections: number(0), superuser_reserved_connections: number(1) })
}
