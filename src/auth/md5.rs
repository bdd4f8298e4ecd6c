//! The md5 method (auth 15).

use super::secret::{random, same};
use openssl::hash::{MessageDigest, hash};
use std::fmt;

/// What a server keeps of a password: the 32 hexadecimal digits of MD5(password ‖ user). It is as good as the password
/// where a server asks for md5.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Hash([u8; 32]);

impl Md5Hash {
    /// Of a password. `None`: this system's OpenSSL does without MD5.
    pub fn of(password: &[u8], user: &[u8]) -> Option<Self> {
        hex(&[password, user]).map(Self)
    }

    /// From the stored form: `md5` and 32 characters, which are not checked (auth 4.3).
    pub fn from_stored(text: &[u8]) -> Option<Self> {
        text.strip_prefix(b"md5")?.try_into().ok().map(Self)
    }

    /// What a client answers that was given this salt: `md5` and 32 digits. `None` as for [`Md5Hash::of`].
    pub fn answer(&self, salt: [u8; 4]) -> Option<[u8; 35]> {
        let mut answer = *b"md5................................";
        answer[3..].copy_from_slice(&hex(&[&self.0, &salt])?);
        Some(answer)
    }

    /// Whether `given` is the right answer to this salt.
    pub fn accepts(&self, given: &[u8], salt: [u8; 4]) -> bool {
        self.answer(salt).is_some_and(|expected| same(&expected, given))
    }

    /// Whether `password` is the one, for this user.
    pub fn is_of(&self, password: &[u8], user: &[u8]) -> bool {
        Self::of(password, user).is_some_and(|other| same(&self.0, &other.0))
    }
}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash")
    }
}

/// A salt for one exchange.
pub fn salt() -> [u8; 4] {
    random()
}

/// What a user of PCP answers to a salt, by the `stored` MD5 of his password in hexadecimal (pcp 2.3). `None` as for
/// [`Md5Hash::of`].
pub fn pcp_answer(stored: &[u8; 32], user: &[u8], salt: &[u8]) -> Option<[u8; 32]> {
    hex(&[&hex(&[stored, user])?, salt])
}

/// The digest of all `parts` together, in hexadecimal. `None` as for [`Md5Hash::of`].
pub fn hex(parts: &[&[u8]]) -> Option<[u8; 32]> {
    let digest = hash(MessageDigest::md5(), &parts.concat()).ok()?;
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest.iter()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_the_reference() {
        let stored = Md5Hash::from_stored(b"md54a0a68b43b6cd5cf266fa02f196e2371").expect("stored form");
        assert_eq!(Md5Hash::of(b"secret", b"alice").as_ref(), Some(&stored));
        let salt = [1, 2, 3, 4];
        let answer = b"md598a0412b9c31436fc53776e863350083";
        assert_eq!(stored.answer(salt).as_ref(), Some(answer));
        assert!(
            stored.accepts(answer, salt) && !stored.accepts(answer, [0; 4]) && !stored.accepts(&answer[..34], salt)
        );
        assert!(stored.is_of(b"secret", b"alice") && !stored.is_of(b"secret", b"bob") && !stored.is_of(b"s", b"alice"));
    }

    #[test]
    fn only_35_characters_are_a_hash() {
        assert!(Md5Hash::from_stored(b"md54a0a").is_none() && Md5Hash::from_stored(&[b'm'; 35]).is_none());
    }
}
