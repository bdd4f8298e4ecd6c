//! The settings, rules and certificates in force, for processes that run already (config 6): bytes, of whose meaning nothing
//! is known here.

use super::Shared;
use crate::sys::Secret;
use pgpool_shm::{Versioned, shareable};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of settings, and of rules, at most; memory is used only as far as they go.
const LIMIT: usize = 1 << 20;
/// The same for certificates, keys and lists of revoked ones.
const TLS_LIMIT: usize = 8 << 20;

shareable! {
    pub(super) struct SettingsRecord {
        snapshot: Versioned<u8, LIMIT>,
        rules: Versioned<u8, LIMIT>,
        client_tls: Versioned<u8, TLS_LIMIT>,
        iterations: AtomicU32,
    }
}

impl Shared {
    /// Publishes the settings in force. For the parent. `false`: they are too long, and what was published before stays.
    #[must_use]
    pub fn publish_settings(&self, snapshot: &[u8]) -> bool {
        if !Self::fits(snapshot) {
            return false;
        }
        self.settings_record().snapshot.write(snapshot);
        true
    }

    /// Whether these are not too long to be published.
    pub fn fits(published: &[u8]) -> bool {
        published.len() <= LIMIT
    }

    /// Publishes the files of pool_hba.conf in force, as [`Shared::publish_settings`] does the settings.
    #[must_use]
    pub fn publish_rules(&self, files: &[u8]) -> bool {
        if !Self::fits(files) {
            return false;
        }
        self.settings_record().rules.write(files);
        true
    }

    /// The files of pool_hba.conf published last; empty before the first time.
    pub fn published_rules(&self) -> Vec<u8> {
        self.settings_record().rules.read()
    }

    /// Publishes what makes TLS for clients from now on, with the key in it: nobody but pgpool's own user can read this memory.
    /// For the parent. `false`: it is too long, and what was published before stays.
    #[must_use]
    pub fn publish_client_tls(&self, material: &Secret) -> bool {
        let material = material.bytes();
        let fits = material.len() <= TLS_LIMIT;
        if fits {
            self.settings_record().client_tls.write(material);
        }
        fits
    }

    /// Counts what was published for TLS with clients: 0 before the first time.
    #[inline]
    pub fn client_tls_generation(&self) -> u64 {
        self.settings_record().client_tls.version()
    }

    /// What was published last for TLS with clients, and its generation.
    pub fn published_client_tls(&self) -> (u64, Secret) {
        let mut material = Vec::new();
        let generation = self.settings_record().client_tls.read_into(&mut material);
        (generation, Secret::new(material))
    }

    /// A server has told a verifier with so many iterations.
    pub fn note_iterations(&self, iterations: u32) {
        self.settings_record().iterations.store(iterations, Ordering::Relaxed);
    }

    /// Those of the verifier that a server has told last, to whichever process.
    pub fn told_iterations(&self) -> Option<u32> {
        Some(self.settings_record().iterations.load(Ordering::Relaxed)).filter(|iterations| *iterations > 0)
    }

    /// The settings published last; empty before the first time.
    pub fn published_settings(&self) -> Vec<u8> {
        self.settings_record().snapshot.read()
    }
}

#[cfg(test)]
mod tests {
    use crate::state::{Limits, Shared};
    use crate::sys::Secret;

    #[test]
    fn the_last_that_fit_are_there() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        assert!(shared.published_settings().is_empty());
        assert!(shared.publish_settings(&[7; 100]) && !shared.publish_settings(&vec![8; super::LIMIT + 1]));
        assert_eq!(shared.published_settings(), [7; 100]);
        assert_eq!(shared.client_tls_generation(), 0);
        assert!(shared.publish_client_tls(&Secret::new([9; 100])));
        assert!(!shared.publish_client_tls(&Secret::new(vec![8; super::TLS_LIMIT + 1])));
        assert_eq!(shared.told_iterations(), None);
        shared.note_iterations(5);
        assert_eq!(shared.told_iterations(), Some(5));
        assert_eq!(shared.published_client_tls(), (1, Secret::new([9; 100])));
    }
}
