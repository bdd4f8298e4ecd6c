//! Which statement is told to have gone to which node, and what the nodes answer.

use super::{Logged, notices, prepared_statement, sent_to_nodes};
use crate::harness::{frontend, shared, wait_for};
use crate::{needs_pgpool, only_ours};

#[test]
fn server_messages_are_told() {
    only_ours!("log_backend_messages is not in 4.3");
    needs_pgpool!();
    let from_0 = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("LOG:  {name} message from backend 0")).collect()
    };
    let rows = "SELECT n FROM ten WHERE n < 4";
    let mut logged = Logged::start(&[("log_backend_messages", "verbose")]);
    let expected = from_0(&["RowDescription", "DataRow", "DataRow", "DataRow", "CommandComplete", "ReadyForQuery"]);
    assert_eq!(logged.lines_of(rows), expected);
    logged.ask(&prepared_statement()).succeeded();
    assert_eq!(
        logged.lines(),
        from_0(&[
            "ParseComplete",
            "BindComplete",
            "ParameterDescription",
            "RowDescription",
            "RowDescription",
            "DataRow",
            "CommandComplete",
            "CloseComplete",
            "CloseComplete",
            "ReadyForQuery",
        ])
    );

    let mut logged = Logged::start(&[("log_backend_messages", "terse")]);
    let mut expected = from_0(&["RowDescription", "DataRow", "CommandComplete", "ReadyForQuery"]);
    expected.insert(2, "LOG:  last DataRow message from backend 0 repeated 2 times".to_owned());
    assert_eq!(logged.lines_of(rows), expected);
    // Rows by the thousand pass in many pieces, and are all counted.
    logged.session.query("SELECT n FROM generate_series(1, 100000) n").succeeded();
    assert_eq!(logged.lines()[2], "LOG:  last DataRow message from backend 0 repeated 99999 times");
}

#[test]
fn catalog_queries_are_told_with_their_reason() {
    only_ours!("its catalog queries are others");
    needs_pgpool!();
    let mut logged = Logged::start_on(&[0.0, 1.0, 0.0], &[("log_per_node_statement", "on")]);
    let lines = logged.lines_of("SELECT abs(n) FROM ten WHERE n = 1");
    let (asked, sent) = lines.split_at(lines.len() - 1);
    assert!(!asked.is_empty() && asked.len() % 2 == 0, "{asked:?}");
    for pair in asked.chunks(2) {
        assert!(pair[0].starts_with("LOG:  DB node id: 0 backend pid: PID statement: SELECT "), "{pair:?}");
        assert_eq!(pair[1], "CONTEXT:  while searching system catalog, When relcache is missed");
    }
    assert_eq!(sent_to_nodes(sent), ["1: SELECT abs(n) FROM ten WHERE n = 1"]);
    assert!(!sent[0].contains("PID"), "node 1 has a process of its own: {sent:?}");
}

#[test]
fn statements_that_follow_a_session_to_another_node_are_told() {
    only_ours!("a SET goes to both nodes at once");
    needs_pgpool!();
    let read = "SELECT n FROM ten WHERE n = 1";
    let mut logged = Logged::start_on(&[0.0, 1.0, 0.0], &[("log_per_node_statement", "on")]);
    logged.session.query(read).succeeded();
    logged.lines();
    assert_eq!(sent_to_nodes(&logged.lines_of("SET work_mem = '7MB'")), ["0: SET work_mem = '7MB'"]);
    assert_eq!(sent_to_nodes(&logged.lines_of(read)), ["1: SET work_mem = '7MB'", &format!("1: {read}")]);

    logged.ask(&[frontend::parse("r", read, &[]), frontend::sync()]).succeeded();
    assert_eq!(sent_to_nodes(&logged.lines()), [&format!("1: Parse: {read}"), "1: Sync"]);
    let execute = [frontend::bind("", "r", &[]), frontend::execute("", 0), frontend::sync()];
    let executed = |node| ["Bind: ", "Execute: "].map(|what| format!("{node}: {what}{read}"));
    logged.session.query("BEGIN").succeeded();
    logged.ask(&execute).succeeded();
    let begun = [vec!["0: BEGIN".to_owned(), "1: BEGIN".to_owned()], executed(1).to_vec(), vec!["1: Sync".to_owned()]];
    assert_eq!(sent_to_nodes(&logged.lines()), begun.concat());

    // Behind a write, reads of the transaction go to the primary, where the statement is not prepared yet.
    let write = "UPDATE ten SET n = n WHERE false";
    assert_eq!(sent_to_nodes(&logged.lines_of(write)), [format!("0: {write}")]);
    logged.ask(&execute).succeeded();
    let prepared = [vec![format!("0: Parse: {read}")], executed(0).to_vec(), vec!["0: Sync".to_owned()]];
    assert_eq!(sent_to_nodes(&logged.lines()), prepared.concat());
    // A node that has only read is let go before the primary's answer.
    assert_eq!(sent_to_nodes(&logged.lines_of("ROLLBACK")), ["1: ROLLBACK", "0: ROLLBACK"]);
}

#[test]
fn reasons_stand_behind_the_statements_that_have_one() {
    only_ours!("log_routing_reason is ours");
    needs_pgpool!();
    let settings = [("log_per_node_statement", "on"), ("log_routing_reason", "on")];
    let mut logged = Logged::start_on(&[0.0, 1.0, 0.0], &settings);
    let write = "UPDATE ten SET n = n WHERE false";
    let lines = logged.lines_of(write);
    let reason = lines[0].split_once(&format!("{write} reason: ")).unwrap_or_else(|| panic!("{lines:?}")).1;
    assert!(!reason.is_empty());
    let batch = [frontend::parse("", write, &[]), frontend::bind("", "", &[]), frontend::execute("", 0)];
    logged.ask(&[&batch[..], &[frontend::sync()]].concat()).succeeded();
    let expected = ["Parse: ", "Bind: "].map(|what| format!("0: {what}{write}")).to_vec();
    let expected = [expected, vec![format!("0: Execute: {write} reason: {reason}"), "0: Sync".to_owned()]].concat();
    assert_eq!(sent_to_nodes(&logged.lines()), expected);
}

#[test]
fn a_read_that_is_sent_again_has_arrived_once() {
    only_ours!("the client gets the error");
    needs_pgpool!();
    let mut logged = Logged::start_on(
        &[0.0, 1.0, 0.0],
        &[
            ("log_statement", "on"),
            ("log_per_node_statement", "on"),
            ("log_client_messages", "on"),
            ("notice_per_node_statement", "on"),
        ],
    );
    let session = &mut logged.session;
    session.query("CREATE SEQUENCE logging_seq").succeeded();
    let writes = "SELECT nextval(''logging_seq'')";
    let sql = format!("CREATE FUNCTION logging_next() RETURNS bigint LANGUAGE sql STABLE AS '{writes}'");
    session.query(&sql).succeeded();
    shared().wait_replayed();
    logged.lines();
    let read = "SELECT logging_next() FROM ten WHERE n = 1";
    let reply = logged.session.query(read).succeeded();
    let lines = logged.lines();
    logged.session.query("DROP FUNCTION logging_next(); DROP SEQUENCE logging_seq").succeeded();
    let told = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((told("LOG:  Query message"), told("LOG:  statement: ")), (1, 1), "{lines:#?}");
    assert_eq!(sent_to_nodes(&lines), [format!("1: {read}"), format!("0: {read}")]);
    assert_eq!(notices(&reply), [1, 0].map(|node| format!("DB node id: {node} statement: {read}")));
}

#[test]
fn reset_queries_are_told() {
    needs_pgpool!();
    let mut logged = Logged::start(&[("log_statement", "on"), ("log_per_node_statement", "on")]);
    logged.session.send(frontend::terminate());
    wait_for("the reset", || logged.pool.log().contains("statement: DISCARD ALL"));
    assert_eq!(logged.lines()[0], "LOG:  statement: DISCARD ALL");
}
