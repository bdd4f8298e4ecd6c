//! The kinds of entries (auth 4.3), and what each can do.

use super::super::md5::Md5Hash;
use super::super::scram::Verifier;
use super::super::{Credential, Secret, same};

/// What pool_passwd knows of a user.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Nothing.
    None,
    /// The password; `true`: it was encrypted.
    Password(Secret, bool),
    /// Its md5 hash.
    Md5(Md5Hash),
    /// A SCRAM verifier.
    Verifier(Box<Verifier>),
    /// An encrypted password that cannot be decrypted.
    Undecryptable,
    /// An empty password, which is nobody's: methods that ask for a proof would take it from anybody.
    Empty,
    /// What begins like a verifier and is none that is understood.
    Garbage,
}

impl Entry {
    /// The entry of this text, with `decrypt` for what follows `AES`.
    pub fn new(text: &[u8], decrypt: impl FnOnce(&[u8]) -> Option<Secret>) -> Self {
        if let Some(hash) = Md5Hash::from_stored(text) {
            Self::Md5(hash)
        } else if let Some(text) = text.strip_prefix(b"AES") {
            match decrypt(text) {
                Some(password) => Self::password(password, true),
                None => Self::Undecryptable,
            }
        } else if text.starts_with(b"SCRAM-SHA-") {
            Verifier::parse(text).map_or(Self::Garbage, |verifier| Self::Verifier(Box::new(verifier)))
        } else {
            Self::password(Secret::new(text.strip_prefix(b"TEXT").unwrap_or(text)), false)
        }
    }

    fn password(password: Secret, was_encrypted: bool) -> Self {
        if password.bytes().is_empty() { Self::Empty } else { Self::Password(password, was_encrypted) }
    }

    /// What a server has stored: a hash or a verifier. What is of another form is of no use, and never a password itself.
    pub fn stored(text: &[u8]) -> Self {
        match Self::new(text, |_| None) {
            hashed @ (Self::Md5(_) | Self::Verifier(_)) => hashed,
            _ => Self::Garbage,
        }
    }

    /// Its kind, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "no entry",
            Self::Password(_, false) => "a password in clear text",
            Self::Password(_, true) => "an encrypted password",
            Self::Md5(_) => "an md5 hash",
            Self::Verifier(_) => "a SCRAM verifier",
            Self::Undecryptable => "an encrypted password that cannot be decrypted",
            Self::Empty => "an empty password, which lets nobody in",
            Self::Garbage => "a malformed SCRAM verifier",
        }
    }

    /// Whether there is an entry, of whatever use.
    pub fn is_there(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether `password` is the user's. `None`: the entry cannot tell.
    pub fn is_of(&self, password: &[u8], user: &[u8]) -> Option<bool> {
        match self {
            Self::Password(known, _) => Some(same(known.bytes(), password)),
            Self::Md5(hash) => Some(hash.is_of(password, user)),
            Self::Verifier(verifier) => Some(verifier.is_of(password)),
            Self::None | Self::Undecryptable | Self::Empty | Self::Garbage => None,
        }
    }

    /// The hash by which an answer to an md5 challenge is checked, if there is one.
    pub fn md5(&self, user: &[u8]) -> Option<Md5Hash> {
        match self {
            Self::Password(password, _) => Md5Hash::of(password.bytes(), user),
            Self::Md5(hash) => Some(hash.clone()),
            _ => None,
        }
    }

    /// What logs in to servers by it.
    pub fn credential(&self) -> Credential {
        match self {
            Self::Password(password, _) => Credential::Password(password.clone()),
            Self::Md5(hash) => Credential::Md5(hash.clone()),
            _ => Credential::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scram::LoginKeys;

    fn entry(text: &str) -> Entry {
        Entry::new(text.as_bytes(), |text| match text {
            b"good" => Some(Secret::new(*b"decrypted")),
            b"empty" => Some(Secret::default()),
            _ => None,
        })
    }

    #[test]
    fn kinds_by_their_beginnings() {
        let hash = "md54a0a68b43b6cd5cf266fa02f196e2371";
        for (text, kind) in [
            ("secret", "a password in clear text"),
            ("TEXTAESsecret", "a password in clear text"),
            ("text", "a password in clear text"),
            ("md5", "a password in clear text"),
            ("Md54a0a68b43b6cd5cf266fa02f196e2371", "a password in clear text"),
            (hash, "an md5 hash"),
            ("AESgood", "an encrypted password"),
            ("AES", "an encrypted password that cannot be decrypted"),
            ("AESempty", "an empty password, which lets nobody in"),
            ("TEXT", "an empty password, which lets nobody in"),
            ("", "an empty password, which lets nobody in"),
            ("SCRAM-SHA-256$x", "a malformed SCRAM verifier"),
            ("SCRAM-SHA-512$4096:salt$a:b", "a malformed SCRAM verifier"),
            (&LoginKeys::derive(b"secret", b"salt", 1).verifier().to_string(), "a SCRAM verifier"),
        ] {
            assert_eq!(entry(text).name(), kind, "{text}");
        }
    }

    #[test]
    fn each_kind_knows_the_password_or_says_that_it_cannot_tell() {
        let hash = "md54a0a68b43b6cd5cf266fa02f196e2371";
        let verifier = LoginKeys::derive(b"secret", b"salt", 1).verifier().to_string();
        for text in ["secret", "TEXTsecret", hash, &verifier] {
            assert_eq!(entry(text).is_of(b"secret", b"alice"), Some(true), "{text}");
            for wrong in [&b""[..], b"s", b"secrets", b"Secret"] {
                assert_eq!(entry(text).is_of(wrong, b"alice"), Some(false), "{text}");
            }
        }
        assert_eq!(entry("AESgood").is_of(b"decrypted", b"u"), Some(true));
        for text in ["AESbad", "SCRAM-SHA-256$x", "TEXT", "AESempty"] {
            assert_eq!(entry(text).is_of(b"", b"alice"), None);
            assert!(entry(text).is_there() && entry(text).md5(b"alice").is_none(), "{text}");
            assert!(matches!(entry(text).credential(), Credential::None), "{text}");
        }
        assert_eq!(Entry::None.is_of(b"", b"alice"), None);
    }

    #[test]
    fn what_each_kind_serves() {
        let verifier = LoginKeys::derive(b"secret", b"salt", 1).verifier().to_string();
        assert!(matches!(entry("p").credential(), Credential::Password(_)) && entry("p").md5(b"u").is_some());
        assert!(matches!(entry(&verifier).credential(), Credential::None) && entry(&verifier).md5(b"u").is_none());
    }
}
