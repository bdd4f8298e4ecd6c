//! The same by the extended protocol: drivers that know no other, pipelines, transactions.

use super::pool;
use crate::harness::Wire;
use crate::harness::frontend::{
    bind, close_portal, close_statement, describe_portal, describe_statement, execute, flush, message, parse, query,
    sync,
};
use crate::{needs_pgpool, only_ours};

/// Bind without parameters, with these formats of results.
fn bind_formats(portal: &str, statement: &str, formats: &[u16]) -> Vec<u8> {
    let mut body = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0", &[0; 4]].concat();
    body.extend((formats.len() as u16).to_be_bytes());
    formats.iter().for_each(|format| body.extend(format.to_be_bytes()));
    message('B', &body)
}

/// The whole of a statement as drivers send it.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), describe_portal(""), execute("", 0), sync()].concat()
}

/// Names, type and format of the columns.
fn columns(description: &[u8]) -> Vec<(String, u32, u16)> {
    let mut rest = &description[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).expect("a name");
        let number = |at: usize| u16::from_be_bytes([rest[end + at], rest[end + at + 1]]);
        let kind = u32::from(number(7)) << 16 | u32::from(number(9));
        columns.push((String::from_utf8_lossy(&rest[..end]).into_owned(), kind, number(17)));
        rest = &rest[end + 19..];
    }
    columns
}

fn session() -> (crate::harness::Pgpool, Wire) {
    let pool = pool();
    let session = pool.connect();
    (pool, session)
}

#[test]
fn every_command_answers_as_in_the_simple_protocol() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let (_pool, mut session) = session();
    for sql in [
        "SHOW POOL_NODES",
        "SHOW POOL_VERSION",
        "SHOW POOL_CACHE",
        "SHOW POOL_STATUS",
        "SHOW POOL_BACKEND_STATS",
        "SHOW POOL_HEALTH_CHECK_STATS",
        "PGPOOL SHOW ALL",
        "PGPOOL SHOW port",
        "PGPOOL SHOW backend",
        "PGPOOL EXPLAIN SELECT * FROM ten",
    ] {
        let simple = session.query(sql).succeeded();
        let extended = session.ask(run(sql)).succeeded();
        assert_eq!(extended.kinds(), format!("12{}", simple.kinds()), "{sql}");
        assert_eq!(extended.0[2], simple.0[0], "{sql}");
        assert_eq!((extended.rows(), extended.tags(), extended.state()), (simple.rows(), simple.tags(), 'I'), "{sql}");
    }
    for sql in ["SHOW POOL_PROCESSES", "SHOW POOL_POOLS"] {
        assert_eq!(session.ask(run(sql)).succeeded().rows().len(), session.query(sql).rows().len(), "{sql}");
    }
}

#[test]
fn statements_are_described_and_run_again() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let (_pool, mut session) = session();
    // As asyncpg: prepare, wait, run.
    session.send([parse("s", "SHOW pool_version", &[]), describe_statement("s"), flush()].concat());
    let reply = session.read_some(3);
    assert_eq!(reply.kinds(), "1tT");
    assert_eq!(reply.0[1].body, [0, 0]);
    assert_eq!(columns(&reply.0[2].body), [("pool_version".to_owned(), 25, 0)]);
    for _ in 0..2 {
        let reply = session.ask([bind_formats("", "s", &[1]), execute("", 0), sync()].concat());
        assert_eq!((reply.kinds().as_str(), reply.state()), ("2DCZ", 'I'));
    }
    // Text is the same in binary form, and the portal says which one it is.
    let reply = session.ask([bind_formats("p", "s", &[1]), describe_portal("p"), execute("p", 0), sync()].concat());
    assert_eq!(columns(&reply.0[1].body), [("pool_version".to_owned(), 25, 1)]);
    let shown = session.value("SHOW pool_version");
    assert_eq!(reply.first_value(), Some(shown));
    assert_eq!(session.ask([close_statement("s"), sync()].concat()).kinds(), "3Z");
    assert_eq!(session.ask([bind("", "s", &[]), sync()].concat()).sqlstate(), "26000");
    // Commands without rows.
    let sql = "PGPOOL SET log_statement TO off";
    let messages = [parse("", sql, &[]), describe_statement(""), bind_formats("", "", &[1, 1]), describe_portal("")];
    let reply = session.ask([messages.concat(), execute("", 0), execute("", 0), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("1tn2nCEZ", "55000"));
    assert_eq!(reply.tags(), ["SET"]);
}

#[test]
fn rows_come_in_portions() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let (_pool, mut session) = session();
    let begin = [parse("", "SHOW POOL_NODES", &[]), bind("p", "", &[])].concat();
    let reply = session.ask([begin.clone(), execute("p", 2), execute("p", 2), execute("p", 2), sync()].concat());
    assert_eq!(reply.kinds(), "12DDsDCCZ");
    assert_eq!(reply.tags(), ["SELECT 1", "SELECT 0"]);
    let ids: Vec<_> = reply.column();
    assert_eq!(ids, ["0", "1", "2"]);
    // Exactly as many as there are: it does not know yet that there are no more.
    let reply = session.ask([begin.clone(), execute("p", 3), execute("p", 0), sync()].concat());
    assert_eq!(reply.kinds(), "12DDDsCZ");
    // The portal ends with its transaction: outside of a block at Sync.
    assert_eq!(session.ask([execute("p", 2), sync()].concat()).sqlstate(), "34000");
    session.query("BEGIN").succeeded();
    assert_eq!(session.ask([begin, execute("p", 2), sync()].concat()).kinds(), "12DDsZ");
    let reply = session.ask([execute("p", 2), close_portal("p"), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.state()), ("DC3Z", 'T'));
    session.query("COMMIT").succeeded();
}

#[test]
fn answers_come_in_their_place_in_a_pipeline() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let (_pool, mut session) = session();
    let step = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
    let slow = "SELECT 'slow' FROM pg_sleep(0.1)";
    // One batch, servers in front and behind; several batches; simple queries between.
    let one = [step(slow), step("SHOW pool_version"), step("SELECT 'x' FROM ten LIMIT 1"), sync()].concat();
    let version = session.value("SHOW pool_version");
    let reply = session.ask(&one).succeeded();
    assert_eq!(reply.column(), ["slow", version.as_str(), "x"]);
    let all =
        [one.clone(), step("PGPOOL SHOW port"), sync(), query("SHOW pool_version"), query("SELECT 7"), one].concat();
    session.send(all);
    let mut values = Vec::new();
    for _ in 0..5 {
        let reply = session.read_until('Z').succeeded();
        assert_eq!(reply.state(), 'I');
        values.extend(reply.column());
    }
    let port = session.value("PGPOOL SHOW port");
    let v = version.as_str();
    assert_eq!(values, ["slow", v, "x", port.as_str(), v, "7", "slow", v, "x"]);
    // Without Sync: Flush is enough.
    session.send([step("SELECT 1 FROM ten LIMIT 1"), step("SHOW pool_version"), flush()].concat());
    assert_eq!(session.read_some(8).kinds(), "12DC12DC");
    assert_eq!(session.ask(sync()).kinds(), "Z");
}

#[test]
fn the_transaction_goes_on_as_it_was() {
    only_ours!("the original always reports I");
    needs_pgpool!();
    let (_pool, mut session) = session();
    assert_eq!(session.query("SHOW pool_version").state(), 'I');
    session.query("BEGIN").succeeded();
    assert_eq!(session.query("SHOW pool_version").succeeded().state(), 'T');
    assert_eq!(session.ask(run("SHOW pool_version")).succeeded().state(), 'T');
    assert_eq!(session.ask(run("PGPOOL SHOW port")).succeeded().state(), 'T');
    assert_eq!(session.query("PGPOOL SHOW nonsense").state(), 'T');
    session.query("SELECT 1 / 0");
    let refused = session.query("SHOW pool_version");
    assert_eq!((refused.sqlstate().as_str(), refused.state()), ("25P02", 'E'));
    let detail = refused.error().and_then(|error| error.field('D'));
    assert_eq!(detail.as_deref(), Some("statement: SHOW pool_version"));
    let refused = session.ask(run("SHOW pool_version"));
    assert_eq!((refused.kinds().as_str(), refused.sqlstate().as_str(), refused.state()), ("EZ", "25P02", 'E'));
    // What is pgpool's own business does not depend on a server's transaction.
    assert_eq!(session.query("PGPOOL SHOW port").succeeded().state(), 'E');
    assert_eq!(session.query("ROLLBACK").state(), 'I');
    assert_eq!(session.ask(run("SHOW pool_version")).succeeded().state(), 'I');
}

#[test]
fn a_refusal_ends_its_batch() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let (_pool, mut session) = session();
    session.query("CREATE TABLE show_batch (id int)").succeeded();
    let step = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
    let insert = |id: i32| step(&format!("INSERT INTO show_batch VALUES ({id})"));
    // The implicit transaction of the batch is rolled back, what follows is ignored.
    let batch = [insert(1), step("PGPOOL SET port TO 1"), insert(2), step("SHOW pool_version"), sync()].concat();
    let reply = session.ask([batch, query("SELECT count(*) FROM show_batch")].concat());
    assert_eq!((reply.kinds().as_str(), reply.state()), ("12C12EZ", 'I'));
    assert_eq!(reply.sqlstate(), "XX000");
    assert_eq!(session.read_until('Z').succeeded().column(), ["0"]);
    // So is the rest behind an error of a server.
    let reply = session.ask([insert(3), step("SELECT 1 / 0"), step("SHOW pool_version"), sync()].concat());
    assert_eq!((reply.sqlstate().as_str(), reply.rows().len()), ("22012", 0));
    assert_eq!(session.value("SELECT count(*) FROM show_batch"), "0");
    // A failed batch in a transaction block fails the block.
    session.query("BEGIN").succeeded();
    assert_eq!(session.ask(run("PGPOOL SHOW nonsense")).state(), 'E');
    session.query("ROLLBACK").succeeded();
    session.query("DROP TABLE show_batch").succeeded();
}

#[test]
fn names_mean_one_thing() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let (_pool, mut session) = session();
    let prepare = |name: &str, sql: &str| [parse(name, sql, &[]), sync()].concat();
    session.ask(prepare("ours", "SHOW pool_version")).succeeded();
    session.ask(prepare("theirs", "SELECT 1")).succeeded();
    assert_eq!(session.ask(prepare("ours", "SELECT 1")).sqlstate(), "42P05");
    assert_eq!(session.ask(prepare("ours", "SHOW pool_cache")).sqlstate(), "42P05");
    assert_eq!(session.ask(prepare("theirs", "SHOW pool_cache")).sqlstate(), "42P05");
    assert_eq!(session.ask([bind("", "ours", &[Some("1")]), sync()].concat()).sqlstate(), "08P01");
    assert_eq!(session.ask([bind_formats("", "ours", &[0, 0]), sync()].concat()).sqlstate(), "08P01");
    assert_eq!(session.ask([bind_formats("", "ours", &[2]), sync()].concat()).sqlstate(), "22023");
    session.query("BEGIN").succeeded();
    let binds = |portal: &str, statement: &str| [bind(portal, statement, &[]), sync()].concat();
    session.ask(binds("p", "ours")).succeeded();
    assert_eq!(session.ask(binds("p", "theirs")).sqlstate(), "42P03");
    session.query("ROLLBACK").succeeded();
    // The unnamed ones change hands.
    session.ask(prepare("", "SHOW pool_version")).succeeded();
    session.ask(prepare("", "SELECT 42")).succeeded();
    let reply = session.ask([bind("", "", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.column(), ["42"]);
    session.ask(prepare("", "SHOW pool_version")).succeeded();
    session.query("SELECT 1").succeeded();
    assert_eq!(session.ask(binds("", "")).sqlstate(), "26000");
    // EXECUTE, PREPARE and DEALLOCATE know ours too.
    let version = session.value("SHOW pool_version");
    assert_eq!(session.value("EXECUTE ours"), version);
    let reply = session.ask(run("EXECUTE ours")).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12TDCZ", vec![version.clone()]));
    assert_eq!(session.query("PREPARE ours AS SELECT 1").sqlstate(), "42P05");
    session.query("BEGIN").succeeded();
    assert_eq!(session.query("nonsense").sqlstate(), "42601");
    assert_eq!(session.query("DEALLOCATE ours").sqlstate(), "25P02");
    assert_eq!(session.query("EXECUTE ours").sqlstate(), "25P02");
    session.query("ROLLBACK").succeeded();
    assert_eq!(session.value("EXECUTE ours"), version);
    session.query("DEALLOCATE ours").succeeded();
    assert_eq!(session.ask(binds("", "ours")).sqlstate(), "26000");
    session.ask(prepare("ours", "SHOW pool_version")).succeeded();
    session.query("DEALLOCATE ALL").succeeded();
    assert_eq!(session.ask(binds("", "ours")).sqlstate(), "26000");
}
