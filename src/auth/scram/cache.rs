//! Keys of passwords met before, so that a login costs a few hashes and not thousands.
//!
//! Passwords are not kept: a key is found by a fingerprint of password, salt and count that only this pgpool can make. A
//! password that is changed has another fingerprint, so nothing ever needs to be forgotten.

use super::super::secret::fingerprint;
use super::keys::{Key, LoginKeys};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Keys kept at most, about 150 KB. When there are more, all go: that needs as many different passwords.
const LIMIT: usize = 1024;

/// Keys by fingerprint.
struct Cache(LazyLock<Mutex<HashMap<Key, [Key; 2]>>>);

/// Of passwords that somebody has set.
static KNOWN: Cache = Cache(LazyLock::new(Mutex::default));

/// The keys of `password`, derived if they are not known yet.
pub fn keys_of(password: &[u8], salt: &[u8], iterations: u32) -> LoginKeys {
    KNOWN.keys(password, salt, iterations)
}

/// Whether the keys of `password` pass `test`. Only those that do are remembered: anybody can try passwords.
pub(super) fn derived(password: &[u8], salt: &[u8], iterations: u32, test: impl Fn(&LoginKeys) -> bool) -> bool {
    let name = name(password, salt, iterations);
    let keys = KNOWN.get(&name, salt, iterations).unwrap_or_else(|| LoginKeys::derive(password, salt, iterations));
    let passes = test(&keys);
    if passes {
        KNOWN.put(name, &keys);
    }
    passes
}

fn name(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    fingerprint(&[b"keys", password, salt, &iterations.to_be_bytes()])
}

impl Cache {
    fn keys(&self, password: &[u8], salt: &[u8], iterations: u32) -> LoginKeys {
        let name = name(password, salt, iterations);
        self.get(&name, salt, iterations).unwrap_or_else(|| {
            let keys = LoginKeys::derive(password, salt, iterations);
            self.put(name, &keys);
            keys
        })
    }

    fn get(&self, name: &Key, salt: &[u8], iterations: u32) -> Option<LoginKeys> {
        let [client_key, server_key] = *self.0.lock().get(name)?;
        Some(LoginKeys { iterations, salt: salt.to_vec(), client_key, server_key })
    }

    fn put(&self, name: Key, keys: &LoginKeys) {
        let mut known = self.0.lock();
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(name, [keys.client_key, keys.server_key]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_derived() {
        for (password, salt, iterations) in
            [(&b"a"[..], &b"salt"[..], 1), (b"b", b"salt", 1), (b"a", b"s", 1), (b"a", b"salt", 2)]
        {
            let derived = LoginKeys::derive(password, salt, iterations);
            assert!(keys_of(password, salt, iterations) == derived && keys_of(password, salt, iterations) == derived);
        }
    }
}
