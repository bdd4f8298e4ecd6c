//! A limit ends whoever is slow, and nobody else: not a client whose server does not take what it sends, not a server whose
//! client does not read, not a message that is still on its way (process-model 7.8).

use std::thread;
use std::time::Duration;

use crate::harness::frontend::{bind, copy_data, copy_done, execute, parse, query, sync};
use crate::harness::{Pgpool, Wire, shared};
use crate::only_ours;

/// Long enough to be seen, and not to be reached by a busy machine.
const LIMIT: Duration = Duration::from_secs(4);
/// More than all buffers between a client and a server hold.
const MEGABYTES: usize = 48;

/// A table of this name whose first writer waits for the lock with this number, which the returned session holds.
fn locked_table(name: &str, lock: u32) -> Wire {
    let mut holder = shared().primary().connect();
    for sql in [
        format!("CREATE TABLE {name} (t text)"),
        format!(
            "CREATE FUNCTION {name}_waits() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_xact_lock({lock}); RETURN NULL; END $$"
        ),
        format!("CREATE TRIGGER waits BEFORE INSERT ON {name} EXECUTE FUNCTION {name}_waits()"),
        format!("SELECT pg_advisory_lock({lock})"),
    ] {
        holder.query(&sql).succeeded();
    }
    holder
}

/// Gives all locks of this session back when the limit is over.
fn release_late(mut holder: Wire) {
    thread::spawn(move || {
        thread::sleep(LIMIT + Duration::from_secs(2));
        holder.query("SELECT pg_advisory_unlock_all()").succeeded();
    });
}

fn drop_table(name: &str) {
    shared().primary().sql(&format!("DROP TABLE {name}; DROP FUNCTION {name}_waits()"));
}

/// To be made before a limit is in force: it takes its time.
fn rows() -> Vec<u8> {
    let row = [vec![b'x'; 1 << 20], b"\n".to_vec()].concat();
    [copy_data(&row).repeat(MEGABYTES), copy_done()].concat()
}

fn limit_of_silence() -> String {
    format!("PGPOOL SET client_idle_limit = {}", LIMIT.as_secs())
}

fn limit_of_statements() -> String {
    format!("PGPOOL SET client_query_limit = {}", LIMIT.as_millis())
}

#[test]
fn a_copy_that_its_server_does_not_take_is_not_silent() {
    only_ours!("has one receive buffer");
    let pool = Pgpool::on(shared()).start();
    let (holder, rows) = (locked_table("not_silent", 8101), rows());
    let mut session = pool.connect();
    session.query(&limit_of_silence()).succeeded();
    session.send(query("COPY not_silent FROM STDIN"));
    session.read_until('G');
    release_late(holder);
    session.send(rows);
    assert_eq!(session.read_until('Z').succeeded().tags(), [format!("COPY {MEGABYTES}")]);
    drop(session);
    drop_table("not_silent");
}

#[test]
fn a_batch_that_its_server_does_not_take_is_not_silent() {
    only_ours!("has one receive buffer");
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut holder = shared().primary().connect();
    holder.query("SELECT pg_advisory_lock(8102)").succeeded();
    let waits = [parse("", "SELECT pg_advisory_xact_lock(8102)", &[]), bind("", "", &[]), execute("", 0)].concat();
    let value = "x".repeat(1 << 19);
    let values = [bind("", "long", &[Some(&value)]), execute("", 0)].concat().repeat(2 * MEGABYTES);
    let batch = [waits, parse("long", "SELECT length($1)", &[25]), values, sync()].concat();
    let mut session = pool.connect();
    session.query("PGPOOL SET client_idle_in_transaction_limit = 4").succeeded();
    session.query(&limit_of_silence()).succeeded();
    session.query("BEGIN").succeeded();
    release_late(holder);
    session.send(batch);
    assert_eq!(session.read_until('Z').succeeded().rows().len(), 1 + 2 * MEGABYTES);
    session.query("COMMIT").succeeded();
}

#[test]
fn a_copy_that_its_server_does_not_take_is_a_long_statement() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).start();
    let (holder, rows) = (locked_table("not_taken", 8103), rows());
    let mut session = pool.connect();
    session.query(&limit_of_statements()).succeeded();
    session.send(query("COPY not_taken FROM STDIN"));
    session.read_until('G');
    session.send(rows);
    assert_eq!(session.read_until('Z').sqlstate(), "57014");
    assert_eq!(session.value("SELECT 1"), "1");
    drop((session, holder));
    drop_table("not_taken");
}

#[test]
fn a_client_that_does_not_read_keeps_its_statements() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).start();
    let (mut large, mut small) = (pool.connect(), pool.connect());
    for (session, megabytes) in [(&mut large, 2 * MEGABYTES), (&mut small, 5)] {
        session.query(&limit_of_statements()).succeeded();
        let long = format!("SELECT repeat('x', 1048576) FROM generate_series(1, {megabytes})");
        session.send([query(&long), query("SELECT pg_sleep(0.1)")].concat());
    }
    thread::sleep(LIMIT + Duration::from_secs(2));
    for (session, megabytes) in [(&mut large, 2 * MEGABYTES), (&mut small, 5)] {
        assert_eq!(session.read_until('Z').succeeded().rows().len(), megabytes);
        assert_eq!(session.read_until('Z').succeeded().rows().len(), 1);
        assert_eq!(session.value("SELECT 1"), "1");
    }
    assert!(!pool.log().contains("is reached: the statement is cancelled"), "{}", pool.log());
}

#[test]
fn a_message_on_its_way_is_not_a_long_statement() {
    only_ours!("has no such limit");
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    session.query(&limit_of_statements()).succeeded();
    let message = query(&format!("SELECT length('{}')", "x".repeat(3 << 20)));
    let (first, rest) = message.split_at(2 << 20);
    session.send(first);
    thread::sleep(LIMIT + Duration::from_secs(2));
    session.send(rest);
    assert_eq!(session.read_until('Z').succeeded().column(), [(3 << 20).to_string()]);
    assert!(!pool.log().contains("is reached: the statement is cancelled"), "{}", pool.log());
}
