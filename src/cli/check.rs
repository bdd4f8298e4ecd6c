//! `pgpool check`: what a start would say about the configuration, without starting.

use crate::backend::control::Connection;
use crate::config::{FileLocations, LoadResult, Settings};
use crate::net::{Address, Deadline};
use crate::report::Severity;
use std::time::Duration;

/// How long a server may take to tell its limits.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

/// Prints the report on stdout. Returns 0 for a configuration that can be used, else 1.
pub(super) fn run(files: &FileLocations, loaded: &LoadResult) -> i32 {
    println!("configuration file: {}", files.config.display());
    let problems = match loaded {
        Ok(loaded) => &loaded.warnings,
        Err(problems) => problems,
    };
    for problem in problems.iter() {
        let report = problem.to_report(Severity::Error);
        println!("{}: {}", report.severity.word(), report.message);
        for (label, text) in [("detail", &report.detail), ("hint", &report.hint), ("at", &report.context)] {
            if let Some(text) = text {
                println!("    {label}: {text}");
            }
        }
    }
    let Ok(loaded) = loaded else {
        println!("the configuration cannot be used");
        return 1;
    };
    print_differences(&loaded.settings);
    print_arithmetic(&loaded.settings);
    println!("the configuration can be used");
    0
}

fn print_differences(settings: &Settings) {
    println!("\nvalues that differ from the defaults:");
    for (name, value) in settings.differences_from_default() {
        println!("    {name} = {value}");
    }
}

/// Workers times pool slots is what the servers must be able to take.
fn print_arithmetic(settings: &Settings) {
    let needed = i64::from(settings.num_init_children) * i64::from(settings.max_pool);
    println!(
        "\nserver connections at most: num_init_children ({}) x max_pool ({}) = {needed} per node",
        settings.num_init_children, settings.max_pool
    );
    for (id, node) in settings.used_nodes() {
        let address = Address { host: node.hostname.clone(), port: node.port };
        match allowed(id, &address, settings) {
            Ok(allowed) if allowed < needed => println!(
                "    node {id} ({address}): allows {allowed} - TOO FEW: raise max_connections there, or lower \
                 num_init_children or max_pool"
            ),
            Ok(allowed) => println!("    node {id} ({address}): allows {allowed} - enough"),
            Err(cause) => println!("    node {id} ({address}): not known, {cause}"),
        }
    }
}

/// Connections a server allows to ordinary users.
fn allowed(id: usize, address: &Address, settings: &Settings) -> Result<i64, String> {
    let or_postgres = |name: &str| if name.is_empty() { "postgres".to_owned() } else { name.to_owned() };
    let (user, database) = (or_postgres(&settings.sr_check_user), or_postgres(&settings.sr_check_database));
    let deadline = Deadline::after(SERVER_LIMIT);
    let mut connection =
        Connection::open(id, address, &user, &database, deadline).map_err(|report| report.to_string())?;
    let sql = "SELECT pg_catalog.current_setting('max_connections')::int \
               - pg_catalog.current_setting('superuser_reserved_connections')::int";
    let rows = connection.query(sql, deadline).map_err(|report| report.to_string())?;
    connection.close();
    let value = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    value.ok_or_else(|| "the server did not tell its limits".to_owned())
}
