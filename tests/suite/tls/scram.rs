//! Channel binding, on both sides (auth 14.3).

use super::authority::Authority;
use super::stage::{connector, handshake, psql, with_tls};
use crate::harness::{Cluster, Node, Pgpool, Wire, frontend};
use crate::{needs_pgpool, only_ours};
use openssl::hash::MessageDigest;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::sync::OnceLock;

const SECRET: &str = "secret";
const RULES: &str = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n\
                     hostssl all bound 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 password\n";

/// A primary that lets `bound` in through TLS by SCRAM only; its verifier is the entry in pool_passwd.
fn server() -> &'static (Authority, Cluster, String) {
    static SERVER: OnceLock<(Authority, Cluster, String)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let authority = Authority::new("authority of servers");
        let pair = authority.for_server(&authority.issue("server"));
        let plan = Cluster::streaming(1).set("ssl", "on").set("password_encryption", "scram-sha-256");
        let cluster = plan.set("ssl_cert_file", &pair.certificate).set("ssl_key_file", &pair.key).start();
        let primary: &Node = cluster.primary();
        primary.sql(&format!("CREATE ROLE bound LOGIN PASSWORD '{SECRET}'; CREATE ROLE asker LOGIN PASSWORD 'x'"));
        primary.set_hba(RULES, "asker");
        let verifier = primary.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'bound'");
        (authority, cluster, verifier)
    })
}

fn pool(authority: &Authority, entry: &str) -> Pgpool {
    let config = with_tls(Pgpool::on(&server().1), &authority.issue("pgpool"));
    let pool = config.set("enable_pool_hba", "on").set("pool_passwd", "pool_passwd").prepare();
    pool.write("pool_hba.conf", "hostssl all all all scram-sha-256\n");
    pool.write("pool_passwd", &format!("bound:{entry}\n"));
    pool.started()
}

#[test]
fn clients_and_servers_are_bound_with_and_without_a_password_of_pgpools() {
    only_ours!("has no channel binding");
    needs_pgpool!();
    let authority = Authority::new("ours");
    for entry in [&server().2, "TEXTsecret"] {
        let pool = pool(&authority, entry);
        for binding in ["require", "prefer", "disable"] {
            let login = |password: &str| {
                let options = format!("sslmode=require user=bound password={password} channel_binding={binding}");
                psql(&pool, &options, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            };
            // The first login to the server, and the pooled connection.
            assert_eq!([login(SECRET).succeeded(), login(SECRET).succeeded()], ["t", "t"], "{binding}: {}", pool.log());
            assert!(login("wrong").stderr.contains("authentication failed"));
        }
    }
}

/// A login step by step: the mechanisms that were offered, and what the client answers.
struct Login {
    wire: Wire,
    offered: Vec<u8>,
    end_point: Vec<u8>,
}

impl Login {
    fn new(pool: &Pgpool) -> Login {
        let stream = handshake(pool.port, &connector(|_| ()));
        let certificate = stream.ssl().peer_certificate().expect("a certificate");
        let end_point = certificate.digest(MessageDigest::sha384()).expect("a digest").to_vec();
        let mut wire = Wire::over_tls(stream);
        wire.send(frontend::startup(0, &[("user", "bound"), ("database", "test")]));
        let offered = wire.read().body[4..].to_vec();
        Login { wire, offered, end_point }
    }

    /// Begins with this message and goes on as a client does; the error, or nothing.
    fn go(mut self, mechanism: &str, binding: ChannelBinding, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Option<String> {
        let mut scram = ScramSha256::new(SECRET.as_bytes(), binding);
        let first = change(scram.message().to_vec());
        let length = (first.len() as u32).to_be_bytes();
        self.wire.send(frontend::message('p', &[mechanism.as_bytes(), b"\0", &length, &first].concat()));
        let told = |message: &crate::harness::Message| {
            let part = |code| message.field(code).unwrap_or_default();
            Some(format!("{} {}: {}", part('C'), part('M'), part('D')))
        };
        let challenge = self.wire.read();
        if challenge.kind == b'E' {
            return told(&challenge);
        }
        scram.update(&challenge.body[4..]).expect("the challenge");
        self.wire.send(frontend::message('p', scram.message()));
        let end = self.wire.read();
        if end.kind == b'E' { told(&end) } else { None }
    }
}

#[test]
fn flags_that_do_not_agree_are_refused() {
    only_ours!("has no channel binding");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pool = pool(&authority, "TEXTsecret");
    let unchanged = |message| message;
    let login = Login::new(&pool);
    assert_eq!(login.offered, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let good = ChannelBinding::tls_server_end_point(login.end_point.clone());
    assert_eq!(login.go("SCRAM-SHA-256-PLUS", good, unchanged), None);
    assert_eq!(Login::new(&pool).go("SCRAM-SHA-256", ChannelBinding::unsupported(), unchanged), None);
    // It could, and was told that we cannot: somebody is in between.
    let downgraded = Login::new(&pool).go("SCRAM-SHA-256", ChannelBinding::unrequested(), unchanged);
    assert!(downgraded.expect("refused").starts_with("28000 SCRAM channel binding negotiation error"));
    // Bound to another's certificate.
    let mut login = Login::new(&pool);
    login.end_point[0] ^= 1;
    let other = ChannelBinding::tls_server_end_point(login.end_point.clone());
    let refused = login.go("SCRAM-SHA-256-PLUS", other, unchanged).expect("refused");
    assert!(refused.starts_with("08P01 unexpected SCRAM channel-binding attribute"), "{refused}");
    for (mechanism, from, to, told) in [
        ("SCRAM-SHA-256-PLUS", "n,,", "n,,", "The client selected SCRAM-SHA-256-PLUS, but"),
        ("SCRAM-SHA-256-PLUS", "n,,", "y,,", "The client selected SCRAM-SHA-256-PLUS, but"),
        ("SCRAM-SHA-256-PLUS", "n,,", "p=tls-unique,,", "unsupported SCRAM channel-binding type"),
        ("SCRAM-SHA-256", "n,,", "p=tls-server-end-point,,", "client requires SCRAM channel binding, but"),
    ] {
        let change = |message: Vec<u8>| String::from_utf8(message).expect("text").replacen(from, to, 1).into_bytes();
        let refused = Login::new(&pool).go(mechanism, ChannelBinding::unsupported(), change).expect("refused");
        assert!(refused.contains(told), "{mechanism} {to}: {refused}");
    }
    // Without TLS there is nothing to bind to.
    let plain = psql(&pool, "sslmode=disable user=bound password=secret", "SELECT 1");
    assert!(plain.stderr.contains("client authentication failed"), "{plain:?}");
}
