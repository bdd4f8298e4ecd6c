//! The first packet of a client: startup, cancel, TLS or GSS request (protocol 3, 4, 5, 18).

use super::{Cursor, Malformed};

/// The longest startup packet that is accepted, in bytes, length field included; PostgreSQL's own limit.
pub const MAX_LENGTH: u32 = 10_000;
/// The longest cancel key of protocol 3.2, in bytes.
pub const MAX_CANCEL_KEY: usize = 256;

/// What asks for TLS.
pub const TLS_REQUEST: [u8; 8] = *b"\0\0\0\x08\x04\xd2\x16\x2f";
/// The first byte of a TLS handshake, which comes without asking from clients of PostgreSQL 17.
pub const TLS_HANDSHAKE: u8 = 0x16;

const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;

/// What a client's first packet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Begin a session.
    Startup(Startup<'a>),
    /// Cancel what the session with this pid and key is running.
    Cancel {
        /// Backend pid the client was given.
        pid: u32,
        /// Key the client was given.
        key: &'a [u8],
    },
    /// SSLRequest.
    Tls,
    /// GSSENCRequest.
    GssEnc,
}

/// A startup packet of protocol 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup<'a> {
    /// Minor version asked for; the major version is 3.
    pub minor: u16,
    /// Names and values in the order sent.
    pub parameters: Vec<(&'a [u8], &'a [u8])>,
}

/// Length of the whole packet at the start of `bytes`; `None` while its length field is not complete.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some((field, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*field);
    if !(8..=MAX_LENGTH).contains(&length) {
        return Err(Malformed::Length { kind: "StartupMessage", length });
    }
    Ok(Some(length as usize))
}

/// Decodes a whole packet, length field included.
pub fn read(packet: &[u8]) -> Result<Request<'_>, Malformed> {
    let mut cursor = Cursor::new(packet);
    let (Some(_), Some(code)) = (cursor.u32(), cursor.u32()) else { return Err(Malformed::Startup("too short")) };
    match code {
        TLS => Ok(Request::Tls),
        GSSENC => Ok(Request::GssEnc),
        CANCEL => {
            let pid = cursor.u32().ok_or(Malformed::Content("CancelRequest"))?;
            let key = cursor.rest();
            if key.is_empty() || key.len() > MAX_CANCEL_KEY {
                return Err(Malformed::Content("CancelRequest"));
            }
            Ok(Request::Cancel { pid, key })
        }
        _ => match code >> 16 {
            3 => read_startup(cursor, (code & 0xffff) as u16).map(Request::Startup),
            2 => Err(Malformed::Startup("protocol version 2 is not supported")),
            _ => Err(Malformed::Startup("unknown protocol version")),
        },
    }
}

fn read_startup(mut cursor: Cursor<'_>, minor: u16) -> Result<Startup<'_>, Malformed> {
    let mut parameters = Vec::new();
    loop {
        let name = cursor.text().ok_or(Malformed::Startup("no terminator"))?;
        if name.is_empty() {
            break;
        }
        let value = cursor.text().ok_or(Malformed::Startup("a parameter without value"))?;
        parameters.push((name, value));
    }
    if !cursor.rest().is_empty() {
        return Err(Malformed::Startup("data behind the terminator"));
    }
    Ok(Startup { minor, parameters })
}

impl<'a> Startup<'a> {
    /// The last value given for `name`.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.parameters.iter().rev().find(|(given, _)| *given == name.as_bytes()).map(|(_, value)| *value)
    }

    /// The packet that servers receive and that is compared for reuse: the parameters in byte order of their names
    /// (protocol 3), with `minor` as the minor version.
    pub fn canonical(&self, minor: u16) -> Vec<u8> {
        let mut sorted = self.parameters.clone();
        sorted.sort_by_key(|(name, _)| *name);
        let mut packet = vec![0; 4];
        packet.extend((3u32 << 16 | u32::from(minor)).to_be_bytes());
        for (name, value) in sorted {
            packet.extend_from_slice(name);
            packet.push(0);
            packet.extend_from_slice(value);
            packet.push(0);
        }
        packet.push(0);
        let length = packet.len() as u32;
        packet[..4].copy_from_slice(&length.to_be_bytes());
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        let mut packet = ((rest.len() + 8) as u32).to_be_bytes().to_vec();
        packet.extend(code.to_be_bytes());
        packet.extend(rest);
        packet
    }

    #[test]
    fn startup_is_read_and_sorted() {
        let bytes = packet(0x0003_0002, b"user\0u\0database\0d\0\0");
        let Ok(Request::Startup(startup)) = read(&bytes) else { panic!("not a startup packet") };
        assert_eq!((startup.minor, startup.get("user"), startup.get("x")), (2, Some(&b"u"[..]), None));
        assert_eq!(startup.canonical(0), packet(0x0003_0000, b"database\0d\0user\0u\0\0"));
    }

    #[test]
    fn other_requests() {
        assert_eq!(read(&packet(TLS, b"")), Ok(Request::Tls));
        assert_eq!(packet(TLS, b""), TLS_REQUEST);
        assert_eq!(read(&packet(GSSENC, b"")), Ok(Request::GssEnc));
        assert_eq!(read(&packet(CANCEL, b"\0\0\0\x05keys")), Ok(Request::Cancel { pid: 5, key: b"keys" }));
        assert!(read(&packet(CANCEL, b"\0\0\0\x05")).is_err());
    }

    #[test]
    fn slips_are_errors() {
        for rest in [&b"user\0u\0"[..], b"user\0", b"user", b"", b"\0x"] {
            assert!(matches!(read(&packet(0x0003_0000, rest)), Err(Malformed::Startup(_))), "{rest:?}");
        }
        assert!(read(&packet(0x0002_0000, b"")).is_err() && read(&packet(0x0004_0000, b"\0")).is_err());
        assert!(length(&[0, 0, 0, 7]).is_err() && length(&[0, 1, 0, 0]).is_err());
        assert_eq!(length(&[0, 0]), Ok(None));
    }
}
