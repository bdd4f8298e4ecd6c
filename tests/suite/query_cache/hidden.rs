//! What statements call unnamed is asked once, and again only when something was defined.

use super::{assert_true, caching, is_kept, make};
use crate::harness::{Wire, shared};
use crate::only_ours;

#[test]
fn calls_and_temporary_tables_of_others_cost_no_questions_about_hidden_calls() {
    only_ours!("the original does not ask");
    make(
        "DROP VIEW IF EXISTS qch1_view; DROP TABLE IF EXISTS qch1; DROP FUNCTION IF EXISTS qch1_touch",
        "CREATE TABLE qch1 AS SELECT 0 AS a; CREATE FUNCTION qch1_touch() RETURNS int LANGUAGE sql AS \
         'UPDATE qch1 SET a = a + 1 RETURNING a'; CREATE VIEW qch1_view AS SELECT qch1_touch() AS a",
    );
    let pool = caching().start();
    let (mut session, mut other) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qch1";
    let started = shared().primary().log_text().len();
    let mut pids = Vec::new();
    for session in [&mut session, &mut other] {
        pids.push(format!("[{}]", session.value("SELECT pg_backend_pid()")));
        session.query("SET log_statement = 'all'").succeeded();
    }
    let asked = |pids: &[String]| {
        let log = shared().primary().log_text();
        let is_ours = |line: &&str| pids.iter().any(|pid| line.contains(pid));
        log[started..].lines().filter(is_ours).filter(|line| line.contains("provolatile OPERATOR")).count()
    };
    let write = |session: &mut Wire| session.query("UPDATE qch1 SET a = 0").succeeded();
    other.query("COMMENT ON TABLE qch1 IS 'defined'").succeeded();
    for session in [&mut session, &mut other] {
        write(session);
    }
    let before = asked(&pids);
    assert!((1..=2).contains(&before), "{before}");
    for _ in 0..5 {
        for sql in ["SELECT qch1_touch()", "CREATE TEMP TABLE qch1_temp (a int)", "DROP TABLE qch1_temp"] {
            other.query(sql).succeeded();
            write(&mut session);
            session.query(read).succeeded();
        }
    }
    assert_eq!(asked(&pids), before);
    // A definition is heard of.
    assert!(is_kept(&mut session, read));
    other.query("DROP TABLE IF EXISTS qch1_temp").succeeded();
    other.query("SELECT a FROM qch1_view").succeeded();
    assert_true(&mut session, read);
    make("DROP VIEW qch1_view", "SELECT 1");
    other.query("CREATE VIEW qch1_view AS SELECT qch1_touch() + 1 AS a").succeeded();
    assert!(is_kept(&mut session, read));
    other.query("SELECT a FROM qch1_view").succeeded();
    assert_true(&mut session, read);
    assert!(asked(&pids) > before);
}
