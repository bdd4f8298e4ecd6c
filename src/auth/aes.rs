//! Encrypted entries of pool_passwd and pgpool.conf (auth 5): `AES` and base64.
//!
//! Not a strong protection: the key is derived without salt in one round, equal passwords give equal entries, and nothing
//! proves that an entry is whole. It is what the files of users are written in.

use super::{Secret, base64};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkcs5::{KeyIvPair, bytes_to_key};
use openssl::symm::{self, Cipher};

/// What an encrypted entry begins with.
pub const PREFIX: &str = "AES";

/// Encrypts a password: the base64 text that follows [`PREFIX`].
///
/// # Errors
/// This system's OpenSSL does without SHA-1 or AES.
pub fn encrypt(password: &[u8], key: &[u8]) -> Result<String, ErrorStack> {
    let KeyIvPair { key, iv } = material(key)?;
    symm::encrypt(cipher(), &key, iv.as_deref(), password).map(|bytes| base64::encode(&bytes))
}

/// Decrypts what follows [`PREFIX`]. `None`: it is damaged, or encrypted with another key, which is noticed nearly always
/// but not always.
pub fn decrypt(text: &[u8], key: &[u8]) -> Option<Secret> {
    let bytes = base64::decode(text).filter(|bytes| !bytes.is_empty())?;
    let KeyIvPair { key, iv } = material(key).ok()?;
    symm::decrypt(cipher(), &key, iv.as_deref(), &bytes).ok().map(Secret::new)
}

fn cipher() -> Cipher {
    Cipher::aes_256_cbc()
}

/// Key and initialisation vector from the text of the key (auth 5.1).
fn material(key: &[u8]) -> Result<KeyIvPair, ErrorStack> {
    bytes_to_key(cipher(), MessageDigest::sha1(), key, None, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The vectors of auth 5.3.
    #[test]
    fn entries_as_pg_enc_writes_them() {
        for (key, password, text) in [
            ("secret", "foo", "spLxkQKd0MsKGnf8RHukyA=="),
            ("secret", "", "gfW0MgBLzphvfFECGJZhyQ=="),
            ("my key", "pässwörd", "LIZTV0yHIBLmG1lwq8tLow=="),
            ("pgpool", "0123456789abcdef", "FNNM4j6tZmi/q1SwNDuZ8FXc1JFkhZHsWOUIj6uotUI="),
            ("", "secret", "usUl+sJB8NTGklVZKnG09g=="),
            ("k1", "secret", "ktnnupnBYqgsDxkbzSUsAQ=="),
        ] {
            assert_eq!(encrypt(password.as_bytes(), key.as_bytes()).expect("AES"), text);
            let decrypted = decrypt(text.as_bytes(), key.as_bytes());
            assert_eq!(decrypted.as_ref().map(Secret::bytes), Some(password.as_bytes()));
        }
    }

    #[test]
    fn damaged_texts_and_wrong_keys() {
        let damaged = [
            "",
            "AAAA",
            "spLxkQKd0MsKGnf8RHukyA=",
            "spLxkQKd0MsKGnf8RHukyA==\n",
            " spLxkQKd0MsKGnf8RHukyA==",
            "spLxkQKd0MsKGnf8RHu?yA==",
            "spLxkQKd0MsKGnf8RHukyA==AAAA",
        ];
        for text in damaged {
            assert!(decrypt(text.as_bytes(), b"secret").is_none(), "{text:?}");
        }
        assert!(decrypt(b"spLxkQKd0MsKGnf8RHukyA==", b"other").is_none());
    }

    proptest! {
        #[test]
        fn both_ways(password: Vec<u8>, key: Vec<u8>) {
            let text = encrypt(&password, &key).expect("AES");
            prop_assert_eq!(decrypt(text.as_bytes(), &key), Some(Secret::new(password)));
        }

        #[test]
        fn no_text_harms(text: Vec<u8>) {
            decrypt(&text, b"key");
        }
    }
}
