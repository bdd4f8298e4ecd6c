//! A memcached of the test's own, on a free port.

use super::{PATIENCE, Scratch, Service, free_port, wait_for};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// A memcached that listens.
pub struct Memcached {
    pub port: u16,
    pub service: Service,
    _scratch: Scratch,
}

impl Memcached {
    pub fn start() -> Memcached {
        Self::start_on(free_port())
    }

    /// One that was on this port before, and is empty now.
    pub fn start_on(port: u16) -> Memcached {
        let scratch = Scratch::new("memcached");
        let arguments = ["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-m", "16"];
        let service = Service::start(Path::new("memcached"), &arguments, &scratch.path().join("memcached.log"));
        let memcached = Memcached { port, service, _scratch: scratch };
        wait_for("memcached to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        memcached
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(self) {
        self.service.signal(Signal::SIGKILL);
    }

    /// What it answers to this, up to a line that begins with this word.
    pub fn ask(&self, request: &str, last: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("memcached");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.write_all(format!("{request}\r\n").as_bytes()).expect("request");
        let mut answer = String::new();
        let mut lines = BufReader::new(stream);
        while !answer.lines().last().is_some_and(|line| line.starts_with(last)) {
            assert_ne!(lines.read_line(&mut answer).expect("answer"), 0, "{answer}");
        }
        answer
    }
}

/// Its values.
impl Memcached {
    /// The largest answer in it: name and value.
    pub fn largest(&self) -> (String, Vec<u8>) {
        let all = self.ask("lru_crawler metadump all", "END");
        let size = |line: &&str| line.split(" size=").nth(1).and_then(|size| size.trim().parse::<usize>().ok());
        let line = all.lines().filter(|line| line.contains("%3Aa1%3A")).max_by_key(size).expect("an answer");
        let name = line.split([' ', '=']).nth(1).expect("a name").replace("%3A", ":");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("memcached");
        stream.write_all(format!("get {name}\r\n").as_bytes()).expect("request");
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        lines.read_line(&mut head).expect("head");
        let length = head.trim().rsplit(' ').next().and_then(|length| length.parse().ok()).expect("a length");
        let mut value = vec![0; length];
        lines.read_exact(&mut value).expect("value");
        (name, value)
    }

    pub fn set(&self, name: &str, value: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("memcached");
        let head = format!("set {name} 0 0 {}\r\n", value.len());
        stream.write_all(&[head.as_bytes(), value, b"\r\n"].concat()).expect("request");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("answer");
        assert_eq!(answer, "STORED\r\n");
    }
}
