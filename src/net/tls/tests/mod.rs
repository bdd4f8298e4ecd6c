//! Both sides of a TLS connection against each other.

mod material;
mod trust;

use super::*;
use crate::config::{BackendSslmode, Settings};
use crate::net::{Deadline, InBuffer, Peer, Received, Stream};
use crate::report::Report;
use crate::state::{Limits, Shared};
use crate::sys::Secret;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("pgpool-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        text(&path)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A certificate that signs itself, for host `name`.
fn certificate(name: &str) -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    let names = SubjectAlternativeName::new().dns(name).build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha384()).unwrap();
    (builder.build(), key)
}

fn server(files: &Files) -> Settings {
    let (certificate, key) = certificate("db.example");
    Settings {
        ssl: true,
        ssl_cert: files.write("server.crt", &certificate.to_pem().unwrap()),
        ssl_key: files.write("server.key", &key.private_key_to_pem_pkcs8().unwrap()),
        ..Settings::default()
    }
}

fn acceptor(settings: &Settings) -> Result<Acceptor, Report> {
    Acceptor::new(&Material::read(settings)?, &[7; 80])
}

fn pair() -> (Stream, Stream) {
    let (one, two) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).unwrap();
    for end in [&one, &two] {
        setsockopt(end, sockopt::SndBuf, &8192).unwrap();
    }
    let (one, two) = (Stream::new(one, Peer::Local), Stream::new(two, Peer::Local));
    one.set_patience(Duration::from_millis(10)).unwrap();
    two.set_patience(Duration::from_millis(10)).unwrap();
    (one, two)
}

fn accept(stream: &mut Stream, acceptor: &Acceptor, deadline: Deadline) -> Result<(), HandshakeError> {
    let handshake = stream.start_tls(acceptor, &[])?;
    stream.finish_tls(handshake, deadline)
}

/// Both sides after the handshake: server and client.
fn connect(
    server: &Settings,
    client: &Settings,
    host: &str,
) -> (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>) {
    let (mut one, mut two) = pair();
    let deadline = Deadline::after(Duration::from_secs(10));
    let acceptor = acceptor(server).unwrap();
    let connector = Connector::new(client).unwrap();
    let accepting = thread::spawn(move || accept(&mut one, &acceptor, deadline).map(|()| one));
    let connected = two.connect_tls(&connector, host, deadline).map(|()| two);
    (accepting.join().unwrap(), connected)
}

#[test]
fn large_and_small_messages_cross_in_both_directions() {
    let files = Files::new("both");
    let server = server(&files);
    let client = Settings { ssl: true, ..Settings::default() };
    let (server, client) = connect(&server, &client, "db.example");
    let (server, client) = (server.unwrap(), client.unwrap());
    assert!(client.tls(Session::has_agreed_on_protocol).unwrap());
    assert_eq!(server.tls(Session::server_end_point), client.tls(Session::server_end_point));
    assert_eq!(client.tls(Session::server_end_point).unwrap().unwrap().len(), 48, "by the digest of its signature");
    // More than the kernel takes at once: the sender comes back with what was not taken, as the relay does.
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let expected = bytes.clone();
    let sender = thread::spawn(move || {
        let mut waiting = bytes.as_slice();
        while !waiting.is_empty() {
            let sent = server.send(waiting).unwrap();
            waiting = &waiting[sent..];
            if sent == 0 {
                thread::yield_now();
            }
        }
        server
    });
    let mut input = InBuffer::with_capacity(1024);
    let mut received = Vec::new();
    let deadline = Deadline::after(Duration::from_secs(30));
    while received.len() < expected.len() && !deadline.passed() {
        if let Received::Bytes(_) = input.receive_until(&client, deadline).unwrap() {
            assert!(!client.has_fetched(), "nothing may wait that the socket does not tell of");
            received.extend_from_slice(input.bytes());
            input.consume(input.len());
        }
    }
    assert!(received == expected);
    let server = sender.join().unwrap();
    assert_eq!(client.send(b"x").unwrap(), 1);
    assert_eq!(client.send(b"").unwrap(), 0);
    let mut byte = [0];
    assert_eq!(server.receive(&mut byte, true).unwrap(), Received::Bytes(1));
    assert_eq!(server.receive(&mut byte, false).unwrap(), Received::Nothing);
    client.shutdown_sending();
    assert_eq!(server.receive(&mut byte, true).unwrap(), Received::Closed);
}

#[test]
fn a_session_is_bound_by_the_digest_of_any_kind_of_signature() {
    let files = Files::new("binding");
    let make = |kind: &[&str]| {
        let (certificate, key) = (text(&files.0.join("bound.crt")), text(&files.0.join("bound.key")));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-batch", "-subj", "/CN=x", "-out", &certificate, "-keyout", &key])
            .args(kind)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        X509::from_pem(&fs::read(certificate).unwrap()).unwrap()
    };
    let pss = ["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss"];
    let rsa = ["-newkey", "rsa:2048"];
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    for (kind, name, digest) in [
        (&pss[..], "-sha384", MessageDigest::sha384()),
        (&pss, "-sha256", MessageDigest::sha256()),
        (&rsa, "-sha512", MessageDigest::sha512()),
        (&rsa, "-sha1", MessageDigest::sha256()),
        (&ec, "-sha256", MessageDigest::sha256()),
    ] {
        let certificate = make(&[kind, &[name]].concat());
        let expected = certificate.digest(digest).unwrap().to_vec();
        assert_eq!(channel_binding::server_end_point(&certificate), Some(expected), "{kind:?} {name}");
    }
    assert_eq!(channel_binding::server_end_point(&make(&["-newkey", "ed25519"])), None);
}

#[test]
fn a_handshake_ends_at_its_deadline_and_a_silent_end_is_told() {
    let files = Files::new("deadline");
    let acceptor = acceptor(&server(&files)).unwrap();
    let (mut one, two) = pair();
    let late = accept(&mut one, &acceptor, Deadline::after(Duration::from_millis(50)));
    assert!(matches!(late, Err(HandshakeError::TimedOut)), "{late:?}");
    let (mut one, other) = pair();
    drop(other);
    let closed = accept(&mut one, &acceptor, Deadline::after(Duration::from_secs(10)));
    assert!(matches!(closed, Err(HandshakeError::Closed)), "{closed:?}");
    let (mut one, garbage) = pair();
    garbage.send(b"this is no ClientHello, but long enough to be taken for one").unwrap();
    let failed = accept(&mut one, &acceptor, Deadline::after(Duration::from_secs(10)));
    assert!(matches!(failed, Err(HandshakeError::Failed(_))), "{failed:?}");
    drop(two);
}
