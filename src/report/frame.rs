//! How log messages travel to the collector: in frames that a pipe takes whole or not at all.
//!
//! A write of at most `PIPE_BUF` bytes is never mixed with those of other processes. So a message is cut into frames of
//! that size, which name their process, and the collector puts them together again. A frame begins with two zero bytes,
//! which no line of text does: what scripts and crashing processes write to the same pipe stays recognisable.
//!
//! Layout: two zero bytes, payload length (u16), process id (u32), flags (u8), payload; numbers little-endian.

/// Bytes in front of the payload.
pub const HEADER: usize = 9;
/// Payload of a frame at most: Linux's `PIPE_BUF` without the header.
pub const PAYLOAD: usize = 4096 - HEADER;
/// The message begins here.
const FIRST: u8 = 1;
/// The message ends here.
const LAST: u8 = 2;

/// What is in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload, 1 to [`PAYLOAD`].
    pub length: usize,
    /// The process that speaks.
    pub pid: u32,
    /// The message begins here.
    pub first: bool,
    /// The message ends here.
    pub last: bool,
}

impl Header {
    /// The header at the front of `bytes`, of which there are at least [`HEADER`]; `None`: that is no frame.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [0, 0, low, high, p0, p1, p2, p3, flags, ..] = *bytes else { return None };
        let length = usize::from(u16::from_le_bytes([low, high]));
        let is_frame = (1..=PAYLOAD).contains(&length) && flags & !(FIRST | LAST) == 0;
        is_frame.then(|| Self {
            length,
            pid: u32::from_le_bytes([p0, p1, p2, p3]),
            first: flags & FIRST != 0,
            last: flags & LAST != 0,
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        let flags = u8::from(self.first) * FIRST + u8::from(self.last) * LAST;
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u16::try_from(self.length).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&self.pid.to_le_bytes());
        out.push(flags);
    }
}

/// `message` of process `pid` in frames. An empty message has none.
pub fn frames(message: &[u8], pid: u32) -> impl Iterator<Item = Vec<u8>> + '_ {
    let count = message.len().div_ceil(PAYLOAD);
    message.chunks(PAYLOAD).enumerate().map(move |(at, payload)| {
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        Header { length: payload.len(), pid, first: at == 0, last: at + 1 == count }.write(&mut frame);
        frame.extend_from_slice(payload);
        frame
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_into_frames_of_a_pipe() {
        let message = vec![b'x'; 2 * PAYLOAD + 1];
        let cut: Vec<_> = frames(&message, 0x0102_0304).collect();
        let headers: Vec<_> = cut.iter().map(|frame| Header::read(frame).expect("a frame")).collect();
        assert!(cut.iter().all(|frame| frame.len() <= 4096));
        assert_eq!(headers.iter().map(|header| header.length).collect::<Vec<_>>(), [PAYLOAD, PAYLOAD, 1]);
        assert_eq!(
            headers.iter().map(|header| (header.first, header.last)).collect::<Vec<_>>(),
            [(true, false), (false, false), (false, true)]
        );
        assert!(headers.iter().all(|header| header.pid == 0x0102_0304));
        assert_eq!(frames(b"", 1).count(), 0);
    }

    #[test]
    fn text_is_no_frame() {
        assert_eq!(Header::read(b"Segmentation fault"), None);
        assert_eq!(Header::read(&[0; HEADER]), None);
        assert_eq!(Header::read(&[0, 0, 255, 255, 1, 0, 0, 0, 3]), None);
        assert_eq!(Header::read(&[0, 0, 1, 0, 1, 0, 0, 0, 4]), None);
        assert_eq!(Header::read(&[0, 0, 1]), None);
    }
}
