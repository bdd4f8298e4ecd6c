//! Since when the first client of a listening socket waits. The kernel does not tell; but who looks again and again how many
//! wait, and knows how many were taken, knows when those came who are there.

use std::collections::VecDeque;
use std::time::Instant;

/// The clients that wait at one listening socket.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// At that moment so many had come at least, since the beginning.
    arrivals: VecDeque<(Instant, u64)>,
    /// As many had come at the last look.
    come: u64,
}

impl Line {
    /// Notes that `waiting` clients are there at `now` and that `taken` were taken away before. `taken` must have been read
    /// first: a client that is taken in between then seems to have come later than it has, and never earlier.
    pub fn look(&mut self, waiting: u64, taken: u64, now: Instant) {
        let come = taken + waiting;
        if come > self.come {
            self.come = come;
            self.arrivals.push_back((now, come));
        }
        while self.arrivals.front().is_some_and(|(_, come)| *come <= taken) {
            self.arrivals.pop_front();
        }
    }

    /// When the first of those that wait had come at the latest.
    pub fn first_came(&self) -> Option<Instant> {
        self.arrivals.front().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_first_is_known_by_when_it_came() {
        let (mut line, begun) = (Line::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        let mut look = |waiting, taken, second| {
            line.look(waiting, taken, at(second));
            line.first_came()
        };
        assert_eq!(look(0, 100, 0), None);
        assert_eq!(look(3, 100, 1), Some(at(1)), "two workers had taken 100");
        assert_eq!(look(4, 100, 2), Some(at(1)));
        assert_eq!(look(3, 101, 3), Some(at(1)), "two of the first three are left");
        assert_eq!(look(1, 103, 4), Some(at(2)), "the one that came alone");
        assert_eq!(look(2, 104, 5), Some(at(5)), "it was taken, and two others have come");
        assert_eq!(look(0, 106, 6), None);
        // One is taken between the two looks of one moment.
        assert_eq!(look(1, 106, 7), Some(at(7)));
        assert_eq!(look(0, 106, 8), Some(at(7)));
        assert_eq!(look(1, 107, 9), Some(at(9)));
    }
}
