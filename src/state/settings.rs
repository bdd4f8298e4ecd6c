//! The settings in force, for processes that run already (config 6): bytes, of whose meaning nothing is known here.

use super::Shared;
use pgpool_shm::{Versioned, shareable};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of settings at most; memory is used only as far as they go.
const LIMIT: usize = 1 << 20;

shareable! {
    pub(super) struct SettingsRecord {
        snapshot: Versioned<u8, LIMIT>,
        rules: Versioned<u8, LIMIT>,
        client_tls: AtomicU64,
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

    /// Counts the sets of certificates for clients that the parent has found to be good.
    pub fn client_tls_generation(&self) -> u64 {
        self.settings_record().client_tls.load(Ordering::Acquire)
    }

    /// There is a new good set. For the parent.
    pub fn next_client_tls(&self) {
        self.settings_record().client_tls.fetch_add(1, Ordering::Release);
    }

    /// The settings published last; empty before the first time.
    pub fn published_settings(&self) -> Vec<u8> {
        self.settings_record().snapshot.read()
    }
}

#[cfg(test)]
mod tests {
    use crate::state::{Limits, Shared};

    #[test]
    fn the_last_that_fit_are_there() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        assert!(shared.published_settings().is_empty());
        assert!(shared.publish_settings(&[7; 100]) && !shared.publish_settings(&vec![8; super::LIMIT + 1]));
        assert_eq!(shared.published_settings(), [7; 100]);
    }
}
