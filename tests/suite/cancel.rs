//! CancelRequest reaches the server that runs the statement (protocol 4).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use crate::harness::{Cluster, Node, Pgpool, Wire, eventually, frontend, shared, wait_for};
use crate::only_ours;

/// A plain read that runs for hours: ten to the thirteenth rows.
const LONG_READ: &str = "SELECT count(*) FROM ten a, ten b, ten c, ten d, ten e, ten f, ten g, ten h, ten i, ten j, ten k, \
    ten l, ten m";

/// A write that sleeps.
const LONG_WRITE: &str = "CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(120)";

fn is_sleeping(node: &Node, marker: &str) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE";
    node.sql(&format!("{sql} '%{marker}%'")) == "1"
}

/// Starts a long statement, waits until it runs on this node, cancels it with the session's own key.
fn cancel_on(cluster: &Cluster, pool: &Pgpool, node: usize, sql: &str, marker: &str) {
    let mut session = pool.connect();
    session.send(frontend::query(sql));
    wait_for(&format!("node {node} to run the statement"), || is_sleeping(cluster.node(node), marker));

    let mut canceller = pool.open();
    canceller.send(frontend::cancel(session.pid, &session.key));
    assert!(canceller.is_closed_within(Duration::from_secs(10)), "a cancel connection is closed without an answer");

    let reply = session.read_until('Z');
    assert_eq!(reply.sqlstate(), "57014", "{reply:?}");
    assert_eq!(session.value("SELECT 42"), "42");
}

#[test]
fn a_write_is_cancelled_on_the_primary() {
    let pool = Pgpool::on(shared()).start();
    cancel_on(shared(), &pool, 0, &format!("{LONG_WRITE} /* cancel write */"), "cancel write");
}

#[test]
fn a_read_is_cancelled_on_its_standby() {
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    cancel_on(shared(), &pool, 2, &format!("{LONG_READ} /* cancel read */"), "cancel read");
}

#[test]
fn a_pooled_connection_has_a_working_key() {
    let pool = Pgpool::on(shared()).set("num_init_children", 2).start();
    pool.connect().close();
    pool.connect().close();
    cancel_on(shared(), &pool, 0, &format!("{LONG_WRITE} /* cancel pooled */"), "cancel pooled");
}

#[test]
fn the_key_of_an_ended_session_does_not_cancel_the_next() {
    only_ours!("all clients of a server connection have its key");
    let pool = Pgpool::on(shared()).set("num_init_children", 2).start();
    let former = pool.connect();
    let (pid, key) = (former.pid, former.key.clone());
    former.close();
    let mut session = pool.connect();
    wait_for("the same server connection", || {
        if session.pid != pid {
            session = pool.connect();
        }
        session.pid == pid
    });
    let marker = "cancel the next";
    session.send(frontend::query(&format!("{LONG_WRITE} /* {marker} */")));
    wait_for("the statement to run", || is_sleeping(shared().primary(), marker));
    let mut canceller = pool.open();
    canceller.send(frontend::cancel(pid, &key));
    assert!(canceller.is_closed_within(Duration::from_secs(10)));
    wait_for("the log", || pool.log().contains("invalid cancel key"));
    assert!(is_sleeping(shared().primary(), marker));
    let mut canceller = pool.open();
    canceller.send(frontend::cancel(session.pid, &session.key));
    assert_eq!(session.read_until('Z').sqlstate(), "57014");
}

#[test]
fn a_wrong_key_cancels_nothing() {
    let pool = Pgpool::on(shared()).start();
    let mut session = pool.connect();
    session.send(frontend::query("CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(1) /* wrong key */"));
    wait_for("the statement to run", || is_sleeping(shared().primary(), "wrong key"));
    for (pid, key) in [(session.pid, vec![1, 2, 3, 4]), (session.pid ^ 1, session.key.clone()), (0, Vec::new())] {
        let mut canceller = pool.open();
        canceller.send(frontend::cancel(pid, &key));
        assert!(canceller.is_closed_within(Duration::from_secs(10)));
    }
    let reply = session.read_until('Z');
    assert_eq!(reply.tags(), ["SELECT 1"], "{reply:?}");
}

#[test]
#[ignore = "a cancel waits for a free worker as yet"]
fn a_cancel_needs_no_free_worker() {
    only_ours!("a cancel waits until a child is free");
    let pool = Pgpool::on(shared()).set("num_init_children", 1).start();
    cancel_on(shared(), &pool, 0, &format!("{LONG_WRITE} /* all busy */"), "all busy");
}

#[test]
fn ten_cancels_at_once_reach_their_statements() {
    only_ours!("cancels need free children and take two seconds each");
    let pool = Pgpool::on(shared()).set("num_init_children", 12).start();
    let mut sessions: Vec<Wire> = (0..10).map(|_| pool.connect()).collect();
    for session in &mut sessions {
        session.send(frontend::query(&format!("{LONG_WRITE} /* ten */")));
    }
    let running = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* ten */'";
        shared().primary().sql(sql) == "10"
    };
    assert!(eventually(Duration::from_secs(20), running), "ten statements run");
    for session in &sessions {
        pool.open().send(frontend::cancel(session.pid, &session.key));
    }
    for session in &mut sessions {
        assert_eq!(session.read_until('Z').sqlstate(), "57014");
    }
}

/// A network in front of a server that delivers cancel requests late.
struct SlowNetwork {
    port: u16,
    /// Says when a cancel request is there.
    arrived: Receiver<()>,
    /// Lets it go on.
    deliver: Sender<()>,
    /// Says when the server has acted on it.
    done: Receiver<()>,
}

impl SlowNetwork {
    fn before(server: u16) -> SlowNetwork {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let ((arrives, arrived), (deliver, delivery), (is_done, done)) =
            (mpsc::channel(), mpsc::channel::<()>(), mpsc::channel());
        let mut its_ends = Some((arrives, delivery, is_done));
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut server = TcpStream::connect(("127.0.0.1", server)).expect("the server");
                let mut first = [0; 16];
                if client.read_exact(&mut first[..8]).is_err() {
                    continue;
                }
                if first[4..8] != 80_877_102_u32.to_be_bytes() {
                    server.write_all(&first[..8]).expect("the server");
                    relay(&client, &server);
                    relay(&server, &client);
                } else if let Some((arrives, delivery, is_done)) = its_ends.take() {
                    thread::spawn(move || {
                        client.read_exact(&mut first[8..]).expect("the key");
                        arrives.send(()).expect("the test");
                        delivery.recv().expect("the test");
                        server.write_all(&first).expect("the server");
                        // It closes when it has sent the signal.
                        assert_eq!(server.read(&mut first).expect("its end"), 0);
                        is_done.send(()).expect("the test");
                    });
                }
            }
        });
        SlowNetwork { port, arrived, deliver, done }
    }
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_late_cancel_does_not_meet_the_next_client() {
    only_ours!("it does");
    let (patience, primary) = (Duration::from_secs(30), shared().primary());
    let network = SlowNetwork::before(primary.port);
    let pool = Pgpool::on(shared()).set("num_init_children", 2).set("backend_port0", network.port).start();
    let mut holder = primary.connect();
    holder.query("SELECT pg_advisory_lock(8110), pg_advisory_lock(8111)").succeeded();

    let wait_on = |session: &mut Wire, lock: u32| {
        session.send(frontend::query(&format!("CREATE TEMP TABLE t{lock} AS SELECT 1 FROM pg_advisory_lock({lock})")));
        wait_for("the statement to run", || {
            is_sleeping(primary, &format!("AS SELECT 1 FROM pg_advisory_lock({lock})"))
        });
    };
    let mut first = pool.connect();
    wait_on(&mut first, 8110);
    let mut canceller = pool.open();
    canceller.send(frontend::cancel(first.pid, &first.key));
    network.arrived.recv_timeout(patience).expect("the cancel request");
    holder.query("SELECT pg_advisory_unlock(8110)").succeeded();
    first.read_until('Z').succeeded();
    first.close();

    // The other worker is at the cancel request: this is the same one.
    let mut second = pool.connect();
    wait_on(&mut second, 8111);
    network.deliver.send(()).expect("the network");
    network.done.recv_timeout(patience).expect("the server's end of it");
    holder.query("SELECT pg_advisory_unlock(8111)").succeeded();
    second.read_until('Z').succeeded();
}
