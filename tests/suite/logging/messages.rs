//! What the log tells of a client's messages, and that no text breaks it.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Logged, prepared_statement};
use crate::harness::{LOGIN, Pgpool, foreign, frontend, shared, wait_for};
use crate::{needs_pgpool, only_ours};

#[test]
fn off_is_silent() {
    needs_pgpool!();
    let mut logged = Logged::start(&[]);
    logged.session.query("SELECT 1").succeeded();
    logged.ask(&prepared_statement()).succeeded();
    assert_eq!(logged.lines(), [""; 0]);
}

#[test]
fn a_simple_query_is_told_from_its_arrival_to_its_node() {
    needs_pgpool!();
    let mut logged =
        Logged::start(&[("log_statement", "on"), ("log_per_node_statement", "on"), ("log_client_messages", "on")]);
    assert_eq!(
        logged.lines_of("SELECT 1,\n 'x'"),
        [
            "LOG:  Query message from frontend.",
            "DETAIL:  query: \"SELECT 1,",
            "\t 'x'\"",
            "LOG:  statement: SELECT 1,",
            "\t 'x'",
            "LOG:  DB node id: 0 backend pid: PID statement: SELECT 1,",
            "\t 'x'",
        ]
    );
    // What is answered here goes to no node.
    assert_eq!(
        logged.lines_of("SHOW POOL_VERSION"),
        [
            "LOG:  Query message from frontend.",
            "DETAIL:  query: \"SHOW POOL_VERSION\"",
            "LOG:  statement: SHOW POOL_VERSION",
        ]
    );
}

#[test]
fn each_parameter_tells_its_own_part() {
    needs_pgpool!();
    let mut logged = Logged::start(&[("log_statement", "on")]);
    assert_eq!(logged.lines_of("SELECT 1"), ["LOG:  statement: SELECT 1"]);
    logged.ask(&prepared_statement()).succeeded();
    assert_eq!(logged.lines(), ["LOG:  statement: SELECT 1"]);

    let mut logged = Logged::start(&[("log_per_node_statement", "on")]);
    assert_eq!(logged.lines_of("SELECT 1"), ["LOG:  DB node id: 0 backend pid: PID statement: SELECT 1"]);

    let mut logged = Logged::start(&[("log_client_messages", "on")]);
    assert_eq!(logged.lines_of("SELECT 1"), ["LOG:  Query message from frontend.", "DETAIL:  query: \"SELECT 1\""]);

    let mut logged = Logged::start(&[("log_client_messages", "on"), ("log_error_verbosity", "terse")]);
    assert_eq!(logged.lines_of("SELECT 1"), ["LOG:  Query message from frontend."]);
}

#[test]
fn extended_messages_are_told_one_by_one() {
    needs_pgpool!();
    let mut logged =
        Logged::start(&[("log_statement", "on"), ("log_per_node_statement", "on"), ("log_client_messages", "on")]);
    logged.ask(&prepared_statement()).succeeded();
    let mut expected = vec![
        "LOG:  Parse message from frontend.",
        "DETAIL:  statement: \"s\", query: \"SELECT 1\"",
        "LOG:  DB node id: 0 backend pid: PID statement: Parse: SELECT 1",
        "LOG:  Bind message from frontend.",
        "DETAIL:  portal: \"p\", statement: \"s\"",
        "LOG:  DB node id: 0 backend pid: PID statement: Bind: SELECT 1",
        "LOG:  Describe message from frontend.",
        "DETAIL:  statement: \"s\"",
        "LOG:  DB node id: 0 backend pid: PID statement: D message",
        "LOG:  Describe message from frontend.",
        "DETAIL:  portal: \"p\"",
        "LOG:  DB node id: 0 backend pid: PID statement: D message",
        "LOG:  Execute message from frontend.",
        "DETAIL:  portal: \"p\"",
        "LOG:  statement: SELECT 1",
        "LOG:  DB node id: 0 backend pid: PID statement: Execute: SELECT 1",
        "LOG:  Close message from frontend.",
        "DETAIL:  portal: \"p\"",
        "LOG:  DB node id: 0 backend pid: PID statement: C message",
        "LOG:  Close message from frontend.",
        "DETAIL:  statement: \"s\"",
        "LOG:  DB node id: 0 backend pid: PID statement: C message",
        "LOG:  Sync message from frontend.",
    ];
    // Since 4.8.
    if !foreign() {
        expected.push("LOG:  DB node id: 0 backend pid: PID statement: Sync");
    }
    assert_eq!(logged.lines(), expected);

    logged.ask(&[frontend::parse("", "SELECT 2", &[]), frontend::flush(), frontend::sync()]).succeeded();
    assert_eq!(
        logged.lines()[..4],
        [
            "LOG:  Parse message from frontend.",
            "DETAIL:  statement: \"\", query: \"SELECT 2\"",
            "LOG:  DB node id: 0 backend pid: PID statement: Parse: SELECT 2",
            "LOG:  Flush message from frontend.",
        ]
    );
}

#[test]
fn what_a_server_skips_behind_an_error_goes_to_no_node() {
    only_ours!("it does not tell of messages that it drops");
    needs_pgpool!();
    let mut logged = Logged::start(&[("log_per_node_statement", "on"), ("log_client_messages", "on")]);
    logged.session.send([frontend::parse("", "SELEC", &[]), frontend::flush()].concat());
    logged.session.read_until('E');
    logged.lines();
    let rest = [frontend::bind("", "", &[]), frontend::execute("", 0), frontend::sync()];
    assert_eq!(logged.ask(&rest).kinds(), "Z");
    assert_eq!(
        logged.lines(),
        [
            "LOG:  Bind message from frontend.",
            "DETAIL:  portal: \"\", statement: \"\"",
            "LOG:  Execute message from frontend.",
            "DETAIL:  portal: \"\"",
            "LOG:  Sync message from frontend.",
            "LOG:  DB node id: 0 backend pid: PID statement: Sync",
        ]
    );
}

#[test]
fn copy_data_is_counted() {
    needs_pgpool!();
    let mut logged = Logged::start(&[("log_client_messages", "on")]);
    logged.session.query("CREATE TEMP TABLE logging_copy (n int)").succeeded();
    for (end, said) in [(frontend::copy_done(), "CopyDone"), (frontend::copy_fail("no"), "CopyFail")] {
        logged.lines();
        logged.session.send(frontend::query("COPY logging_copy FROM STDIN"));
        logged.session.read_until('G');
        let rows = [frontend::copy_data(b"1\n"), frontend::copy_data(b"2\n"), frontend::copy_data(b"3\n")];
        logged.ask(&[&rows[..], &[end]].concat());
        assert_eq!(
            logged.lines()[..5],
            [
                "LOG:  Query message from frontend.",
                "DETAIL:  query: \"COPY logging_copy FROM STDIN\"",
                "LOG:  CopyData message from frontend.",
                "DETAIL:  count: 3",
                &format!("LOG:  {said} message from frontend."),
            ]
        );
    }
}

#[test]
fn function_call_cancel_and_terminate_are_told() {
    needs_pgpool!();
    let mut logged = Logged::start(&[("log_client_messages", "on"), ("log_per_node_statement", "on")]);
    // 1598 is random().
    logged.ask(&[frontend::function_call(1598, &[])]).succeeded();
    assert_eq!(logged.lines(), ["LOG:  FunctionCall message from frontend.", "DETAIL:  oid: \"1598\""]);

    let mut canceller = logged.pool.open();
    canceller.send(frontend::cancel(logged.session.pid, &logged.session.key));
    assert!(canceller.is_closed_within(Duration::from_secs(10)));
    assert_eq!(
        logged.lines()[..2],
        ["LOG:  Cancel message from frontend.".to_owned(), format!("DETAIL:  process id: {}", logged.session.pid)]
    );

    logged.session.send(frontend::terminate());
    wait_for("the end of the session", || logged.pool.log().contains("LOG:  Terminate message from frontend.\n"));
}

#[test]
fn texts_cannot_break_the_log() {
    only_ours!("control characters go to the log as they are");
    needs_pgpool!();
    let mut logged = Logged::start(&[("log_statement", "on"), ("notice_per_node_statement", "on")]);
    logged.session.query("SELECT '\r\x1b[2J'\r\n/*\nLOG:  forged*/").succeeded();
    assert_eq!(logged.lines(), ["LOG:  statement: SELECT '\\x0d\\x1b[2J'", "\t/*", "\tLOG:  forged*/"]);

    // Another encoding: the log shows the bytes, the client gets its own text back.
    logged.session.query("SET client_encoding = 'LATIN1'").succeeded();
    logged.lines();
    let reply = logged.ask(&[frontend::message('Q', b"SELECT 'caf\xe9'\0")]).succeeded();
    assert_eq!(logged.lines(), ["LOG:  statement: SELECT 'caf\\xe9'"]);
    let told = b"MDB node id: 0 statement: SELECT 'caf\xe9'\0";
    let notice = &reply.all('N').next().expect("a notice").body;
    assert!(notice.windows(told.len()).any(|part| part == told), "{notice:?}");

    // A zero inside a text is the server's to refuse.
    let reply = logged.ask(&[frontend::message('Q', b"SELECT 1\0;LOG:  forged\0")]);
    assert_eq!(reply.sqlstate(), "08P01");
    assert_eq!(logged.lines()[0], "LOG:  statement: SELECT 1\\x00;LOG:  forged");

    // Names chosen by the client are part of the prefix.
    let pool = Pgpool::on(shared()).set("log_line_prefix", "%a|").set("log_statement", "on").start();
    let mut session = pool.connect_with(&[LOGIN, &[("application_name", "a\nb")]].concat());
    session.query("SELECT 'named'").succeeded();
    // Servers from 16 on report the name with the character in words.
    let shown = ["a?b", "a\\x0ab"].map(|name| format!("\n{name}|LOG:  statement: SELECT 'named'\n"));
    assert!(shown.iter().any(|line| pool.log().contains(line)), "{}", pool.log());
}

#[test]
fn texts_too_long_to_be_read_are_named() {
    only_ours!("it reads them");
    needs_pgpool!();
    let mut logged =
        Logged::start(&[("log_statement", "on"), ("log_per_node_statement", "on"), ("log_client_messages", "on")]);
    let sql = format!("SELECT 1 /*{}*/", "x".repeat(3 << 20));
    logged.session.query(&sql).succeeded();
    let length = sql.len() + 6;
    assert_eq!(
        logged.lines(),
        [
            "LOG:  Query message from frontend.".to_owned(),
            format!("DETAIL:  (Query message of {length} bytes)"),
            format!("LOG:  statement: (Query message of {length} bytes)"),
            format!("LOG:  DB node id: 0 backend pid: PID statement: (Query message of {length} bytes)"),
        ]
    );
}

#[test]
fn a_reload_counts_for_the_next_session() {
    needs_pgpool!();
    let mut logged = Logged::start(&[("num_init_children", "1")]);
    assert_eq!(logged.lines_of("SELECT 'before'"), [""; 0]);
    logged.pool.set("log_statement", "on");
    logged.pool.signal(Signal::SIGHUP);
    logged.session.send(frontend::terminate());
    wait_for("log_statement to count", || {
        logged.pool.connect().query("SELECT 'after'").succeeded();
        logged.pool.log().contains("LOG:  statement: SELECT 'after'\n")
    });
}
