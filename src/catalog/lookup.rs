//! Asking a server: one query for everything that a statement needs.

use super::Facts;
use crate::backend::{ServerConnection, control};
use crate::config::Settings;
use crate::net::Deadline;
use crate::report::{Result, SqlState};
use crate::route::{Known, RelationKind, Volatility, missing};
use crate::sql::{Isolation, Name, Statement};
use std::time::Duration;

/// How long one look-up may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Names asked for at once. A select list may have 1664 columns.
const AT_ONCE: usize = 500;

/// One thing to be asked.
#[derive(Clone, Copy)]
enum Question<'s> {
    Relation(&'s Name),
    Function(&'s Name),
    DefaultIsolation,
    Origin,
}

/// Learns what is missing about the names in `statement`, and the default isolation level if it is not known, on a
/// connection to which nothing is owed, in one round trip. A server that `is_primary` not may lack what is there: then
/// the names stay missing.
///
/// # Errors
/// The server refused, and the names count as not existing for a while; or it went away ([`SqlState::CONNECTION_FAILURE`]).
pub fn look_up(
    facts: &mut Facts,
    statement: &Statement,
    settings: &Settings,
    server: &mut ServerConnection,
    is_primary: bool,
) -> Result<()> {
    look_up_until(Deadline::NEVER, facts, statement, settings, server, is_primary)
}

/// As [`look_up`], all of it within `deadline`.
///
/// # Errors
/// As [`look_up`].
pub fn look_up_until(
    deadline: Deadline,
    facts: &mut Facts,
    statement: &Statement,
    settings: &Settings,
    server: &mut ServerConnection,
    is_primary: bool,
) -> Result<()> {
    let (relations, functions) = missing(statement, settings, facts);
    let mut questions: Vec<_> = relations.into_iter().map(Question::Relation).collect();
    questions.extend(functions.into_iter().map(Question::Function));
    if is_primary && facts.default_isolation() == Known::NotYet {
        questions.push(Question::DefaultIsolation);
    }
    if is_primary && facts.lacks_origin() {
        questions.push(Question::Origin);
    }
    for questions in questions.chunks(AT_ONCE) {
        let columns: Vec<_> = questions.iter().map(|question| question.column()).collect();
        let answers = ask(server, &format!("SELECT {}", columns.join(", ")), settings, deadline);
        let (answers, error) = match answers {
            Ok(mut rows) => (rows.pop().unwrap_or_default(), None),
            Err(report) if report.code == SqlState::CONNECTION_FAILURE => return Err(report),
            Err(report) => (Vec::new(), Some(report)),
        };
        for (index, question) in questions.iter().enumerate() {
            question.learn(answers.get(index).and_then(Option::as_deref), is_primary, facts);
        }
        if let Some(report) = error {
            return Err(report);
        }
    }
    Ok(())
}

impl Question<'_> {
    /// A column of the query. Everything in it is qualified, operators too: the session's search path has no say but in
    /// what an unqualified name means.
    fn column(self) -> String {
        match self {
            Self::Relation(name) => format!(
                "(SELECT CASE WHEN relnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace THEN 's' \
                 WHEN relpersistence OPERATOR(pg_catalog.<>) 'p' THEN relpersistence \
                 WHEN relkind OPERATOR(pg_catalog.=) ANY ('{{v,m,f}}') THEN 'v' \
                 WHEN relrowsecurity THEN 'r' ELSE 'p' END FROM pg_catalog.pg_class WHERE {})",
                relation_condition(name)
            ),
            // The letters are in the order of the harm: immutable, stable, volatile. An aggregate is called immutable
            // whatever the functions are that it is made of, and so is a function whose parameters have a default, which is for
            // its caller to compute.
            Self::Function(name) => format!(
                "(SELECT pg_catalog.max(GREATEST(f.provolatile::pg_catalog.text, g.provolatile::pg_catalog.text, \
                 CASE WHEN f.proargdefaults::pg_catalog.text OPERATOR(pg_catalog.~) '(SQLVALUEFUNCTION|COERCEVIAIO)' \
                 THEN 's' END, (SELECT pg_catalog.max(d.provolatile::pg_catalog.text COLLATE pg_catalog.\"C\") \
                 FROM pg_catalog.regexp_matches(f.proargdefaults::pg_catalog.text, ':(op)?funcid ([0-9]+)', 'g') AS m(called), \
                 pg_catalog.pg_proc AS d WHERE d.oid OPERATOR(pg_catalog.=) m.called[2]::pg_catalog.oid)) \
                 COLLATE pg_catalog.\"C\") FROM pg_catalog.pg_proc AS f LEFT JOIN pg_catalog.pg_aggregate AS a \
                 ON a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.=) f.oid LEFT JOIN pg_catalog.pg_proc AS g ON \
                 g.pronamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace AND \
                 g.oid OPERATOR(pg_catalog.=) ANY (ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, \
                 a.aggmfinalfn]::pg_catalog.oid[]) WHERE f.proname OPERATOR(pg_catalog.=) {}{})",
                literal(&name.name),
                name.schema.as_deref().map_or_else(String::new, |schema| in_schema("f.pronamespace", schema))
            ),
            Self::DefaultIsolation => "pg_catalog.current_setting('default_transaction_isolation')".to_owned(),
            Self::Origin => "(SELECT pg_catalog.concat(pg_catalog.current_setting('role'), ' ', \
                 pg_catalog.string_agg(reset_val, ' ' ORDER BY name)) FROM pg_catalog.pg_settings WHERE \
                 name OPERATOR(pg_catalog.=) ANY ('{search_path,default_transaction_isolation}'))"
                .to_owned(),
        }
    }

    fn learn(self, answer: Option<&str>, is_primary: bool, facts: &mut Facts) {
        match (self, answer) {
            (Self::Relation(_) | Self::Function(_), None) if !is_primary => {}
            (Self::Relation(name), answer) => facts.learn_relation(
                name,
                match answer {
                    Some("s") => RelationKind::System,
                    Some("t") => RelationKind::Temporary,
                    Some("u") => RelationKind::Unlogged,
                    Some("v") => RelationKind::View,
                    Some("r") => RelationKind::RowSecurity,
                    Some(_) => RelationKind::Ordinary,
                    None => RelationKind::None,
                },
            ),
            (Self::Function(name), answer) => facts.learn_function(
                name,
                match answer {
                    Some("i") => Volatility::Immutable,
                    Some("s") => Volatility::Reads,
                    Some(_) => Volatility::Volatile,
                    None => Volatility::None,
                },
            ),
            (Self::Origin, answer) => {
                if let Some(told) = answer {
                    facts.learn_origin(told);
                }
            }
            (Self::DefaultIsolation, answer) => {
                if let Some(isolation) = answer.and_then(Isolation::from_name) {
                    facts.learn_isolation(isolation);
                }
            }
        }
    }
}

/// `to_regclass` reports an error for a schema that the user may not use; a condition on names does not.
pub(super) fn relation_condition(name: &Name) -> String {
    match &name.schema {
        Some(schema) if &**schema != "pg_temp" => {
            let name = literal(&name.name);
            format!("relname OPERATOR(pg_catalog.=) {name}{}", in_schema("relnamespace", schema))
        }
        _ => format!("oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass({})", literal(&name.quoted())),
    }
}

fn in_schema(column: &str, schema: &str) -> String {
    let condition = format!("nspname OPERATOR(pg_catalog.=) {}", literal(schema));
    format!(" AND {column} OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_namespace WHERE {condition})")
}

fn ask(server: &mut ServerConnection, sql: &str, settings: &Settings, deadline: Deadline) -> Result<control::Rows> {
    if settings.log_per_node_statement {
        server.statement_line(sql).context("while searching system catalog, When relcache is missed").log();
    }
    control::query_aside(server, sql, Deadline::after(LIMIT).min(deadline))
}

/// As [`control::query_aside`], for a question that may have to wait for locks: the server gives it up before the session would
/// have to, and whatever limit its client has set.
pub(super) fn ask_patiently(server: &mut ServerConnection, sql: &str) -> Result<control::Rows> {
    let limit = (LIMIT / 2).as_millis();
    control::query_aside(server, &format!("SET LOCAL statement_timeout = {limit}; {sql}"), Deadline::after(LIMIT))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn each_operator_and_object_of_a_query_is_qualified() {
        let names = [Name::bare("it's"), Name::qualified("a", "b"), Name::qualified("pg_temp", "c")];
        let questions = names.iter().flat_map(|name| [Question::Relation(name), Question::Function(name)]);
        for column in questions.map(Question::column) {
            let rest = ["=", "<>", "~"]
                .iter()
                .fold(column.clone(), |text, operator| text.replace(&format!("OPERATOR(pg_catalog.{operator})"), ""));
            assert!(!rest.contains(['=', '<', '>', '~']), "{column}");
            for word in [
                "max(",
                "regexp_matches",
                "\"C\"",
                "text",
                "to_regclass",
                "regnamespace",
                "pg_class",
                "pg_proc",
                "pg_namespace",
            ] {
                let all = column.matches(word).count();
                assert_eq!(column.matches(&format!("pg_catalog.{word}")).count(), all, "{column}");
            }
        }
    }
}
