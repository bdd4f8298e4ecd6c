//! A raw protocol client: sends any bytes, reads messages, each within a deadline.

use openssl::ssl::SslStream;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::frontend;
use super::reply::{Message, Reply};
use super::template::DATABASE;
use super::wait::PATIENCE;

/// A connection. What the server told at login and since is kept; reading fails the test after 30 seconds.
pub struct Wire {
    socket: Socket,
    /// Bytes read and not yet taken as messages.
    inbox: Vec<u8>,
    /// The latest values of ParameterStatus.
    pub parameters: BTreeMap<String, String>,
    /// What BackendKeyData named.
    pub pid: u32,
    pub key: Vec<u8>,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<SslStream<TcpStream>>),
}

/// The parameters of a plain login to the tests' database.
pub const LOGIN: &[(&str, &str)] = &[("user", "postgres"), ("database", DATABASE)];

impl Wire {
    /// Connects over TCP and says nothing.
    pub fn open(port: u16) -> io::Result<Wire> {
        Wire::open_at("127.0.0.1", port)
    }

    /// As `open`, at another address.
    pub fn open_at(host: &str, port: u16) -> io::Result<Wire> {
        Wire::over_tcp(TcpStream::connect((host, port))?)
    }

    /// As `open`, as a client at this address of the machine.
    pub fn open_from(address: &str, port: u16) -> io::Result<Wire> {
        let from: SocketAddr = (address.parse::<IpAddr>().expect("an address"), 0).into();
        let socket = socket2::Socket::new(socket2::Domain::for_address(from), socket2::Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
        Wire::over_tcp(socket.into())
    }

    fn over_tcp(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire::on(Socket::Tcp(stream)))
    }

    /// Connects to a Unix socket and says nothing.
    pub fn open_unix(path: &Path) -> io::Result<Wire> {
        Ok(Wire::on(Socket::Unix(UnixStream::connect(path)?)))
    }

    /// Takes over a connection on which TLS has been agreed on and nothing else said.
    pub fn over_tls(stream: SslStream<TcpStream>) -> Wire {
        Wire::on(Socket::Tls(Box::new(stream)))
    }

    fn on(socket: Socket) -> Wire {
        Wire { socket, inbox: Vec::new(), parameters: BTreeMap::new(), pid: 0, key: Vec::new() }
    }

    /// Connects and logs in as postgres to the tests' database.
    pub fn login(port: u16) -> io::Result<Wire> {
        Wire::login_with(port, LOGIN)
    }

    /// Connects and logs in with these startup parameters; an ErrorResponse is an error with its text.
    pub fn login_with(port: u16, parameters: &[(&str, &str)]) -> io::Result<Wire> {
        let mut wire = Wire::open(port)?;
        wire.start(parameters)?;
        Ok(wire)
    }

    /// Sends a 3.0 startup packet and reads to ReadyForQuery.
    pub fn start(&mut self, parameters: &[(&str, &str)]) -> io::Result<Reply> {
        self.try_send(&frontend::startup(0, parameters))?;
        let mut messages = Vec::new();
        loop {
            let message = self.try_read()?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
            match message.kind {
                b'E' => {
                    let part = |code| message.field(code).unwrap_or_default();
                    return Err(io::Error::other(format!("{} {}: {}", part('S'), part('C'), part('M'))));
                }
                b'Z' => {
                    messages.push(message);
                    return Ok(Reply(messages));
                }
                _ => messages.push(message),
            }
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("sending to the server");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
            Socket::Tls(stream) => stream.write_all(bytes),
        }
    }

    /// The next message; fails the test when the connection ends instead or nothing comes.
    #[track_caller]
    pub fn read(&mut self) -> Message {
        match self.try_read() {
            Ok(Some(message)) => message,
            Ok(None) => panic!("the server closed the connection"),
            Err(e) => panic!("waiting for a message: {e}"),
        }
    }

    /// The next message; None when the connection has ended between messages.
    pub fn try_read(&mut self) -> io::Result<Option<Message>> {
        self.read_within(PATIENCE)
    }

    /// As `try_read`, with its own deadline (an error of kind TimedOut).
    pub fn read_within(&mut self, patience: Duration) -> io::Result<Option<Message>> {
        let deadline = Instant::now() + patience;
        if !self.fill(5, deadline)? {
            return if self.inbox.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        let length = u32::from_be_bytes(self.inbox[1..5].try_into().expect("four bytes")) as usize;
        assert!((4..1 << 30).contains(&length), "message {:?} has length {length}", self.inbox[0] as char);
        if !self.fill(length + 1, deadline)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let rest = self.inbox.split_off(length + 1);
        let message = Message { kind: self.inbox[0], body: self.inbox[5..].to_vec() };
        self.inbox = rest;
        self.note(&message);
        Ok(Some(message))
    }

    /// Reads one byte, as the answer to an SSLRequest is; None at the end.
    pub fn read_byte(&mut self) -> io::Result<Option<u8>> {
        Ok(self.fill(1, Instant::now() + PATIENCE)?.then(|| self.inbox.remove(0)))
    }

    /// True when the other side closes within the deadline, whatever it says before.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.read_within(deadline.saturating_duration_since(Instant::now())) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(e) => return e.kind() != ErrorKind::TimedOut,
            }
        }
    }

    /// Fills the inbox to this many bytes; false when the connection ended before.
    fn fill(&mut self, length: usize, deadline: Instant) -> io::Result<bool> {
        const CHUNK: usize = 1 << 18;
        while self.inbox.len() < length {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            let old = self.inbox.len();
            self.inbox.resize(old + CHUNK.min((length - old).max(1 << 13)), 0);
            let result = match &mut self.socket {
                Socket::Tcp(stream) => {
                    stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut self.inbox[old..]))
                }
                Socket::Unix(stream) => {
                    stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut self.inbox[old..]))
                }
                Socket::Tls(stream) => {
                    stream.get_ref().set_read_timeout(Some(left)).and_then(|()| stream.read(&mut self.inbox[old..]))
                }
            };
            self.inbox.truncate(old + *result.as_ref().unwrap_or(&0));
            match result {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn note(&mut self, message: &Message) {
        match message.kind {
            b'S' => {
                let strings = message.strings();
                self.parameters.insert(strings[0].clone(), strings[1].clone());
            }
            b'K' => {
                self.pid = u32::from_be_bytes(message.body[..4].try_into().expect("four bytes"));
                self.key = message.body[4..].to_vec();
            }
            _ => {}
        }
    }

    /// All messages up to and including one of this kind.
    #[track_caller]
    pub fn read_until(&mut self, kind: char) -> Reply {
        let mut messages = vec![self.read()];
        while messages.last().is_some_and(|message| message.kind != kind as u8) {
            messages.push(self.read());
        }
        Reply(messages)
    }

    /// The next `count` messages.
    #[track_caller]
    pub fn read_some(&mut self, count: usize) -> Reply {
        Reply((0..count).map(|_| self.read()).collect())
    }

    /// Sends bytes and reads to ReadyForQuery.
    #[track_caller]
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.send(bytes);
        self.read_until('Z')
    }

    /// Runs a simple query to ReadyForQuery.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> Reply {
        self.ask(frontend::query(sql))
    }

    /// The first value of a simple query that must succeed.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        self.query(sql).succeeded().first_value().unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// A second handle on the connection, to send and read at the same time.
    pub fn split(&mut self) -> (&mut Wire, Wire) {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().expect("a second handle")),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().expect("a second handle")),
            Socket::Tls(_) => panic!("the state of TLS has one owner"),
        };
        (self, Wire::on(socket))
    }

    /// Says Terminate and waits for the other side to close.
    pub fn close(mut self) {
        let _ = self.try_send(&frontend::terminate());
        assert!(self.is_closed_within(PATIENCE), "the server did not close after Terminate");
    }
}
