//! Asking the server. One query per name, once per name and worker.

use super::Facts;
use crate::backend::{ServerConnection, control};
use crate::config::Settings;
use crate::net::Deadline;
use crate::report::Result;
use crate::route::{RelationKind, Volatility, missing};
use crate::sql::{Name, Statement};
use std::time::Duration;

/// How long one look-up may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Learns what is missing about the names in `statement`, on a connection to which nothing is owed.
///
/// # Errors
/// The server failed or went away; what was learnt before stays.
pub fn look_up(
    facts: &mut Facts,
    statement: &Statement,
    settings: &Settings,
    server: &mut ServerConnection,
) -> Result<()> {
    look_up_until(Deadline::NEVER, facts, statement, settings, server)
}

/// As [`look_up`], all of it within `deadline`.
pub fn look_up_until(
    deadline: Deadline,
    facts: &mut Facts,
    statement: &Statement,
    settings: &Settings,
    server: &mut ServerConnection,
) -> Result<()> {
    let (relations, functions) = missing(statement, settings, facts);
    for name in relations {
        let kind = relation(server, name, settings, deadline)?;
        facts.learn_relation(name, kind);
    }
    for name in functions {
        let volatility = function(server, name, settings, deadline)?;
        facts.learn_function(name, volatility);
    }
    Ok(())
}

fn relation(
    server: &mut ServerConnection,
    name: &Name,
    settings: &Settings,
    deadline: Deadline,
) -> Result<RelationKind> {
    let sql = format!(
        "SELECT relpersistence, relnamespace = 'pg_catalog'::pg_catalog.regnamespace, \
         relkind IN ('v', 'm', 'f'), relrowsecurity FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({})",
        literal(&name.quoted())
    );
    let rows = ask(server, &sql, settings, deadline)?;
    let column = |index: usize| rows.first().and_then(|row| row.get(index)?.as_deref());
    let holds = |index: usize| column(index) == Some("t");
    Ok(match column(0) {
        None => RelationKind::None,
        Some(_) if holds(1) => RelationKind::System,
        Some("t") => RelationKind::Temporary,
        Some("u") => RelationKind::Unlogged,
        Some(_) if holds(2) => RelationKind::View,
        Some(_) if holds(3) => RelationKind::RowSecurity,
        Some(_) => RelationKind::Ordinary,
    })
}

fn function(server: &mut ServerConnection, name: &Name, settings: &Settings, deadline: Deadline) -> Result<Volatility> {
    let schema = match &name.schema {
        Some(schema) => format!(" AND nspname = {}", literal(schema)),
        None => String::new(),
    };
    // The letters are in the order of the harm: immutable, stable, volatile.
    let sql = format!(
        "SELECT pg_catalog.max(provolatile::pg_catalog.text COLLATE \"C\") FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE proname = {}{schema}",
        literal(&name.name)
    );
    let rows = ask(server, &sql, settings, deadline)?;
    Ok(match rows.first().and_then(|row| row.first()?.as_deref()) {
        Some("i") => Volatility::Immutable,
        Some("s") => Volatility::Reads,
        Some(_) => Volatility::Volatile,
        None => Volatility::None,
    })
}

fn ask(server: &mut ServerConnection, sql: &str, settings: &Settings, deadline: Deadline) -> Result<control::Rows> {
    if settings.log_per_node_statement {
        server.statement_line(sql).context("while searching system catalog, When relcache is missed").log();
    }
    control::query(server, sql, Deadline::after(LIMIT).min(deadline))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
