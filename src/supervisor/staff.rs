//! The number of workers: all of them in static mode; in dynamic mode as many as the clients need and some to spare
//! (process-model 8).
//!
//! A worker whose client leaves too few workers free, or too many, tells the parent by SIGWINCH; so nobody has to look every
//! two seconds whether something has changed, and a burst does not wait for that either. Workers to leave are those that lose
//! least by it: without pooled connections, then those that have waited longest for a client.

use super::Supervisor;
use super::children::Role;
use super::spare::{Change, Wanted};
use crate::config::ProcessManagementMode;
use crate::report::Report;
use crate::state::{ProcessStatus, Staff, WorkerSlot};
use crate::sys::signal::ToWorker;
use crate::worker::doorman;
use std::time::Instant;

impl Supervisor {
    /// What dynamic mode wants; `None` in static mode.
    fn wanted(&self) -> Option<Wanted> {
        let settings = &self.settings;
        let count = |value: i32| usize::try_from(value).unwrap_or(1);
        (settings.process_management_mode == ProcessManagementMode::Dynamic).then(|| Wanted {
            strategy: settings.process_management_strategy,
            min: count(settings.min_spare_children),
            max: count(settings.max_spare_children),
        })
    }

    /// The first workers are to be started.
    pub(super) fn hire_first(&mut self) {
        let all = self.shared.limits().workers;
        let first = self.wanted().map_or(all, |wanted| wanted.at_start().min(all));
        self.hire(first);
        self.mind_staff();
    }

    /// Starts the doorman if there is something for it to do; without that it ends by itself.
    pub(super) fn mind_the_door(&mut self) {
        if doorman::is_wanted(&self.settings) && !self.children.has(Role::Doorman) {
            self.children.start(Role::Doorman);
        }
    }

    /// Starts and dismisses workers, if that is due, and tells the workers what to watch for.
    pub(super) fn mind_staff(&mut self) {
        let Some(wanted) = self.wanted() else {
            self.spare.forget();
            self.hire(usize::MAX);
            return self.shared.publish_staff(Staff { workers: self.count_staff(), min: 0, max: u32::MAX });
        };
        // Who changes something while this runs may have seen the former limits: it is looked for once more.
        for _ in 0..2 {
            let (free, room) = (self.count_free(), self.free_slots().count());
            match self.spare.decide(wanted, free, room, Instant::now()) {
                Change::None => {}
                Change::Start(count) => self.hire(count),
                Change::Dismiss(count) => self.dismiss(count),
            }
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            self.shared.publish_staff(Staff {
                workers: self.count_staff(),
                min: if self.free_slots().next().is_none() { 0 } else { number(wanted.min) },
                // They are looked at in the next turn anyway.
                max: if self.spare.is_counting() { u32::MAX } else { number(wanted.max) },
            });
            if !self.shared.staff().is_wrong_for(self.shared.workers().connected()) {
                break;
            }
        }
    }

    /// Whether a worker that has ended is not to be replaced: it had been asked to leave (`dismissed`), or there are enough
    /// to spare without it. The workers of a burst reach the end of their life time in the same moment.
    pub(super) fn is_done_with(&self, dismissed: bool) -> bool {
        self.wanted().is_some_and(|wanted| dismissed || self.count_free() >= wanted.max)
    }

    /// Workers without a client, those on their way included.
    fn count_free(&self) -> usize {
        (self.count_staff() as usize).saturating_sub(self.shared.workers().connected())
    }

    /// Workers that are there or on their way.
    fn count_staff(&self) -> u32 {
        let taken = self.taken_slots();
        let stays = |slot: &WorkerSlot| taken[slot.index()] && !slot.is_dismissed();
        u32::try_from(self.shared.workers().iter().filter(stays).count()).unwrap_or(u32::MAX)
    }

    /// By slot, whether its process lives or is to be started.
    fn taken_slots(&self) -> Vec<bool> {
        let mut taken = vec![false; self.shared.limits().workers];
        self.children.workers().for_each(|slot| taken[slot] = true);
        taken
    }

    /// Slots without a process, in order.
    fn free_slots(&self) -> impl Iterator<Item = usize> + use<> {
        self.taken_slots().into_iter().enumerate().filter_map(|(slot, taken)| (!taken).then_some(slot))
    }

    fn hire(&mut self, count: usize) {
        for slot in self.free_slots().take(count) {
            self.children.start(Role::Worker(slot));
        }
    }

    fn dismiss(&self, count: usize) {
        let waits = |slot: &WorkerSlot| {
            slot.pid() != 0 && !slot.is_dismissed() && slot.status() == ProcessStatus::WaitForConnection
        };
        let mut waiting: Vec<_> = self.shared.workers().iter().filter(waits).collect();
        waiting.sort_by_cached_key(|slot| (pooled(slot), slot.waiting_since()));
        for slot in waiting.iter().take(count) {
            Report::debug(format!("child process with pid: {} is not needed any more", slot.pid())).log();
            slot.dismiss();
            self.children.signal(ToWorker::LookAtNodes, |role| role == Role::Worker(slot.index()));
        }
    }
}

/// Groups of server connections that wait in this worker for a client.
fn pooled(slot: &WorkerSlot) -> usize {
    if !slot.has_served() {
        return 0;
    }
    (0..slot.pool_slots()).filter(|pool| slot.pool(*pool).get().major != 0).count()
}
