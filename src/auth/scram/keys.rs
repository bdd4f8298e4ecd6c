//! Keys and verifiers.

use super::super::base64;
use super::super::salts::salt_of;
use super::super::secret::{fingerprint, hmac, same};
use super::MAX_ITERATIONS;
use super::prepare::prepare;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::sha::sha256;
use std::fmt;

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;
/// Iterations of verifiers, if nothing tells another number: PostgreSQL's default.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// Salts of verifiers: longer ones than anybody makes are refused.
const MAX_SALT: usize = 256;

pub(super) type Key = [u8; KEY_LENGTH];

/// What a server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

/// What a client needs to log in wherever salt and number of iterations are the same, without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginKeys {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) client_key: Key,
    pub(super) server_key: Key,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER` (auth 14.5). `None`: that is none, or asks for more than
    /// [`MAX_ITERATIONS`].
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = text.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations = iterations.bytes().all(|byte| byte.is_ascii_digit()).then(|| iterations.parse().ok())??;
        let salt = base64::decode(salt.as_bytes()).filter(|salt| (1..=MAX_SALT).contains(&salt.len()))?;
        let key = |text: &str| base64::decode(text.as_bytes()).and_then(|key| Key::try_from(key).ok());
        (1..=MAX_ITERATIONS).contains(&iterations).then_some(())?;
        Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// How often a password is hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether `password` is the one. Costs the full number of iterations, but for a right one met before.
    pub fn is_of(&self, password: &[u8]) -> bool {
        super::cache::derived(password, &self.salt, self.iterations, |keys| {
            same(&sha256(&keys.client_key), &self.stored_key)
        })
    }
}

impl LoginKeys {
    /// From the password. Costs `iterations` rounds of HMAC.
    ///
    /// # Panics
    /// If OpenSSL has no SHA-256 or no memory.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = [0; KEY_LENGTH];
        pbkdf2_hmac(&prepare(password), salt, iterations as usize, MessageDigest::sha256(), &mut salted)
            .expect("PBKDF2 of OpenSSL");
        Self {
            iterations,
            salt: salt.to_vec(),
            client_key: hmac(&salted, &[b"Client Key"]),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// What a server would keep.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            iterations: self.iterations,
            salt: self.salt.clone(),
            stored_key: sha256(&self.client_key),
            server_key: self.server_key,
        }
    }

    /// Whether they serve a login where the server wants this salt and this number of iterations.
    pub(super) fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }
}

/// A verifier of our own with so many iterations, for a user whose password is in pool_passwd; for one who is not known, a
/// verifier that looks the same from outside and that nobody can satisfy. It costs no more than reading the verifier of one
/// who is known. Salts stay the same ([`salt_of`]).
pub fn own_verifier(user: &[u8], password: Option<&[u8]>, iterations: u32) -> Verifier {
    let salt = salt_of(user);
    match password {
        Some(password) => super::keys_of(password, &salt, iterations).verifier(),
        // Of no password; no proof is accepted for it.
        None => Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: fingerprint(&[b"stranger, stored key", user]),
            server_key: fingerprint(&[b"stranger, server key", user]),
        },
    }
}

impl Drop for LoginKeys {
    fn drop(&mut self) {
        self.client_key.fill(0);
        // Or the compiler could see that nobody reads what was written.
        std::hint::black_box(&self.client_key);
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} iterations)", self.iterations)
    }
}

impl fmt::Debug for LoginKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginKeys({} iterations)", self.iterations)
    }
}

/// The stored form.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.stored_key, &self.server_key].map(base64::encode);
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$THoPhoTAuqyoQsK4dUHncUzgfD8fdmhsgKZhWVqNP5U=:7YiHMMi2OcXGRogub03Ek06JRZ9bkhTOdCzHa5iPLiQ=";

    #[test]
    fn the_example_of_the_reference() {
        let salt: Vec<u8> = (0..16).collect();
        let verifier = LoginKeys::derive(b"secret", &salt, 4096).verifier();
        assert_eq!(verifier.to_string(), EXAMPLE);
        assert_eq!(Verifier::parse(EXAMPLE.as_bytes()), Some(verifier.clone()));
        assert!(verifier.is_of(b"secret") && !verifier.is_of(b"Secret") && !verifier.is_of(b""));
    }

    #[test]
    fn what_is_no_verifier_is_none() {
        assert!(Verifier::parse(EXAMPLE.replace("4096", "1000000").as_bytes()).is_some());
        for (part, other) in [
            ("SCRAM-SHA-256$", "SCRAM-SHA-1$"),
            ("4096:", ":"),
            ("4096:", "+4096:"),
            ("4096:", "0:"),
            ("4096:", "1000001:"),
            ("AAECAwQFBgcICQoLDA0ODw==", ""),
            ("AAECAwQFBgcICQoLDA0ODw==", "A"),
            ("THoP", ""),
            ("$THoP", ":THoP"),
            ("LiQ=", "LiQ=:x"),
        ] {
            assert_eq!(Verifier::parse(EXAMPLE.replace(part, other).as_bytes()), None, "{part} -> {other}");
        }
    }

    #[test]
    fn unknown_users_look_like_known_ones() {
        let (known, unknown) = (own_verifier(b"a", Some(b"secret"), 7), own_verifier(b"a", None, 7));
        assert_eq!((&known.salt, known.iterations), (&unknown.salt, unknown.iterations));
        assert!(known.is_of(b"secret") && known == own_verifier(b"a", Some(b"secret"), 7));
        assert!(unknown == own_verifier(b"a", None, 7) && !unknown.is_of(b"secret"));
        assert_ne!(known.salt, own_verifier(b"b", Some(b"secret"), 7).salt);
    }
}
