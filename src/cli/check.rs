//! `pgpool check`: what a start would say about the configuration, without starting.

use crate::auth::hba::Rules;
use crate::backend::Account;
use crate::backend::control::Connection;
use crate::config::check::{ServerLimits, report};
use crate::config::{LoadResult, NodeSettings, Settings};
use crate::net::{Address, Deadline};
use crate::report::Report;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to tell its limits.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

/// Prints the report on stdout. Returns 0 for a configuration that can be used, else 1. `hba`: where pool_hba.conf is.
pub(super) fn run(outcome: &LoadResult, hba: &Path) -> i32 {
    let limits = match outcome {
        Ok(loaded) => ask_servers(&loaded.settings),
        Err(_) => Vec::new(),
    };
    let report = report(outcome, &limits);
    // Nobody may be there to read it; the exit status tells all the same.
    let _ = std::io::stdout().write_all(report.text.as_bytes());
    let settings = outcome.as_ref().map(|loaded| &loaded.settings).ok();
    let rules = settings.filter(|settings| settings.enable_pool_hba).map(|settings| check_rules(hba, settings.ssl));
    let (text, is_usable) = rules.unwrap_or_default();
    let _ = std::io::stdout().write_all(text.as_bytes());
    i32::from(report.exit_code != 0 || (!text.is_empty() && !is_usable))
}

/// What there is to say of pool_hba.conf, and whether it can be used.
fn check_rules(hba: &Path, ssl: bool) -> (String, bool) {
    let (slips, end, is_usable) = match Rules::load(hba, ssl) {
        Ok((_, remarks, _)) => (remarks, "The rules can be used", true),
        Err(slips) => (slips, "The rules cannot be used", false),
    };
    let mut text = String::from("\n");
    for Report { message, detail, hint, context, .. } in slips.reports() {
        let label = if is_usable { "WARNING" } else { "ERROR" };
        text.push_str(&format!("{label}:  {message}\n"));
        for (label, part) in [("DETAIL", detail), ("HINT", hint), ("CONTEXT", context)] {
            text.push_str(&part.as_ref().map_or_else(String::new, |part| format!("    {label}:  {part}\n")));
        }
    }
    text.push_str(&format!("{end}: {}\n", hba.display()));
    (text, is_usable)
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
