//! PGPOOL EXPLAIN: where a statement would go, told without sending it.

use crate::harness::{Pgpool, Reply, Wire, shared};
use crate::{needs_pgpool, only_ours};

/// The columns of the one row.
#[derive(Debug)]
struct Row {
    node: String,
    role: String,
    class: String,
    reason: String,
    decided_by: String,
    cacheable: String,
    state: String,
}

const COLUMNS: [&str; 7] = ["node", "role", "class", "reason", "decided_by", "cacheable", "state"];

fn row(reply: &Reply) -> Row {
    assert_eq!(reply.kinds(), "TDCZ", "{reply:?}");
    let description = &reply.all('T').next().expect("a RowDescription").body;
    let mut rest = &description[2..];
    for column in COLUMNS {
        let (name, after) = rest.split_at(column.len());
        assert_eq!((name, after[0]), (column.as_bytes(), 0));
        rest = &after[19..];
    }
    assert!(rest.is_empty() && reply.tags() == ["SELECT 1"]);
    let row = reply.rows().remove(0).into_iter().map(|value| value.expect("a value")).collect::<Vec<_>>();
    let [node, role, class, reason, decided_by, cacheable, state] = row.try_into().expect("seven columns");
    Row { node, role, class, reason, decided_by, cacheable, state }
}

fn explain(session: &mut Wire, statement: &str) -> Row {
    row(&session.query(&format!("PGPOOL EXPLAIN {statement}")))
}

/// A pgpool whose sessions read from node 2.
fn pool() -> Pgpool {
    Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).set("log_per_node_statement", "on").start()
}

/// The node that runs the statement, by its port.
fn node_of(session: &mut Wire, sql: &str) -> String {
    let port = session.value(sql);
    let node = shared().nodes().iter().find(|node| node.port.to_string() == port);
    node.expect("a node with that port").id.to_string()
}

#[test]
fn it_says_where_statements_go_and_why() {
    only_ours!("the original has no such command");
    needs_pgpool!();
    let pool = pool();
    // A session that has made such things reads from the primary, so another one makes them.
    let mut maker = pool.connect();
    for sql in [
        "CREATE UNLOGGED TABLE explain_unlogged (a int)",
        "CREATE VIEW explain_view AS SELECT * FROM ten",
        "CREATE FUNCTION explain_f(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'",
        "CREATE FUNCTION explain_i(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
    ] {
        maker.query(sql).succeeded();
    }
    let mut session = pool.connect();
    for (statement, node, class, decided_by, cacheable) in [
        ("SELECT count(*), explain_i(n) FROM ten GROUP BY n;", "2", "read", "", "yes"),
        ("SELECT now() FROM ten", "2", "read", "", "no: now() is STABLE, not IMMUTABLE"),
        (
            "SELECT * FROM explain_view",
            "2",
            "read",
            "",
            "no: explain_view is a view or a foreign table, and not in cache_safe_memqcache_table_list",
        ),
        (
            "SELECT public.explain_f(n) FROM ten",
            "0",
            "read",
            "function public.explain_f (volatile)",
            "no: public.explain_f() is VOLATILE",
        ),
        (
            "SELECT * FROM explain_unlogged",
            "0",
            "read",
            "table explain_unlogged (unlogged)",
            "no: explain_unlogged is unlogged, and not in cache_safe_memqcache_table_list",
        ),
        ("SELECT * FROM pg_class", "0", "read", "table pg_class (system catalog)", "no: pg_class is a system catalog"),
        ("SELECT * FROM nosuch", "0", "read", "table nosuch (does not exist)", "no: nosuch does not exist"),
        ("/* x */ SELECT * FROM ten", "0", "read", "parameter allow_sql_comments", "yes"),
        ("INSERT INTO ten VALUES (11)", "0", "write", "", "no: only a SELECT that stands alone is cached"),
        ("SET work_mem = '1MB'", "0,2", "session state", "", "no: only a SELECT that stands alone is cached"),
    ] {
        let row = explain(&mut session, statement);
        let told = (&*row.node, &*row.class, &*row.decided_by, &*row.cacheable);
        assert_eq!(told, (node, class, decided_by, cacheable), "{statement}: {row:?}");
        assert_eq!(row.state, "no transaction; load balance node 2 (node2), delay not measured");
        let role = ["primary", "standby"][usize::from(node == "2")];
        assert_eq!(row.role, if node == "0,2" { "primary,standby" } else { role });
    }
    let row = explain(&mut session, "SELEC 1");
    assert_eq!((&*row.node, &*row.class), ("0", "not understood"));
    assert!(row.reason.starts_with("the text is not understood, so it may write: syntax error at or near"), "{row:?}");
    // Nothing of it has been sent, and the session is none the worse for it.
    assert_eq!(session.value("SELECT count(*) FROM ten"), "10");
    assert!(!pool.log().contains("EXPLAIN") && !pool.log().contains("SELEC 1"), "{}", pool.log());
    maker.query("DROP TABLE explain_unlogged; DROP VIEW explain_view").succeeded();
    maker.query("DROP FUNCTION explain_f(int); DROP FUNCTION explain_i(int)").succeeded();
}

#[test]
fn what_it_says_is_what_happens() {
    only_ours!("the original has no such command");
    needs_pgpool!();
    let pool = pool();
    let mut session = pool.connect();
    let read = "SELECT current_setting('port') FROM ten WHERE n = 1";
    for statement in [read, "/* x */ SELECT current_setting('port')", "SELECT current_setting('port'), random()"] {
        assert_eq!(explain(&mut session, statement).node, node_of(&mut session, statement), "{statement}");
    }
    session.query("BEGIN").succeeded();
    assert_eq!(explain(&mut session, read).node, node_of(&mut session, read));
    session.query("CREATE TEMP TABLE explain_temp (a int)").succeeded();
    assert_eq!(explain(&mut session, read).node, node_of(&mut session, read));
    session.query("COMMIT").succeeded();
    assert_eq!(explain(&mut session, read).node, node_of(&mut session, read));
    session.query("SELECT set_config('a.b', 'c', false)").succeeded();
    let row = explain(&mut session, read);
    assert_eq!((row.node, node_of(&mut session, read)), ("0".to_owned(), "0".to_owned()));
    assert!(row.reason.contains("until DISCARD ALL") && row.state.contains("until DISCARD ALL"), "{}", row.reason);
    let row = explain(&mut session, "SELECT * FROM explain_temp");
    assert_eq!((&*row.node, &*row.cacheable), ("0", "no: explain_temp is a temporary table"));
    session.query("DISCARD ALL").succeeded();
    assert_eq!((explain(&mut session, read).node, node_of(&mut session, read)), ("2".to_owned(), "2".to_owned()));
}

#[test]
fn it_answers_inside_transactions_and_keeps_their_state() {
    only_ours!("the original has no such command");
    needs_pgpool!();
    let pool = pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE explain_tx (a int)").succeeded();
    session.query("BEGIN").succeeded();
    session.query("INSERT INTO explain_tx VALUES (1)").succeeded();
    let reply = session.query("PGPOOL EXPLAIN SELECT * FROM explain_tx");
    let explained = row(&reply);
    assert_eq!((reply.state(), &*explained.node, &*explained.role), ('T', "0", "primary"));
    assert!(explained.reason.contains("transaction") && explained.state.contains("transaction"), "{explained:?}");
    assert_eq!(session.query("SELECT nosuch").sqlstate(), "42703");
    let reply = session.query("PGPOOL EXPLAIN SELECT * FROM explain_tx");
    assert_eq!(reply.state(), 'E');
    let explained = row(&reply);
    assert!(explained.reason.starts_with("the transaction has failed"), "{explained:?}");
    assert!(explained.state.starts_with("failed transaction; load balance node 2"), "{explained:?}");
    assert_eq!(session.query("ROLLBACK").succeeded().state(), 'I');
    session.query("DROP TABLE explain_tx").succeeded();
}

#[test]
fn without_a_statement_it_is_an_error_and_pgpools_own_go_nowhere() {
    only_ours!("the original has no such command");
    needs_pgpool!();
    let pool = pool();
    let mut session = pool.connect();
    for empty in ["PGPOOL EXPLAIN", "pgpool explain ;", "PGPOOL EXPLAIN /* nothing */"] {
        let reply = session.query(empty);
        assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str(), reply.state()), ("EZ", "42601", 'I'));
        let error = reply.error().and_then(|error| error.field('M')).expect("a message");
        assert_eq!(error, "PGPOOL EXPLAIN needs a statement behind it");
    }
    for own in ["SHOW POOL_NODES", "PGPOOL EXPLAIN SELECT 1"] {
        let row = explain(&mut session, own);
        assert_eq!((&*row.node, &*row.role, &*row.reason), ("", "", "it is a command for pgpool itself"), "{own}");
    }
    let row = explain(&mut session, "SELECT 1; DELETE FROM ten");
    assert_eq!((&*row.node, &*row.class), ("0", "several statements"));
    assert_eq!(session.value("SELECT count(*) FROM ten"), "10");
}

/// The lines of `pgpool route`, by name.
fn route(pool: &Pgpool, arguments: &[&str]) -> std::collections::BTreeMap<String, String> {
    let output = pool.command().arg("route").args(arguments).output().expect("pgpool route");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    let line = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.trim().to_owned())
    };
    text.lines().map(line).collect()
}

#[test]
fn the_shell_asks_without_a_running_pgpool() {
    only_ours!("the original has no such command");
    needs_pgpool!();
    let config = Pgpool::on(shared()).weights(&[0.0, 1.0, 3.0]);
    let pool = config.set("user_redirect_preference_list", "nobody:primary").prepare();
    let read = "SELECT count(*) FROM ten";
    let lines = route(&pool, &["-d", "test", read]);
    let expected = |id: usize| format!("node {id} (127.0.0.1:{})", shared().node(id).port);
    assert_eq!((&*lines["node"], &*lines["role"], &*lines["cacheable"]), ("1 or 2", "standby", "yes"), "{lines:?}");
    assert_eq!(lines["reads"], format!("{} with 25 %, {} with 75 %", expected(1), expected(2)));
    assert_eq!((&*lines["nodes"], &*lines["client"]), ("asked what they are", "user postgres, database test"));
    assert_eq!(lines["catalog"], format!("looked up on 127.0.0.1:{}", shared().primary().port));

    let lines = route(&pool, &["-d", "test", "SELECT random() FROM ten"]);
    assert_eq!((&*lines["node"], &*lines["decided_by"]), ("0", "function random (volatile)"));
    let lines = route(&pool, &["-U", "nobody", "SELECT 1"]);
    assert_eq!((&*lines["node"], &*lines["role"]), ("0", "primary"));
    assert_eq!((&*lines["catalog"], lines["reads"].contains("node 0 ")), ("nothing to be looked up", true));

    // The name exists in another database, and who cannot log in learns why.
    let lines = route(&pool, &[read]);
    assert_eq!((&*lines["node"], &*lines["decided_by"]), ("0", "table ten (does not exist)"), "{lines:?}");
    let lines = route(&pool, &["-U", "nobody", read]);
    assert!(lines["catalog"].contains("role \"nobody\" does not exist"), "{lines:?}");
    let lines = route(&pool, &["--offline", read]);
    assert_eq!(lines["catalog"], "tables and functions not looked up: --offline");
    assert_eq!((&*lines["node"], &*lines["reason"]), ("0", "its tables or functions have not been looked up"));
}
