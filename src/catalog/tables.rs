//! Which tables stand behind a name: those whose rows a read of it shows, and those that a write of it changes
//! (query-cache 6.1).
//!
//! Asked of the primary in the session itself, so that a name means what it means there.

use super::Facts;
use super::lookup::{ask_patiently, relation_condition};
use crate::backend::ServerConnection;
use crate::report::Result;
use crate::sql::{Name, Statement};

/// Tables behind one name at most; a name with more is not resolved.
const MAX_TABLES: usize = 100;
/// The first OID of what a cluster was not born with.
const FIRST_OWN: u32 = 16384;
/// Names kept at most.
pub(super) const MAX_NAMES: usize = 2000;

/// The OIDs behind a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Whose rows a read shows: the table, all that inherit from it, what a view reads. `None`: something among them cannot
    /// be followed, or must not be seen by everybody.
    pub read: Option<Box<[u32]>>,
    /// Whose rows a write changes: the table, all that inherit from it, and those that foreign keys change with it. `None`:
    /// triggers or rules may change anything.
    pub written: Option<Box<[u32]>>,
    /// Its triggers may also set or define something, as far as their texts tell.
    pub runs_code: bool,
}

/// Asks `server`, to which nothing is owed, about the relations of `statement` that are not known.
///
/// # Errors
/// As [`super::look_up`].
pub fn look_up_tables(facts: &mut Facts, statement: &Statement, server: &mut ServerConnection) -> Result<()> {
    let mut names: Vec<&Name> = statement.relations.iter().map(|relation| &relation.name).collect();
    names.dedup();
    names.retain(|name| facts.tables(name).is_none());
    for names in names.chunks(MAX_TABLES) {
        let columns: Vec<_> =
            names.iter().flat_map(|name| [read_column(name), written_column(name), code_column(name)]).collect();
        let sql = format!("SELECT {}", columns.join(", "));
        let mut rows = ask_patiently(server, &sql)?;
        let answers = rows.pop().unwrap_or_default();
        for (name, answer) in names.iter().zip(answers.chunks(3)) {
            let oids = |column: usize| answer.get(column).and_then(Option::as_deref).and_then(oids);
            let runs_code = answer.get(2).and_then(Option::as_deref) != Some("f");
            facts.learn_tables(name, Tables { read: oids(0), written: oids(1), runs_code });
        }
    }
    Ok(())
}

fn oids(text: &str) -> Option<Box<[u32]>> {
    text.split_ascii_whitespace().map(|oid| oid.parse().ok()).collect()
}

/// The tables as a list, empty for a name that is none; nothing if any of them is an obstacle. Partitions and children are
/// in `pg_inherits`; the rule of a view depends on what it reads.
fn read_column(name: &Name) -> String {
    format!(
        "(WITH RECURSIVE t(o) AS (SELECT oid FROM pg_catalog.pg_class WHERE {} UNION SELECT f.o FROM t, LATERAL (\
         SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent OPERATOR(pg_catalog.=) t.o UNION ALL \
         SELECT d.refobjid FROM pg_catalog.pg_rewrite AS r, pg_catalog.pg_depend AS d WHERE \
         r.ev_class OPERATOR(pg_catalog.=) t.o AND d.objid OPERATOR(pg_catalog.=) r.oid AND \
         d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND \
         d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass) AS f(o)) \
         SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.<=) {MAX_TABLES} AND COALESCE(pg_catalog.bool_and(\
         c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p,v,m}}') AND NOT c.relrowsecurity AND \
         c.relpersistence OPERATOR(pg_catalog.<>) 't'), true) \
         THEN COALESCE(pg_catalog.string_agg(t.o::pg_catalog.text, ' '), '') END \
         FROM t, pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) t.o)",
        relation_condition(name)
    )
}

/// The tables that a write of `name` reaches: itself, all that inherit from it, and those that foreign keys change with it.
fn reached(name: &Name) -> String {
    format!(
        "WITH RECURSIVE t(o) AS (SELECT oid FROM pg_catalog.pg_class WHERE {} UNION SELECT f.o FROM t, LATERAL (\
         SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent OPERATOR(pg_catalog.=) t.o UNION ALL \
         SELECT conrelid FROM pg_catalog.pg_constraint WHERE confrelid OPERATOR(pg_catalog.=) t.o AND \
         contype OPERATOR(pg_catalog.=) 'f' AND (confdeltype OPERATOR(pg_catalog.=) ANY ('{{c,n,d}}') OR \
         confupdtype OPERATOR(pg_catalog.=) ANY ('{{c,n,d}}'))) AS f(o))",
        relation_condition(name)
    )
}

fn written_column(name: &Name) -> String {
    format!(
        "({} SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.<=) {MAX_TABLES} AND COALESCE(pg_catalog.bool_and(\
         c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p}}') AND NOT c.relhasrules AND NOT EXISTS (\
         SELECT 1 FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid OPERATOR(pg_catalog.=) t.o AND NOT g.tgisinternal)), \
         true) THEN COALESCE(pg_catalog.string_agg(t.o::pg_catalog.text, ' '), '') END \
         FROM t, pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) t.o)",
        reached(name)
    )
}

/// Words in a trigger's text that may set or define something: definitions, SQL made at run time, settings, calls of other
/// functions for their effect. An assignment of a function's result is not among them.
const CODE: &str = r"\m(create|alter|drop|execute|set_config|discard|reset|call)\M\
|\mset(\s*(--|/\*)|\s+(local|session|role|time|names|xml)\s+[^=\s]|\s+search_path\M|\s+[\w.]+\s+to\M)|\mpg_settings\M\
|\mperform\s+(?!(pg_catalog\.)?pg_notify\M)";
/// The beginning of an UPDATE, to its SET. Behind any other SET stands a setting.
const UPDATE: &str = r"\mupdate\s+(only\s+)?[\w.]+(\s*\*)?(\s+(as\s+)?\w+)?\s+set\M|\m(do|then)\s+update\s+set\M";
/// A setting, where no UPDATE is.
const SET: &str = r"\mset\s+[\w.]+\s*=";
/// Words that write tables, whose triggers run, too; not as TG_OP says them.
const WRITE: &str = r"\m(insert|update|delete|merge|copy)\M(?!')";

/// Whether a write runs such code by triggers, or more than can be told: in another language than those whose texts can be
/// read, by rules, through a view. A trigger that writes may run those of any table.
fn code_column(name: &Name) -> String {
    let triggers = "pg_catalog.pg_trigger AS g, pg_catalog.pg_proc AS p, pg_catalog.pg_language AS l \
         WHERE NOT g.tgisinternal AND p.oid OPERATOR(pg_catalog.=) g.tgfoid AND l.oid OPERATOR(pg_catalog.=) p.prolang";
    let text = "pg_catalog.replace(p.prosrc, '\"', '')";
    let code = format!(
        "l.lanname OPERATOR(pg_catalog.<>) ALL ('{{internal,c}}') AND (l.lanname OPERATOR(pg_catalog.<>) 'plpgsql' OR \
         {text} OPERATOR(pg_catalog.~*) {} OR \
         pg_catalog.regexp_replace({text}, {}, '', 'gi') OPERATOR(pg_catalog.~*) {})",
        literal(CODE),
        literal(UPDATE),
        literal(SET)
    );
    format!(
        "({} SELECT EXISTS (SELECT 1 FROM t, pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) t.o AND \
         (c.relhasrules OR c.relkind OPERATOR(pg_catalog.<>) ALL ('{{r,p}}'))) OR \
         EXISTS (SELECT 1 FROM t, {triggers} AND g.tgrelid OPERATOR(pg_catalog.=) t.o AND {code}) OR \
         (EXISTS (SELECT 1 FROM t, {triggers} AND g.tgrelid OPERATOR(pg_catalog.=) t.o AND \
         p.prosrc OPERATOR(pg_catalog.~*) {}) AND (EXISTS (SELECT 1 FROM {triggers} AND {code}) OR \
         EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite AS r WHERE r.ev_type OPERATOR(pg_catalog.<>) '1' AND \
         r.ev_class OPERATOR(pg_catalog.>=) {FIRST_OWN}::pg_catalog.oid))))",
        reached(name),
        literal(WRITE)
    )
}

/// A pattern as SQL says it.
fn literal(pattern: &str) -> String {
    format!("E'{}'", pattern.replace("\\\n", "").replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_and_object_of_a_query_is_qualified() {
        for column in [read_column, written_column, code_column].map(|column| column(&Name::bare("it's"))) {
            let rest = ["=", "<>", "<=", ">=", "~*", "-"]
                .iter()
                .fold(column.clone(), |text, operator| text.replace(&format!("OPERATOR(pg_catalog.{operator})"), ""));
            let rest = rest.split(" E'").map(|part| part.split_once('\'').map_or(part, |(_, rest)| rest));
            let rest: String = rest.collect();
            assert!(!rest.contains(['=', '<', '>', '~']), "{rest}");
            for word in [
                "count(",
                "bool_and(",
                "string_agg(",
                "to_regclass",
                "pg_class",
                "pg_trigger",
                "pg_proc",
                "pg_inherits",
            ] {
                let all = column.matches(word).count();
                assert_eq!(column.matches(&format!("pg_catalog.{word}")).count(), all, "{word}: {column}");
            }
        }
    }
}
