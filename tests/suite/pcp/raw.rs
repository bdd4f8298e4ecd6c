//! A PCP client of bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use openssl::hash::{MessageDigest, hash};

const PATIENCE: Duration = Duration::from_secs(30);

pub trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

/// A connection; every read has a deadline.
pub struct Raw {
    line: Box<dyn Line>,
}

/// A frame: its type and its payload.
pub type Frame = (u8, Vec<u8>);

impl Raw {
    #[track_caller]
    pub fn open(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect to PCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Raw { line: Box::new(stream) }
    }

    #[track_caller]
    pub fn open_unix(path: &Path) -> Raw {
        let stream = UnixStream::connect(path).expect("connect to PCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Raw { line: Box::new(stream) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).expect("send");
    }

    /// Sends a request.
    pub fn request(&mut self, kind: u8, payload: &[u8]) {
        self.send(&message(kind, payload));
    }

    /// Sends a request and reads the first frame of its answer.
    #[track_caller]
    pub fn ask(&mut self, kind: u8, payload: &[u8]) -> Frame {
        self.request(kind, payload);
        self.frame().expect("an answer")
    }

    /// The next frame; none at the end of the connection.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        let mut header = [0; 5];
        match self.line.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("PCP: {error}"),
        }
        let length = u32::from_be_bytes(header[1..].try_into().expect("length"));
        let mut payload = vec![0; length as usize - 4];
        self.line.read_exact(&mut payload).expect("payload");
        Some((header[0], payload))
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.line.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Asks for a salt and answers it; with what is said to that.
    #[track_caller]
    pub fn log_in(&mut self, user: &str, password: &str) -> Frame {
        self.answer_salt(user, password);
        self.frame().expect("an answer")
    }

    /// Asks for a salt and answers it.
    #[track_caller]
    pub fn answer_salt(&mut self, user: &str, password: &str) {
        let login = self.answer(user, password);
        self.send(&login);
    }

    /// Asks for a salt; with the request that answers it.
    #[track_caller]
    pub fn answer(&mut self, user: &str, password: &str) -> Vec<u8> {
        let (kind, salt) = self.ask(b'M', b"");
        assert_eq!((kind, salt.len()), (b'm', 4));
        let first = md5_hex(&[password.as_bytes()]);
        let second = md5_hex(&[first.as_bytes(), user.as_bytes()]);
        let third = md5_hex(&[second.as_bytes(), &salt]);
        message(b'R', format!("{user}\0{third}\0").as_bytes())
    }
}

fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 4).expect("length");
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// The texts of a payload.
pub fn texts(payload: &[u8]) -> Vec<String> {
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    payload.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Severity, message and detail of an error or notice.
#[track_caller]
pub fn report(frame: &Frame) -> String {
    let fields = texts(&frame.1);
    let field = |letter: char| fields.iter().find_map(|field| field.strip_prefix(letter)).unwrap_or_default();
    assert!(matches!(frame.0, b'E' | b'N'), "{frame:?}");
    format!("{}|{}|{}", field('S'), field('M'), field('D'))
}

pub fn md5_hex(parts: &[&[u8]]) -> String {
    let digest = hash(MessageDigest::md5(), &parts.concat()).expect("md5");
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
