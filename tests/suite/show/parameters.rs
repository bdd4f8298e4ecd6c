//! PGPOOL SHOW, SET and RESET (config 7, 8).

use nix::sys::signal::Signal;

use crate::harness::{Pgpool, Wire, foreign, shared, wait_for};
use crate::{needs_pgpool, only_ours};

fn shown(session: &mut Wire, name: &str) -> String {
    session.value(&format!("PGPOOL SHOW {name}"))
}

fn refusal(session: &mut Wire, sql: &str) -> String {
    let reply = session.query(sql);
    let error = reply.error().unwrap_or_else(|| panic!("{sql}: {reply:?}"));
    assert_eq!((reply.kinds().as_str(), error.field('S').as_deref()), ("EZ", Some("ERROR")));
    format!("{} {}", reply.sqlstate(), error.field('M').expect("a message"))
}

#[test]
fn a_session_changes_its_own_parameters() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).set("num_init_children", 1).set("client_idle_limit", 1200).start();
    let mut session = pool.connect();
    assert_eq!(shown(&mut session, "client_idle_limit"), "20min");
    for (sql, tag) in [
        ("PGPOOL SET client_idle_limit TO 300", "SET"),
        ("PGPOOL SET log_statement = on", "SET"),
        ("PGPOOL SET log_min_messages TO 'error'", "SET"),
    ] {
        assert_eq!(session.query(sql).succeeded().tags(), [tag], "{sql}");
    }
    assert_eq!(shown(&mut session, "client_idle_limit"), "5min");
    assert_eq!(shown(&mut session, "log_statement"), "on");
    assert_eq!(session.query("PGPOOL RESET log_statement").succeeded().tags(), ["SET"]);
    assert_eq!(shown(&mut session, "log_statement"), "off");
    assert_eq!(session.query("PGPOOL SET client_idle_limit TO DEFAULT").succeeded().tags(), ["SET"]);
    assert_eq!(shown(&mut session, "client_idle_limit"), "20min");
    assert_eq!(session.query("PGPOOL RESET ALL").succeeded().tags(), ["RESET"]);
    assert_eq!(shown(&mut session, "log_min_messages"), "warning");
    // The next session of the same process begins anew.
    session.query("PGPOOL SET client_idle_limit TO 7").succeeded();
    session.close();
    assert_eq!(shown(&mut pool.connect(), "client_idle_limit"), "20min");
}

#[test]
fn mistakes_are_told() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    for (sql, expected) in [
        ("PGPOOL SHOW nonsense", "XX000 config variable \"nonsense\" not found"),
        ("PGPOOL SET nonsense TO 1", "XX000 unrecognized configuration parameter \"nonsense\""),
        ("PGPOOL SET port TO 1", "XX000 invalid Context, value for parameter \"port\" cannot be changed"),
        ("PGPOOL RESET port", "XX000 invalid Context, value for parameter \"port\" cannot be changed"),
        ("PGPOOL SET log_min_messages TO loud", "XX000 invalid value for parameter \"log_min_messages\": \"loud\""),
        (
            "PGPOOL SET client_idle_limit TO '-5'",
            "XX000 -5 is outside the valid range for parameter \"client_idle_limit\" (0 .. 2147483647)",
        ),
    ] {
        assert_eq!(refusal(&mut session, sql), expected, "{sql}");
    }
    // Not a command of ours: the server's syntax error.
    assert!(refusal(&mut session, "PGPOOL FLY").starts_with("42601 syntax error"));
    session.query("BEGIN").succeeded();
    session.query("PGPOOL SET nonsense TO 1");
    session.query("SELECT 1").succeeded();
    session.query("COMMIT").succeeded();
}

#[test]
fn a_change_counts_at_once() {
    needs_pgpool!();
    only_ours!("log lines in between");
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).set("log_line_prefix", "").start();
    let mut session = pool.connect();
    session.query("SELECT 'before'").succeeded();
    session.query("PGPOOL SET log_statement TO on").succeeded();
    session.query("SELECT 'during'").succeeded();
    session.query("PGPOOL RESET ALL").succeeded();
    session.query("SELECT 'after'").succeeded();
    session.query("PGPOOL SET notice_per_node_statement TO on").succeeded();
    assert_eq!(session.query("SELECT 1").kinds(), "NTDCZ");
    session.query("PGPOOL SET client_min_messages TO error").succeeded();
    assert_eq!(session.query("SELECT 1").kinds(), "TDCZ");
    session.query("PGPOOL RESET ALL").succeeded();
    // Routing follows too: this comment keeps a statement on the primary unless comments are allowed.
    let decided_by = |session: &mut Wire| {
        let reply = session.query("PGPOOL EXPLAIN /* x */ SELECT * FROM ten").succeeded();
        reply.rows().remove(0).remove(4).expect("a value")
    };
    assert_eq!(decided_by(&mut session), "parameter allow_sql_comments");
    session.query("PGPOOL SET allow_sql_comments TO on").succeeded();
    assert_ne!(decided_by(&mut session), "parameter allow_sql_comments");
    wait_for("the statement in the log", || pool.log().contains("statement: SELECT 'during'"));
    let log = pool.log();
    assert!(!log.contains("'before'") && !log.contains("'after'"), "{log}");
    // The idle limit of this session, from now on.
    session.query("PGPOOL SET client_idle_limit TO 1").succeeded();
    let end = session.read();
    assert_eq!((end.kind, end.field('C').as_deref()), (b'E', Some("57000")));
    drop(pool);
}

#[test]
fn a_reload_leaves_what_the_session_has_set() {
    needs_pgpool!();
    only_ours!("the original overwrites what the session has set, and RESET restores the value at start");
    let mut pool = Pgpool::on(shared()).set("client_idle_limit", 1200).start();
    let (mut changed, mut other) = (pool.connect(), pool.connect());
    changed.query("PGPOOL SET client_idle_limit TO 300").succeeded();
    pool.set("client_idle_limit", 1800);
    pool.set("log_disconnections", "on");
    pool.signal(Signal::SIGHUP);
    for session in [&mut changed, &mut other] {
        wait_for("the reload", || shown(session, "log_disconnections") == "on");
    }
    assert_eq!(shown(&mut other, "client_idle_limit"), "30min");
    assert_eq!(shown(&mut changed, "client_idle_limit"), "5min");
    changed.query("PGPOOL RESET client_idle_limit").succeeded();
    assert_eq!(shown(&mut changed, "client_idle_limit"), "30min");
}

#[test]
fn lists_have_three_columns() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    let items = |session: &mut Wire, name: &str| session.query(&format!("PGPOOL SHOW {name}")).succeeded().column();
    assert_eq!(items(&mut session, "backend_port"), ["backend_port0", "backend_port1", "backend_port2"]);
    assert_eq!(items(&mut session, "backend").len(), 18);
    let all = session.query("PGPOOL SHOW ALL").succeeded();
    assert_eq!(all.tags(), [format!("SELECT {}", all.rows().len())]);
    assert!(all.rows().iter().all(|row| row.len() == 3 && row[2].as_deref().is_some_and(|text| !text.is_empty())));
    let secrets = all.rows().into_iter().filter(|row| row[0].as_deref().is_some_and(|name| name.contains("password")));
    assert!(secrets.into_iter().all(|row| row[1].as_deref() == Some("*****")));
    if !foreign() {
        // The original has it since 4.6.
        let reply = session.query("PGPOOL SET CACHE DELETE 'select 1'").succeeded();
        assert_eq!((reply.kinds().as_str(), reply.tags()), ("NCZ", vec!["SET".to_owned()]));
    }
}
