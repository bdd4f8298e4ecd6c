//! Input that no decent client sends: it is refused with words, costs nobody else anything, and never hangs a worker.

use std::time::Duration;

use crate::harness::frontend::{SSL_REQUEST, message, packet, parse, query, startup, sync};
use crate::harness::{LOGIN, Pgpool, Wire, shared, wait_for};
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
