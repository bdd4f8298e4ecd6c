//! The query cache in a memcached of the test's own: kept and given as in shared memory, by several pgpools as if they were
//! one, and no trouble when memcached is away, hangs, forgets or lies.

use super::{assert_deleted_by_order, caching, counts, is_hit, is_kept, make};
use crate::harness::{Config, Memcached, Pgpool, shared, wait_for};
use crate::pcp::raw::report;
use crate::{only_ours, pcp};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A pgpool that keeps its answers there, and reads on the primary.
pub(super) fn on(port: u16) -> Config {
    caching()
        .set("memqcache_method", "memcached")
        .set("memqcache_memcached_host", "127.0.0.1")
        .set("memqcache_memcached_port", port)
}

/// Starts it, and has it tell memcached what a start means: that what was there does not count.
fn begun(config: Config) -> Pgpool {
    let pool = config.start();
    begin(&pool);
    pool
}

fn begin(pool: &Pgpool) {
    let mut session = pool.connect();
    wait_for("an answer to be kept", || is_kept(&mut session, "SELECT 1"));
}

fn lines_with(pool: &Pgpool, text: &str) -> usize {
    pool.log().matches(text).count()
}

const AWAY: &str = "cannot be used";
const BACK: &str = "is back";

#[test]
fn answers_are_kept_there_and_are_the_same() {
    only_ours!("Debian's pgpool2 keeps the answers of less");
    make("DROP TABLE IF EXISTS qd_same", "CREATE TABLE qd_same AS SELECT i AS a FROM generate_series(1, 50) AS i");
    let memcached = Memcached::start();
    let pool = begun(on(memcached.port).set("memqcache_expire", 100));
    let (mut one, mut other) = (pool.connect(), pool.connect());
    for sql in
        ["SELECT * FROM qd_same ORDER BY a", "SELECT count(*) FROM qd_same WHERE a > 1000", "SELECT 1 WHERE false"]
    {
        let first = one.query(sql).succeeded();
        assert!(is_hit(&mut other, sql), "{sql}");
        let second = other.query(sql).succeeded();
        assert_eq!((first.kinds(), first.rows(), first.tags()), (second.kinds(), second.rows(), second.tags()));
    }
    one.query("UPDATE qd_same SET a = a + 100 WHERE a = 50").succeeded();
    assert_eq!(other.value("SELECT count(*) FROM qd_same WHERE a > 100"), "1");
    assert_eq!(other.query("SELECT * FROM qd_same ORDER BY a").rows()[49][0].as_deref(), Some("150"));
    let figures = other.query("SHOW POOL_CACHE").succeeded().rows();
    assert_eq!(figures[0][3..].iter().flatten().collect::<Vec<_>>(), ["0"; 6]);
    assert!(memcached.ask("lru_crawler metadump all", "END").contains("key=pgpool%3Aa1%3A"));
}

#[test]
fn answers_are_deleted_by_order() {
    only_ours!("its command keeps a lock");
    make("DROP TABLE IF EXISTS qd_order", "CREATE TABLE qd_order AS SELECT 1 AS a");
    let memcached = Memcached::start();
    let pool = begun(on(memcached.port));
    assert_deleted_by_order(&mut pool.connect(), "qd_order");
}

#[test]
fn several_pgpools_are_one_cache() {
    only_ours!("each instance forgets only what it has filled itself");
    make(
        "DROP TABLE IF EXISTS qd_shared, qd_other",
        "CREATE TABLE qd_shared AS SELECT 1 AS a; CREATE TABLE qd_other AS SELECT 1 AS a",
    );
    let memcached = Memcached::start();
    let (pool, neighbour) = (begun(on(memcached.port)), begun(on(memcached.port)));
    let (mut here, mut there) = (pool.connect(), neighbour.connect());
    let (read, unrelated) = ("SELECT a FROM qd_shared", "SELECT a FROM qd_other");
    // The first use of each pgpool forgets what was there before.
    wait_for("both to have begun", || is_hit(&mut here, read) && is_hit(&mut there, read));
    assert!(is_kept(&mut here, unrelated) && is_hit(&mut there, unrelated), "what one has kept the other gives");
    for value in 2..20 {
        let (writer, reader) = if value % 2 == 0 { (&mut here, &mut there) } else { (&mut there, &mut here) };
        writer.query(&format!("UPDATE qd_shared SET a = {value}")).succeeded();
        assert_eq!(reader.value(read), value.to_string());
        assert!(is_hit(writer, read) && is_hit(writer, unrelated));
    }
    there.query("ALTER TABLE qd_shared RENAME a TO b").succeeded();
    assert_eq!(here.query(read).sqlstate(), "42703");
}

#[test]
fn nobody_is_given_what_another_user_may_see() {
    only_ours!("keys there have no room for this");
    make(
        "DROP TABLE IF EXISTS qd_private; DROP ROLE IF EXISTS qd_may, qd_not",
        "CREATE TABLE qd_private AS SELECT 'secret' AS a; CREATE ROLE qd_may LOGIN; CREATE ROLE qd_not LOGIN; \
         GRANT SELECT ON qd_private TO qd_may",
    );
    let memcached = Memcached::start();
    let (pool, neighbour) = (begun(on(memcached.port)), begun(on(memcached.port)));
    let as_user = |pool: &Pgpool, user: &str| pool.connect_with(&[("user", user), ("database", "test")]);
    let read = "SELECT a FROM qd_private";
    let (mut may, mut may_there) = (as_user(&pool, "qd_may"), as_user(&neighbour, "qd_may"));
    wait_for("both to have begun", || is_hit(&mut may, read) && is_hit(&mut may_there, read));
    for pool in [&pool, &neighbour] {
        assert_eq!(as_user(pool, "qd_not").query(read).sqlstate(), "42501");
    }
    neighbour.connect().query("REVOKE SELECT ON qd_private FROM qd_may").succeeded();
    for session in [&mut may, &mut may_there] {
        assert_eq!(session.query(read).sqlstate(), "42501");
    }
    make("DROP TABLE qd_private", "DROP ROLE qd_may, qd_not");
}

#[test]
fn what_one_pgpool_defines_the_others_notice() {
    only_ours!("the original knows functions as they were until it restarts");
    let immutable = "CREATE OR REPLACE FUNCTION qd_f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'";
    make(
        "DROP TABLE IF EXISTS qd_defined, qd_target; DROP FUNCTION IF EXISTS qd_f, qd_t",
        &format!("CREATE TABLE qd_defined AS SELECT 1 AS a; CREATE TABLE qd_target AS SELECT 0 AS a; {immutable}"),
    );
    let memcached = Memcached::start();
    let (pool, neighbour) = (begun(on(memcached.port)), begun(on(memcached.port)));
    let (mut here, mut there) = (pool.connect(), neighbour.connect());
    let read = "SELECT qd_f(a) FROM qd_defined";
    wait_for("an answer to be kept", || is_kept(&mut here, read));
    there
        .query("CREATE OR REPLACE FUNCTION qd_f(int) RETURNS int LANGUAGE sql VOLATILE AS 'UPDATE qd_target SET a = a + $1 RETURNING a'")
        .succeeded();
    for value in 1..4 {
        assert_eq!(here.value(read), value.to_string());
        assert_eq!(there.value("SELECT a FROM qd_target"), value.to_string());
    }
    there
        .query(
            "CREATE FUNCTION qd_t() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN UPDATE qd_target SET a = 100 + new.a; RETURN new; END'; \
             CREATE TRIGGER t AFTER INSERT ON qd_defined FOR EACH ROW EXECUTE FUNCTION qd_t()",
        )
        .succeeded();
    for value in 1..4 {
        here.query(&format!("INSERT INTO qd_defined VALUES ({value})")).succeeded();
        let expected = (100 + value).to_string();
        assert_eq!(there.value("SELECT a FROM qd_target"), expected);
        assert_eq!(here.value("SELECT a FROM qd_target"), expected);
    }
}

#[test]
fn a_new_start_makes_no_old_answer_valid() {
    only_ours!("the original goes on with what is there");
    make("DROP TABLE IF EXISTS qd_start", "CREATE TABLE qd_start AS SELECT 1 AS a");
    let memcached = Memcached::start();
    let read = "SELECT a FROM qd_start";
    for value in 1..4 {
        shared().primary().sql(&format!("UPDATE qd_start SET a = {value}"));
        let pool = begun(on(memcached.port));
        let mut session = pool.connect();
        for _ in 0..4 {
            assert_eq!(session.value(read), value.to_string());
        }
        assert!(is_kept(&mut session, read));
    }
}

#[test]
fn orders_of_administrators_empty_it() {
    only_ours!("the original does so with the next message of a client");
    make("DROP TABLE IF EXISTS qd_pcp", "CREATE TABLE qd_pcp AS SELECT 1 AS a");
    let memcached = Memcached::start();
    let (pool, neighbour) = (pcp::start(on(memcached.port)), begun(on(memcached.port)));
    let (mut here, mut there) = (pool.connect(), neighbour.connect());
    let read = "SELECT a FROM qd_pcp";
    wait_for("both to have begun", || is_hit(&mut here, read) && is_hit(&mut there, read));
    let order = || pcp::login(&pool).ask(b'G', b"");
    shared().primary().sql("UPDATE qd_pcp SET a = 2");
    assert_eq!((here.value(read), there.value(read)), ("1".into(), "1".into()));
    assert_eq!(order(), (b'g', b"CommandComplete\0".to_vec()));
    assert_eq!((here.value(read), there.value(read)), ("2".into(), "2".into()));
    assert_eq!(lines_with(&pool, "all query cache in memcached deleted"), 1);
    drop(memcached);
    assert!(report(&order()).starts_with("ERROR|memcached could not be told to forget the query cache|"));
}

#[test]
fn an_answer_has_limits() {
    only_ours!("the original warns of each");
    make("DROP TABLE IF EXISTS qd_limits", "CREATE TABLE qd_limits AS SELECT 1 AS a");
    let memcached = Memcached::start();
    let limits = [("memqcache_maxcache", 3_000_000), ("memqcache_cache_block_size", 3_000_000)];
    let pool = begun(limits.iter().fold(on(memcached.port), |config, (name, value)| config.set(name, value)));
    let mut session = pool.connect();
    let sized = |size: usize| format!("SELECT repeat('x', {size}), a FROM qd_limits");
    // memcached takes values up to 1 MB.
    for (size, kept) in [(100_000, true), (900_000, true), (1_500_000, false), (4_000_000, false)] {
        assert_eq!(is_kept(&mut session, &sized(size)), kept, "{size}");
    }
    assert_eq!(lines_with(&pool, AWAY), 0);
    // Another pgpool takes less, and passes over what is too long.
    let modest = begun(on(memcached.port).set("memqcache_maxcache", 1000));
    let mut other = modest.connect();
    wait_for("both to have begun", || is_hit(&mut other, "SELECT 1") && is_hit(&mut session, &sized(100_000)));
    assert!(!is_hit(&mut other, &sized(100_000)) && is_kept(&mut other, &sized(100)));
    assert_eq!(lines_with(&modest, AWAY), 0);
}

#[test]
fn answers_end_with_their_time() {
    only_ours!("as here, if memcached is told");
    make("DROP TABLE IF EXISTS qd_expire", "CREATE TABLE qd_expire AS SELECT 1 AS a");
    let memcached = Memcached::start();
    let pool = on(memcached.port).set("memqcache_expire", 1).start();
    let mut session = pool.connect();
    wait_for("an answer to be kept", || is_kept(&mut session, "SELECT * FROM qd_expire"));
    shared().primary().sql("UPDATE qd_expire SET a = 2");
    wait_for("the answer to expire", || session.value("SELECT * FROM qd_expire") == "2");
}

#[test]
fn without_memcached_queries_go_to_the_servers_and_one_line_tells() {
    only_ours!("the original switches the cache off for the life of a process");
    make("DROP TABLE IF EXISTS qd_away", "CREATE TABLE qd_away AS SELECT 0 AS a");
    let memcached = Memcached::start();
    let port = memcached.port;
    let pool = begun(on(port));
    let mut sessions: Vec<_> = (0..3).map(|_| pool.connect()).collect();
    let read = "SELECT a FROM qd_away";
    for session in &mut sessions {
        assert!(is_kept(session, read));
    }
    drop(memcached);
    for value in 1..4 {
        for at in 0..sessions.len() {
            sessions[at].query(&format!("UPDATE qd_away SET a = {value} + {at}")).succeeded();
            for session in &mut sessions {
                assert_eq!(session.value(read), (value + at).to_string());
            }
        }
    }
    assert_eq!((lines_with(&pool, AWAY), lines_with(&pool, BACK)), (1, 0));
    let memcached = Memcached::start_on(port);
    for session in &mut sessions {
        wait_for("answers to be kept again", || is_kept(session, read));
        assert_eq!(session.value(read), "5");
    }
    assert_eq!((lines_with(&pool, AWAY), lines_with(&pool, BACK)), (1, 1));
    memcached.ask("flush_all", "OK");
    assert!(!is_hit(&mut sessions[0], read));
    wait_for("answers to be kept again", || is_kept(&mut sessions[1], read));
}

#[test]
fn a_write_memcached_was_not_told_of_is_not_forgotten() {
    only_ours!("the original forgets it");
    make("DROP TABLE IF EXISTS qd_hung", "CREATE TABLE qd_hung AS SELECT 1 AS a");
    let memcached = Memcached::start();
    let pool = begun(on(memcached.port));
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qd_hung";
    assert!(is_kept(&mut reader, read) && is_hit(&mut writer, read));
    // It hangs, with everything it knows.
    memcached.service.signal(Signal::SIGSTOP);
    writer.query("UPDATE qd_hung SET a = 2").succeeded();
    assert_eq!(reader.value(read), "2");
    memcached.service.signal(Signal::SIGCONT);
    wait_for("answers to be kept again", || {
        assert_eq!(reader.value(read), "2");
        is_kept(&mut reader, read)
    });
    assert_eq!((lines_with(&pool, AWAY), lines_with(&pool, BACK)), (1, 1));
}

#[test]
fn a_damaged_answer_is_none() {
    only_ours!("its values are messages and nothing else");
    make(
        "DROP TABLE IF EXISTS qd_damaged",
        "CREATE TABLE qd_damaged AS SELECT 'whole' AS a FROM generate_series(1, 3)",
    );
    let memcached = Memcached::start();
    let pool = begun(on(memcached.port));
    let mut session = pool.connect();
    let read = "SELECT a FROM qd_damaged";
    assert!(is_kept(&mut session, read));
    // Memcached lists what it holds a little later.
    let is_whole = |value: &[u8]| value.windows(5).filter(|part| *part == b"whole").count() == 3;
    wait_for("the answer to be listed", || is_whole(&memcached.largest().1));
    let (name, value) = memcached.largest();
    let truncated = (0..value.len()).map(|length| value[..length].to_vec());
    let longer = [&value[..], b"Z\0\0\0\x05I"].concat();
    for damaged in truncated.chain([longer]) {
        memcached.set(&name, &damaged);
        let reply = session.query(read).succeeded();
        assert_eq!((reply.kinds().as_str(), reply.column().join(" ").as_str()), ("TDDDCZ", "whole whole whole"));
        memcached.set(&name, &damaged);
        assert!(!is_hit(&mut session, read), "{damaged:?}");
    }
    memcached.set(&name, &value);
    assert!(is_hit(&mut session, read));
    assert_eq!(lines_with(&pool, AWAY), 0);
}

/// A server that says the same to everybody; counts who has come.
fn liar(says: &'static [u8]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            while matches!(stream.read(&mut request), Ok(1..)) && stream.write_all(says).is_ok() {}
        }
    });
    (port, count)
}

#[test]
fn whatever_memcached_says_sessions_go_on() {
    only_ours!("the original asks a library");
    make("DROP TABLE IF EXISTS qd_liar", "CREATE TABLE qd_liar AS SELECT 1 AS a");
    for says in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"STORED\r\nVALUE pgpool:g:0 0 99999999999\r\n",
        b"STORED\r\nSTORED\r\nEND\r\n",
        b"END\r\n",
        b"\0\xff\r\n\r\n",
        b"SERVER_ERROR out of memory\r\n",
        b"VALUE pgpool:g:0 0 5\r\n123456789",
    ] {
        let (port, came) = liar(says);
        let pool = on(port).start();
        let mut session = pool.connect();
        for value in 0..3 {
            session.query(&format!("UPDATE qd_liar SET a = {value}")).succeeded();
            assert_eq!(session.value("SELECT a FROM qd_liar"), value.to_string());
        }
        assert_ne!(came.load(Ordering::SeqCst), 0);
        assert_eq!(counts(&mut session).0, 0);
        assert_eq!(lines_with(&pool, AWAY), 1, "{}", String::from_utf8_lossy(says));
    }
}
