//! Forms of log lines, and ways other than files: `log_line_prefix`, `log_error_verbosity`, `log_format`,
//! `log_fold_repeated`, `log_min_duration_statement`, syslog (process-model 10).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::thread;

use nix::sys::signal::Signal;

use crate::harness::{LOGIN, PATIENCE, Pgpool, Wire, frontend, shared, wait_for};
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
    }
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
    pool.launch(&[]);
    pool.wait_ready();
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
