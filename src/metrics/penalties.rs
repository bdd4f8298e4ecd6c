//! Who has named a wrong password lately. Guesses are judged, not connections: whoever shares an address with one who
//! guesses is still let in and told about health.
//!
//! Invariants: an address has at most [`AT_ONCE`] guesses in a [`PENALTY`], however many connections it makes and whether it
//! waits for the answers; nothing here grows with the number of guesses.

use crate::net::Deadline;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// How long the answer takes to a wrong password.
pub(super) const PENALTY: Duration = Duration::from_secs(1);
/// Penalties of one address at a time.
pub(super) const AT_ONCE: usize = 32;
/// Penalties of all together. Of more the oldest are forgotten: nobody is kept out by what others do elsewhere.
const MOST: usize = 4096;

/// The penalties that are not over.
pub(super) struct Penalties {
    time: Duration,
    /// The first ones first. `None` stands for whoever has no address.
    open: VecDeque<(Option<IpAddr>, Deadline)>,
}

impl Penalties {
    /// Each takes that long.
    pub fn of(time: Duration) -> Self {
        Self { time, open: VecDeque::new() }
    }

    /// Whether this address has to wait before another password of it is looked at.
    pub fn is_full(&mut self, address: Option<IpAddr>) -> bool {
        while self.open.front().is_some_and(|(_, until)| until.passed()) {
            self.open.pop_front();
        }
        self.open.iter().filter(|(other, _)| *other == address).count() >= AT_ONCE
    }

    /// It has named a wrong one. Returns when it is to hear of that.
    pub fn add(&mut self, address: Option<IpAddr>) -> Deadline {
        if self.open.len() == MOST {
            self.open.pop_front();
        }
        let until = Deadline::after(self.time);
        self.open.push_back((address, until));
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_guesses_and_no_more_memory_than_that() {
        let mut penalties = Penalties::of(Duration::from_secs(600));
        let address = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        for _ in 0..AT_ONCE {
            assert!(!penalties.is_full(address(1)));
            penalties.add(address(1));
        }
        assert!(penalties.is_full(address(1)) && !penalties.is_full(address(2)) && !penalties.is_full(None));
        (0..10_000).for_each(|number| _ = penalties.add(address(number)));
        assert_eq!(penalties.open.len(), MOST);
        penalties.open.iter_mut().for_each(|(_, until)| *until = Deadline::after(Duration::ZERO));
        assert!(!penalties.is_full(address(1)) && penalties.open.is_empty(), "they are over");
    }
}
