//! Cutting requests out of what a client sends: a type byte, a length of four bytes that counts itself, a payload
//! (pcp 1.2, 1.3).

use crate::wire::HEADER_LENGTH;

/// The smallest value of the length field: no payload.
const MIN_LENGTH: u32 = 4;
/// The largest value of the length field of a request.
const MAX_LENGTH: u32 = 259;
/// Bytes of the longest request.
pub const MAX_REQUEST: usize = 1 + MAX_LENGTH as usize;

/// One request as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type byte.
    pub kind: u8,
    /// What follows the length.
    pub payload: &'a [u8],
}

/// A length that no request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("incorrect packet length ({0})")]
pub struct BadLength(pub i32);

/// Cuts the first request off `bytes`; with it comes the number of bytes it takes. `None`: it is not whole yet.
///
/// # Errors
/// Its length is out of range.
pub fn cut(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, BadLength> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
    let [kind, length @ ..] = *header;
    let length = u32::from_be_bytes(length);
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        return Err(BadLength(length.cast_signed()));
    }
    let payload = rest.get(..(length - MIN_LENGTH) as usize);
    Ok(payload.map(|payload| (Frame { kind, payload }, HEADER_LENGTH + payload.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write::message;
    use proptest::prelude::*;

    #[test]
    fn lengths_have_their_limits() {
        let frame = |length: u32, rest: usize| [&b"I"[..], &length.to_be_bytes(), &vec![b'x'; rest]].concat();
        for length in [0, 3, 260, 1 << 31, u32::MAX] {
            assert_eq!(cut(&frame(length, 300)), Err(BadLength(length.cast_signed())));
        }
        assert_eq!(cut(&frame(4, 1)), Ok(Some((Frame { kind: b'I', payload: b"" }, 5))));
        assert_eq!(cut(&frame(259, 300)).map(|cut| cut.map(|(_, taken)| taken)), Ok(Some(MAX_REQUEST)));
        assert_eq!(cut(&frame(259, 254)), Ok(None));
        assert_eq!(cut(b"M\0\0\0"), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_whole_frames_a_beginning_or_wrong(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut rest = &bytes[..];
            while let Ok(Some((frame, taken))) = cut(rest) {
                prop_assert!(taken <= MAX_REQUEST && taken == frame.payload.len() + HEADER_LENGTH);
                rest = &rest[taken..];
            }
            // What is not whole yet never asks for more than one request's bytes to be kept.
            if cut(rest) == Ok(None) {
                prop_assert!(rest.len() < MAX_REQUEST);
            }
        }

        #[test]
        fn what_is_put_is_cut(kind: u8, payload in prop::collection::vec(any::<u8>(), 0..=255)) {
            let mut out = Vec::new();
            message(&mut out, kind, |out| out.extend_from_slice(&payload));
            prop_assert_eq!(cut(&out), Ok(Some((Frame { kind, payload: &payload }, out.len()))));
        }
    }
}
