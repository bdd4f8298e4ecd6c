//! Input that no decent client sends: it is refused with words, costs nobody else anything, and never hangs a worker.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::harness::frontend::{
    SSL_REQUEST, bind, close_statement, execute, message, packet, parse, query, startup, sync,
};
use crate::harness::{LOGIN, Pgpool, Wire, cpu_time, shared, wait_for};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(10);

/// Two workers: one that is being bothered and one that must go on serving.
fn pool() -> Pgpool {
    Pgpool::on(shared()).set("num_init_children", 2).set("authentication_timeout", 3).start()
}

fn bother(pool: &Pgpool, bytes: &[u8]) -> Wire {
    let mut wire = pool.open();
    wire.send(bytes);
    wire
}

#[test]
fn garbage_instead_of_a_startup_packet() {
    only_ours!("closes without a word");
    let pool = pool();
    let lengths = [0_u32, 3, 7, 10_001, i32::MAX as u32, u32::MAX];
    for length in lengths {
        let mut wire = bother(&pool, &[&length.to_be_bytes()[..], b"rubbish"].concat());
        assert_eq!(wire.read_until('E').sqlstate(), "08P01", "length {length}");
        assert!(wire.is_closed_within(PATIENCE));
    }
    let mut wire = bother(&pool, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(wire.read_until('E').sqlstate(), "08P01");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn startup_packets_that_cannot_be_served() {
    only_ours!("other texts");
    let pool = pool();
    let refusals = [
        (startup(0, &[("database", "test")]), "28000"),
        (packet(2 << 16, &[0; 288]), "0A000"),
        (packet(4 << 16, b"\0"), "0A000"),
        (startup(0, &[("user", "postgres"), ("replication", "true")]), "0A000"),
        (packet(3 << 16, b"user\0postgres\0"), "08P01"),
    ];
    for (bytes, sqlstate) in refusals {
        let mut wire = bother(&pool, &bytes);
        assert_eq!(wire.read_until('E').sqlstate(), sqlstate);
        assert!(wire.is_closed_within(PATIENCE));
    }
    let many: Vec<_> = (0..10_000).map(|number| (format!("p{number}"), "1".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(bother(&pool, &startup(0, &many)).read_until('E').sqlstate(), "08P01");
}

#[test]
fn encryption_requests_are_declined_and_nothing_hides_behind_them() {
    only_ours!("other texts");
    let pool = pool();
    let mut wire = bother(&pool, &packet(SSL_REQUEST, b""));
    assert_eq!(wire.read_byte().expect("a byte"), Some(b'N'));
    wire.start(LOGIN).expect("login");
    assert_eq!(wire.value("SELECT 1"), "1");
    let mut wire = bother(&pool, &[packet(SSL_REQUEST, b""), startup(0, LOGIN)].concat());
    assert_eq!(wire.read_until('E').sqlstate(), "08P01");
}

#[test]
fn half_a_startup_packet_and_then_silence_is_bounded() {
    only_ours!("no message");
    let pool = pool();
    let mut wire = bother(&pool, &startup(0, LOGIN)[..9]);
    let reply = wire.read_until('E');
    assert_eq!(reply.error().and_then(|e| e.field('M')).as_deref(), Some("authentication timeout"));
    assert!(wire.is_closed_within(PATIENCE));
}

/// What a client has sent of a message that it never completes.
fn halves() -> Vec<Vec<u8>> {
    let whole = query(&format!("SELECT '{}'", "x".repeat(1000)));
    vec![b"Q".to_vec(), whole[..4].to_vec(), whole[..500].to_vec(), [sync(), whole[..7].to_vec()].concat()]
}

#[test]
fn half_a_message_and_then_silence_is_ended_by_client_idle_limit() {
    only_ours!("no message");
    let pool = Pgpool::on(shared()).set("num_init_children", 4).set("client_idle_limit", 2).start();
    let mut sessions: Vec<(Wire, Pid)> = halves().iter().map(|half| silent(&pool, half)).collect();
    for (session, _) in &mut sessions {
        assert_eq!(session.read_until('E').sqlstate(), "57000");
        assert!(session.is_closed_within(PATIENCE));
    }
    let workers: Vec<_> = sessions.iter().map(|(_, worker)| *worker).collect();
    let used: Vec<_> = workers.iter().map(|worker| cpu_time(*worker)).collect();
    assert!(used.iter().all(|used| *used < Duration::from_millis(500)), "{used:?}");
}

#[test]
fn half_a_message_keeps_no_worker_busy() {
    let pool = Pgpool::on(shared()).set("num_init_children", 4).start();
    let sessions: Vec<(Wire, Pid)> = halves().iter().map(|half| silent(&pool, half)).collect();
    let used = || sessions.iter().map(|(_, worker)| cpu_time(*worker)).collect::<Vec<_>>();
    // A busy worker would use all of the time; whatever an idle one does now and then stands still in between.
    let mut before = (used(), Instant::now());
    wait_for("a second in which no worker works", || {
        let now = used();
        if now != before.0 {
            before = (now, Instant::now());
        }
        before.1.elapsed() > Duration::from_secs(1)
    });
}

/// A session that has sent `half` a message, and its worker.
fn silent(pool: &Pgpool, half: &[u8]) -> (Wire, Pid) {
    let before = pool.children("postgres test");
    let mut session = pool.connect();
    let worker = pool.children("postgres test").into_iter().find(|pid| !before.contains(pid)).expect("its worker");
    session.send(half);
    (session, worker)
}

#[test]
fn ten_thousand_parameters() {
    let pool = pool();
    let mut session = pool.connect();
    let count = 10_000;
    let list: Vec<_> = (1..=count).map(|number| format!("${number}::text")).collect();
    let sql = format!("SELECT count(*), max(x) FROM unnest(ARRAY[{}]) x", list.join(","));
    let values: Vec<_> = (0..count).map(|number| format!("{number:05}")).collect();
    let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
    for _ in 0..2 {
        let reply = session.ask([parse("s", &sql, &[]), bind("", "s", &values), execute("", 0), sync()].concat());
        assert_eq!((reply.first_value().as_deref(), reply.state()), (Some("10000"), 'I'));
        assert_eq!(session.ask([close_statement("s"), sync()].concat()).state(), 'I');
    }
    // One value too few is the server's to refuse.
    let few = [parse("", &sql, &[]), bind("", "", &values[1..]), execute("", 0), sync()].concat();
    assert_eq!(session.ask(few).sqlstate(), "08P01");
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn broken_messages_end_the_session_and_nothing_else() {
    only_ours!("other texts");
    let pool = pool();
    for bytes in [&b"Q\0\0\0\0"[..], b"Q\0\0\0\x03", b"Q\x7f\xff\xff\xff", b"y\0\0\0\x04", b"P\0\0\0\x05x"] {
        let mut session = pool.connect();
        session.send(bytes);
        assert_eq!(session.read_until('E').sqlstate(), "08P01", "{bytes:?}");
        assert!(session.is_closed_within(PATIENCE));
    }
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn texts_that_break_parsers_get_the_servers_answer() {
    only_ours!("the original's parser may give up");
    let pool = pool();
    let mut session = pool.connect();
    assert_eq!(session.ask(message('Q', b"SELECT 1\0SELECT 2\0")).sqlstate(), "08P01");
    assert_eq!(session.query("SELECT '\u{e9}'").state(), 'I');
    assert_eq!(session.ask(message('Q', b"SELECT '\xff'\0")).sqlstate(), "22021");
    let sum = format!("SELECT 1{}", "+1".repeat(200_000));
    let nested = format!("SELECT {}1{}", "(".repeat(1_000_000), ")".repeat(1_000_000));
    for text in [sum, nested] {
        let reply = session.query(&text);
        assert_eq!(reply.state(), 'I');
        assert!(matches!(reply.sqlstate().as_str(), "54001" | "42601" | ""), "{}", reply.sqlstate());
        let reply = session.ask([parse("", &text, &[]), sync()].concat());
        assert_eq!(reply.state(), 'I');
    }
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_client_that_never_reads_costs_no_memory() {
    let pool = pool();
    let mut session = pool.connect();
    let worker = pool.children("idle")[0];
    session.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"));
    wait_for("the worker to be stuck with the answer", || !pool.children("SELECT").is_empty());
    // The result is 1 GB; what is held back is the servers' business.
    for _ in 0..20 {
        assert!(resident_kb(worker.as_raw()) < 64 * 1024, "{} kB", resident_kb(worker.as_raw()));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

fn resident_kb(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
