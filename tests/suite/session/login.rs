//! How a session begins: what is negotiated, told and refused (protocol 2 to 5).

use std::time::Duration;

use crate::harness::frontend::{packet, startup};
use crate::harness::reading::reading_pool;
use crate::harness::{LOGIN, Wire, shared};
use crate::{needs_pgpool, needs_server, only_ours};

#[test]
fn login_tells_what_the_primary_tells() {
    only_ours!("parameters come from the lowest node, and pgpool's own keys differ");
    let pool = reading_pool();
    let through = pool.connect();
    let direct = shared().primary().connect();
    assert_eq!(through.parameters, direct.parameters);
    assert_ne!(through.pid, 0);
    assert_eq!(through.key.len(), 4, "protocol 3.0 has keys of four bytes");
}

#[test]
fn errors_at_login_are_the_servers_own() {
    only_ours!("servers' errors at login are replaced by the original's own");
    let pool = reading_pool();
    let login = |parameters: &[(&str, &str)]| {
        let mut wire = pool.open();
        wire.send(startup(0, parameters));
        let reply = wire.read_until('E');
        assert!(wire.is_closed_within(Duration::from_secs(10)));
        reply.sqlstate()
    };
    assert_eq!(login(&[("user", "postgres"), ("database", "missing")]), "3D000");
    assert_eq!(login(&[("user", "nobody at all"), ("database", "test")]), "28000");
    assert_eq!(login(&[("user", "postgres"), ("database", "test"), ("work_mem", "nonsense")]), "22023");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn protocol_3_2_is_spoken_where_the_server_does() {
    needs_server!(18, "older servers negotiate 3.0");
    only_ours!("release 4.3 does not know protocol 3.2");
    let pool = reading_pool();
    let mut session = pool.open();
    session.send(startup(2, &[("user", "postgres"), ("database", "test")]));
    let reply = session.read_until('Z').succeeded();
    assert_eq!(reply.all('v').count(), 0, "nothing to negotiate: {reply:?}");
    assert!(session.key.len() > 4, "keys of 3.2 are long");
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn unknown_protocol_options_are_negotiated() {
    only_ours!("release 4.3 does not negotiate");
    let pool = reading_pool();
    for _ in 0..2 {
        let mut session = pool.open();
        session.send(startup(0, &[("user", "postgres"), ("database", "test"), ("_pq_.unknown", "1")]));
        let reply = session.read_until('Z').succeeded();
        let negotiation = reply.all('v').next().expect("NegotiateProtocolVersion");
        assert!(negotiation.body.ends_with(b"_pq_.unknown\0"), "{negotiation:?}");
        assert_eq!(session.value("SELECT 1"), "1");
        session.close();
    }
}

#[test]
fn tls_and_gss_are_declined() {
    needs_pgpool!();
    let pool = reading_pool();
    for code in [80_877_103, 80_877_104] {
        let mut session = pool.open();
        session.send(packet(code, b""));
        assert_eq!(session.read_byte().expect("an answer"), Some(b'N'));
        session.start(LOGIN).expect("a plain login");
        assert_eq!(session.value("SELECT 1"), "1");
    }
}

#[test]
fn protocol_2_and_replication_are_refused_clearly() {
    needs_pgpool!();
    only_ours!("replication connections are passed on and hang");
    let pool = reading_pool();
    let mut old = pool.open();
    old.send(packet(2 << 16, &[0; 288]));
    assert!(old.is_closed_within(Duration::from_secs(10)));
    let mut replica = pool.open();
    replica.send(startup(0, &[("user", "postgres"), ("database", "test"), ("replication", "database")]));
    assert_eq!(replica.read().field('C').as_deref(), Some("0A000"));
    assert!(replica.is_closed_within(Duration::from_secs(10)));
}

#[test]
fn a_session_over_the_unix_socket() {
    needs_pgpool!();
    let pool = reading_pool();
    let mut session = Wire::open_unix(&pool.socket()).expect("the socket");
    session.start(LOGIN).expect("login");
    assert_eq!(session.value("SELECT 42 FROM ten LIMIT 1"), "42");
}
