//! PostgreSQL's own programs: psql, pgbench, pg_dump, pg_restore.

use super::pool_on_shared;
use crate::harness::{Cluster, Pgpool, Program, client_version, server_version, shared};
use crate::needs_pgpool;

/// A pgpool in front of an own cluster. Programs read right after they write, so the reads go to the primary too:
/// replication delay is not what is tested here.
fn own_cluster() -> (Cluster, Pgpool) {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[1.0, 0.0]).set("num_init_children", 10).start();
    (cluster, pool)
}

#[test]
fn psql_runs_scripts_and_meta_commands() {
    let pool = Pgpool::on(shared()).start();
    // Not \l: what it asks for differs between releases.
    let script = "\\d ten\n\\dt\n\\du\n\\df pg_catalog.abs\n\\set x 5\nSELECT :x + 1;\nSELECT 'done';\n";
    let output = pool.psql(script).succeeded();
    assert!(output.contains("ten") && output.ends_with("6\ndone"), "{output}");
}

#[test]
fn psql_over_the_unix_socket() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).start();
    let directory = pool.socket().parent().expect("a directory").display().to_string();
    let program = Program::client("psql").at_port(pool.port).env("PGHOST", &directory);
    let output = program.args(["-X", "-A", "-t", "-c", "SELECT 40 + 2"]).run().succeeded();
    assert_eq!(output, "42");
}

#[test]
fn psql_shows_the_servers_error() {
    let pool = Pgpool::on(shared()).start();
    let outcome = pool.psql("SELECT nonsense FROM ten;");
    assert!(!outcome.status.success() && outcome.stderr.contains("column \"nonsense\" does not exist"), "{outcome:?}");
    let outcome = Program::client("psql").at_port(pool.port).args(["-X", "-d", "test", "-c", "SELECT 1/0"]).run();
    assert!(outcome.stderr.contains("division by zero"), "{outcome:?}");
}

#[test]
fn pgbench_in_every_protocol_mode_has_no_failures() {
    let (cluster, pool) = own_cluster();
    let pgbench = |args: &[&str]| {
        let outcome = Program::client("pgbench").at_port(pool.port).args(args).run();
        let shown = format!("{outcome:#?}");
        let output = outcome.succeeded();
        assert!(output.contains("number of failed transactions: 0 ("), "{shown}");
        assert!(!shown.contains("aborted"), "{shown}");
    };
    Program::client("pgbench").at_port(pool.port).args(["-i", "-q", "-s", "1"]).run().succeeded();
    cluster.wait_replayed();
    for mode in ["simple", "extended", "prepared"] {
        pgbench(&["-n", "-S", "-M", mode, "-c", "8", "-j", "2", "-t", "200"]);
        pgbench(&["-n", "-N", "-M", mode, "-c", "8", "-j", "2", "-t", "50"]);
        pgbench(&["-n", "-M", mode, "-c", "8", "-j", "2", "-t", "50"]);
    }
    pgbench(&["-n", "-S", "-C", "-c", "4", "-t", "50"]);
    assert_eq!(cluster.primary().sql("SELECT count(*) FROM pgbench_history"), (3 * 2 * 8 * 50).to_string());
}

#[test]
fn pgbench_reads_on_standbys() {
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::on(&cluster).weights(&[0.0, 1.0]).set("num_init_children", 8).start();
    Program::client("pgbench").at_port(cluster.primary().port).args(["-i", "-q", "-s", "1"]).run().succeeded();
    cluster.wait_replayed();
    let before = xacts(&cluster, 1);
    for mode in ["simple", "extended", "prepared"] {
        let args = ["-n", "-S", "-M", mode, "-c", "4", "-t", "100"];
        let output = Program::client("pgbench").at_port(pool.port).args(args).run().succeeded();
        assert!(output.contains("number of failed transactions: 0 ("), "{output}");
    }
    drop(pool);
    crate::harness::wait_for("the statistics of 1200 reads on the standby", || xacts(&cluster, 1) >= before + 1200);
}

/// Committed transactions of the tests' database on a node.
fn xacts(cluster: &Cluster, node: usize) -> u64 {
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'test'";
    cluster.node(node).sql(sql).parse().expect("a number")
}

#[test]
fn pg_dump_and_pg_restore_round_trip() {
    if client_version() < server_version() {
        println!("skipped: pg_dump {} refuses servers of version {}", client_version(), server_version());
        return;
    }
    let (cluster, pool) = own_cluster();
    pool.psql(
        "CREATE TABLE parent (id serial PRIMARY KEY, name text UNIQUE);
         INSERT INTO parent (name) SELECT 'row ' || n FROM generate_series(1, 5000) n;
         CREATE TABLE child (id bigint GENERATED ALWAYS AS IDENTITY, parent int REFERENCES parent, data bytea);
         INSERT INTO child (parent, data) SELECT n, decode(repeat('00ff5c27', 50), 'hex') FROM generate_series(1, 5000) n;
         CREATE VIEW both_tables AS SELECT p.name, c.data FROM parent p JOIN child c ON c.parent = p.id;
         CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
         SELECT lo_from_bytea(0, 'a large object');",
    )
    .succeeded();
    cluster.wait_replayed();
    let scratch = crate::harness::Scratch::new("dump");
    let dump = scratch.path().join("dump").display().to_string();
    let client = |name: &str| Program::client(name).at_port(pool.port);
    client("pg_dump").args(["-Fc", "-b", "-f", &dump]).run().succeeded();
    client("psql").args(["-X", "-c", "CREATE DATABASE copy"]).run().succeeded();
    cluster.wait_replayed();
    client("pg_restore").args(["-d", "copy", "--exit-on-error", &dump]).run().succeeded();
    let sum = "SELECT count(*), md5(string_agg(name || data::text, ',' ORDER BY name)) FROM both_tables";
    let args = |database| ["-X", "-A", "-t", "-d", database, "-c", sum];
    let (one, two) = (client("psql").args(args("test")).run(), client("psql").args(args("copy")).run());
    assert_eq!(one.succeeded(), two.succeeded());
    let plain = client("pg_dump").args(["-d", "copy"]).run().succeeded();
    assert!(plain.contains("CREATE VIEW public.both_tables"));
}

#[test]
fn copy_of_some_megabytes_in_and_out() {
    let pool = pool_on_shared();
    let rows: String = (0..200_000).map(|i| format!("{i}\tthe text of row number {i}\n")).collect();
    let script = format!("CREATE TABLE copied (id int, name text);\nCOPY copied FROM STDIN;\n{rows}\\.\n");
    pool.psql(&script).succeeded();
    let output = pool.psql("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT;").succeeded();
    assert!(output + "\n" == rows, "what comes out is what went in");
    pool.psql("DROP TABLE copied;").succeeded();
}
