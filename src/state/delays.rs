//! How far the standbys are behind the primary (failover 14.4).
//!
//! One word per node, beside the node table and not in it: it changes with every check, and a session that wants to know
//! reads this word instead of the whole table again. The replication check is the only one to write it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How far a standby is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// Nobody measures it.
    #[default]
    Unmeasured,
    /// Bytes of WAL that it has not replayed.
    Bytes(u64),
    /// Age of what it replays.
    Time(Duration),
    /// It is measured, but the last attempt has failed.
    Unknown,
}

// A word is a unit, the mark that the figure is an old one, and the figure in bytes or microseconds.
const BYTES: u64 = 1 << 62;
const TIME: u64 = 1 << 63;
const UNITS: u64 = BYTES | TIME;
const OUTDATED: u64 = 1 << 61;
const MAX_FIGURE: u64 = OUTDATED - 1;

/// The delays of all nodes.
#[derive(Clone, Copy)]
pub struct Delays<'a> {
    words: &'a [AtomicU64],
    /// Milliseconds of [`uptime`](super::uptime).
    caught_up: &'a [AtomicU64],
}

impl<'a> Delays<'a> {
    pub(super) fn new(words: &'a [AtomicU64], caught_up: &'a [AtomicU64]) -> Self {
        Self { words, caught_up }
    }

    /// Everything that was committed on the primary before this moment is to be seen on the standby, as
    /// [`uptime`](super::uptime) tells it; zero: nobody knows.
    pub fn caught_up(self, node: usize) -> Duration {
        self.caught_up.get(node).map_or(Duration::ZERO, |moment| Duration::from_millis(moment.load(Relaxed)))
    }

    /// Whether a session of a standby that was `opened` then shows what was `written` then, moments of
    /// [`uptime`](super::uptime). What was found before it was opened does not count: the standby may have started again, with
    /// less than it had, or have become another server.
    pub fn shows(self, node: usize, written: Duration, opened: Duration) -> bool {
        self.caught_up(node) > written.max(opened)
    }

    /// Notes the moment up to which a standby has caught up.
    pub fn set_caught_up(self, node: usize, moment: Duration) {
        if let Some(word) = self.caught_up.get(node) {
            word.store(u64::try_from(moment.as_millis()).unwrap_or(0), Relaxed);
        }
    }

    /// The delay of a node as decisions should see it. One load.
    #[inline]
    pub fn of(self, node: usize) -> Delay {
        let word = self.word(node);
        if word & OUTDATED == 0 { decode(word) } else { Delay::Unknown }
    }

    /// The last delay that could be measured, for whoever wants to see a figure; never [`Delay::Unknown`].
    pub fn last_known(self, node: usize) -> Delay {
        decode(self.word(node))
    }

    /// Sets the delay of a node. With [`Delay::Unknown`] the last figure stays to be shown.
    pub fn set(self, node: usize, delay: Delay) {
        let Some(word) = self.words.get(node) else { return };
        word.store(
            match delay {
                Delay::Unmeasured => 0,
                Delay::Bytes(bytes) => BYTES | bytes.min(MAX_FIGURE),
                Delay::Time(time) => TIME | u64::try_from(time.as_micros()).unwrap_or(MAX_FIGURE).min(MAX_FIGURE),
                Delay::Unknown => word.load(Relaxed) | OUTDATED,
            },
            Relaxed,
        );
    }

    fn word(self, node: usize) -> u64 {
        self.words.get(node).map_or(0, |word| word.load(Relaxed))
    }
}

fn decode(word: u64) -> Delay {
    let figure = word & MAX_FIGURE;
    match word & UNITS {
        BYTES => Delay::Bytes(figure),
        TIME => Delay::Time(Duration::from_micros(figure)),
        _ => Delay::Unmeasured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, Shared};

    #[test]
    fn what_is_set_is_read() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let delays = shared.delays();
        assert_eq!(delays.of(1), Delay::Unmeasured);
        for delay in [Delay::Bytes(0), Delay::Bytes(1 << 60), Delay::Time(Duration::from_micros(4512))] {
            delays.set(1, delay);
            assert_eq!((delays.of(1), delays.last_known(1), delays.of(0)), (delay, delay, Delay::Unmeasured));
        }
        delays.set(1, Delay::Bytes(u64::MAX));
        assert_eq!(delays.of(1), Delay::Bytes(MAX_FIGURE));
        delays.set(1, Delay::Time(Duration::MAX));
        assert_eq!(delays.of(1), Delay::Time(Duration::from_micros(MAX_FIGURE)));
        delays.set(usize::MAX, Delay::Bytes(1));
        assert_eq!(delays.of(usize::MAX), Delay::Unmeasured);
    }

    #[test]
    fn a_standby_shows_what_was_found_since_it_was_asked_for() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let (delays, at) = (shared.delays(), Duration::from_secs);
        assert!(!delays.shows(1, at(0), at(0)), "nobody knows");
        delays.set_caught_up(1, at(20));
        assert!(delays.shows(1, at(19), at(19)));
        assert!(!delays.shows(1, at(20), at(19)), "written since");
        assert!(!delays.shows(1, at(19), at(20)), "started again since, perhaps");
        assert!(!delays.shows(1, at(19), Duration::MAX));
        assert!(!delays.shows(usize::MAX, at(0), at(0)));
    }

    #[test]
    fn what_is_unknown_now_shows_its_last_figure() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let delays = shared.delays();
        delays.set(0, Delay::Unknown);
        assert_eq!((delays.of(0), delays.last_known(0)), (Delay::Unknown, Delay::Unmeasured));
        delays.set(0, Delay::Bytes(7));
        delays.set(0, Delay::Unknown);
        assert_eq!((delays.of(0), delays.last_known(0)), (Delay::Unknown, Delay::Bytes(7)));
        delays.set(0, Delay::Bytes(9));
        assert_eq!(delays.of(0), Delay::Bytes(9));
        delays.set(0, Delay::Unmeasured);
        assert_eq!((delays.of(0), delays.last_known(0)), (Delay::Unmeasured, Delay::Unmeasured));
    }
}
