//! Secrets, and what is made of them.

pub use crate::sys::Secret;

use openssl::sha::{Sha256, sha256};
use std::sync::LazyLock;

/// Whether two secrets are equal, in a time that tells nothing about where they differ.
pub fn same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && openssl::memcmp::eq(one, two)
}

/// 32 random bytes of this pgpool, the same in all its processes: made by the parent before it forks ([`prepare`]).
static OWN: LazyLock<[u8; 32]> = LazyLock::new(random);

/// Makes it.
pub(super) fn prepare() {
    LazyLock::force(&OWN);
}

/// A fingerprint of `parts` that nobody can make who does not know this pgpool's own secret.
pub(super) fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    fingerprint_by(&OWN, parts)
}

/// A fingerprint of `parts` that nobody can make who does not know `secret`.
pub(super) fn fingerprint_by(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut whole = Vec::new();
    for part in parts {
        whole.extend((part.len() as u64).to_be_bytes());
        whole.extend_from_slice(part);
    }
    hmac(secret, &[Secret::new(whole).bytes()])
}

/// HMAC-SHA-256 (RFC 2104). OpenSSL's own looks for its implementation each time, which costs ten times the sum.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&sha256(key)),
    }
    let padded = |pad: u8| {
        let mut digest = Sha256::new();
        digest.update(&block.map(|byte| byte ^ pad));
        digest
    };
    let (mut inner, mut outer) = (padded(0x36), padded(0x5c));
    parts.iter().for_each(|part| inner.update(part));
    outer.update(&inner.finish());
    outer.finish()
}

/// Random bytes.
///
/// # Panics
/// If the system has no randomness, without which nothing could be done safely.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    openssl::rand::rand_bytes(&mut bytes).expect("random bytes of OpenSSL");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same(b"secret", b"secret") && !same(b"secret", b"s") && !same(b"", b"s") && same(b"", b""));
    }

    #[test]
    fn fingerprints_tell_parts_apart() {
        assert_eq!(fingerprint(&[b"a", b"bc"]), fingerprint(&[b"a", b"bc"]));
        assert_ne!(fingerprint(&[b"a", b"bc"]), fingerprint(&[b"ab", b"c"]));
        assert_ne!(random::<16>(), random::<16>());
    }
}
