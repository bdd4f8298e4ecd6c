//! The addresses that host names had last, in this process: a name service that is away for a moment is no reason to take
//! a server for dead.
//!
//! They are used only while the name has no answer, and not for long: addresses of machines that are gone get new owners.

use crate::report::Report;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For so long after its last answer a name is believed to mean what it meant.
const TRUST: Duration = Duration::from_secs(60);
/// The names of nodes are few; reloads may bring others.
const MAX_NAMES: usize = 256;

/// What names meant.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, Meaning>);

#[derive(Debug)]
struct Meaning {
    addresses: Vec<SocketAddr>,
    at: Instant,
    /// An administrator has been told that the name has no answer.
    told: bool,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

impl Known {
    /// Calls `work` with the names of this process.
    pub fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        work(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `host` means `addresses`.
    pub fn learn(&mut self, host: &str, addresses: Vec<SocketAddr>, now: Instant) {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(host) {
            self.0.clear();
        }
        self.0.insert(host.to_owned(), Meaning { addresses, at: now, told: false });
    }

    /// Whether it is known what `host` means.
    pub fn has(&self, host: &str, now: Instant) -> bool {
        self.0.get(host).is_some_and(|meaning| now - meaning.at < TRUST)
    }

    /// What `host` meant, now that there is no answer because of `cause`; the log is told once.
    pub fn recall(&mut self, host: &str, cause: &str, now: Instant) -> Option<Vec<SocketAddr>> {
        let meaning = self.0.get_mut(host).filter(|meaning| now - meaning.at < TRUST)?;
        if !std::mem::replace(&mut meaning.told, true) {
            Report::log_line(format!("host name \"{host}\" cannot be resolved: its last addresses are used"))
                .detail(format!("{cause}; they are believed for {} seconds", TRUST.as_secs()))
                .log();
        }
        Some(meaning.addresses.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_meant_counts_for_a_while() {
        let mut known = Known::default();
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let address = || vec![SocketAddr::from(([10, 0, 0, 1], 0))];
        assert_eq!((known.recall("db", "away", now), known.has("db", now)), (None, false));
        known.learn("db", address(), now);
        let late = now + TRUST - second;
        assert_eq!((known.recall("db", "away", late), known.has("db", late)), (Some(address()), true));
        assert!(known.0["db"].told);
        assert_eq!((known.recall("db", "away", now + TRUST), known.has("db", now + TRUST)), (None, false));
        known.learn("db", address(), late);
        assert!(known.has("db", now + TRUST) && !known.0["db"].told);
    }

    #[test]
    fn names_do_not_pile_up() {
        let mut known = Known::default();
        (0..3 * MAX_NAMES).for_each(|number| known.learn(&number.to_string(), Vec::new(), Instant::now()));
        assert!(known.0.len() <= MAX_NAMES);
    }
}
