//! What is asked of the parent, and how far it is with it (failover 6.1).
//!
//! Every node has one place per kind of request, so duplicates are one request and nothing ever overflows. Writers exclude
//! each other by a lock; the parent takes requests without it: a number that grows tells what is new, and it counts only
//! once the request is whole. A writer killed at any instruction leaves a request that is there or not, never half of one.

use super::{MAX_NODES, uptime};
use pgpool_shm::{SharedMutex, Text, Versioned, plain, shareable};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How long a request waits for another process's, which is a matter of microseconds unless that process is stopped.
const PATIENCE: Duration = Duration::from_secs(2);
/// Server processes remembered that pg_terminate_backend has ended.
const TERMINATED: usize = 64;
/// For how long: its end is seen at once if it comes of that, and later another process may have its number.
const MEMORY: Duration = Duration::from_secs(60);

/// What is asked for (failover 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RequestKind {
    /// Detach the node: NODE_DOWN_REQUEST.
    Down = 0,
    /// Attach the node: NODE_UP_REQUEST.
    Up = 1,
    /// Take the node for the primary, which it has become by other means: PROMOTE_NODE_REQUEST.
    Promote = 2,
    /// Detach the primary and let failover_command promote the node: NODE_DOWN_REQUEST with the PROMOTE flag.
    Switchover = 3,
    /// Take the node for the primary, which it was seen to have become; all others stay as they are. Void if something else
    /// has begun since that was seen.
    Takeover = 4,
}

impl RequestKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Down, Self::Up, Self::Promote, Self::Switchover, Self::Takeover];

    /// A short name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "failover",
            Self::Up => "failback",
            Self::Promote => "promotion",
            Self::Switchover => "switchover",
            Self::Takeover => "takeover",
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Grows with every request; 0 before it is asked.
    pub number: u64,
    /// What is asked for.
    pub kind: RequestKind,
    /// The node.
    pub node: usize,
    /// Why, in words for a person.
    pub cause: String,
    /// An administrator asks, not a process that met a fault.
    pub by_operator: bool,
    /// How many failovers had [begun](Failover::begun) when that was seen because of which a takeover is asked for; else 0.
    pub begun: u64,
    /// Process id of the asking process.
    pub pid: u32,
    /// When, as [`uptime`] tells it.
    pub asked_at: Duration,
}

/// What the parent is doing (failover 6.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Progress {
    /// Nothing.
    #[default]
    Idle = 0,
    /// A failover or failback that leaves the primary alone.
    Standby = 1,
    /// The primary is gone and its successor is not known yet.
    Primary = 2,
}

/// The requesting process could not write its request: another one holds the lock and does not let go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests are locked by another process for more than {} seconds", PATIENCE.as_secs())]
pub struct RequestsBusy;

plain! {
    pub(super) struct RequestRecord {
        number: u64,
        /// Microseconds of [`uptime`].
        asked_at: u64,
        begun: u64,
        pid: u32,
        by_operator: u32,
        cause: Text<256>,
    }
}

shareable! {
    pub(super) struct Record {
        asking: SharedMutex<[AtomicU64; 0]>,
        /// Number of the last request that is whole.
        last: AtomicU64,
        /// Number of the last request that the parent has taken.
        taken: AtomicU64,
        /// Number of the last request that the parent has answered.
        answered: AtomicU64,
        /// How many failovers and failbacks have begun.
        begun: AtomicU64,
        progress: AtomicU32,
        next_terminated: AtomicU32,
        /// [`Terminated::word`]s.
        terminated: [AtomicU64; TERMINATED],
        places: [[Versioned<RequestRecord>; RequestKind::ALL.len()]; MAX_NODES],
    }
}

impl Record {
    pub(super) fn prepare(&self) {
        pgpool_shm::prepare(&self.asking);
    }
}

/// Requests and progress.
#[derive(Clone, Copy)]
pub struct Failover<'a>(&'a Record);

impl<'a> Failover<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        Self(record)
    }

    /// Leaves a request for the parent; one of the same kind for the same node that waits already stands for both, unless
    /// only the new one comes from an administrator. Returns the number that [`Self::answered`] reaches when it is done.
    ///
    /// # Errors
    /// Another process holds the lock for too long. A dead one does not.
    pub fn ask(self, request: &Request) -> Result<u64, RequestsBusy> {
        let Some(places) = self.0.places.get(request.node) else { return Ok(0) };
        let _lock = self.0.asking.try_lock_for(PATIENCE).ok_or(RequestsBusy)?;
        let place = &places[request.kind as usize];
        let waiting = place.get();
        if waiting.number > self.0.taken.load(Ordering::Acquire) && (waiting.by_operator != 0 || !request.by_operator) {
            return Ok(waiting.number);
        }
        let number = self.0.last.load(Ordering::Relaxed) + 1;
        place.set(RequestRecord {
            number,
            asked_at: u64::try_from(request.asked_at.as_micros()).unwrap_or(u64::MAX),
            begun: request.begun,
            pid: request.pid,
            by_operator: request.by_operator.into(),
            cause: Text::new(&request.cause),
        });
        self.0.last.store(number, Ordering::Release);
        Ok(number)
    }

    /// Takes what has been asked for since the last time, oldest first. For the parent; never waits.
    pub fn take(self) -> Vec<Request> {
        let (last, taken) = (self.0.last.load(Ordering::Acquire), self.0.taken.load(Ordering::Relaxed));
        if last == taken {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (node, places) in self.0.places.iter().enumerate() {
            for kind in RequestKind::ALL {
                let record = places[kind as usize].get();
                if record.number > taken && record.number <= last {
                    found.push(Request {
                        number: record.number,
                        kind,
                        node,
                        cause: record.cause.to_string(),
                        by_operator: record.by_operator != 0,
                        begun: record.begun,
                        pid: record.pid,
                        asked_at: Duration::from_micros(record.asked_at),
                    });
                }
            }
        }
        self.0.taken.store(last, Ordering::Release);
        found.sort_by_key(|request| request.number);
        found
    }

    /// Number of the last request that is dealt with; they are dealt with in their order.
    pub fn answered(self) -> u64 {
        self.0.answered.load(Ordering::Acquire)
    }

    /// This request and those before it are dealt with. For the parent.
    pub fn answer(self, number: u64) {
        self.0.answered.fetch_max(number, Ordering::AcqRel);
    }

    /// What the request is that the parent deals with: the oldest that it has taken and not answered.
    pub fn under_way(self) -> Option<RequestKind> {
        let (answered, taken) = (self.answered(), self.0.taken.load(Ordering::Acquire));
        let places = self.0.places.iter().flat_map(|places| RequestKind::ALL.into_iter().zip(places));
        let numbers = places.map(|(kind, place)| (place.get().number, kind));
        let (_, kind) =
            numbers.filter(|(number, _)| *number > answered && *number <= taken).min_by_key(|(number, _)| *number)?;
        Some(kind)
    }

    /// What the parent is doing.
    #[inline]
    pub fn progress(self) -> Progress {
        match self.0.progress.load(Ordering::Acquire) {
            0 => Progress::Idle,
            1 => Progress::Standby,
            _ => Progress::Primary,
        }
    }

    /// How many failovers and failbacks have begun. What was learnt of roles before the last one began does not count.
    pub fn begun(self) -> u64 {
        self.0.begun.load(Ordering::Acquire)
    }

    /// A failover or failback begins. For the parent.
    pub fn begin(self, progress: Progress) {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        self.0.progress.store(progress as u32, Ordering::Release);
    }

    /// Everything asked for is done. For the parent.
    pub fn end(self) {
        self.0.progress.store(Progress::Idle as u32, Ordering::Release);
    }

    /// pg_terminate_backend is about to end this server process of `node`: its death is nobody's failure.
    pub fn note_terminated(self, node: usize, pid: u32) {
        let place = self.0.next_terminated.fetch_add(1, Ordering::Relaxed) as usize % TERMINATED;
        self.0.terminated[place].store(Terminated { node, pid, at: uptime() }.word(), Ordering::Release);
    }

    /// Whether pg_terminate_backend was called for this server process of `node` within the last minute.
    pub fn was_terminated(self, node: usize, pid: u32) -> bool {
        let now = Terminated { node, pid, at: uptime() }.word();
        pid != 0 && self.0.terminated.iter().any(|place| Terminated::is_recent(place.load(Ordering::Acquire), now))
    }
}

/// A server process that pg_terminate_backend was called for.
struct Terminated {
    node: usize,
    pid: u32,
    at: Duration,
}

impl Terminated {
    /// In the upper 24 bits the seconds, then 8 of the node.
    const PROCESS_BITS: u32 = 40;

    fn word(&self) -> u64 {
        self.at.as_secs() << Self::PROCESS_BITS | (self.node as u64 & 0xFF) << 32 | u64::from(self.pid)
    }

    /// Whether `then` is about the same process as `now`, and not long before.
    fn is_recent(then: u64, now: u64) -> bool {
        let age = now.wrapping_sub(then);
        age & ((1 << Self::PROCESS_BITS) - 1) == 0 && age >> Self::PROCESS_BITS < MEMORY.as_secs()
    }
}

impl Request {
    /// A request of this process, now.
    pub fn new(kind: RequestKind, node: usize, cause: &str) -> Self {
        let pid = std::process::id();
        Self { number: 0, kind, node, cause: cause.to_owned(), by_operator: false, begun: 0, pid, asked_at: uptime() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, Shared};

    fn shared() -> Shared {
        Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared")
    }

    #[test]
    fn requests_come_once_and_in_order() {
        let shared = shared();
        let ask = |kind, node, cause: &str| shared.failover().ask(&Request::new(kind, node, cause)).expect("ask");
        ask(RequestKind::Down, 2, "refused");
        ask(RequestKind::Down, 0, "timed out");
        ask(RequestKind::Down, 2, "refused again");
        ask(RequestKind::Up, 2, "streams");
        ask(RequestKind::Down, MAX_NODES, "no such node");
        let told = |requests: Vec<Request>| {
            requests.into_iter().map(|request| (request.kind, request.node, request.cause)).collect::<Vec<_>>()
        };
        let expected = [
            (RequestKind::Down, 2, "refused".to_owned()),
            (RequestKind::Down, 0, "timed out".to_owned()),
            (RequestKind::Up, 2, "streams".to_owned()),
        ];
        assert_eq!(told(shared.failover().take()), expected);
        assert!(shared.failover().take().is_empty());
        ask(RequestKind::Down, 2, "refused");
        assert_eq!(told(shared.failover().take()), expected[..1]);
    }

    #[test]
    fn an_administrator_is_not_taken_for_a_fault() {
        let shared = shared();
        let failover = shared.failover();
        let fault = Request::new(RequestKind::Down, 1, "refused");
        let operator = Request { by_operator: true, ..fault.clone() };
        assert_eq!(
            [&fault, &fault, &operator, &fault, &operator].map(|request| failover.ask(request)),
            [Ok(1), Ok(1), Ok(2), Ok(2), Ok(2)]
        );
        let taken = failover.take();
        assert_eq!(taken, [Request { number: 2, asked_at: taken[0].asked_at, ..operator }]);
        assert_eq!(failover.answered(), 0);
        failover.answer(2);
        assert_eq!(failover.answered(), 2);
    }

    #[test]
    fn what_is_under_way_is_the_oldest_that_is_taken() {
        let shared = shared();
        let failover = shared.failover();
        for (kind, node) in [(RequestKind::Up, 2), (RequestKind::Down, 1)] {
            failover.ask(&Request::new(kind, node, "")).expect("asked");
        }
        assert_eq!(failover.under_way(), None, "the parent has not taken them");
        failover.take();
        failover.ask(&Request::new(RequestKind::Promote, 0, "")).expect("asked");
        assert_eq!(failover.under_way(), Some(RequestKind::Up));
        failover.answer(1);
        assert_eq!(failover.under_way(), Some(RequestKind::Down));
        failover.answer(2);
        assert_eq!(failover.under_way(), None);
    }

    #[test]
    fn the_last_terminated_processes_are_known() {
        let shared = shared();
        let failover = shared.failover();
        (1..=TERMINATED as u32 + 1).for_each(|pid| failover.note_terminated(3, pid));
        assert!(!failover.was_terminated(3, 0) && !failover.was_terminated(3, 1), "never, and too many since");
        assert!(failover.was_terminated(3, 2) && failover.was_terminated(3, TERMINATED as u32 + 1));
        assert!(!failover.was_terminated(2, 2), "one of another node");
    }

    #[test]
    fn a_terminated_process_is_forgotten_after_a_while() {
        let word = |pid, seconds| Terminated { node: 1, pid, at: Duration::from_secs(seconds) }.word();
        let last = (1 << 24) - 1;
        assert!(Terminated::is_recent(word(7, last), word(7, last + 59)), "the seconds start anew");
        assert!(!Terminated::is_recent(word(7, 100), word(7, 160)));
        assert!(
            !Terminated::is_recent(word(8, 100), word(7, 100)) && !Terminated::is_recent(word(7, 101), word(7, 100))
        );
        assert!(!Terminated::is_recent(0, word(7, 0)), "an empty place");
    }

    #[test]
    fn progress_is_seen_by_all() {
        let shared = shared();
        assert_eq!((shared.failover().progress(), shared.failover().begun()), (Progress::Idle, 0));
        shared.failover().begin(Progress::Primary);
        assert_eq!((shared.failover().progress(), shared.failover().begun()), (Progress::Primary, 1));
        shared.failover().end();
        assert_eq!((shared.failover().progress(), shared.failover().begun()), (Progress::Idle, 1));
    }
}
