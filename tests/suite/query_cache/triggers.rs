//! Triggers that set or define something, in whatever words: their session reads other tables than before, and keeps nothing
//! of them under what it was.

use super::{caching, is_kept, make};
use crate::harness::{Wire, shared};
use crate::only_ours;

/// Triggers of the tables `qcg_*`, and what they do: all lead to the schema qcg_2.
const TRIGGERS: [(&str, &str); 7] = [
    ("plain", "BEGIN SET search_path = qcg_2; RETURN NEW; END"),
    ("comment", "BEGIN /* x */ SET search_path = qcg_2; RETURN NEW; END"),
    ("line", "BEGIN -- to the schema of the tenant\n SET search_path = qcg_2; RETURN NEW; END"),
    ("inside", "BEGIN SET /* x */ search_path TO qcg_2; RETURN NEW; END"),
    ("quoted", "BEGIN /* x */ SET \"search_path\" = qcg_2; RETURN NEW; END"),
    ("view", "BEGIN UPDATE pg_settings SET setting = 'qcg_2' WHERE name = 'search_path'; RETURN NEW; END"),
    ("nested", "BEGIN INSERT INTO public.qcg_plain VALUES (1); RETURN NEW; END"),
];

#[test]
fn however_a_trigger_sets_the_path_it_is_heeded() {
    only_ours!("the original does not know triggers");
    let tables: String = TRIGGERS
        .iter()
        .map(|(name, text)| {
            format!(
                "CREATE TABLE qcg_{name} (a int); \
                 CREATE FUNCTION qcg_do_{name}() RETURNS trigger LANGUAGE plpgsql AS $${text}$$; \
                 CREATE TRIGGER t BEFORE INSERT ON qcg_{name} FOR EACH ROW EXECUTE FUNCTION qcg_do_{name}(); "
            )
        })
        .collect();
    let undo: String = TRIGGERS
        .iter()
        .map(|(name, _)| format!("DROP TABLE IF EXISTS qcg_{name}; DROP FUNCTION IF EXISTS qcg_do_{name}; "))
        .collect();
    make(
        &format!("{undo} DROP SCHEMA IF EXISTS qcg_1, qcg_2 CASCADE"),
        &format!(
            "{tables} CREATE SCHEMA qcg_1; CREATE SCHEMA qcg_2; CREATE TABLE qcg_1.t AS SELECT 'one' AS a; \
             CREATE TABLE qcg_2.t AS SELECT 'two' AS a"
        ),
    );
    let pool = caching().start();
    let read = "SELECT a FROM t";
    let at_one = || {
        let mut session = pool.connect();
        session.query("SET search_path = qcg_1").succeeded();
        session
    };
    let mut other = at_one();
    for (name, _) in TRIGGERS {
        let mut session = at_one();
        assert!(is_kept(&mut session, read));
        session.query(&format!("INSERT INTO public.qcg_{name} VALUES (1)")).succeeded();
        let answers = |session: &mut Wire| [session.value(read), session.value(read)];
        assert_eq!(answers(&mut session), ["two", "two"], "{name}");
        // What it has kept is nobody's who is still there.
        other.query("INSERT INTO qcg_1.t SELECT 'one' WHERE false").succeeded();
        assert_eq!(answers(&mut session), ["two", "two"], "{name}");
        assert_eq!(answers(&mut other), ["one", "one"], "{name}");
    }
    drop((other, pool));
    make(&format!("{undo} DROP SCHEMA qcg_1, qcg_2 CASCADE"), "SELECT 1");
}

#[test]
fn a_trigger_that_only_changes_rows_leaves_its_session_what_it_was() {
    only_ours!("the original does not know triggers");
    make(
        "DROP TABLE IF EXISTS qch_head, qch_tail; DROP FUNCTION IF EXISTS qch_do",
        "CREATE TABLE qch_head (a int); CREATE TABLE qch_tail (a int PRIMARY KEY, role text, time text); \
         CREATE FUNCTION qch_do() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
         IF TG_OP = 'UPDATE' THEN NEW.a := 1; END IF; RETURN NEW; END$$; \
         CREATE TRIGGER t BEFORE INSERT ON qch_head FOR EACH ROW EXECUTE FUNCTION qch_do()",
    );
    let pool = caching().start();
    let mut session = pool.connect();
    let ours = format!("[{}]", session.value("SELECT pg_backend_pid()"));
    session.query("SET log_statement = 'all'").succeeded();
    session.query("INSERT INTO qch_head VALUES (1)").succeeded();
    assert!(is_kept(&mut session, "SELECT a FROM qch_head"));
    let log = shared().primary().log_text();
    let asked = log.lines().filter(|line| line.contains(&ours) && line.contains("FROM pg_catalog.pg_settings")).count();
    assert_eq!(asked, 1, "as whom it asks: only before its first read");
}
