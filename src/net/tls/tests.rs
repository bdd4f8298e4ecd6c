//! Both sides of a TLS connection against each other.

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
fn a_server_is_trusted_as_far_as_the_mode_says() {
    let files = Files::new("trust");
    let server = server(&files);
    let other = certificate("db.example").0;
    let other = files.write("other.crt", &other.to_pem().unwrap());
    let client = |mode, authority: &str| Settings {
        backend_sslmode: mode,
        backend_sslrootcert: authority.to_owned(),
        ..Settings::default()
    };
    let own = server.ssl_cert.clone();
    let accepted = |client: &Settings, host: &str| connect(&server, client, host).1.map(|stream| stream.is_tls());
    assert!(accepted(&client(BackendSslmode::Require, ""), "elsewhere").unwrap());
    assert!(accepted(&client(BackendSslmode::VerifyCa, &own), "elsewhere").unwrap());
    assert!(accepted(&client(BackendSslmode::VerifyFull, &own), "db.example").unwrap());
    let refused = accepted(&client(BackendSslmode::VerifyFull, &own), "elsewhere").unwrap_err().to_string();
    assert!(refused.starts_with("certificate verify failed") && refused.contains("hostname mismatch"), "{refused}");
    let refused = accepted(&client(BackendSslmode::VerifyCa, &other), "db.example").unwrap_err().to_string();
    assert!(refused.starts_with("certificate verify failed"), "{refused}");
    // What is to be verified by a file that is not there is not connected to at all.
    let missing = Connector::new(&client(BackendSslmode::VerifyCa, "/nonexistent")).unwrap_err();
    assert!(missing.message.contains("could not load root certificate file \"/nonexistent\""), "{missing}");
}

#[test]
fn a_wildcard_is_a_whole_label() {
    let files = Files::new("wildcard");
    for (pattern, is_accepted) in [("*.example.com", true), ("db*.example.com", false), ("*1.example.com", false)] {
        let (certificate, key) = certificate(pattern);
        let server = Settings {
            ssl: true,
            ssl_cert: files.write("server.crt", &certificate.to_pem().unwrap()),
            ssl_key: files.write("server.key", &key.private_key_to_pem_pkcs8().unwrap()),
            ..Settings::default()
        };
        let client = Settings {
            backend_sslmode: BackendSslmode::VerifyFull,
            backend_sslrootcert: server.ssl_cert.clone(),
            ..Settings::default()
        };
        assert_eq!(connect(&server, &client, "db1.example.com").1.is_ok(), is_accepted, "{pattern}");
    }
}

#[test]
fn nobody_is_asked_for_the_pass_phrase_of_a_key_for_servers() {
    let files = Files::new("server-phrase");
    let (certificate, key) = certificate("me");
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    let settings = Settings {
        backend_sslmode: BackendSslmode::Require,
        backend_sslcert: files.write("me.crt", &certificate.to_pem().unwrap()),
        backend_sslkey: files.write("me.key", &pem),
        ..Settings::default()
    };
    let told = Connector::new(&settings).expect_err("refused").message;
    assert!(told.ends_with("it requires a passphrase, which is not supported here"), "{told}");
}

#[test]
fn workers_use_what_the_parent_has_proved() {
    let files = Files::new("proved");
    let settings = server(&files);
    let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).unwrap();
    let mut parent = Front::new().unwrap();
    let mut worker = parent.clone();
    assert!(worker.acceptor(&shared).is_none(), "nothing is published");
    parent.renew(&Material::read(&settings).unwrap(), &shared).unwrap();
    // Whatever has become of the files, and of those that were no good.
    for file in [&settings.ssl_cert, &settings.ssl_key] {
        fs::write(file, "overwritten").unwrap();
    }
    let told = Material::read(&settings).map(drop).unwrap_err().message;
    assert!(told.starts_with("could not load private key file"), "{told}");
    let mut forked = parent.clone();
    let made = |front: &mut Front| {
        front
            .acceptor(&shared)
            .unwrap()
            .ssl()
            .unwrap()
            .certificate()
            .unwrap()
            .digest(MessageDigest::sha256())
            .unwrap()
            .to_vec()
    };
    assert_eq!(made(&mut worker), made(&mut parent));
    assert_eq!(made(&mut forked), made(&mut parent));
}

#[test]
fn material_and_back() {
    let files = Files::new("material");
    let mut settings = server(&files);
    settings.ssl_ca_cert.clone_from(&settings.ssl_cert);
    settings.ssl_prefer_server_ciphers = true;
    settings.ssl_min_protocol_version = "TLSv1.2".to_owned();
    settings.ssl_max_protocol_version = "TLSv1.3".to_owned();
    settings.ssl_ca_cert_dir = "/nonexistent".to_owned();
    let material = Material::read(&settings).unwrap();
    assert_eq!(Material::from_bytes(&material.to_bytes()), Some(material));
    assert_eq!(Material::from_bytes(&Secret::default()), None);
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
fn no_weaker_mode_stays_in_the_place_of_a_stricter_one() {
    let with = |mode, ssl| Settings { ssl, backend_sslmode: mode, ..Settings::default() };
    use BackendSslmode::{Auto, Disable, Prefer, Require, VerifyFull};
    for (old, new, is_as_strict) in [
        ((Prefer, false), (VerifyFull, false), false),
        ((Disable, false), (Prefer, false), false),
        ((Auto, true), (Require, true), false),
        ((Require, false), (Require, false), true),
        ((VerifyFull, false), (Require, false), true),
        ((Require, false), (Prefer, false), true),
        ((Disable, false), (Auto, false), true),
        ((Prefer, false), (Auto, true), true),
    ] {
        let old_settings = with(old.0, old.1);
        let connector = Connector::new(&old_settings).unwrap();
        assert_eq!(connector.is_as_strict_as(&with(new.0, new.1)), is_as_strict, "{old:?} {new:?}");
    }
}

#[test]
fn the_mode_follows_the_original_unless_it_is_given() {
    let mode = |ssl, authority: &str, mode| {
        let settings =
            Settings { ssl, ssl_ca_cert: authority.to_owned(), backend_sslmode: mode, ..Settings::default() };
        Connector::new(&settings).map(|connector| connector.mode()).ok()
    };
    let files = Files::new("mode");
    let authority = files.write("ca.crt", &certificate("ca").0.to_pem().unwrap());
    assert_eq!(mode(false, &authority, BackendSslmode::Auto), Some(SslMode::Disable));
    assert_eq!(mode(true, "", BackendSslmode::Auto), Some(SslMode::Prefer));
    assert_eq!(mode(true, &authority, BackendSslmode::Auto), Some(SslMode::VerifyCa));
    assert_eq!(mode(false, "", BackendSslmode::Require), Some(SslMode::Require));
    assert_eq!(mode(true, "", BackendSslmode::Disable), Some(SslMode::Disable));
}

#[test]
fn clients_without_a_good_certificate_are_refused_if_they_show_one() {
    let files = Files::new("client");
    let (certificate, key) = certificate("me");
    let mine = files.write("me.crt", &certificate.to_pem().unwrap());
    let my_key = files.write("me.key", &key.private_key_to_pem_pkcs8().unwrap());
    let server = server(&files);
    let asking = Settings { ssl_ca_cert: mine.clone(), ..server.clone() };
    let with = |certificate: &str, key: &str| Settings {
        backend_sslmode: BackendSslmode::Require,
        backend_sslcert: certificate.to_owned(),
        backend_sslkey: key.to_owned(),
        ..Settings::default()
    };
    let (seen, _client) = connect(&asking, &with(&mine, &my_key), "db.example");
    let seen = seen.unwrap().tls(Session::client_certificate).unwrap().expect("certificate");
    assert_eq!(seen.common_name.as_deref(), Some("me"));
    let (none, _client) = connect(&asking, &with("", ""), "db.example");
    assert!(none.unwrap().tls(Session::client_certificate).unwrap().is_none());
    let (bad, _client) = connect(&asking, &with(&server.ssl_cert, &server.ssl_key), "db.example");
    let bad = bad.unwrap_err().to_string();
    assert!(bad.contains("certificate verify failed"), "{bad}");
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let files = Files::new("files");
    let good = server(&files);
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        acceptor(&settings).expect_err("refused").message
    };
    let told = refused(&|settings| settings.ssl_cert = "/nonexistent".to_owned());
    assert!(told.starts_with("could not load server certificate file \"/nonexistent\": "), "{told}");
    // What may never end, or is no file.
    for file in ["/dev/zero", "/"] {
        let told = refused(&|settings| settings.ssl_cert = file.to_owned());
        assert!(told.ends_with("it is not a regular file"), "{told}");
        let told = refused(&|settings| settings.ssl_crl_file = file.to_owned());
        assert!(told.ends_with("it is not a regular file"), "{told}");
    }
    let told = refused(&|settings| settings.ssl_key = "/nonexistent".to_owned());
    assert_eq!(told, "could not access private key file \"/nonexistent\": No such file or directory (os error 2)");
    let other = files.write("other.key", &certificate("x").1.private_key_to_pem_pkcs8().unwrap());
    let told = refused(&|settings| settings.ssl_key.clone_from(&other));
    assert!(told.contains("key values mismatch"), "{told}");
    let told = refused(&|settings| settings.ssl_ecdh_curve = "no-such-curve".to_owned());
    assert_eq!(told, "ECDH: unrecognized curve name: no-such-curve");
    let told = refused(&|settings| settings.ssl_ciphers = "no-such-cipher".to_owned());
    assert!(told.starts_with("ssl_ciphers = 'no-such-cipher' is not accepted"), "{told}");
    let told = refused(&|settings| settings.ssl_min_protocol_version = "TLSv9".to_owned());
    assert_eq!(told, "ssl_min_protocol_version = 'TLSv9' is no version of TLS");
    let told = refused(&|settings| settings.ssl_crl_file = "/nonexistent".to_owned());
    assert!(told.starts_with("could not load SSL certificate revocation list file \"/nonexistent\""), "{told}");
    let groups = Settings { ssl_ecdh_curve: "X25519:prime256v1".to_owned(), ..good.clone() };
    acceptor(&groups).unwrap();
}

#[test]
fn an_encrypted_key_is_opened_by_its_pass_phrase_only() {
    let files = Files::new("phrase");
    let mut settings = server(&files);
    let key = PKey::private_key_from_pem(&fs::read(&settings.ssl_key).unwrap()).unwrap();
    let pem = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    settings.ssl_key = files.write("encrypted.key", &pem);
    let told = acceptor(&settings).unwrap_err().message;
    assert!(told.ends_with("cannot be reloaded because it requires a passphrase"), "{told}");
    settings.ssl_passphrase_command = "not run here".to_owned();
    let mut material = Material::read(&settings).unwrap();
    assert!(material.is_locked() && Acceptor::new(&material, &[0; 80]).is_err());
    let told = material.unlock(&Secret::new(*b"wrong")).unwrap_err().message;
    assert!(told.starts_with("could not load private key file"), "{told}");
    // What is longer than OpenSSL takes is not cut.
    let told = material.unlock(&Secret::new(vec![b'x'; 2000])).unwrap_err().message;
    assert!(told.ends_with("is too long"), "{told}");
    material.unlock(&Secret::new(*b"secret")).unwrap();
    Acceptor::new(&Material::from_bytes(&material.to_bytes()).unwrap(), &[0; 80]).unwrap();
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
