//! What is known of the clients that wait for a worker: how many were taken from each listening socket, and who is to be
//! told when no worker is free (process-model 7.3).

use super::Shared;
use pgpool_shm::shareable;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// So many listening sockets are counted.
const SOCKETS: usize = 64;

shareable! {
    pub(super) struct Record {
        /// Process id of the doorman, while it sleeps.
        doorman: AtomicU32,
        /// Workers that live.
        living: AtomicU32,
        taken: [AtomicU64; SOCKETS],
    }
}

impl Shared {
    /// A client was accepted from the listening socket with this number.
    pub fn count_taken(&self, socket: usize) {
        if let Some(taken) = self.queue_record().taken.get(socket) {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were accepted from it; `None` if that is not counted.
    pub fn taken(&self, socket: usize) -> Option<u64> {
        self.queue_record().taken.get(socket).map(|taken| taken.load(Ordering::Relaxed))
    }

    /// The doorman with this process id wants to be told when no worker is free; 0: nobody does.
    pub fn set_doorman(&self, pid: u32) {
        self.queue_record().doorman.store(pid, Ordering::SeqCst);
    }

    /// Who is to be told that no worker is free.
    #[inline]
    pub fn doorman(&self) -> Option<u32> {
        Some(self.queue_record().doorman.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
    }

    /// Whether every worker has a client.
    pub fn is_full(&self) -> bool {
        self.workers().connected() >= self.queue_record().living.load(Ordering::SeqCst) as usize
    }

    pub(super) fn worker_came(&self) {
        self.queue_record().living.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn worker_gone(&self) {
        self.queue_record().living.fetch_sub(1, Ordering::SeqCst);
    }
}
