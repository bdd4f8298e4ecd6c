//! What a transaction may be given: nothing that is newer than its snapshot, nothing old while it holds locks; and nothing
//! that it alone sees is kept.

use super::{caching, is_hit, is_kept, make};
use crate::harness::shared;
use crate::only_ours;

#[test]
fn what_an_old_snapshot_shows_is_not_kept() {
    only_ours!("the original keeps it");
    make("DROP TABLE IF EXISTS qct1", "CREATE TABLE qct1 (a int)");
    let pool = caching().start();
    let mut writer = pool.connect();
    let read = "SELECT count(*) FROM qct1";
    for begin in [
        &["BEGIN ISOLATION LEVEL REPEATABLE READ"][..],
        &["BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
        &["BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"],
        &["BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; COMMIT AND CHAIN"],
        &["BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "COMMIT AND CHAIN"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
    ] {
        let mut session = pool.connect();
        session.query("SELECT 1").succeeded();
        begin.iter().for_each(|text| drop(session.query(text).succeeded()));
        let seen = session.value("/*NO QUERY CACHE*/ SELECT count(*) FROM qct1");
        writer.query("INSERT INTO qct1 VALUES (1)").succeeded();
        for _ in 0..2 {
            assert_eq!(session.value(read), seen, "{begin:?}: its own snapshot");
        }
        assert_eq!(pool.connect().value(read), shared().primary().sql(read), "{begin:?}: what others are given");
        assert_eq!(session.value(read), seen, "{begin:?}: its own snapshot");
        session.query("ROLLBACK").succeeded();
    }
}

#[test]
fn who_gives_back_other_locks_still_holds_those_of_the_transaction() {
    only_ours!("the original answers from the cache");
    make("DROP TABLE IF EXISTS qct2", "CREATE TABLE qct2 AS SELECT 1 AS a");
    let pool = caching().start();
    let mut session = pool.connect();
    let read = "SELECT a FROM qct2";
    assert!(is_kept(&mut session, read));
    session.query("BEGIN").succeeded();
    session.query("SELECT a FROM qct2 FOR UPDATE").succeeded();
    session.query("SELECT pg_advisory_unlock_all()").succeeded();
    assert!(!is_hit(&mut session, read));
    session.query("COMMIT").succeeded();
    assert!(is_hit(&mut session, read));
    // Taken in the same breath, and not given back at all.
    for (text, state) in [
        ("SELECT pg_advisory_unlock_all(), pg_advisory_lock(1)", 'I'),
        ("SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock_all(), 1 / 0", 'I'),
        ("BEGIN; SELECT pg_advisory_lock(1); SELECT 1 / 0", 'E'),
    ] {
        session.query(text);
        if state == 'E' {
            assert_eq!(session.query("SELECT pg_advisory_unlock_all()").sqlstate(), "25P02");
            session.query("ROLLBACK").succeeded();
        }
        assert!(!is_hit(&mut session, read), "{text}");
        session.query("SELECT pg_advisory_unlock_all()").succeeded();
        assert!(is_hit(&mut session, read), "{text}");
    }
}
