//! `pgpool check`: what a start would say about the configuration, without starting.

use crate::auth::hba::Rules;
use crate::auth::passwords;
use crate::backend::control::Connection;
use crate::backend::{self, Account};
use crate::config::check::{Limits, ServerLimits, report, surroundings};
use crate::config::{LoadResult, NodeSettings, Settings};
use crate::net::tls::{Connector, Front};
use crate::net::{Address, Deadline};
use crate::report::{Report, Result, Severity};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to tell its limits.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

/// Prints the report on stdout. Returns 0 for a configuration that can be used, else 1. `hba`: where pool_hba.conf is.
pub(super) fn run(outcome: &LoadResult, hba: &Path) -> i32 {
    // Servers are asked as pgpool would ask them: by TLS if it is wanted.
    let (tls, starts) = outcome.as_ref().map(|loaded| check_tls(&loaded.settings)).unwrap_or_default();
    let limits = match outcome {
        Ok(loaded) => ask_servers(&loaded.settings),
        Err(_) => Vec::new(),
    };
    let remarks = outcome.as_ref().map(surroundings).unwrap_or_default();
    let report = report(outcome, &limits, remarks);
    // Nobody may be there to read it; the exit status tells all the same.
    let _ = std::io::stdout().write_all(report.text.as_bytes());
    let _ = std::io::stdout().write_all(tls.as_bytes());
    let settings = outcome.as_ref().map(|loaded| &loaded.settings).ok();
    let remarks: String = settings
        .iter()
        .flat_map(|settings| passwords::review(settings))
        .map(|report| told("WARNING", &report))
        .collect();
    let _ = std::io::stdout().write_all(remarks.as_bytes());
    let rules = settings.filter(|settings| settings.enable_pool_hba).map(|settings| check_rules(hba, settings.ssl));
    let (text, is_usable) = rules.unwrap_or_default();
    let _ = std::io::stdout().write_all(text.as_bytes());
    i32::from(report.exit_code != 0 || (!tls.is_empty() && !starts) || (!text.is_empty() && !is_usable))
}

/// What is wrong with the files for TLS, and whether pgpool starts all the same: clients then hear "no", and servers that
/// cannot be verified are not connected to.
fn check_tls(settings: &Settings) -> (String, bool) {
    Connector::warn(settings);
    let servers = backend::configure_tls(settings).err();
    let clients = Front::new().and_then(|mut front| front.begin(settings)).err();
    let starts = clients.as_ref().is_none_or(|report| report.severity < Severity::Error);
    let found = [("ERROR", servers), (if starts { "WARNING" } else { "ERROR" }, clients)];
    let lines = found.iter().filter_map(|(label, report)| Some(told(label, report.as_ref()?)));
    let text: String = lines.collect();
    (if text.is_empty() { text } else { format!("\n{text}") }, starts)
}

/// A report, for a person to read.
fn told(label: &str, Report { message, detail, hint, context, .. }: &Report) -> String {
    let mut text = format!("{label}:  {message}\n");
    for (label, part) in [("DETAIL", detail), ("HINT", hint), ("CONTEXT", context)] {
        text.push_str(&part.as_ref().map_or_else(String::new, |part| format!("    {label}:  {part}\n")));
    }
    text
}

/// What there is to say of pool_hba.conf, and whether it can be used.
fn check_rules(hba: &Path, ssl: bool) -> (String, bool) {
    let (slips, end, is_usable) = match Rules::load(hba, ssl) {
        Ok((_, remarks, _)) => (remarks, "The rules can be used", true),
        Err(slips) => (slips, "The rules cannot be used", false),
    };
    let mut text = String::from("\n");
    let label = if is_usable { "WARNING" } else { "ERROR" };
    slips.reports().iter().for_each(|report| text.push_str(&told(label, report)));
    text.push_str(&format!("{end}: {}\n", hba.display()));
    (text, is_usable)
}

fn ask_servers(settings: &Settings) -> Vec<ServerLimits> {
    let mut settings = settings.clone();
    // One that is missing is made by the start; here nobody need hear of it.
    if !Path::new(&settings.pool_passwd).exists() {
        settings.pool_passwd.clear();
    }
    let ask =
        |(node, address)| ServerLimits { node, answer: ask(&settings, node, address).map_err(|why| why.to_string()) };
    settings.used_nodes().map(ask).collect()
}

/// What a server allows.
fn ask(settings: &Settings, id: usize, node: &NodeSettings) -> Result<Limits> {
    let address = Address { host: node.hostname.clone(), port: node.port };
    let deadline = Deadline::after(SERVER_LIMIT);
    let mut connection = Connection::open(id, &address, &Account::sr_check(settings), deadline)?;
    let sql = "SELECT pg_catalog.current_setting('max_connections'), \
               pg_catalog.current_setting('superuser_reserved_connections')";
    let rows = connection.query(sql, deadline)?;
    connection.close();
    let number = |column: usize| rows.first()?.get(column)?.as_deref()?.parse().ok();
    match (number(0), number(1)) {
        (Some(max_connections), Some(superuser_reserved_connections)) => {
            Ok(Limits { max_connections, superuser_reserved_connections })
        }
        _ => Err(Report::error("it gives no numbers")),
    }
}
