//! The log of a session's messages: log_statement, log_per_node_statement, notice_per_node_statement,
//! log_client_messages, log_backend_messages (routing 18, process-model 11).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{LOGIN, Pgpool, Reply, Wire, foreign, frontend, shared, wait_for};
use crate::{needs_pgpool, only_ours};

/// A pgpool with one session whose log is read piece by piece.
struct Logged {
    pool: Pgpool,
    session: Wire,
    /// Process of node 0's server.
    pid: String,
    read: usize,
}

impl Logged {
    /// All statements go to node 0.
    fn start(settings: &[(&str, &str)]) -> Logged {
        Logged::start_on(&[1.0, 0.0, 0.0], settings)
    }

    fn start_on(weights: &[f64], settings: &[(&str, &str)]) -> Logged {
        let config = Pgpool::on(shared()).weights(weights).set("log_line_prefix", "");
        let pool = settings.iter().fold(config, |config, (name, value)| config.set(name, value)).start();
        let mut session = pool.connect();
        // The original asks for the server's version with the first statement of a process.
        session.query("BEGIN; COMMIT").succeeded();
        let pid = session.value("/* on the primary */ SELECT pg_backend_pid()");
        let read = pool.log().len();
        Logged { pool, session, pid, read }
    }

    /// The lines since the last call. The process id of node 0's server is shown as PID.
    fn lines(&mut self) -> Vec<String> {
        let log = self.pool.log();
        let new = &log[self.read..];
        self.read = log.len();
        let pid = format!("backend pid: {} ", self.pid);
        new.lines().map(|line| line.replace(&pid, "backend pid: PID ")).collect()
    }

    /// Sends these messages, reads to ReadyForQuery, and returns the answer.
    fn ask(&mut self, messages: &[Vec<u8>]) -> Reply {
        self.session.ask(messages.concat())
    }

    /// What a simple query leaves in the log.
    fn lines_of(&mut self, sql: &str) -> Vec<String> {
        self.session.query(sql).succeeded();
        self.lines()
    }
}

/// One of each message of a prepared statement.
fn prepared_statement() -> Vec<Vec<u8>> {
    vec![
        frontend::parse("s", "SELECT 1", &[]),
        frontend::bind("p", "s", &[]),
        frontend::describe_statement("s"),
        frontend::describe_portal("p"),
        frontend::execute("p", 0),
        frontend::close_portal("p"),
        frontend::close_statement("s"),
        frontend::sync(),
    ]
}

/// The messages of the notices in an answer.
fn notices(reply: &Reply) -> Vec<String> {
    reply.all('N').map(|notice| notice.field('M').unwrap_or_default()).collect()
}

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
fn the_client_is_told_the_node_before_the_answer() {
    only_ours!("notice_per_node_statement is not in 4.3, and needs log_per_node_statement in the extended protocol");
    needs_pgpool!();
    let mut logged = Logged::start(&[("notice_per_node_statement", "on")]);
    let reply = logged.session.query("SELECT 1").succeeded();
    assert_eq!((reply.kinds().as_str(), notices(&reply)), ("NTDCZ", vec!["DB node id: 0 statement: SELECT 1".into()]));
    let notice = reply.all('N').next().expect("a notice");
    assert_eq!(['S', 'C'].map(|code| notice.field(code).unwrap_or_default()), ["NOTICE", "XX000"]);

    let reply = logged.ask(&prepared_statement()).succeeded();
    assert_eq!(reply.kinds().replace('N', ""), "12tTTDC33Z");
    let told = ["Parse: SELECT 1", "Bind: SELECT 1", "D message", "D message", "Execute: SELECT 1", "C message"];
    let told: Vec<_> =
        told.iter().chain(&["C message", "Sync"]).map(|it| format!("DB node id: 0 statement: {it}")).collect();
    assert_eq!(notices(&reply), told);
    assert_eq!(logged.lines(), [""; 0], "the log wants no NOTICE");

    // A pipeline: every message is where it should be, every notice in front of its answer.
    logged.session.send(frontend::query("SELECT 1").repeat(100));
    for _ in 0..100 {
        assert_eq!(logged.session.read_until('Z').kinds().replace('N', ""), "TDCZ");
    }

    let mut quiet = Logged::start(&[("notice_per_node_statement", "on"), ("client_min_messages", "warning")]);
    assert_eq!(quiet.session.query("SELECT 1").kinds(), "TDCZ");
    let mut logged = Logged::start(&[("notice_per_node_statement", "on"), ("log_min_messages", "notice")]);
    assert_eq!(logged.lines_of("SELECT 1"), ["NOTICE:  DB node id: 0 statement: SELECT 1"]);
}

#[test]
fn a_notice_waits_for_the_end_of_a_long_message() {
    only_ours!("notice_per_node_statement is not in 4.3");
    needs_pgpool!();
    const ROW: usize = 64 << 20;
    let mut logged = Logged::start(&[("notice_per_node_statement", "on"), ("log_statement", "on")]);
    logged.session.send(frontend::query(&format!("SELECT repeat('x', {ROW})")));
    // The row is on its way, and is more than all buffers hold.
    assert_eq!(logged.session.read_until('T').kinds(), "NT");
    logged.session.send(frontend::query("SELECT 2"));
    wait_for("the second query to be taken", || logged.pool.log().contains("statement: SELECT 2"));
    let reply = logged.session.read_until('Z');
    assert_eq!(reply.kinds(), "DNCZ");
    assert_eq!(reply.first_value().map(|value| value.len()), Some(ROW));
    assert_eq!(logged.session.read_until('Z').kinds(), "TDCZ");
}

#[test]
fn a_client_that_reads_no_notices_waits() {
    only_ours!("notice_per_node_statement is not in 4.3");
    needs_pgpool!();
    let mut logged = Logged::start(&[("notice_per_node_statement", "on")]);
    let worker = logged.pool.children("idle")[0];
    // 60 MB of notices for a few answers.
    let (count, sql) = (6000, format!("SELECT 1 /*{}*/", "x".repeat(10_000)));
    let sent = AtomicUsize::new(0);
    let (session, mut sender) = logged.session.split();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..count {
                sender.send(frontend::query(&sql));
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (mut before, mut polls) = (0, 0);
        wait_for("the client to be stuck", || {
            let now = sent.load(Ordering::Relaxed);
            polls = if now == before { polls + 1 } else { 0 };
            before = now;
            now == count || (now > 0 && polls == 50)
        });
        for _ in 0..count {
            assert_eq!(session.read_until('Z').kinds().replace('N', ""), "TDCZ");
        }
    });
    let peak = peak_memory(worker);
    assert!(peak < 30_000, "a worker of {peak} kB");
}

/// The most memory a process has ever had, in kB.
fn peak_memory(pid: Pid) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status of a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
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

/// Node and text of the per node lines, without those of catalog queries.
fn sent_to_nodes(lines: &[String]) -> Vec<String> {
    let is_query = |at: usize| lines.get(at + 1).is_some_and(|line| line.starts_with("CONTEXT:  while searching"));
    let lines = lines.iter().enumerate().filter(|(at, _)| !is_query(*at));
    let parts = lines.filter_map(|(_, line)| line.strip_prefix("LOG:  DB node id: ")?.split_once(" backend pid: "));
    parts.filter_map(|(node, rest)| Some(format!("{node}: {}", rest.split_once(" statement: ")?.1))).collect()
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
