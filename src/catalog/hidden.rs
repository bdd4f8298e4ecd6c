//! Functions that a statement calls without naming them, or with names that seem to be PostgreSQL's (query-cache 6): by views,
//! rules and row security policies, by a column that is none (`t.f`), by an overloaded `lower`.
//!
//! Of interest are VOLATILE functions of users', since others change nothing, and as columns STABLE ones, too, whose answers do
//! not last. Most databases have none in such a place, so one question is asked for a whole database, and not one for each name.

use super::Facts;
use super::lookup::ask_patiently;
use crate::backend::ServerConnection;
use crate::report::{Result, SqlState};
use crate::sql::{Name, Statement};
use std::collections::HashMap;

/// A longer identifier is cut, in bytes.
const MAX_NAME: usize = 63;
/// Rows of the answer at most. With more of them any statement may call anything.
const MAX_ROWS: usize = 5000;

/// The functions that run unnamed in one database.
#[derive(Debug, Default)]
pub struct HiddenCalls {
    /// By the name of the relation whose rule or policy calls them, also through other relations.
    relations: HashMap<Box<str>, Vec<Name>>,
    /// By their own name, which a function of PostgreSQL's has, too.
    namesakes: HashMap<Box<str>, Vec<Name>>,
    /// Those of one row, which can be written as its column, by their own name in lower case.
    columns: HashMap<Box<[u8]>, Vec<Column>>,
    /// The same, with names that no word of a text is.
    odd_columns: Vec<Column>,
    /// There are more.
    is_cut: bool,
}

/// A function that can be written as a column.
#[derive(Debug)]
struct Column {
    name: Name,
    /// It is not only STABLE.
    writes: bool,
}

impl HiddenCalls {
    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.relations.is_empty()
            && self.namesakes.is_empty()
            && self.columns.is_empty()
            && self.odd_columns.is_empty()
            && !self.is_cut
    }

    /// Whether `text` may call a function by what looks like a column, one whose answer does not last.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        self.is_cut || !self.columns_in(text).is_empty()
    }

    /// The VOLATILE ones that `statement`, whose text is `text`, may call. `None`: it cannot be told.
    pub fn of(&self, statement: &Statement, text: &[u8]) -> Option<Vec<&Name>> {
        if self.is_cut {
            return None;
        }
        let by_relation = statement.relations.iter().filter_map(|relation| self.relations.get(&relation.name.name));
        let is_pg_catalog = |name: &&Name| name.schema.as_deref() == Some("pg_catalog");
        let called = statement.functions.iter().filter(|name| !is_pg_catalog(name));
        let by_name = called.filter_map(|name| self.namesakes.get(&name.name));
        let columns = if statement.relations.is_empty() { Vec::new() } else { self.columns_in(text) };
        let as_column = columns.into_iter().filter(|column| column.writes).map(|column| &column.name);
        Some(by_relation.chain(by_name).flatten().chain(as_column).collect())
    }

    /// Those that `text` names, perhaps. Escapes may hide any.
    fn columns_in(&self, text: &[u8]) -> Vec<&Column> {
        if self.columns.is_empty() && self.odd_columns.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<_> = self.odd_columns.iter().collect();
        if text.windows(3).any(|part| part.eq_ignore_ascii_case(b"U&\"")) {
            found.extend(self.columns.values().flatten());
            return found;
        }
        let mut lower = [0; MAX_NAME];
        for word in text.split(|byte| !is_of_word(*byte)) {
            let length = word.len().min(MAX_NAME);
            lower[..length].copy_from_slice(&word[..length]);
            lower[..length].make_ascii_lowercase();
            found.extend(self.columns.get(&lower[..length]).into_iter().flatten());
        }
        found
    }

    fn add(&mut self, kind: &str, relation: Option<String>, function: Name) {
        match (kind, relation) {
            ("relation", Some(relation)) => self.relations.entry(relation.into()).or_default().push(function),
            ("namesake", _) => self.namesakes.entry(function.name.clone()).or_default().push(function),
            _ => self.add_column(Column { name: function, writes: kind == "column" }),
        }
    }

    fn add_column(&mut self, column: Column) {
        let word = column.name.name.as_bytes().to_ascii_lowercase().into_boxed_slice();
        if word.iter().copied().all(is_of_word) {
            self.columns.entry(word).or_default().push(column);
        } else {
            self.odd_columns.push(column);
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// Asks `server`, to which nothing is owed. If it refuses, that is remembered instead.
///
/// # Errors
/// It went away ([`SqlState::CONNECTION_FAILURE`]).
pub fn look_up_hidden_calls(facts: &mut Facts, server: &mut ServerConnection) -> Result<()> {
    let rows = match ask_patiently(server, &question()) {
        Ok(rows) => rows,
        Err(report) if report.code == SqlState::CONNECTION_FAILURE => return Err(report),
        Err(report) => {
            facts.refused_hidden_calls(report);
            return Ok(());
        }
    };
    let mut hidden = HiddenCalls { is_cut: rows.len() > MAX_ROWS, ..HiddenCalls::default() };
    for mut row in rows.into_iter().take(MAX_ROWS) {
        let mut column = |at: usize| row.get_mut(at).and_then(Option::take);
        let (kind, relation) = (column(0).unwrap_or_default(), column(1));
        let function = Name { schema: column(2).map(Into::into), name: column(3).unwrap_or_default().into() };
        hidden.add(&kind, relation, function);
    }
    facts.learn_hidden_calls(hidden);
    Ok(())
}

/// Rows of kind, relation, schema and name of a function. Whatever users have made has an OID from 16384 on, in whatever
/// schema. Functions depend on those that are called by the defaults of their parameters, and aggregates on what they are made
/// of.
fn question() -> String {
    format!(
        "WITH RECURSIVE v AS (SELECT oid FROM pg_catalog.pg_proc \
         WHERE oid OPERATOR(pg_catalog.>=) 16384 AND provolatile OPERATOR(pg_catalog.=) 'v'), \
         w AS (SELECT oid FROM v UNION SELECT d.objid FROM v, pg_catalog.pg_depend AS d WHERE \
         d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND \
         d.refobjid OPERATOR(pg_catalog.=) v.oid AND \
         d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass), \
         f AS (SELECT p.oid, n.nspname, p.proname, p.proargtypes[0] AS argument, \
         p.pronargs OPERATOR(pg_catalog.-) p.pronargdefaults AS required, \
         p.oid OPERATOR(pg_catalog.=) ANY (SELECT oid FROM w) AS writes \
         FROM pg_catalog.pg_proc AS p, pg_catalog.pg_namespace AS n \
         WHERE n.oid OPERATOR(pg_catalog.=) p.pronamespace AND p.oid OPERATOR(pg_catalog.>=) 16384), \
         h AS (SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid AS class, oid, ev_class AS relation \
         FROM pg_catalog.pg_rewrite UNION ALL \
         SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, oid, polrelid FROM pg_catalog.pg_policy), \
         r AS (SELECT h.relation, f.nspname, f.proname FROM f, pg_catalog.pg_depend AS d, h WHERE f.writes AND \
         d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND \
         d.refobjid OPERATOR(pg_catalog.=) f.oid AND d.classid OPERATOR(pg_catalog.=) h.class AND \
         d.objid OPERATOR(pg_catalog.=) h.oid UNION \
         SELECT h.relation, r.nspname, r.proname FROM r, pg_catalog.pg_depend AS d, h WHERE \
         d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND \
         d.refobjid OPERATOR(pg_catalog.=) r.relation AND d.classid OPERATOR(pg_catalog.=) h.class AND \
         d.objid OPERATOR(pg_catalog.=) h.oid) \
         SELECT 'relation', c.relname, r.nspname, r.proname FROM r, pg_catalog.pg_class AS c \
         WHERE c.oid OPERATOR(pg_catalog.=) r.relation UNION ALL \
         SELECT 'namesake', NULL, f.nspname, f.proname FROM f WHERE f.writes AND EXISTS (\
         SELECT 1 FROM pg_catalog.pg_proc AS p \
         WHERE p.proname OPERATOR(pg_catalog.=) f.proname AND p.oid OPERATOR(pg_catalog.<) 16384) UNION ALL \
         SELECT CASE WHEN f.writes THEN 'column' ELSE 'reading' END, NULL, f.nspname, f.proname \
         FROM f, pg_catalog.pg_proc AS p, pg_catalog.pg_type AS t WHERE p.oid OPERATOR(pg_catalog.=) f.oid AND \
         (f.writes OR p.provolatile OPERATOR(pg_catalog.=) 's') AND \
         t.oid OPERATOR(pg_catalog.=) f.argument AND f.required OPERATOR(pg_catalog.<=) 1 AND \
         t.typtype OPERATOR(pg_catalog.=) ANY ('{{c,d,p}}') LIMIT {}",
        MAX_ROWS + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};

    #[test]
    fn a_statement_calls_what_its_relations_names_and_columns_may_call() {
        let mut hidden = HiddenCalls::default();
        assert!(hidden.is_empty());
        for (kind, relation, function) in [
            ("relation", Some("v"), "a"),
            ("relation", Some("v"), "b"),
            ("namesake", None, "upper"),
            ("column", None, "touch"),
            ("reading", None, "orders"),
            ("reading", None, "touch"),
        ] {
            hidden.add(kind, relation.map(str::to_owned), Name::qualified("s", function));
        }
        for (text, expected) in [
            ("select * from v", &["a", "b"][..]),
            ("insert into s.v values (1)", &["a", "b"]),
            ("select upper(a) from t", &["upper"]),
            ("select s.upper(a) from t", &["upper"]),
            ("select pg_catalog.upper(a), lower(a) from t", &[]),
            ("select x.ToucH from t as x", &["touch"]),
            ("select x.U&\"touc\\0068\" from t as x", &["touch"]),
            ("select x.\"Touch\" from t as x", &["touch"]),
            ("select x.touched, x.no_touch from t as x", &[]),
            ("select x.orders from t as x", &[]),
            ("select 'touch'", &[]),
            ("select x.a from t as x", &[]),
        ] {
            let statement = analyse(text.as_bytes(), Lexing::default());
            let called = hidden.of(&statement, text.as_bytes()).expect("few");
            assert_eq!(called.iter().map(|name| &*name.name).collect::<Vec<_>>(), expected, "{text}");
        }
        for (text, may) in [("select t.touch", true), ("select t.orders", true), ("select t.a", false)] {
            assert_eq!(hidden.may_be_in(text.as_bytes()), may, "{text}");
        }
        hidden.add("column", None, Name::bare("it's"));
        assert!(hidden.may_be_in(b"select 1"));
        hidden.is_cut = true;
        assert!(hidden.may_be_in(b""));
        assert_eq!(hidden.of(&analyse(b"select 1", Lexing::default()), b"select 1"), None);
    }

    #[test]
    fn each_operator_and_object_of_the_question_is_qualified() {
        let question = question();
        let rest = ["=", "<", ">=", "<=", "-"]
            .iter()
            .fold(question.clone(), |text, operator| text.replace(&format!("OPERATOR(pg_catalog.{operator})"), ""));
        assert!(!rest.contains(['=', '<', '>', '~', '-']), "{rest}");
        for word in ["pg_class", "pg_proc", "pg_depend", "pg_rewrite", "pg_policy", "pg_type", "regclass"] {
            let all = question.matches(word).count();
            assert_eq!(question.matches(&format!("pg_catalog.{word}")).count(), all, "{word}");
        }
    }
}
