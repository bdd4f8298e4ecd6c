//! How many workers there are to be, so that a worker notices when its client makes too few or too many of them free
//! (process-model 8).

use super::Shared;
use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU32, Ordering};

shareable! {
    pub(super) struct Record {
        workers: AtomicU32,
        min: AtomicU32,
        max: AtomicU32,
    }
}

/// What the parent has arranged, and what it wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staff {
    /// Workers that are there or on their way; those that are leaving do not count.
    pub workers: u32,
    /// Fewer free workers than that are too few.
    pub min: u32,
    /// More are too many.
    pub max: u32,
}

impl Staff {
    /// Whether the parent wants to hear of so many workers with a client.
    #[inline]
    pub fn is_wrong_for(self, connected: usize) -> bool {
        let free = usize::try_from(self.workers).unwrap_or(usize::MAX).saturating_sub(connected);
        free < self.min as usize || free > self.max as usize
    }
}

impl Shared {
    /// Tells the workers what the parent has arranged.
    pub fn publish_staff(&self, staff: Staff) {
        let record = self.staff_record();
        record.workers.store(staff.workers, Ordering::SeqCst);
        record.min.store(staff.min, Ordering::SeqCst);
        record.max.store(staff.max, Ordering::SeqCst);
    }

    /// What the parent has arranged; before that nothing is wrong.
    #[inline]
    pub fn staff(&self) -> Staff {
        let record = self.staff_record();
        Staff {
            workers: record.workers.load(Ordering::SeqCst),
            min: record.min.load(Ordering::SeqCst),
            max: record.max.load(Ordering::SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;

    #[test]
    fn free_workers_are_right_between_the_limits() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        assert!((0..3).all(|connected| !shared.staff().is_wrong_for(connected)), "nothing is known yet");
        let staff = Staff { workers: 10, min: 3, max: 6 };
        shared.publish_staff(staff);
        assert_eq!(shared.staff(), staff);
        let wrong: Vec<usize> = (0..12).filter(|connected| staff.is_wrong_for(*connected)).collect();
        assert_eq!(wrong, [0, 1, 2, 3, 8, 9, 10, 11]);
    }
}
