//! Clients that do not keep to the protocol (auth 23).

use super::stage::{SECRET, pool, prepared_pool, servers, user};
use crate::harness::{Attempt, Pgpool, Wire, frontend, shared, wait_for};
use crate::only_ours;
use pgpool::auth::scram::LoginKeys;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

/// A client that has sent its startup packet and was asked for something.
fn asked(pool: &Pgpool, user: &str) -> Wire {
    let mut wire = Wire::open(pool.port).expect("connect");
    wire.send(frontend::startup(0, &[("user", user), ("database", "test")]));
    assert_eq!(wire.read().kind, b'R');
    wire
}

/// The answer to these bytes: SQLSTATE and message; the connection is closed behind it.
#[track_caller]
fn refusal(mut wire: Wire, bytes: &[u8]) -> String {
    wire.send(bytes);
    let message = wire.read();
    assert_eq!(message.kind, b'E', "{message:?}");
    let part = |code| message.field(code).unwrap_or_default();
    let told = format!("{} {}: {}", part('C'), part('M'), part('D'));
    assert!(wire.is_closed_within(Duration::from_secs(30)));
    told
}

fn initial(mechanism: &str, length: u32, response: &[u8]) -> Vec<u8> {
    frontend::message('p', &[mechanism.as_bytes(), b"\0", &length.to_be_bytes(), response].concat())
}

#[test]
fn slips_in_clear_text() {
    only_ours!("takes a beginning of the password");
    let pool = pool(servers(), Some("password"));
    let user = user("trust", "text");
    for (bytes, told) in [
        (frontend::message('p', b"secret"), "08P01 authentication failed: The password is not terminated."),
        (frontend::message('p', b"secret\0\0"), "08P01 authentication failed: The password packet holds more"),
        (frontend::message('p', b"secret\0x\0"), "08P01 authentication failed: The password packet holds more"),
        (frontend::message('p', b""), "08P01 authentication failed: The password is not terminated."),
        (frontend::message('p', b"\0"), "28P01 clear text authentication failed: empty password returned by client"),
        (frontend::message('p', b"secre\0"), "28P01 clear text authentication failed: password does not match"),
        (frontend::query("SELECT 1"), "08P01 authentication failed: invalid authentication packet. password packet"),
        (frontend::terminate(), "08P01 authentication failed: invalid authentication packet. password packet"),
        (b"p\x00\x01\x00\x10".to_vec(), "08P01 authentication failed: password is too long. password length is 65548"),
        (b"p\xff\xff\xff\xff".to_vec(), "08P01 message PasswordMessage announces a length of 4294967295"),
    ] {
        let refused = refusal(asked(&pool, &user), &bytes);
        assert!(refused.starts_with(told), "{bytes:?}: {refused}");
    }
    // A password that comes at once, before it was asked for, is as good as another.
    let mut wire = Wire::open(pool.port).expect("connect");
    let startup = frontend::startup(0, &[("user", &user), ("database", "test")]);
    wire.send([startup, frontend::message('p', b"secret\0")].concat());
    assert_eq!(wire.read_until('Z').kinds().replace('S', ""), "RRKZ");
}

#[test]
fn slips_in_md5() {
    only_ours!("ends the worker");
    let pool = pool(servers(), Some("md5"));
    for bytes in [&b"md5"[..], b"\0", b"", b"md500000000000000000000000000000000\0", b"secret\0"] {
        let refused = refusal(asked(&pool, "stranger"), &frontend::message('p', bytes));
        assert!(refused.starts_with("28P01") || refused.starts_with("08P01"), "{bytes:?}: {refused}");
    }
}

#[test]
fn slips_in_scram() {
    only_ours!("ends the worker");
    let pool = pool(servers(), Some("scram-sha-256"));
    let user = user("trust", "text");
    let first = b"n,,n=,r=abc";
    let long = format!("n,,n=,r={}", "x".repeat(2000));
    for (bytes, told) in [
        (initial("SCRAM-SHA-1", 11, first), "08P01 client selected an invalid SASL authentication mechanism"),
        (initial("SCRAM-SHA-256-PLUS", 11, first), "08P01 client selected an invalid SASL"),
        (frontend::message('p', b"SCRAM-SHA-256"), "08P01 client selected an invalid SASL"),
        (initial("SCRAM-SHA-256", 12, first), "08P01 authentication failed: The length of the SASL response"),
        (initial("SCRAM-SHA-256", 0x7fff_ffff, first), "08P01 authentication failed: The length of the SASL response"),
        (initial("SCRAM-SHA-256", 0, b""), "08P01 malformed SCRAM message: The message is empty."),
        (
            initial("SCRAM-SHA-256", 11, b"c=biws,r=ab"),
            "08P01 malformed SCRAM message: Unexpected channel-binding flag",
        ),
        (initial("SCRAM-SHA-256", long.len() as u32, long.as_bytes()), "08P01 authentication failed: The SASL message"),
    ] {
        let refused = refusal(asked(&pool, &user), &bytes);
        assert!(refused.starts_with(told), "{refused}");
    }
    // Without an initial response it is asked for.
    let mut wire = asked(&pool, &user);
    wire.send(initial("SCRAM-SHA-256", u32::MAX, b""));
    assert_eq!(wire.read().body, 11u32.to_be_bytes());
    wire.send(frontend::message('p', first));
    assert!(wire.read().body[4..].starts_with(b"r=abc"));
    let refused = refusal(wire, &frontend::message('p', first));
    assert!(refused.starts_with("08P01 malformed SCRAM message: Expected attribute \"c\""), "{refused}");
}

/// What a server's first message of SCRAM shows of a user: the salt, and how often the password is hashed.
pub fn challenge(pool: &Pgpool, user: &str) -> (String, String) {
    let mut wire = asked(pool, user);
    wire.send(initial("SCRAM-SHA-256", 11, b"n,,n=,r=abc"));
    let body = wire.read().body;
    let message = String::from_utf8_lossy(&body[4..]).into_owned();
    let part = |name: &str| message.split(',').find_map(|part| part.strip_prefix(name)).expect(name).to_owned();
    (part("s="), part("i="))
}

#[test]
fn strangers_do_not_show_by_their_iterations() {
    only_ours!("refuses strangers unasked");
    let pool = pool(servers(), Some("scram-sha-256"));
    let entry = |user: &str, iterations| {
        format!("{user}:{}\n", LoginKeys::derive(SECRET.as_bytes(), b"a salt", iterations).verifier())
    };
    pool.write("pool_passwd", &[entry("a", 5000), entry("b", 5000), entry("c", 4096)].concat());
    assert_eq!(["a", "c", "stranger"].map(|user| challenge(&pool, user).1), ["5000", "4096", "5000"]);
    assert_ne!(challenge(&pool, "stranger").0, challenge(&pool, "another").0);
    pool.write("pool_passwd", "u:TEXTsecret\n");
    assert_eq!(["u", "stranger"].map(|user| challenge(&pool, user).1), ["4096", "4096"]);
}

#[test]
fn a_recorded_login_opens_nothing() {
    only_ours!("ends the worker");
    let pool = pool(servers(), Some("scram-sha-256"));
    let user = user("trust", "text");
    let mut client = ScramSha256::new(SECRET.as_bytes(), ChannelBinding::unsupported());
    let first = initial("SCRAM-SHA-256", client.message().len() as u32, client.message());
    let mut wire = asked(&pool, &user);
    wire.send(&first);
    client.update(&wire.read().body[4..]).expect("the challenge");
    let last = frontend::message('p', client.message());
    wire.send(&last);
    assert_eq!(wire.read_until('Z').state(), 'I');
    wire.close();
    let mut wire = asked(&pool, &user);
    wire.send(&first);
    assert_eq!(wire.read().kind, b'R');
    let refused = refusal(wire, &last);
    assert!(refused.starts_with("08P01 invalid SCRAM response: Nonce does not match."), "{refused}");
}

#[test]
fn a_silent_client_is_not_waited_for() {
    only_ours!("waits for ever");
    for rule in [Some("md5"), None] {
        let pool = prepared_pool(servers(), rule, |config| config.set("authentication_timeout", 1));
        let user = user("md5", "text");
        let mut silent = asked(&pool, &user);
        let message = silent.read();
        assert_eq!(message.field('M').as_deref(), Some("authentication timeout"), "{message:?}");
        assert!(silent.is_closed_within(Duration::from_secs(10)));
        // The one worker is there for the next client; one that leaves at the prompt is nothing to speak of.
        drop(asked(&pool, &user));
        assert_eq!(Attempt::new(pool.port, &user, SECRET).summary(), "M ok");
    }
}

/// A server that says what it likes: `refuses` at the login, or lets everybody in and answers each query with `error`.
fn strange_server(refuses: bool, error: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    let error = frontend::message('E', error);
    let column = b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x10\0\x01\xff\xff\xff\xff\0\0";
    let primary = [
        frontend::message('T', column),
        frontend::message('D', b"\0\x01\0\0\0\x01f"),
        frontend::message('C', b"SELECT 1\0"),
    ]
    .concat();
    // It ends with the test program.
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (error, primary) = (error.clone(), primary.clone());
            thread::spawn(move || -> io::Result<()> {
                let mut length = [0; 4];
                client.read_exact(&mut length)?;
                client.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])?;
                if refuses {
                    return client.write_all(&error);
                }
                let idle = b"Z\0\0\0\x05I";
                client.write_all(&[b"R\0\0\0\x08\0\0\0\0", &idle[..]].concat())?;
                loop {
                    let mut header = [0; 5];
                    client.read_exact(&mut header)?;
                    let length = u32::from_be_bytes(header[1..].try_into().expect("a length"));
                    let mut content = vec![0; length as usize - 4];
                    client.read_exact(&mut content)?;
                    // So that pgpool uses it.
                    let is_role = content.windows(17).any(|text| text == b"pg_is_in_recovery");
                    if header[0] == b'Q' {
                        client.write_all(&[if is_role { &primary[..] } else { &error }, idle].concat())?;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn an_error_of_a_server_without_a_code_is_an_error() {
    only_ours!("has another text");
    for error in
        [&b"SERROR\0Mno code\0\0"[..], b"Mno code\0\0", b"SFATAL\0VFATAL\0C\0Mno code\0\0", b"\0", b"", b"Mno code"]
    {
        for refuses in [true, false] {
            let pool = Pgpool::on(shared())
                .set("backend_clustering_mode", "raw")
                .set("backend_port0", strange_server(refuses, error))
                .set("num_init_children", 1)
                .start();
            let workers = pool.children("wait for connection request");
            for _ in 0..2 {
                let mut wire = pool.open();
                wire.send(frontend::startup(0, &[("user", "postgres"), ("database", "test")]));
                if !refuses {
                    wire.read_until('Z');
                    wire.send(frontend::query("SELECT 1"));
                }
                let told = wire.read_until('E');
                let text = told.error().and_then(|error| error.field('M')).unwrap_or_default();
                assert!(
                    text == "no code" || !error.starts_with(b"S") && !error.starts_with(b"M"),
                    "{error:?}: {told:?}"
                );
            }
            assert!(workers.len() == 1 && !pool.log().contains("terminated by"), "{}", pool.log());
            wait_for("the worker", || pool.children("wait for connection request") == workers);
        }
    }
}

#[test]
fn two_hundred_half_open_logins_harm_nobody() {
    only_ours!("waits for ever");
    for rule in [Some("scram-sha-256"), Some("password"), None] {
        let pool = prepared_pool(servers(), rule, |config| {
            config.set("num_init_children", 20).set("authentication_timeout", 1)
        });
        let good = user("scram", "text");
        // On a busy machine a second may be too short for a good login, too: then another attempt.
        let get_in = || {
            let mut attempt = Attempt::new(pool.port, &good, SECRET);
            wait_for("a login", || {
                let is_in = attempt.outcome.is_ok();
                if !is_in {
                    attempt = Attempt::new(pool.port, &good, SECRET);
                }
                is_in
            });
            attempt
        };
        let mut running = get_in().outcome.expect("in");
        let server_sessions = || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'half-open'";
            servers().primary().sql(sql).parse::<usize>().expect("a number")
        };
        let halves: Vec<Wire> = (0..200)
            .map(|number| {
                let mut wire = pool.open();
                let begun = frontend::startup(
                    0,
                    &[("user", "scram_aes"), ("database", "test"), ("application_name", "half-open")],
                );
                let bytes = match number % 4 {
                    0 => begun[..9].to_vec(),
                    1 => begun,
                    // What comes behind it fits no method, or is half an answer.
                    2 => [&begun[..], b"p\0\0\0\x20half"].concat(),
                    _ => [begun, initial("SCRAM-SHA-256", 11, b"n,,n=,r=abc")].concat(),
                };
                let _ = wire.try_send(&bytes);
                wire
            })
            .collect();
        let mut most = server_sessions();
        // Who is in does not notice; who comes now has to wait for those in front, and gets in.
        assert_eq!(running.value("SELECT 40 + 2"), "42");
        let late = thread::scope(|scope| {
            let late = scope.spawn(|| get_in().summary());
            while !late.is_finished() {
                most = most.max(server_sessions());
                assert_eq!(running.value("SELECT 40 + 2"), "42");
            }
            late.join().expect("the late client")
        });
        let (open, asked) = if rule.is_some() { (0, rule) } else { (20, Some("none")) };
        assert!(late.ends_with(" ok") && most <= open, "{asked:?}: {late}, {most} sessions on the server");
        for mut wire in halves {
            assert!(wire.is_closed_within(Duration::from_secs(60)));
        }
        wait_for("the server's sessions to end", || server_sessions() == 0);
        wait_for("the workers", || pool.children("wait for connection request").len() == 19);
    }
}
