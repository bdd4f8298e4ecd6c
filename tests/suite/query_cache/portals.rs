//! Portals with names, row limits, and pipelines: nothing of them is kept wrongly, and answers come right and in order,
//! wherever they come from: as a server without a pgpool gives them.

use super::{assert_true, caching, counts, is_kept, make};
use crate::harness::frontend::{
    bind, close_portal, close_statement, describe_portal, execute, flush, parse, query, sync,
};
use crate::harness::{Pgpool, Reply, Wire, is_bare_server};
use crate::only_ours;

fn stage(name: &str) -> Pgpool {
    make(
        &format!("DROP TABLE IF EXISTS {name}"),
        &format!("CREATE TABLE {name} AS SELECT i AS a, 'x' || i AS b FROM generate_series(1, 9) AS i"),
    );
    caching().start()
}

/// A whole batch for `sql`, which has one parameter of type int.
fn batch(sql: &str, value: &str) -> Vec<u8> {
    [parse("", sql, &[23]), bind("", "", &[Some(value)]), describe_portal(""), execute("", 0), sync()].concat()
}

fn answers(session: &mut Wire, count: usize) -> Vec<Reply> {
    (0..count).map(|_| session.read_until('Z')).collect()
}

fn first_values(replies: &[Reply]) -> Vec<String> {
    replies.iter().map(|reply| reply.first_value().unwrap_or_else(|| reply.sqlstate())).collect()
}

#[test]
fn batches_sent_at_once_are_answered_in_order_from_memory_or_not() {
    let pool = stage("qp_order");
    let mut session = pool.connect();
    let read = "SELECT b FROM qp_order WHERE a = $1";
    for value in ["1", "2", "3"] {
        session.ask(batch(read, value)).succeeded();
        session.ask(batch(read, value)).succeeded();
    }
    let hits = |session: &mut Wire| if is_bare_server() { 0 } else { counts(session).0 };
    let before = hits(&mut session);
    let all = ["3", "1", "2", "3"];
    session.send(all.map(|value| batch(read, value)).concat());
    let replies = answers(&mut session, all.len());
    assert_eq!(first_values(&replies), ["x3", "x1", "x2", "x3"]);
    assert!(replies.iter().all(|reply| reply.kinds() == "12TDCZ"), "{replies:?}");
    assert!(is_bare_server() || hits(&mut session) - before == 4, "all of them are in memory");
    // What is there, what is not, what fails, and what nobody can keep.
    for _ in 0..3 {
        let texts = [
            (read, "1"),
            (read, "7"),
            ("SELECT 1 / $1", "0"),
            (read, "2"),
            ("SELECT b || clock_timestamp() FROM qp_order WHERE a = $1", "100"),
            (read, "7"),
        ];
        session.send(texts.map(|(sql, value)| batch(sql, value)).concat());
        let replies = answers(&mut session, texts.len());
        let kinds: Vec<_> = replies.iter().map(Reply::kinds).collect();
        assert_eq!(kinds, ["12TDCZ", "12TDCZ", "1EZ", "12TDCZ", "12TCZ", "12TDCZ"]);
        assert_eq!(first_values(&replies)[..4], ["x1", "x7", "22012", "x2"]);
        assert_eq!(replies[5].first_value().as_deref(), Some("x7"));
    }
    // Simple queries between them.
    let mixed = [batch(read, "1"), query("SELECT count(*) FROM qp_order"), batch(read, "2")];
    for _ in 0..3 {
        session.send(mixed.concat());
        assert_eq!(first_values(&answers(&mut session, 3)), ["x1", "9", "x2"]);
    }
}

#[test]
fn a_batch_may_come_in_pieces() {
    let pool = stage("qp_pieces");
    let mut session = pool.connect();
    let bytes = batch("SELECT b FROM qp_pieces WHERE a = $1", "4");
    session.ask(&bytes).succeeded();
    for cut in (1..bytes.len()).step_by(7) {
        session.send(&bytes[..cut]);
        // The other session's answer tells that there was time for the first piece to arrive.
        assert_eq!(pool.connect().value("SELECT 1"), "1");
        session.send(&bytes[cut..]);
        let reply = session.read_until('Z');
        assert_eq!((reply.kinds().as_str(), reply.first_value().as_deref()), ("12TDCZ", Some("x4")), "cut at {cut}");
    }
}

#[test]
fn writes_in_a_pipeline_are_seen_by_what_follows() {
    let pool = stage("qp_writes");
    let mut session = pool.connect();
    let (read, write) = ("SELECT count(*) FROM qp_writes WHERE a > $1", "DELETE FROM qp_writes WHERE a = $1");
    let part = |sql: &str, value: &str| [parse("", sql, &[23]), bind("", "", &[Some(value)]), execute("", 0)].concat();
    for left in (1..9).rev() {
        for _ in 0..2 {
            session.ask([part(read, "0"), sync()].concat()).succeeded();
        }
        // In one transaction, and as two.
        let gone = (9 - left).to_string();
        let parts = if left % 2 == 0 {
            vec![part(read, "0"), part(write, &gone), part(read, "0"), sync()]
        } else {
            vec![part(read, "0"), sync(), part(write, &gone), sync(), part(read, "0"), sync()]
        };
        session.send(parts.concat());
        let count = if left % 2 == 0 { 1 } else { 3 };
        let rows: Vec<_> = answers(&mut session, count).iter().flat_map(Reply::column).collect();
        assert_eq!(rows, [(left + 1).to_string(), left.to_string()], "in {count} batches");
        assert_eq!(pool.connect().value("SELECT count(*) FROM qp_writes WHERE a > 0"), left.to_string());
    }
}

#[test]
fn part_of_an_answer_is_not_kept_for_the_whole() {
    let pool = stage("qp_part");
    let mut session = pool.connect();
    let read = "SELECT a FROM qp_part WHERE a > $1 ORDER BY a";
    let open = |portal: &str| [parse("", read, &[23]), bind(portal, "", &[Some("0")])].concat();
    for portal in ["", "p"] {
        for _ in 0..3 {
            let limited =
                [open(portal), execute(portal, 2), execute(portal, 3), execute(portal, 0), execute(portal, 0), sync()];
            let reply = session.ask(limited.concat()).succeeded();
            assert_eq!(reply.kinds(), "12DDsDDDsDDDDCCZ", "portal {portal:?}");
            let reply = session.ask([open(portal), execute(portal, 2), sync()].concat()).succeeded();
            assert_eq!(reply.kinds(), "12DDsZ", "portal {portal:?}");
            let reply = session.ask([open(portal), describe_portal(portal), execute(portal, 100), sync()].concat());
            assert_eq!(reply.succeeded().kinds(), "12TDDDDDDDDDCZ");
            let reply = session.ask(batch(read, "0")).succeeded();
            assert_eq!(reply.column(), (1..10).map(|value| value.to_string()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn portals_last_as_long_as_their_transaction() {
    let pool = stage("qp_last");
    let mut session = pool.connect();
    let read = "SELECT a FROM qp_last WHERE a > $1 ORDER BY a";
    session.ask([parse("s", read, &[23]), sync()].concat()).succeeded();
    let whole = [bind("", "s", &[Some("6")]), execute("", 0), sync()].concat();
    for _ in 0..3 {
        session.query("BEGIN").succeeded();
        session.ask([bind("p", "s", &[Some("6")]), execute("p", 1), sync()].concat()).succeeded();
        // Another answer in between, from memory at last, does not touch the portal with a name.
        assert_eq!(session.ask(&whole).succeeded().column(), ["7", "8", "9"]);
        assert_eq!(session.ask([execute("p", 0), sync()].concat()).succeeded().column(), ["8", "9"]);
        session.ask([close_portal("p"), sync()].concat()).succeeded();
        assert_eq!(session.ask([execute("p", 0), sync()].concat()).sqlstate(), "34000");
        session.query("ROLLBACK").succeeded();
    }
}

#[test]
fn an_answer_may_be_waited_for_by_flush() {
    let pool = stage("qp_flush");
    let mut session = pool.connect();
    let read = "SELECT b FROM qp_flush WHERE a = $1";
    for _ in 0..3 {
        let bound = [parse("", read, &[23]), bind("", "", &[Some("5")]), describe_portal(""), execute("", 0), flush()];
        session.send(bound.concat());
        let reply = session.read_some(5);
        assert_eq!((reply.kinds().as_str(), reply.first_value().as_deref()), ("12TDC", Some("x5")));
        session.send(sync());
        assert_eq!(session.read().kind, b'Z');
        assert_eq!(session.ask(batch(read, "5")).succeeded().first_value().as_deref(), Some("x5"));
    }
}

#[test]
fn a_portal_runs_what_it_was_bound_to() {
    only_ours!("the original looks at the name of the statement");
    make("DROP TABLE IF EXISTS qcu12", "CREATE TABLE qcu12 (a int)");
    let pool = caching().start();
    let (mut writer, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT count(*) FROM qcu12";
    let write = "INSERT INTO qcu12 VALUES (1)";
    for messages in [
        vec![
            parse("", write, &[]),
            bind("p1", "", &[]),
            parse("", "SELECT 1", &[]),
            bind("p2", "", &[]),
            execute("p1", 0),
            execute("p2", 0),
        ],
        vec![parse("", write, &[]), bind("", "", &[]), parse("", "SELECT 1", &[]), execute("", 0)],
        vec![
            parse("n", write, &[]),
            bind("p1", "n", &[]),
            close_statement("n"),
            parse("n", "SELECT 1", &[]),
            execute("p1", 0),
            close_statement("n"),
        ],
    ] {
        assert!(is_kept(&mut reader, read));
        writer.ask([messages.concat(), sync()].concat()).succeeded();
        assert_true(&mut reader, read);
    }
    assert_eq!(reader.value(read), "3");
}
