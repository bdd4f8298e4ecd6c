//! Pgpools and servers with TLS, and clients that speak it.

use super::authority::{Authority, Pair};
use crate::harness::{Cluster, Config, Outcome, PATIENCE, Pgpool, Program, Wire};
use openssl::ssl::{Ssl, SslConnector, SslConnectorBuilder, SslMethod, SslStream, SslVerifyMode};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

/// What asks for TLS, for encryption by GSSAPI, and their answers.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// Stands before a server, lets through what begins by asking for TLS, and closes and remembers everything else.
pub struct Gatekeeper {
    pub port: u16,
    refused: Arc<Mutex<Vec<[u8; 8]>>>,
}

impl Gatekeeper {
    pub fn before(server: u16) -> Gatekeeper {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&refused);
        // It ends with the test program.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || pass(client, server, &seen));
            }
        });
        Gatekeeper { port, refused }
    }

    /// How everything began that was not let through.
    pub fn refused(&self) -> Vec<[u8; 8]> {
        self.refused.lock().expect("lock").clone()
    }
}

fn pass(mut client: TcpStream, server: u16, refused: &Mutex<Vec<[u8; 8]>>) {
    let mut first = [0; 8];
    if client.read_exact(&mut first).is_err() {
        return;
    }
    if first != SSL_REQUEST {
        refused.lock().expect("lock").push(first);
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let _ = server.write_all(&first);
    let onward = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = onward.join();
}

/// The settings for TLS with this certificate.
pub fn with_tls(config: Config, pair: &Pair) -> Config {
    config.set("ssl", "on").set("ssl_cert", &pair.certificate).set("ssl_key", &pair.key)
}

/// A primary and a standby that have TLS, started on first use, and who has signed their certificate.
pub fn servers() -> &'static (Authority, Cluster) {
    static SERVERS: OnceLock<(Authority, Cluster)> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let authority = Authority::new("authority of servers");
        let pair = authority.for_server(&authority.issue("server"));
        let cluster = Cluster::streaming(2)
            .set("ssl", "on")
            .set("ssl_cert_file", &pair.certificate)
            .set("ssl_key_file", &pair.key)
            .start();
        (authority, cluster)
    })
}

/// psql with this connection string; tells what `\conninfo` and the commands print.
#[track_caller]
pub fn psql(pool: &Pgpool, options: &str, sql: &str) -> Outcome {
    let target = format!("dbname=test {options}");
    Program::client("psql").at_port(pool.port).args(["-X", "-A", "-t", "-q", "-d", &target]).input(sql).run()
}

/// A client's side of TLS: no certificate is checked unless it is told to.
pub fn connector(set: impl FnOnce(&mut SslConnectorBuilder)) -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("connector");
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x0apostgresql").expect("alpn");
    set(&mut builder);
    builder.build()
}

/// State for one connection.
pub fn ssl(connector: &SslConnector) -> Ssl {
    let mut configuration = connector.configure().expect("configuration");
    configuration.set_verify_hostname(false);
    configuration.into_ssl("localhost").expect("ssl")
}

/// A connection to this port on which nothing has been said.
pub fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// The one byte that answers this request; `None`: the connection was closed.
pub fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<Option<u8>> {
    stream.write_all(request)?;
    let mut answer = [0];
    Ok((stream.read(&mut answer)? == 1).then_some(answer[0]))
}

/// A connection that has asked for TLS and done the handshake.
pub fn handshake(port: u16, connector: &SslConnector) -> SslStream<TcpStream> {
    try_handshake(port, ssl(connector)).expect("handshake")
}

pub fn try_handshake(port: u16, ssl: Ssl) -> io::Result<SslStream<TcpStream>> {
    let mut stream = tcp(port);
    assert_eq!(ask(&mut stream, &SSL_REQUEST)?, Some(b'S'));
    let mut stream = SslStream::new(ssl, stream).expect("ssl");
    stream.connect().map_err(io::Error::other)?;
    Ok(stream)
}

/// A raw client with TLS.
pub fn wire(pool: &Pgpool) -> Wire {
    Wire::over_tls(handshake(pool.port, &connector(|_| ())))
}

/// The same, logged in as postgres.
#[track_caller]
pub fn session(pool: &Pgpool) -> Wire {
    let mut wire = wire(pool);
    wire.start(crate::harness::LOGIN).unwrap_or_else(|error| panic!("{error}\n{}", pool.log()));
    wire
}
