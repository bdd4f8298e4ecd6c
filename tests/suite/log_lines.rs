//! Forms of log lines, and ways other than files: `log_line_prefix`, `log_error_verbosity`, `log_format`,
//! `log_fold_repeated`, `log_min_duration_statement`, syslog (process-model 10).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use nix::sys::signal::Signal;

use crate::harness::{
    LOGIN, NameServer, Names, PATIENCE, Pgpool, Wire, foreign, frontend, process_title, shared, wait_for,
};
use crate::{needs_namespaces, needs_pgpool, only_ours};

/// A pgpool with these settings, and a session.
fn serve(settings: &[(&str, &str)]) -> (Pgpool, Wire) {
    let pool = settings.iter().fold(Pgpool::on(shared()), |config, (name, value)| config.set(name, value)).start();
    let session = pool.connect_with(&[LOGIN, &[("application_name", "shop")]].concat());
    (pool, session)
}

/// Waits for a line with this text, and returns it.
#[track_caller]
fn line_with(pool: &Pgpool, text: &str) -> String {
    let find = || pool.log().lines().find(|line| line.contains(text)).map(str::to_owned);
    wait_for(text, || find().is_some());
    find().unwrap_or_default()
}

#[test]
fn a_prefix_has_all_escapes() {
    needs_pgpool!();
    only_ours!("it is process-model 10.2 we build on");
    let prefix = "a=%a P=%P u=%u d=%d p=%p l=%l t=%t m=%m %%%% [%8u|%-10u] %z|";
    let (pool, mut session) = serve(&[("log_line_prefix", prefix), ("log_statement", "on")]);
    session.query("SELECT 'here'").succeeded();
    let line = line_with(&pool, "statement: SELECT 'here'");
    let value = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{name} in {line}"));
        rest.split_once(' ').map(|(value, _)| value.to_owned()).unwrap_or_default()
    };
    let names = ["a", "P", "u"].map(value);
    assert_eq!(names, ["shop", "CHILD", "postgres"], "{line}");
    assert!(line.contains(" %% [postgres|postgres  ] |LOG:  statement: SELECT 'here'"), "{line}");
    let worker: i32 = value("p").parse().expect("a process id");
    assert!(pool.children("").iter().any(|pid| pid.as_raw() == worker), "{line}");
    let count: u64 = value("l").parse().expect("a number");
    session.query("SELECT 'again'").succeeded();
    assert!(line_with(&pool, "'again'").contains(&format!("l={} ", count + 1)));
    let (_, times) = line.split_once("t=").expect("a time");
    let digits = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    assert!(digits(times).starts_with("0000-00-00 00:00:00 m=0000-00-00 00:00:00.000 "), "{line}");
    assert!(
        line_with(&pool, "successfully started").starts_with("a=main P=MAIN u=[No Connection] d=[No Connection] p=")
    );
}

#[test]
fn verbosity_says_how_many_lines_a_message_has() {
    needs_pgpool!();
    for (verbosity, has_detail) in [("terse", false), ("default", true), ("verbose", true)] {
        let settings = [("log_error_verbosity", verbosity), ("log_connections", "on"), ("log_line_prefix", "")];
        let (pool, _session) = serve(&settings);
        line_with(&pool, "LOG:  new connection received");
        let has = || pool.log().contains("\nDETAIL:  connecting host=");
        if has_detail {
            wait_for("the detail", has);
        } else {
            assert!(!has(), "{}", pool.log());
        }
        let location = || pool.log().contains("\nLOCATION:  src/worker/mod.rs:");
        if verbosity == "verbose" {
            wait_for("the place in the source", || foreign() || location());
        } else {
            assert!(!location());
        }
    }
}

/// `text` with 0 for each digit.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

#[test]
fn who_comes_and_goes_is_told() {
    needs_pgpool!();
    let settings = [("log_connections", "on"), ("log_disconnections", "on"), ("log_line_prefix", "")];
    let (pool, session) = serve(&settings);
    line_with(&pool, "LOG:  new connection received");
    let port = {
        let title = process_title(pool.children("pgpool: postgres test 127.0.0.1(")[0].as_raw());
        title.split(['(', ')']).nth(1).expect("a port").to_owned()
    };
    line_with(&pool, &format!("DETAIL:  connecting host=127.0.0.1 port={port}"));
    session.close();
    let line = line_with(&pool, "frontend disconnection");
    let from = format!("user=postgres database=test host=127.0.0.1 port={port}");
    assert!(line.ends_with(&from), "{line}");
    assert!(shape(&line).starts_with("LOG:  frontend disconnection: session time: 0:00:00.000 user="), "{line}");
    let mut local = Wire::open_unix(&pool.socket()).expect("connect");
    local.start(LOGIN).expect("login");
    line_with(&pool, "DETAIL:  connecting host=[local]");
    local.close();
    line_with(&pool, "user=postgres database=test host=[local]");
    // What is no session comes, too.
    let count = || pool.log().matches("new connection received").count();
    let before = count();
    pool.open().send(frontend::cancel(1, b"none"));
    wait_for("the cancel request", || count() == before + 1);
}

#[test]
fn clients_have_names_if_wished() {
    needs_pgpool!();
    needs_namespaces!();
    let mut pool = Pgpool::on(shared())
        .set("log_hostname", "on")
        .set("log_connections", "on")
        .set("log_disconnections", "on")
        .prepare();
    pool.use_names(&Arc::new(Names::new("", NameServer::None)));
    let pool = pool.started();
    let session = pool.connect();
    line_with(&pool, "connecting host=localhost port=");
    assert_eq!(pool.children("pgpool: postgres test localhost(").len(), 1);
    session.close();
    line_with(&pool, "user=postgres database=test host=localhost port=");
}

#[test]
fn the_application_is_named_while_its_session_lasts() {
    needs_pgpool!();
    only_ours!("the last client's name is left, or garbage");
    let prefix = "[%a %u]";
    let settings = [("num_init_children", "1"), ("log_connections", "on"), ("log_statement", "on")];
    let (pool, mut session) = serve(&[&settings[..], &[("log_line_prefix", prefix)]].concat());
    session.query("SELECT 'first'").succeeded();
    line_with(&pool, "[shop postgres]LOG:  statement: SELECT 'first'");
    session.query("SET application_name = 'other'").succeeded();
    session.query("SELECT 'second'").succeeded();
    line_with(&pool, "[other postgres]LOG:  statement: SELECT 'second'");
    session.close();
    drop(pool.open());
    wait_for("the next client", || {
        pool.log().matches("[child [No Connection]]LOG:  new connection received").count() == 2
    });
}

#[test]
fn log_min_messages_decides_what_is_written() {
    needs_pgpool!();
    only_ours!("other messages");
    let settings = [("log_statement", "on"), ("notice_per_node_statement", "on"), ("log_line_prefix", "")];
    // A single worker: what it has taken over, all have.
    let (mut pool, session) = serve(&[&settings[..], &[("num_init_children", "1")]].concat());
    drop(session);
    pool.set("no_such_parameter", 1);
    for (level, written) in [
        ("debug1", "LOG NOTICE WARNING FATAL"),
        ("log", "LOG FATAL"),
        ("notice", "LOG NOTICE WARNING FATAL"),
        ("warning", "LOG WARNING FATAL"),
        ("error", "LOG FATAL"),
        ("fatal", "FATAL"),
        ("panic", ""),
    ] {
        // Twice: what the first reload writes may be of the level before it.
        for step in ["one", "two"] {
            let shown = format!("{level}{step}");
            pool.set("log_min_messages", level);
            pool.set("backend_application_name0", &shown);
            pool.signal(Signal::SIGHUP);
            let is_taken = || pool.connect().value("PGPOOL SHOW backend_application_name0") == shown;
            wait_for("the reload", is_taken);
            if step == "one" {
                fs::write(pool.path("pgpool.log"), "").expect("an empty log");
            }
        }
        pool.connect().query("SELECT 'level'").succeeded();
        let mut old = pool.open();
        old.send(frontend::packet(2 << 16, b"too old"));
        old.read_until('E');
        assert!(old.is_closed_within(PATIENCE));
        let log = pool.log();
        let has = |text: &str| log.lines().any(|line| line.starts_with(text));
        let lines = [
            ("LOG", "LOG:  statement: SELECT 'level'"),
            ("NOTICE", "NOTICE:  DB node id: "),
            ("WARNING", "WARNING:  unrecognized configuration parameter"),
            ("FATAL", "FATAL:  invalid startup packet: protocol version 2"),
        ];
        let found: Vec<&str> = lines.iter().filter(|(_, line)| has(line)).map(|(word, _)| *word).collect();
        assert_eq!(found.join(" "), written, "{level}:\n{log}");
    }
}

#[test]
fn client_min_messages_decides_what_a_client_hears() {
    needs_pgpool!();
    only_ours!("client_query_limit is ours");
    for (level, hears) in [("warning", true), ("error", false)] {
        let (pool, mut session) = serve(&[("client_min_messages", level), ("client_query_limit", "200")]);
        let reply = session.query("SELECT pg_sleep(60)");
        assert_eq!((reply.sqlstate().as_str(), reply.all('N').next().is_some()), ("57014", hears));
        line_with(&pool, "WARNING:  client_query_limit (200 ms) is reached");
    }
}

#[test]
fn what_is_not_understood_is_told() {
    needs_pgpool!();
    only_ours!("other forms of the port");
    let (pool, mut session) = serve(&[("log_line_prefix", "")]);
    assert_eq!(session.query("SELEC 1").sqlstate(), "42601");
    let line = line_with(&pool, "Unable to parse the query");
    assert_eq!(shape(&line), shape("LOG:  Unable to parse the query: \"SELEC 1\" from client 127.0.0.1(00000)"));
    session.ask([frontend::parse("", "SELEC 2", &[]), frontend::sync()].concat());
    line_with(&pool, "Unable to parse the query: \"SELEC 2\" from client");
    let mut local = Wire::open_unix(&pool.socket()).expect("connect");
    local.start(LOGIN).expect("login");
    assert_eq!(local.query("SELEC 3").sqlstate(), "42601");
    line_with(&pool, "Unable to parse the query: \"SELEC 3\" from local client");
}

#[test]
fn json_is_one_object_a_line() {
    needs_pgpool!();
    only_ours!("log_format is ours");
    let (pool, mut session) = serve(&[("log_format", "json"), ("log_statement", "on"), ("log_connections", "on")]);
    session.query("SELECT 'a\nb', '\"'").succeeded();
    let line = line_with(&pool, "statement: SELECT");
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["message"], "statement: SELECT 'a\nb', '\"'");
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let names = ["severity", "user", "application_name", "process"].map(text);
    assert_eq!(names, ["LOG", "postgres", "shop", "child"], "{line}");
    assert!(value["pid"].is_u64() && value["line"].is_u64() && !text("database").is_empty(), "{line}");
    // Before it has read its configuration it does not know how to write.
    let objects = pool.log().lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert_eq!(objects, pool.log().lines().count(), "{}", pool.log());
}

#[test]
fn equal_messages_are_told_once_with_their_number() {
    needs_pgpool!();
    only_ours!("log_fold_repeated is ours");
    let statements = |fold: &str, count: usize| {
        let settings = [("log_fold_repeated", fold), ("log_statement", "on"), ("log_line_prefix", "")];
        let (pool, mut session) = serve(&settings);
        for statement in ["same", "same", "same", "same", "same", "other", "last", "last"] {
            session.query(&format!("SELECT '{statement}'")).succeeded();
        }
        // The end of the session is the end of what can be repeated.
        drop(session);
        let lines = || {
            let log = pool.log();
            let lines = log.lines().filter(|line| line.contains("SELECT '") || line.contains("was repeated"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        wait_for("all lines", || lines().len() >= count);
        lines()
    };
    let folded = [
        "LOG:  statement: SELECT 'same'",
        "LOG:  the last message was repeated 4 times",
        "LOG:  statement: SELECT 'other'",
        "LOG:  statement: SELECT 'last'",
        "LOG:  the last message was repeated once",
    ];
    assert_eq!(statements("on", 5), folded);
    assert_eq!(statements("off", 8).len(), 8);
}

#[test]
fn slow_statements_are_told_with_node_and_duration() {
    needs_pgpool!();
    only_ours!("log_min_duration_statement is ours");
    let settings = [("log_min_duration_statement", "200ms"), ("log_line_prefix", "")];
    let (pool, mut session) = serve(&settings);
    session.query("SELECT 'quick'").succeeded();
    session.query("SELECT pg_sleep(0.3), 'slow'").succeeded();
    let line = line_with(&pool, "LOG:  duration: ");
    let (time, rest) = line["LOG:  duration: ".len()..].split_once(" ms  DB node id: ").expect("a duration");
    let (node, text) = rest.split_once(" statement: ").expect("a statement");
    let time: f64 = time.parse().expect("a number");
    assert!((300.0..30_000.0).contains(&time) && node.parse::<usize>().is_ok(), "{line}");
    assert_eq!(text, "SELECT pg_sleep(0.3), 'slow'");
    assert!(!pool.log().contains("'quick'"));
    // Zero tells all, of the extended protocol too.
    let (pool, mut session) = serve(&[("log_min_duration_statement", "0"), ("log_line_prefix", "")]);
    let (parse, bind) = (frontend::parse("", "SELECT 'quick'", &[]), frontend::bind("", "", &[]));
    session.ask([parse, bind, frontend::execute("", 0), frontend::sync()].concat()).succeeded();
    line_with(&pool, "statement: SELECT 'quick'");
}

/// Runs a program with a /dev of this directory.
const WITH_DEV: &str = "dev=$1; shift
    for node in null urandom; do : >\"$dev/$node\" && mount --bind /dev/$node \"$dev/$node\" || exit; done
    mount --rbind \"$dev\" /dev && exec \"$@\"";

#[test]
fn syslog_gets_the_log_alone_or_too() {
    needs_pgpool!();
    needs_namespaces!();
    only_ours!("it is started with a /dev of its own");
    let config = Pgpool::on(shared()).set("log_destination", "stderr,syslog").set("log_statement", "on");
    let mut pool = config.set("syslog_facility", "LOCAL3").set("syslog_ident", "pool").prepare();
    let dev = pool.path("dev");
    fs::create_dir(&dev).expect("dev");
    let syslog = UnixDatagram::bind(dev.join("log")).expect("syslog");
    let dev_path = dev.display().to_string();
    pool.run_by(&["unshare", "--mount", "sh", "-c", WITH_DEV, "sh", &dev_path]);
    let mut pool = pool.started();
    // A queue of datagrams is short: somebody has to read all the time.
    let (sender, datagrams) = channel();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = syslog.recv(&mut buffer) {
            let datagram = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if datagram == "end" || sender.send(datagram).is_err() {
                break;
            }
        }
    });
    let heard = |text: &str| loop {
        let datagram = datagrams.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{text}: {e}"));
        if datagram.contains(text) {
            return datagram;
        }
    };
    let mut session = pool.connect();
    session.query("SELECT 'both'").succeeded();
    let datagram = heard("'both'");
    // LOCAL3 and informational.
    assert!(datagram.starts_with("<158>") && datagram.contains(" pool["), "{datagram}");
    let (_, piece) = datagram.split_once("]: [").expect("a sequence number");
    assert!(piece.contains("-1] ") && piece.ends_with("LOG:  statement: SELECT 'both'"), "{datagram}");
    line_with(&pool, "'both'");
    // A long one comes in pieces.
    session.query(&format!("SELECT '{}' /* end */", "word ".repeat(400))).succeeded();
    assert!(heard("end */").contains("-3] "));
    pool.set("log_destination", "syslog");
    pool.signal(Signal::SIGHUP);
    drop(session);
    wait_for("the reload", || {
        pool.connect().query("SELECT 'alone'").succeeded();
        heard("'alone'");
        let before = pool.log().len();
        pool.connect().query("SELECT 'silent'").succeeded();
        heard("'silent'");
        pool.log().len() == before
    });
    // Nobody listens: better there than nowhere.
    UnixDatagram::unbound().and_then(|socket| socket.send_to(b"end", dev.join("log"))).expect("end");
    reader.join().expect("the reader");
    pool.connect().query("SELECT 'nowhere'").succeeded();
    line_with(&pool, "'nowhere'");
}

#[test]
fn a_session_that_pgpool_ends_is_named() {
    needs_pgpool!();
    only_ours!("its FATAL lines do not tell whose session it was");
    let (pool, mut session) = serve(&[("log_line_prefix", ""), ("client_idle_limit", "1")]);
    session.read_until('E');
    let context = |message: &str| {
        line_with(&pool, message);
        let context = || {
            let log = pool.log();
            let (_, after) = log.split_once(message)?;
            after.lines().find_map(|line| line.strip_prefix("CONTEXT:  ")).map(str::to_owned)
        };
        wait_for("its context", || context().is_some());
        context().unwrap_or_default()
    };
    let who = context("FATAL:  unable to read data");
    let (user, database) = (LOGIN[0].1, LOGIN[1].1);
    assert!(who.starts_with(&format!("user={user} database={database} host=127.0.0.1 port=")), "{who}");
    let mut browser = pool.open();
    browser.send("GET / HTTP/1.0\r\n\r\n");
    browser.read_until('E');
    assert!(context("FATAL:  message StartupMessage").starts_with("host=127.0.0.1 port="), "{}", pool.log());
}
