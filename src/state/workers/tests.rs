use crate::state::{ClientInfo, Limits, PoolEntry, ProcessStatus, ServerKey, SessionInfo, Shared};

#[test]
fn a_dead_worker_leaves_nothing_behind() {
    let shared = Shared::create(Limits { workers: 70, pool_slots: 2, ..Limits::default() }).expect("shared");
    let (slot, other) = (shared.worker(69), shared.worker(3));
    let client = ClientInfo { host: "10.0.0.1".to_owned(), port: 4711 };
    slot.occupy(4242);
    assert_eq!(slot.begin_client(&client), 1);
    assert_eq!(other.begin_client(&client), 2);
    let session = SessionInfo { user: "u".repeat(63), database: "shop".to_owned(), pool_slot: Some(1) };
    slot.set_session(&session);
    slot.set_status(ProcessStatus::ExecuteCommand);
    slot.set_cancel_key(4242, b"key");
    slot.pool(1).update(|entry| entry.user = "u".repeat(63));
    slot.pool(1).set_server(127, &ServerKey { pid: 99, key: vec![7; 256] });
    slot.pool(1).set_statement(127, b"SELECT 1");
    assert_eq!((slot.client(), slot.session()), (client, session));
    assert_eq!(slot.pool(1).statement(127), b"SELECT 1");

    slot.reclaim();
    assert_eq!((slot.pid(), slot.client(), slot.session()), (0, ClientInfo::default(), SessionInfo::default()));
    assert_eq!(slot.pool(1).get(), PoolEntry::default());
    assert_eq!((slot.pool(1).server(127), slot.pool(1).statement(127)), (None, vec![]));
    assert_eq!(shared.find_cancel_target(4242, b"key"), None);
    assert_eq!(shared.workers().connected(), 1);
}

#[test]
fn sessions_are_counted_however_they_end_and_the_refused_are_not() {
    let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
    let slot = shared.worker(0);
    let session = SessionInfo { user: "ann".to_owned(), database: "shop".to_owned(), pool_slot: Some(0) };
    let counted = || (slot.finished_sessions(), slot.all_sessions());
    slot.begin_client(&ClientInfo::default());
    slot.end_client(true);
    assert_eq!(counted(), (1, 0), "it was refused");
    slot.begin_client(&ClientInfo::default());
    slot.set_session(&session);
    slot.end_client(true);
    assert_eq!(counted(), (2, 1));
    slot.begin_client(&ClientInfo::default());
    slot.set_session(&session);
    slot.reclaim();
    slot.occupy(4243);
    assert_eq!(counted(), (0, 2), "it was killed");
}
