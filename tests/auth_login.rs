//! Logging in to servers: what a server can ask for, and servers that do not keep to the protocol (auth 9.2, 11, 14.2).

use pgpool::auth::Credential;
use pgpool::auth::md5::Md5Hash;
use pgpool::auth::scram::{Challenge, LoginKeys, Mechanism};
use pgpool::backend::{Demand, LoginError, ServerConnection, open};
use pgpool::config::Settings;
use pgpool::net::{Address, Deadline};
use pgpool::wire::write;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A connection as a server sees it.
struct Client(TcpStream);

impl Client {
    /// Sends an authentication request.
    fn ask(&mut self, code: u32, data: &[u8]) {
        let mut message = Vec::new();
        write::authentication(&mut message, code, data);
        self.send(&message);
    }

    /// Sends bytes; nobody may be there to take them.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The content of the next PasswordMessage; empty when there is none.
    fn answer(&mut self) -> Vec<u8> {
        let mut header = [0; 5];
        if self.0.read_exact(&mut header).is_err() {
            return Vec::new();
        }
        assert_eq!(header[0], b'p');
        let mut content = vec![0; u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4];
        self.0.read_exact(&mut content).expect("content");
        content
    }

    /// The client is in.
    fn welcome(&mut self) {
        let mut message = Vec::new();
        write::authentication_ok(&mut message);
        write::backend_key_data(&mut message, 7, b"key!");
        write::ready_for_query(&mut message, pgpool::wire::TransactionStatus::Idle);
        self.send(&message);
    }
}

/// Logs in to a server that behaves like `serve`.
fn login(
    credential: &Credential,
    serve: impl FnOnce(&mut Client) + Send + 'static,
) -> Result<ServerConnection, LoginError> {
    pgpool::backend::configure_tls(&Settings::default()).expect("no TLS");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().expect("address").port() };
    let server = std::thread::spawn(move || {
        let mut stream = listener.accept().expect("a client").0;
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("length");
        let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
        stream.read_exact(&mut packet).expect("startup packet");
        let mut client = Client(stream);
        serve(&mut client);
        // Until the other side has had enough.
        let _ = client.0.read(&mut [0; 100]);
    });
    let mut startup = Vec::new();
    write::startup(&mut startup, &[("user", "alice"), ("database", "db")]);
    let outcome = open(0, &address, &startup, credential, Deadline::after(Duration::from_secs(10)));
    if outcome.is_err() {
        server.join().expect("the server's thread");
    }
    outcome
}

fn refusal(credential: &Credential, serve: impl FnOnce(&mut Client) + Send + 'static) -> String {
    match login(credential, serve) {
        Ok(_) => panic!("let in"),
        Err(error) => format!("{:?}", error.into_report(0)),
    }
}

fn secret() -> Credential {
    Credential::password("secret")
}

#[test]
fn password_and_md5() {
    let server = login(&secret(), |client| {
        client.ask(3, &[]);
        assert_eq!(client.answer(), b"secret\0");
        client.welcome();
    });
    assert_eq!(server.expect("in").demand, Demand::Password);
    for credential in [secret(), Credential::Md5(Md5Hash::of(b"secret", b"alice").expect("md5"))] {
        let server = login(&credential, |client| {
            client.ask(5, &[1, 2, 3, 4]);
            assert_eq!(client.answer(), b"md598a0412b9c31436fc53776e863350083\0");
            client.welcome();
        });
        assert_eq!(server.expect("in").demand, Demand::Md5);
    }
    assert_eq!(login(&Credential::None, Client::welcome).expect("in").demand, Demand::Nothing);
}

#[test]
fn what_is_missing_is_told_and_nothing_is_sent() {
    let keys = Credential::Keys(Box::new(LoginKeys::derive(b"secret", b"salt", 1)));
    let hash = Credential::Md5(Md5Hash::of(b"secret", b"alice").expect("md5"));
    for (credential, code, data, text) in [
        (&Credential::None, 3, &b""[..], "clear text password authentication failed"),
        (&hash, 3, b"", "clear text password authentication failed"),
        (&Credential::password(""), 3, b"", "clear text password authentication failed"),
        (&Credential::None, 5, b"salt", "failed to authenticate with backend using md5"),
        (&keys, 5, b"salt", "failed to authenticate with backend using md5"),
        (&Credential::None, 10, b"SCRAM-SHA-256\0\0", "failed to authenticate with backend using SCRAM"),
        (&hash, 10, b"SCRAM-SHA-256\0\0", "failed to authenticate with backend using SCRAM"),
        (&secret(), 10, b"SCRAM-SHA-1\0\0", "none of the server's SASL authentication mechanisms are supported"),
        (&secret(), 7, b"", "unsupported auth kind received from backend: authkind:7 (GSSAPI"),
        (&secret(), 5, b"sal", "does not speak the protocol"),
        (&secret(), 11, b"r=x", "AuthenticationSASLContinue arrived where the exchange does not allow it"),
    ] {
        let told = refusal(credential, move |client| {
            client.ask(code, data);
            assert_eq!(client.answer(), b"", "nothing is answered");
        });
        assert!(told.contains(text), "{code} {text}: {told}");
        assert!(!told.contains("secret"));
    }
}

/// Goes through SCRAM with the client, up to its proof. Returns the server's own.
fn scram(client: &mut Client, password: &[u8]) -> Vec<u8> {
    client.ask(10, b"SCRAM-SHA-256\0\0");
    let initial = client.answer();
    let first = initial.strip_prefix(b"SCRAM-SHA-256\0").and_then(|rest| rest.get(4..)).expect("client-first");
    let verifier = LoginKeys::derive(password, b"salt", 4096).verifier();
    let (answer, challenge) =
        Challenge::new(first, Mechanism::Plain, (verifier, true), "ours", None).expect("a challenge");
    client.ask(11, answer.as_bytes());
    let proved = challenge.check(&client.answer()).expect("in order");
    proved.map_or_else(Vec::new, |proved| proved.message.into_bytes())
}

#[test]
fn scram_and_servers_that_do_not_prove_themselves() {
    let server = login(&secret(), |client| {
        let proof = scram(client, b"secret");
        client.ask(12, &proof);
        client.welcome();
    });
    assert_eq!(server.expect("in").demand, Demand::Scram);
    // It lets us in without knowing the password, at whatever moment.
    let told = refusal(&secret(), |client| {
        scram(client, b"other");
        client.welcome();
    });
    assert!(told.contains("AuthenticationOk arrived where the exchange does not allow it"), "{told}");
    let told = refusal(&secret(), |client| {
        client.ask(10, b"SCRAM-SHA-256\0\0");
        client.answer();
        client.welcome();
    });
    assert!(told.contains("AuthenticationOk arrived where the exchange does not allow it"), "{told}");
    let told = refusal(&secret(), |client| {
        scram(client, b"secret");
        client.ask(12, b"v=AAAA");
    });
    assert!(told.contains("incorrect server signature"), "{told}");
    // It asks for the password in clear text when it should prove itself.
    let told = refusal(&secret(), |client| {
        scram(client, b"other");
        client.ask(3, &[]);
        assert_eq!(client.answer(), b"");
    });
    assert!(told.contains("another authentication request arrived"), "{told}");
}

#[test]
fn no_server_makes_us_compute_for_ever() {
    let begun = Instant::now();
    let told = refusal(&secret(), |client| {
        client.ask(10, b"SCRAM-SHA-256\0\0");
        let initial = client.answer();
        let nonce = String::from_utf8(initial).expect("text").rsplit_once("r=").expect("a nonce").1.to_owned();
        client.ask(11, format!("r={nonce}x,s=AAAA,i=2147483647").as_bytes());
    });
    assert!(told.contains("asks for 2147483647 iterations"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn strange_messages_of_scram_from_a_server_are_refused() {
    let long = "x".repeat(60_000);
    for (answer, text) in [
        ("", "The message is empty"),
        ("r=NONCEy,s=AAAA,i=4096\0", "Message length does not match"),
        ("s=AAAA,r=NONCEy,i=4096", "Expected attribute"),
        ("r=NONCE,s=AAAA,i=4096", "The server's nonce does not continue ours"),
        ("r=other,s=AAAA,i=4096", "The server's nonce does not continue ours"),
        ("r=NONCE\x7f,s=AAAA,i=4096", "non-printable characters"),
        ("r=NONCEy,s=,i=4096", "salt is not in base64"),
        ("r=NONCEy,s=A,i=4096", "salt is not in base64"),
        ("r=NONCEy,s=AAAA,i=", "iteration count is not a positive number"),
        ("r=NONCEy,s=AAAA,i=0", "iteration count is not a positive number"),
        ("r=NONCEy,s=AAAA,i=-1", "iteration count is not a positive number"),
        ("r=NONCEy,s=AAAA", "Expected attribute"),
        ("e=unknown-user", "error received from server in SCRAM exchange: unknown-user"),
        ("r=NONCELONG,s=AAAA,i=4096", "The server's message is too long"),
        ("r=NONCEy,s=LONG,i=4096", "The server's message is too long"),
        ("e=LONG", "The server's message is too long"),
    ] {
        let answer = answer.replace("LONG", &long);
        let told = refusal(&secret(), move |client| {
            client.ask(10, b"SCRAM-SHA-256\0\0");
            let initial = client.answer();
            let nonce = String::from_utf8(initial).expect("text").rsplit_once("r=").expect("a nonce").1.to_owned();
            client.ask(11, answer.replace("NONCE", &nonce).as_bytes());
            assert_eq!(client.answer(), b"", "nothing is answered");
        });
        assert!(told.contains(text) && told.len() < 1000, "{text}: {told}");
    }
    for (proof, text) in [
        ("", "The message is empty"),
        ("v=", "incorrect server signature"),
        ("v=A", "signature is not in base64"),
        ("x=AAAA", "Expected attribute"),
        ("e=other-error", "error received from server in SCRAM exchange: other-error"),
        ("v=LONG", "The server's message is too long"),
    ] {
        let proof = proof.replace("LONG", &long);
        let told = refusal(&secret(), move |client| {
            scram(client, b"secret");
            client.ask(12, proof.as_bytes());
        });
        assert!(told.contains(text) && told.len() < 1000, "{text}: {told}");
    }
}

#[test]
fn errors_need_no_sqlstate_and_long_messages_are_refused() {
    let told = refusal(&secret(), |client| client.send(b"E\0\0\0\x0cMwhat?\0\0"));
    assert!(told.contains("what?") && told.contains("refused"), "{told}");
    assert!(refusal(&secret(), |client| client.send(b"E\0\0\0\x04")).contains("refused the connection"));
    let told = refusal(&secret(), |client| client.send(b"R\x3f\xff\xff\xff\0\0\0\x0a"));
    assert!(told.contains("a message of that length cannot be part of a login"), "{told}");
    assert!(refusal(&secret(), |client| client.ask(0x0100_0000, b"")).contains("unsupported auth kind"));
}

#[test]
fn a_silent_server_is_left_at_the_deadline() {
    pgpool::backend::configure_tls(&Settings::default()).expect("no TLS");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().expect("address").port() };
    let server = std::thread::spawn(move || {
        let mut client = Client(listener.accept().expect("a client").0);
        client.ask(10, b"SCRAM-SHA-256\0\0");
        // Everything until the client gives up.
        let _ = std::io::copy(&mut client.0, &mut std::io::sink());
    });
    let begun = Instant::now();
    let outcome = open(0, &address, b"\0\0\0\x09\0\x03\0\0\0", &secret(), Deadline::after(Duration::from_millis(300)));
    assert!(matches!(outcome, Err(LoginError::Unreachable(_))));
    assert!((Duration::from_millis(290)..Duration::from_secs(8)).contains(&begun.elapsed()));
    server.join().expect("the server's thread");
}
