//! Clients that do not keep to the protocol (auth 2.1, 17.1, 23.3).

use super::authority::Authority;
use super::stage::{GSS_REQUEST, SSL_REQUEST, ask, connector, handshake, session, ssl, tcp, wire, with_tls};
use crate::harness::{LOGIN, Pgpool, eventually, frontend, shared, wait_for};
use crate::{needs_pgpool, only_ours};
use openssl::ssl::{ShutdownState, SslStream};
use std::io::{self, Read, Write};
use std::net::TcpStream;
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
    // What comes back are records of TLS, alerts or others, or nothing.
    let mut told = rest(stream.get_mut()).into_iter();
    while let Some(kind) = told.next() {
        assert!([0x15, 0x17].contains(&kind), "{kind:#x} {:?}", told.collect::<Vec<_>>());
        let header: Vec<u8> = told.by_ref().take(4).collect();
        let length = u16::from_be_bytes(header[2..4].try_into().expect("a header"));
        assert_eq!(told.by_ref().take(length.into()).count(), usize::from(length));
    }
    assert_eq!(session(&pool).value("SELECT 40 + 2"), "42");
}

/// A socket whose bytes are held back on demand, so that they leave in one segment.
struct Holding {
    stream: TcpStream,
    held: Option<Vec<u8>>,
}

impl Read for Holding {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Holding {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.held {
            Some(held) => held.write(bytes),
            None => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_goodbye_of_tls_in_the_segment_of_the_last_message_is_seen() {
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = with_tls(Pgpool::on(shared()).set("num_init_children", 1), &authority.issue("pgpool")).start();
    for last in [
        frontend::query("SELECT 40 + 2"),
        frontend::sync(),
        frontend::query("BEGIN")[..9].to_vec(),
        frontend::query("SELECT pg_sleep(600)"),
    ] {
        let mut stream = tcp(pool.port);
        assert_eq!(ask(&mut stream, &SSL_REQUEST).expect("an answer"), Some(b'S'));
        let mut stream = SslStream::new(ssl(&connector(|_| ())), Holding { stream, held: None }).expect("ssl");
        stream.connect().expect("handshake");
        stream.write_all(&frontend::startup(0, LOGIN)).expect("sent");
        let mut told = Vec::new();
        let mut byte = [0];
        while !told.ends_with(b"Z\0\0\0\x05I") {
            stream.read_exact(&mut byte).expect("the login");
            told.push(byte[0]);
        }
        stream.get_mut().held = Some(Vec::new());
        stream.write_all(&last).expect("held");
        stream.shutdown().expect("held");
        let held = stream.get_mut().held.take().expect("bytes");
        stream.get_mut().stream.write_all(&held).expect("sent");
        // The socket stays open: many libraries wait for the other side's goodbye.
        let left = stream.read_to_end(&mut told);
        assert!(left.is_ok(), "{last:?}: {left:?} {}", pool.log());
        assert!(stream.get_shutdown().contains(ShutdownState::RECEIVED), "{last:?}");
        wait_for("the worker", || pool.children("wait for connection request").len() == 1);
    }
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
