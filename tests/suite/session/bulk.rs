//! COPY, and what is larger than every buffer (protocol 9).

use std::time::Duration;

use crate::harness::frontend::{
    bind, copy_data, copy_done, copy_fail, execute, flush, parse, query, run, sync, terminate,
};
use crate::harness::reading::reading_pool;
use crate::harness::{Cluster, Pgpool, Wire, shared, wait_for};
use crate::only_ours;

#[test]
fn copy_in_and_out_in_the_simple_protocol() {
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE c (id int, name text)").succeeded();
    session.send(query("COPY c FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    let reply = session.ask([copy_data(b"1\tone\n2\ttw"), copy_data(b"o\n"), copy_done()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.tags()), ("CZ", vec!["COPY 2".to_owned()]));
    let reply = session.query("COPY c TO STDOUT").succeeded();
    assert_eq!(reply.kinds(), "HddcCZ");

    session.send(query("COPY c FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    assert_eq!(session.ask(copy_fail("changed my mind")).sqlstate(), "57014");
    session.send(query("COPY c FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    assert_eq!(session.ask([copy_data(b"not a number\n"), copy_done()].concat()).sqlstate(), "22P02");
    assert_eq!(session.value("SELECT count(*) FROM c"), "2");
    // Two of them and a SELECT in one string.
    session.send(query("COPY c FROM STDIN; SELECT 1; COPY c TO STDOUT"));
    assert_eq!(session.read().kind, b'G');
    let reply = session.ask([copy_data(b"3\tthree\n"), copy_done()].concat()).succeeded();
    assert_eq!(reply.kinds(), "CTDCHdddcCZ");
}

#[test]
fn copy_in_and_out_in_the_extended_protocol() {
    only_ours!("CopyInResponse waits in its buffer until Sync");
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE c (id int)").succeeded();
    // The Sync ahead of the data is ignored by a server in copy mode, so a second one follows.
    session.send([run("COPY c FROM STDIN"), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "12G");
    let reply = session.ask([copy_data(b"1\n"), copy_done(), sync()].concat()).succeeded();
    assert_eq!(reply.kinds(), "CZ");
    let batch = [run("COPY c TO STDOUT"), sync()].concat();
    assert_eq!(session.ask(batch).succeeded().kinds(), "12HdcCZ");
    session.send([run("COPY c FROM STDIN"), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "12G");
    let reply = session.ask([copy_fail("no"), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("EZ", "57014"));
}

#[test]
fn copy_may_be_sent_in_one_go() {
    let pool = reading_pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_ahead; CREATE TABLE tx_ahead (a text)").succeeded();
    let copy = "COPY tx_ahead FROM STDIN";
    let batch = [run(copy), copy_data(b"a\nb\n"), copy_done(), sync()].concat();
    assert_eq!(session.ask(batch).succeeded().kinds(), "12GCZ");
    let simple =
        [query(copy), copy_data(b"c\n"), copy_done(), query("SELECT count(*) FROM tx_ahead WHERE random() < 2")];
    assert_eq!(session.ask(simple.concat()).succeeded().kinds(), "GCZ");
    let reply = session.read_until('Z').succeeded();
    assert_eq!(reply.column(), ["3"]);
    session.query("DROP TABLE tx_ahead").succeeded();
}

#[test]
fn terminate_in_the_middle_of_a_copy_takes_it_back() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS tx_copy; CREATE TABLE tx_copy (a text)").succeeded();
    session.send(query("COPY tx_copy FROM STDIN"));
    assert_eq!(session.read_some(1).kinds(), "G");
    session.send([copy_data(b"half\n"), terminate()].concat());
    // The only worker is free again.
    let mut next = pool.connect();
    assert_eq!(next.value("SELECT count(*) FROM tx_copy"), "0");
    next.query("DROP TABLE tx_copy").succeeded();
}

/// A copy that fills every buffer on its way to a server that does not read for a while.
#[test]
fn a_congested_copy_goes_on_when_the_server_does() {
    let cluster = Cluster::independent(1).start();
    let pool = Pgpool::on(&cluster).start();
    let mut session = pool.connect();
    session.query("CREATE TABLE slow (a text)").succeeded();
    session.send(query("COPY slow FROM STDIN"));
    assert_eq!(session.read_some(1).kinds(), "G");
    cluster.node(0).pause();
    let line = format!("{}\n", "y".repeat(8191));
    let (rows, sender) = (4000, session.split());
    let (session, mut writer): (&mut Wire, Wire) = sender;
    let thread = std::thread::spawn(move || {
        for _ in 0..rows {
            writer.send(copy_data(line.as_bytes()));
        }
        writer.send(copy_done());
    });
    wait_for("the buffers to fill", || pool.children("COPY").len() == 1);
    cluster.node(0).resume();
    assert_eq!(session.read_until('Z').succeeded().tags(), [format!("COPY {rows}")]);
    thread.join().expect("the writer ends");
}

#[test]
fn a_value_of_100_megabytes_in_both_directions() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let value = "x".repeat(100 << 20);
    let batch =
        [parse("", "SELECT length($1::text), $1::text", &[]), bind("", "", &[Some(&value)]), execute("", 0), sync()];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!(reply.kinds(), "12DCZ");
    let row = reply.all('D').next().expect("a row");
    assert_eq!(row.body.len(), 2 + 4 + 9 + 4 + value.len());
    let reply = session.query("SELECT repeat('y', 100 << 20)").succeeded();
    assert_eq!(reply.all('D').next().expect("a row").body.len(), 2 + 4 + value.len());
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_long_bind_finds_its_statement() {
    let pool = reading_pool();
    let mut session = pool.connect();
    let text = "SELECT length($1) || current_setting('port') FROM ten WHERE n = 1";
    assert_eq!(session.ask([parse("long", text, &[25]), sync()].concat()).succeeded().kinds(), "1Z");
    let value = "x".repeat(3 << 20);
    let reply = session.ask([bind("", "long", &[Some(&value)]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.kinds(), "2DCZ");
    assert!(reply.column()[0].starts_with("3145728"));
}

#[test]
fn a_batch_much_larger_than_the_socket_buffers_does_not_block() {
    let pool = reading_pool();
    let mut session = pool.connect();
    // 20,000 statements of 1 kB with answers of 1 kB, none read before all are sent.
    let value = "z".repeat(1000);
    let mut writer = Vec::new();
    writer.extend(parse("s", "SELECT $1::text", &[]));
    for _ in 0..20_000 {
        writer.extend([bind("", "s", &[Some(&value)]), execute("", 0)].concat());
    }
    writer.extend(sync());
    let kinds = std::thread::scope(|scope| {
        let (reading, mut sending) = session.split();
        scope.spawn(move || sending.send(writer));
        reading.read_until('Z').succeeded().kinds()
    });
    assert_eq!(kinds.len(), 1 + 20_000 * 3 + 1);
}

#[test]
fn a_goodbye_behind_a_long_answer_waits_for_the_reader() {
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    let mut session = pool.connect();
    let rows = 200_000;
    session.send([query(&format!("SELECT repeat('x', 100) FROM generate_series(1, {rows})")), terminate()].concat());
    let reply = session.read_until('Z').succeeded();
    assert_eq!(reply.all('D').count(), rows);
    assert!(session.is_closed_within(Duration::from_secs(10)));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}
