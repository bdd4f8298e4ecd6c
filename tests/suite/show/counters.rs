//! The counters of SHOW POOL_BACKEND_STATS (show-commands 5.7b).

use crate::harness::frontend::{bind, execute, parse, sync};
use crate::harness::{Pgpool, Wire, shared};
use crate::{needs_pgpool, only_ours};

/// select, insert, update, delete, ddl, other, panic, fatal, error of each node.
fn counts(session: &mut Wire) -> Vec<Vec<u64>> {
    let reply = session.query("SHOW POOL_BACKEND_STATS").succeeded();
    let numbers = |row: Vec<Option<String>>| {
        row[5..].iter().map(|value| value.as_deref().expect("a value").parse().expect("a number")).collect()
    };
    reply.rows().into_iter().map(numbers).collect()
}

#[test]
fn statements_are_counted_where_they_are_sent() {
    needs_pgpool!();
    only_ours!("what is sent to both nodes differs");
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    let mut session = pool.connect();
    assert_eq!(counts(&mut session), vec![vec![0; 9]; 3]);
    for sql in [
        "CREATE TEMP TABLE counted (id int)",
        "INSERT INTO counted VALUES (1), (2)",
        "UPDATE counted SET id = 3",
        "DELETE FROM counted",
        "SELECT * FROM counted",
        "SHOW work_mem",
    ] {
        session.query(sql).succeeded();
    }
    session.query("SELECT 1 / 0 FROM counted");
    session.query("SELEC");
    // What is answered here is sent nowhere.
    session.query("SHOW pool_version").succeeded();
    session.query("PGPOOL SHOW port").succeeded();
    let first = counts(&mut session);
    // What nobody understands counts as a DELETE, as in the original; SHOW is answered by the standby.
    assert_eq!(first[0], [2, 1, 1, 2, 1, 0, 0, 0, 2], "{first:?}");
    assert_eq!(first[2], [0, 0, 0, 0, 0, 1, 0, 0, 0], "{first:?}");
    // An Execute counts each time it is sent; its Parse and Bind do not.
    let mut reader = pool.connect();
    let run = |name: &str| [bind("", name, &[]), execute("", 0)].concat();
    let prepare = parse("s", "SELECT n FROM ten", &[]);
    reader.ask([prepare, run("s"), run("s"), sync()].concat()).succeeded();
    reader.ask([run("s"), sync()].concat()).succeeded();
    reader.query("SELECT count(*) FROM ten").succeeded();
    let second = counts(&mut session);
    assert_eq!(second[2], [4, 0, 0, 0, 0, 1, 0, 0, 0], "{second:?}");
    assert_eq!(second[0], first[0]);
    // They stay when the process that counted is gone.
    reader.close();
    session.close();
    assert_eq!(counts(&mut pool.connect()), second);
}

#[test]
fn a_transaction_counts_on_the_nodes_it_reaches() {
    needs_pgpool!();
    only_ours!("the original sends BEGIN to both nodes at once");
    let pool = Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    assert_eq!(counts(&mut session)[2], [0; 9], "nothing has gone there yet");
    session.query("SELECT n FROM ten").succeeded();
    session.query("COMMIT").succeeded();
    let counts = counts(&mut session);
    // BEGIN and COMMIT; BEGIN, SELECT, and the end of it.
    assert_eq!((counts[0][5], counts[2][0], counts[2][5]), (2, 1, 2), "{counts:?}");
}

#[test]
fn errors_count_by_their_severity() {
    needs_pgpool!();
    only_ours!("a long text ends the session");
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    session.query("SELECT 1 / 0");
    session.query(&format!("SELECT {}", "x".repeat(2 << 20)));
    let mut victim = pool.connect();
    let pid = victim.value("SELECT pg_backend_pid()");
    shared().primary().connect().query(&format!("SELECT pg_terminate_backend({pid})")).succeeded();
    assert_eq!(victim.read().field('S').as_deref(), Some("FATAL"));
    drop(victim);
    let counts = counts(&mut session);
    assert_eq!((counts[0][7], counts[0][8]), (1, 2), "{counts:?}");
    assert_eq!(counts[0][3], 1, "a text too long to be read counts as one not understood: {counts:?}");
}
