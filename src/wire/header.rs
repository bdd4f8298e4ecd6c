//! The five bytes in front of every message but the first.

use super::Malformed;

/// Type byte and length field.
pub const HEADER_LENGTH: usize = 5;

/// The longest message that is accepted, as PostgreSQL's own limit on an allocation: 1 GiB.
pub const MAX_MESSAGE_LENGTH: u32 = 0x3fff_ffff;

/// Type and total length of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub kind: u8,
    /// Length of the whole message in bytes: type byte, length field and content.
    pub total: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`. `None`: fewer than five bytes are there. `name` names message types of
    /// this direction, for the error.
    pub fn read(bytes: &[u8], name: fn(u8) -> &'static str) -> Result<Option<Self>, Malformed> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if !(4..=MAX_MESSAGE_LENGTH).contains(&length) {
            return Err(Malformed::Length { kind: name(header[0]), length });
        }
        Ok(Some(Self { kind: header[0], total: length as usize + 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        let read = |bytes: &[u8]| Header::read(bytes, |_| "X");
        assert_eq!(read(b"Q\0\0\0"), Ok(None));
        assert_eq!(read(b"Q\0\0\0\x04rest"), Ok(Some(Header { kind: b'Q', total: 5 })));
        for length in [0u32, 3, 0x4000_0000, i32::MAX as u32, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(read(&bytes), Err(Malformed::Length { kind: "X", length }));
        }
    }
}
