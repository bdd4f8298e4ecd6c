//! SASLprep, with PostgreSQL's fallback: what cannot be prepared is used as it is (auth 14.1).

use std::borrow::Cow;

/// The bytes of a password that are hashed.
pub(super) fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(password) else { return Cow::Borrowed(password) };
    match stringprep::saslprep(text) {
        Ok(Cow::Owned(prepared)) => Cow::Owned(prepared.into_bytes()),
        Ok(Cow::Borrowed(_)) | Err(_) => Cow::Borrowed(password),
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn prepared_where_it_can_be() {
        assert_eq!(&*prepare("I\u{ad}X".as_bytes()), b"IX");
        assert_eq!(&*prepare("\u{2168}".as_bytes()), b"IX");
        assert_eq!(&*prepare("pa\u{a0}ss".as_bytes()), b"pa ss");
        for as_it_is in [&b"secret"[..], b"\xff\xfe", b"bell\x07", "\u{627}1".as_bytes()] {
            assert_eq!(&*prepare(as_it_is), as_it_is);
        }
    }
}
