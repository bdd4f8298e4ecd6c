//! Clients that do not keep to the protocol (auth 2.1, 17.1, 23.3).

use super::authority::Authority;
use super::stage::{GSS_REQUEST, SSL_REQUEST, ask, connector, handshake, session, tcp, wire, with_tls};
use crate::harness::{LOGIN, Pgpool, eventually, frontend, shared, wait_for};
use crate::{needs_pgpool, only_ours};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn pool(authority: &Authority) -> Pgpool {
    with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).start()
}

/// All that comes until the other side closes.
fn rest(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn bytes_behind_the_request_are_refused() {
    only_ours!("says something else");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = pool(&authority);
    // In one segment: what came in clear would be taken for what came encrypted.
    let mut stream = tcp(pool.port);
    stream.write_all(&[&SSL_REQUEST[..], &frontend::startup(0, LOGIN)].concat()).expect("sent");
    let told = String::from_utf8_lossy(&rest(stream)).into_owned();
    assert!(told.starts_with('E') && told.contains("received unencrypted data after SSL request"), "{told:?}");
    // Later: it is no handshake, and nothing is said in clear.
    let mut stream = tcp(pool.port);
    assert_eq!(ask(&mut stream, &SSL_REQUEST).expect("an answer"), Some(b'S'));
    stream.write_all(&frontend::startup(0, LOGIN)).expect("sent");
    let told = rest(stream);
    assert!(told.is_empty() || told[0] == 0x15, "an alert of TLS, or nothing: {told:?}");
    wait_for("the failure in the log", || pool.log().contains("pool_ssl: \"SSL_accept\": \""));
    assert_eq!(session(&pool).value("SELECT 40 + 2"), "42");
}

#[test]
fn who_asks_again_is_refused() {
    only_ours!("takes it for a startup packet");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = pool(&authority);
    // Encryption by GSSAPI is asked for first by libpq, and may be asked for behind it by others.
    let mut stream = tcp(pool.port);
    assert_eq!(ask(&mut stream, &GSS_REQUEST).expect("an answer"), Some(b'N'));
    assert_eq!(ask(&mut stream, &SSL_REQUEST).expect("an answer"), Some(b'S'));
    let mut encrypted = wire(&pool);
    encrypted.send(GSS_REQUEST);
    assert_eq!(encrypted.read_byte().expect("an answer"), Some(b'N'));
    encrypted.start(LOGIN).expect("login");
    let mut encrypted = wire(&pool);
    encrypted.send(SSL_REQUEST);
    assert_eq!(encrypted.read_byte().expect("the end"), None);
    let without = Pgpool::on(shared()).start();
    let mut stream = tcp(without.port);
    assert_eq!(ask(&mut stream, &SSL_REQUEST).expect("an answer"), Some(b'N'));
    assert_eq!(ask(&mut stream, &SSL_REQUEST).expect("the end"), None);
    // The other request without an end to it.
    let mut stream = tcp(without.port);
    let asked =
        (0..100).take_while(|_| ask(&mut stream, &GSS_REQUEST).is_ok_and(|answer| answer == Some(b'N'))).count();
    assert!(asked < 10, "{asked}");
}

#[test]
fn clear_text_behind_the_handshake_ends_the_connection() {
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = pool(&authority);
    let mut stream = handshake(pool.port, &connector(|_| ()));
    stream.get_mut().write_all(&frontend::startup(0, LOGIN)).expect("sent");
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte), Ok(1)));
    assert_eq!(session(&pool).value("SELECT 40 + 2"), "42");
}

#[test]
fn handshakes_that_stand_still_end_at_the_time_limit() {
    only_ours!("waits for ever");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let config = Pgpool::on(shared()).set("num_init_children", 40).set("authentication_timeout", 1);
    let pool = with_tls(config, &authority.issue("pgpool")).start();
    let began = Instant::now();
    // Some do not even ask, some ask, some send the beginning of a ClientHello, by request or at once.
    let halves: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = tcp(pool.port);
            let beginning: &[u8] = match number % 4 {
                0 => &[],
                1 => &SSL_REQUEST,
                2 => &[0x16, 3, 1, 2, 0, 1],
                _ => &SSL_REQUEST[..5],
            };
            let _ = stream.write_all(beginning);
            stream
        })
        .collect();
    for stream in halves {
        let told = rest(stream);
        let told = String::from_utf8_lossy(&told);
        assert!(told.len() < 2 || told.contains("authentication timeout"), "{told:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(eventually(Duration::from_secs(30), || pool.children("wait for connection request").len() == 40));
    assert_eq!(session(&pool).value("SELECT 40 + 2"), "42");
}
