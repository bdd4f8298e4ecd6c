//! Much through TLS on both sides, and waiting in all directions.

use super::authority::Authority;
use super::stage::{psql, servers, session, with_tls};
use crate::harness::{Cluster, Pgpool, Program, frontend, wait_for};
use crate::needs_pgpool;
use std::time::Duration;

/// TLS towards clients, and towards the primary of this cluster.
fn pool(cluster: &Cluster) -> (Authority, Pgpool) {
    let authority = Authority::new("ours");
    let config = with_tls(Pgpool::on(cluster).weights(&[1.0, 0.0]), &authority.issue("pgpool"));
    let pool = config.start();
    (authority, pool)
}

#[test]
fn results_of_any_size_arrive_unchanged() {
    needs_pgpool!();
    let (_, cluster) = servers();
    let (_authority, pool) = pool(cluster);
    let is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(psql(&pool, "sslmode=require", is_encrypted).succeeded(), "t");
    // 20,000 rows, and 100 MB in rows of 3 kB.
    for (count, width) in [(20_000, 1), (32_768, 100)] {
        let rows = format!("SELECT repeat(md5(i::text), {width}) AS r FROM generate_series(1, {count}) i");
        let through = psql(&pool, "sslmode=require", &rows).succeeded();
        let sum = format!("SELECT md5(string_agg(r, E'\\n')) FROM ({rows}) rows");
        assert_eq!(cluster.primary().sql(&sum), md5(through.as_bytes()), "{count} rows");
    }
}

fn md5(bytes: &[u8]) -> String {
    let digest = openssl::hash::hash(openssl::hash::MessageDigest::md5(), bytes).expect("md5");
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn copies_go_in_and_out_unchanged() {
    needs_pgpool!();
    let (_, cluster) = servers();
    let (_authority, pool) = pool(cluster);
    let rows: String = (0..32_768).map(|i| format!("{i}\t{}\n", format!("{i:08x}").repeat(400))).collect();
    assert!(rows.len() > 100_000_000);
    psql(
        &pool,
        "sslmode=require",
        &format!("CREATE TABLE tls_copy (id int, text text);\nCOPY tls_copy FROM STDIN;\n{rows}\\.\n"),
    )
    .succeeded();
    let sum = "SELECT md5(string_agg(id || E'\\t' || text, E'\\n' ORDER BY id)) FROM tls_copy";
    assert_eq!(cluster.primary().sql(sum), md5(rows.trim_end().as_bytes()));
    let out = psql(&pool, "sslmode=require", "COPY (SELECT * FROM tls_copy ORDER BY id) TO STDOUT").succeeded();
    assert!(out == rows.trim_end(), "what comes out is what went in");
    cluster.primary().sql("DROP TABLE tls_copy");
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    needs_pgpool!();
    let (_, cluster) = servers();
    let (_authority, pool) = pool(cluster);
    let mut client = session(&pool);
    let rows = "SELECT repeat(md5(i::text), 30) FROM generate_series(1, 30000) i -- slow reader";
    client.send(frontend::query(rows));
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%-- slow reader' AND wait_event = 'ClientWrite'";
    wait_for("the server to wait for its client", || cluster.primary().sql(waits) == "1");
    // The statements behind it arrive while nobody reads.
    client.send(frontend::query("SELECT 40 + 2"));
    assert_eq!(client.read_until('Z').succeeded().rows().len(), 30_000);
    assert_eq!(client.read_until('Z').succeeded().first_value().as_deref(), Some("42"));
    // Many small statements at once, answered all.
    let many: Vec<u8> = (0..3000).flat_map(|number| frontend::query(&format!("SELECT {number}"))).collect();
    client.send(many);
    for number in 0..3000 {
        assert_eq!(client.read_until('Z').succeeded().first_value(), Some(number.to_string()));
    }
    client.close();
}

#[test]
fn long_pipelines_with_much_in_both_directions() {
    needs_pgpool!();
    let (_, cluster) = servers();
    let (_authority, pool) = pool(cluster);
    let program = format!("{}/tests/clients/psycopg3_pipeline.py", env!("CARGO_MANIFEST_DIR"));
    let program = Program::new("/usr/bin/python3").at_port(pool.port).env("PGSSLMODE", "require").args([program]);
    assert_eq!(program.patience(Duration::from_secs(180)).run().succeeded(), "ok");
}
