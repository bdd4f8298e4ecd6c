//! Rust: tokio-postgres, which pipelines whatever is asked for at the same time.
//!
//! Every statement ends with a Sync of its own, so each of a pipeline may go to another node, and an error hits none
//! but its own.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt, TryStreamExt};
use tokio::runtime;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, GenericClient, NoTls, SimpleQueryMessage, Statement};

use super::{Field, pool_on_shared};
use crate::{needs_pgpool, only_ours};

const PUT: &str = "INSERT INTO matrix_tokio (id, note) VALUES ($1, $2)";
const GET: &str = "SELECT note FROM matrix_tokio WHERE id = $1";
const COUNT: &str = "SELECT count(*) FROM matrix_tokio";
const HALF: &str = "SELECT 100 / $1::int4";

#[test]
fn matrix() {
    let field = Field::with("matrix_tokio");
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    for port in field.ports() {
        runtime.block_on(async {
            run(port, "pipelines", pipelines).await;
            run(port, "transactions", transactions).await;
            run(port, "failed transactions", failed_transactions).await;
            run(port, "savepoints", savepoints).await;
            run(port, "portals", portals).await;
            run(port, "simple queries", simple_queries).await;
            run(port, "copies", copies).await;
            run(port, "types", types).await;
            run(port, "cancel", cancel).await;
            run(port, "dropped statements", dropped_statements).await;
        });
    }
    field.finish();
}

/// One scenario in a session of its own, with an empty table. What it asserts is told together with its name.
async fn run<F: Future<Output = ()>>(port: u16, name: &str, scenario: impl FnOnce(Client) -> F) {
    println!("{name} at port {port}");
    let config = format!("host=127.0.0.1 port={port} user=postgres dbname=test connect_timeout=20");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("login");
    let connection = tokio::spawn(connection);
    client.batch_execute("DELETE FROM matrix_tokio").await.expect("an empty table");
    timeout(Duration::from_secs(60), scenario(client)).await.unwrap_or_else(|_| panic!("{name} hangs at port {port}"));
    connection.await.expect("the connection's task").expect("the connection");
}

/// The statements of most scenarios, prepared.
struct Prepared {
    put: Statement,
    get: Statement,
    count: Statement,
    half: Statement,
}

impl Prepared {
    async fn new(client: &Client) -> Prepared {
        let (put, get, count, half) =
            tokio::try_join!(client.prepare(PUT), client.prepare(GET), client.prepare(COUNT), client.prepare(HALF))
                .expect("prepared at the same time");
        Prepared { put, get, count, half }
    }

    async fn put(&self, on: &impl GenericClient, id: i32, note: &str) -> Result<u64, Error> {
        on.execute(&self.put, &[&id, &note]).await
    }

    async fn get(&self, on: &impl GenericClient, id: i32) -> Result<Option<String>, Error> {
        Ok(on.query_opt(&self.get, &[&id]).await?.map(|row| row.get(0)))
    }

    async fn count(&self, on: &impl GenericClient) -> Result<i64, Error> {
        Ok(on.query_one(&self.count, &[]).await?.get(0))
    }

    async fn half(&self, on: &impl GenericClient, divisor: i32) -> Result<i32, Error> {
        Ok(on.query_one(&self.half, &[&divisor]).await?.get(0))
    }
}

async fn count(client: &Client) -> i64 {
    client.query_one(COUNT, &[]).await.expect("a count").get(0)
}

#[track_caller]
fn fails<T: Debug>(result: Result<T, Error>, state: &SqlState) {
    let error = result.expect_err("an error");
    assert_eq!(error.code(), Some(state), "{error:?}");
}

async fn pipelines(client: Client) {
    let prepared = Prepared::new(&client).await;
    // Asked for at the same time: a hundred rounds are on their way before the first answer.
    let round = async |i: i32| {
        let note = format!("note {i}");
        tokio::join!(
            prepared.put(&client, i, &note),
            prepared.get(&client, i),
            prepared.half(&client, i % 5),
            prepared.put(&client, i, "twice"),
            prepared.count(&client),
        )
    };
    for (i, (put, get, half, twice, count)) in (0..).zip(join_all((0..100).map(round)).await) {
        assert_eq!(put.expect("insert"), 1);
        assert_eq!(get.expect("read"), Some(format!("note {i}")));
        match i % 5 {
            0 => fails(half, &SqlState::DIVISION_BY_ZERO),
            divisor => assert_eq!(half.expect("half"), 100 / divisor),
        }
        fails(twice, &SqlState::UNIQUE_VIOLATION);
        assert_eq!(count.expect("count"), i64::from(i) + 1);
    }
}

async fn transactions(mut client: Client) {
    let prepared = Prepared::new(&client).await;
    for i in 0..6 {
        let transaction = client.transaction().await.expect("BEGIN");
        let seen = tokio::try_join!(
            prepared.count(&transaction),
            prepared.put(&transaction, i, "mine"),
            prepared.get(&transaction, i),
            prepared.count(&transaction),
        );
        assert_eq!(seen.expect("a pipeline"), (i64::from(i), 1, Some("mine".to_owned()), i64::from(i) + 1));
        transaction.commit().await.expect("COMMIT");

        let transaction = client.transaction().await.expect("BEGIN");
        prepared.put(&transaction, 100, "lost").await.expect("insert");
        transaction.rollback().await.expect("ROLLBACK");
        assert_eq!(count(&client).await, i64::from(i) + 1);
    }
    let reader = client.build_transaction().read_only(true).start().await.expect("BEGIN READ ONLY");
    assert_eq!(prepared.count(&reader).await.expect("count"), 6);
    fails(prepared.put(&reader, 7, "refused").await, &SqlState::READ_ONLY_SQL_TRANSACTION);
}

async fn failed_transactions(mut client: Client) {
    let prepared = Prepared::new(&client).await;
    for _ in 0..4 {
        let transaction = client.transaction().await.expect("BEGIN");
        let (good, bad, aborted, too) = tokio::join!(
            prepared.put(&transaction, 1, "lost"),
            prepared.half(&transaction, 0),
            prepared.get(&transaction, 1),
            prepared.put(&transaction, 2, "lost"),
        );
        assert_eq!(good.expect("insert"), 1);
        fails(bad, &SqlState::DIVISION_BY_ZERO);
        fails(aborted, &SqlState::IN_FAILED_SQL_TRANSACTION);
        fails(too, &SqlState::IN_FAILED_SQL_TRANSACTION);
        fails(transaction.query_one("SELECT 'prepared in vain'", &[]).await, &SqlState::IN_FAILED_SQL_TRANSACTION);
        // Dropped, it is rolled back on the way of the next statement.
        drop(transaction);
        assert_eq!(count(&client).await, 0);
    }
}

async fn savepoints(mut client: Client) {
    let prepared = Prepared::new(&client).await;
    for i in 0..4 {
        let mut transaction = client.transaction().await.expect("BEGIN");
        prepared.put(&transaction, 10 * i, "kept").await.expect("insert");
        let savepoint = transaction.savepoint("a_name").await.expect("SAVEPOINT");
        prepared.put(&savepoint, 10 * i + 1, "lost").await.expect("insert");
        fails(prepared.put(&savepoint, 10 * i, "twice").await, &SqlState::UNIQUE_VIOLATION);
        savepoint.rollback().await.expect("ROLLBACK TO");
        assert_eq!(prepared.get(&transaction, 10 * i + 1).await.expect("read"), None);
        assert_eq!(prepared.get(&transaction, 10 * i).await.expect("read"), Some("kept".to_owned()));
        transaction.commit().await.expect("COMMIT");
        assert_eq!(count(&client).await, i64::from(i) + 1);
    }
}

async fn portals(mut client: Client) {
    client
        .batch_execute("INSERT INTO matrix_tokio SELECT n, 'note' FROM generate_series(0, 499) n")
        .await
        .expect("rows");
    let all = client.prepare("SELECT id FROM matrix_tokio WHERE id >= $1 ORDER BY id").await.expect("prepare");
    for round in 0..3 {
        let transaction = client.transaction().await.expect("BEGIN");
        let first = transaction.bind(&all, &[&0]).await.expect("a portal");
        let second = transaction.bind(&all, &[&100]).await.expect("another portal");
        let mut seen = Vec::new();
        loop {
            let (some, others) =
                tokio::try_join!(transaction.query_portal(&first, 37), transaction.query_portal(&second, 7))
                    .expect("parts of two portals at the same time");
            if some.is_empty() {
                break;
            }
            assert!(others.iter().all(|row| row.get::<_, i32>(0) >= 100));
            seen.extend(some.iter().map(|row| row.get::<_, i32>(0)));
            if seen.len() == 74 {
                transaction.execute(PUT, &[&(1000 + round), &"in between"]).await.expect("a write in between");
            }
        }
        assert_eq!(seen, (0..500 + round).map(|i| if i < 500 { i } else { 500 + i }).collect::<Vec<_>>());
        transaction.commit().await.expect("COMMIT");
    }
    let transaction = client.transaction().await.expect("BEGIN");
    let bad = "SELECT 10 / (5 - n) FROM generate_series(1, 10) n";
    let bad = transaction.bind(bad, &[]).await.expect("a portal");
    assert_eq!(transaction.query_portal(&bad, 4).await.expect("up to the error").len(), 4);
    fails(transaction.query_portal(&bad, 4).await, &SqlState::DIVISION_BY_ZERO);
    transaction.rollback().await.expect("ROLLBACK");
    assert_eq!(count(&client).await, 503);
}

async fn simple_queries(client: Client) {
    let rows = |messages: Vec<SimpleQueryMessage>| -> Vec<String> {
        let value = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
            _ => None,
        };
        messages.into_iter().filter_map(value).collect()
    };
    let text = "INSERT INTO matrix_tokio VALUES (1, 'one'); SELECT note FROM matrix_tokio; SELECT 7";
    let (several, bad, after) = tokio::join!(
        client.simple_query(text),
        client.simple_query("INSERT INTO matrix_tokio VALUES (2, 'two'); SELECT 1 / 0"),
        client.simple_query(COUNT),
    );
    assert_eq!(rows(several.expect("three statements")), ["one", "7"]);
    fails(bad, &SqlState::DIVISION_BY_ZERO);
    assert_eq!(rows(after.expect("count")), ["1"]);
    fails(client.batch_execute("BEGIN; INSERT INTO matrix_tokio VALUES (1, 'x')").await, &SqlState::UNIQUE_VIOLATION);
    fails(client.simple_query(COUNT).await, &SqlState::IN_FAILED_SQL_TRANSACTION);
    client.batch_execute("ROLLBACK").await.expect("ROLLBACK");
    assert_eq!(count(&client).await, 1);
}

async fn copies(mut client: Client) {
    const IN: &str = "COPY matrix_tokio FROM STDIN";
    let lines: String = (0..3000).map(|i| format!("{i}\tcopied {i}\n")).collect();
    let copy_in = async |client: &Client, text: String| {
        let mut sink = pin!(client.copy_in(IN).await?);
        sink.send(std::io::Cursor::new(text.into_bytes())).await?;
        sink.finish().await
    };
    assert_eq!(copy_in(&client, lines.clone()).await.expect("COPY"), 3000);
    let out = client.copy_out("COPY (SELECT * FROM matrix_tokio ORDER BY id) TO STDOUT").await.expect("COPY");
    let parts = out.try_collect::<Vec<_>>().await.expect("COPY");
    assert!(parts.concat() == lines.as_bytes(), "what comes out is what went in");

    fails(copy_in(&client, "9000\tlost\n0\ttwice\n".into()).await, &SqlState::UNIQUE_VIOLATION);
    assert_eq!(count(&client).await, 3000);
    // A sink that is dropped sends CopyFail.
    let mut sink = Box::pin(client.copy_in(IN).await.expect("COPY"));
    sink.send(std::io::Cursor::new(b"9000\tlost\n".to_vec())).await.expect("a row");
    drop(sink);
    assert_eq!(count(&client).await, 3000);
    let bad =
        client.copy_out("COPY (SELECT 10 / (5 - n) FROM generate_series(1, 10) n) TO STDOUT").await.expect("COPY");
    fails(bad.try_collect::<Vec<_>>().await, &SqlState::DIVISION_BY_ZERO);

    let transaction = client.transaction().await.expect("BEGIN");
    let mut sink = Box::pin(transaction.copy_in(IN).await.expect("COPY"));
    sink.send(std::io::Cursor::new(b"9000\tin a transaction\n".to_vec())).await.expect("a row");
    assert_eq!(sink.as_mut().finish().await.expect("COPY"), 1);
    assert_eq!(transaction.query_one(GET, &[&9000]).await.expect("own row").get::<_, &str>(0), "in a transaction");
    transaction.rollback().await.expect("ROLLBACK");
    assert_eq!(count(&client).await, 3000);
}

/// The driver asks the catalog for a type it does not know, with statements of its own.
async fn types(client: Client) {
    let make = "DROP TYPE IF EXISTS matrix_tokio_mood; CREATE TYPE matrix_tokio_mood AS ENUM ('ok', 'sad')";
    client.batch_execute(make).await.expect("a type");
    let statement = client.prepare("SELECT $1::text::matrix_tokio_mood").await.expect("prepare");
    assert_eq!(statement.columns()[0].type_().name(), "matrix_tokio_mood");
    client.query_one(&statement, &[&"sad"]).await.expect("a value");
    fails(client.query_one(&statement, &[&"glad"]).await, &SqlState::INVALID_TEXT_REPRESENTATION);
    client.batch_execute("DROP TYPE matrix_tokio_mood").await.expect("drop");
}

async fn cancel(client: Client) {
    for _ in 0..3 {
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.cancel_token().cancel_query(NoTls).await
        };
        let (slow, cancelled) = tokio::join!(client.query("SELECT pg_sleep(30)", &[]), cancel);
        cancelled.expect("the cancel request");
        fails(slow, &SqlState::QUERY_CANCELED);
        assert_eq!(count(&client).await, 0);
    }
}

/// A dropped statement is closed on the way of whatever comes next.
async fn dropped_statements(client: Client) {
    for i in 0..40 {
        Prepared::new(&client).await.put(&client, i, "note").await.expect("insert");
        let (one, two) = (Prepared::new(&client).await, Prepared::new(&client).await);
        let seen = tokio::try_join!(one.get(&client, i), two.count(&client));
        assert_eq!(seen.expect("reads"), (Some("note".to_owned()), i64::from(i) + 1));
    }
    fails(client.prepare("SELECT * FROM no_such_table").await, &SqlState::UNDEFINED_TABLE);
    assert_eq!(count(&client).await, 40);
}

/// What pgpool answers itself, by a driver that prepares everything and wants binary results.
#[test]
fn administration() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let pool = pool_on_shared();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname=test connect_timeout=20", pool.port);
        let (mut client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("login");
        let connection = tokio::spawn(connection);
        let version: String = client.query_one("SHOW pool_version", &[]).await.expect("version").get(0);
        assert!(version.starts_with("4.7.2 ("), "{version}");
        // Many at once, servers' among them.
        let nodes = join_all((0..20).map(|_| client.query("SHOW POOL_NODES", &[])));
        let ones = join_all((0..20).map(|_| client.query_one("SELECT 1::int4", &[])));
        let (nodes, ones) = futures_util::future::join(nodes, ones).await;
        assert!(nodes.into_iter().all(|rows| rows.expect("nodes").len() == 3));
        assert!(ones.into_iter().all(|row| row.expect("one").get::<_, i32>(0) == 1));
        // A portal in portions, in a transaction.
        let transaction = client.transaction().await.expect("transaction");
        let portal = transaction.bind("SHOW POOL_STATUS", &[]).await.expect("portal");
        let first = transaction.query_portal(&portal, 10).await.expect("ten rows");
        let rest = transaction.query_portal(&portal, 0).await.expect("the rest");
        assert!(first.len() == 10 && rest.len() > 100, "{} and {}", first.len(), rest.len());
        transaction.commit().await.expect("commit");
        client.execute("PGPOOL SET client_idle_limit TO 60", &[]).await.expect("set");
        let error = client.execute("PGPOOL SET port TO 1", &[]).await.expect_err("a startup parameter");
        assert_eq!(error.code().map(SqlState::code), Some("XX000"));
        let shown: String = client.query_one("PGPOOL SHOW client_idle_limit", &[]).await.expect("shown").get(0);
        assert_eq!(shown, "1min");
        drop(client);
        connection.await.expect("the connection's task").expect("the connection");
    });
}
