//! SHOW POOL_PROCESSES (show-commands 5.4), and what its rows share with SHOW POOL_POOLS.

use super::{View, format};
use crate::config::Settings;
use crate::state::{PoolEntry, SessionInfo, WorkerSlot, now};

/// One worker.
struct Row {
    process: Process,
    session: SessionInfo,
    /// The pooled connection in use.
    pool: Option<PoolEntry>,
}

columns! { row: Row;
    pool_pid => row.process.pid,
    start_time => row.process.start_time,
    client_connection_count => row.process.finished_sessions,
    database => row.session.database,
    username => row.session.user,
    backend_connection_time => row.pool.as_ref().map(|pool| format::time(pool.created)).unwrap_or_default(),
    pool_counter => row.pool.as_ref().map(|pool| pool.uses.to_string()).unwrap_or_default(),
    status => row.process.status,
}

/// One row per worker slot, in order.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let now = now();
    view.shared.workers().iter().map(|slot| values(&Row::new(&slot, view.settings, now))).collect()
}

impl Row {
    fn new(slot: &WorkerSlot, settings: &Settings, now: u64) -> Self {
        let session = slot.session();
        let pool = session.pool_slot.map(|used| slot.pool(used).get());
        Self { process: Process::new(slot, settings, now), session, pool }
    }
}

/// What both tables tell of a process.
pub(super) struct Process {
    /// 0 for an empty slot.
    pub pid: u32,
    /// When it began, and when `child_life_time` will end it.
    pub start_time: String,
    pub finished_sessions: u64,
    pub status: &'static str,
}

impl Process {
    pub fn new(slot: &WorkerSlot, settings: &Settings, now: u64) -> Self {
        Self {
            pid: slot.pid(),
            start_time: start_time(slot, settings, now),
            finished_sessions: slot.finished_sessions(),
            status: slot.status().text(),
        }
    }
}

/// The countdown runs once the process has had a client and while it has none.
fn start_time(slot: &WorkerSlot, settings: &Settings, now: u64) -> String {
    let started = format::time(slot.started());
    let limit = u64::try_from(settings.child_life_time).unwrap_or(0);
    match slot.waiting_since() {
        Some(since) if limit > 0 => {
            format!("{started} ({} before process restarting)", format::left(limit, since, now))
        }
        _ => started,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{ClientInfo, Limits, ProcessStatus, Shared};

    fn show(slot: &WorkerSlot, settings: &Settings, now: u64) -> String {
        values(&Row::new(slot, settings, now)).join("|")
    }

    #[test]
    fn a_worker_through_its_life() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 2, ..Limits::default() }).expect("shared");
        let (slot, settings) = (shared.worker(0), Settings::default());
        assert_eq!(
            COLUMNS.join("|"),
            "pool_pid|start_time|client_connection_count|database|username|backend_connection_time|pool_counter|status"
        );
        assert_eq!(show(&slot, &settings, now()), "0||0|||||Wait for connection");

        slot.occupy(4242);
        let started = format::time(slot.started());
        assert_eq!(show(&slot, &settings, now()), format!("4242|{started}|0|||||Wait for connection"));

        slot.begin_client(&ClientInfo::default());
        assert_eq!(show(&slot, &settings, now()), format!("4242|{started}|0|||||Connecting"));

        let user = "u".repeat(63);
        let session = SessionInfo { user: user.clone(), database: "shop".to_owned(), pool_slot: Some(1) };
        slot.set_session(&session);
        slot.set_status(ProcessStatus::IdleInTransaction);
        slot.pool(1).update(|pool| (pool.created, pool.uses) = (1_795_376_294, 7));
        let created = format::time(1_795_376_294);
        let expected = format!("4242|{started}|0|shop|{user}|{created}|7|Idle in transaction");
        assert_eq!(show(&slot, &settings, now()), expected);

        slot.end_client(true);
        let left = slot.waiting_since().expect("waiting");
        let waits = |rest: &str| format!("4242|{started}{rest}|1|||||Wait for connection");
        assert_eq!(show(&slot, &settings, left), waits(" (5:00 before process restarting)"));
        assert_eq!(show(&slot, &settings, left + 61), waits(" (3:59 before process restarting)"));
        assert_eq!(show(&slot, &settings, left + 999), waits(" (0:00 before process restarting)"));
        let for_ever = Settings { child_life_time: 0, ..settings };
        assert_eq!(show(&slot, &for_ever, left), waits(""));
    }
}
