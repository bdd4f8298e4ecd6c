//! Programs that people really use: PostgreSQL's own, and the drivers of five languages.
//!
//! A driver has up to two tests. `smoke` is a short tour with all reads on the primary. `matrix` goes through every way
//! the driver has of sending statements, in autocommit and in transactions, with errors in the middle, while its reads
//! go to another node than its writes. The programs are in tests/clients; each says what failed, and is killed, with
//! what it had printed, when its deadline passes.

mod asyncpg;
mod jdbc;
mod node;
mod pgbench;
mod programs;
mod psycopg;
mod tokio;

use std::time::Duration;

use crate::harness::{Pgpool, Program, is_bare_server, shared, without_lag};

/// A program of tests/clients.
fn client_program(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A pgpool in front of the shared cluster, with all reads on the primary: replication delay is not what is tested.
fn pool_on_shared() -> Pgpool {
    Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).set("num_init_children", 4).start()
}

/// The smoke program of a driver for Debian's Python, which another Python may hide.
fn python_smoke(name: &str) {
    let pool = pool_on_shared();
    let program = Program::new("/usr/bin/python3").at_port(pool.port);
    assert_eq!(program.args([client_program(name)]).run().succeeded(), "ok");
}

fn python_matrix(name: &str, table: &str) {
    matrix(Program::new("/usr/bin/python3").args([client_program(name)]), table);
}

/// Runs a program of the driver matrix at the ports of a [`Field`], which it finds in $PORTS.
fn matrix(program: Program, table: &str) {
    let field = Field::with(table);
    let ports: Vec<String> = field.ports().iter().map(u16::to_string).collect();
    let program = program.at_port(field.ports()[0]).env("PORTS", &ports.join(" "));
    let outcome = program.patience(Duration::from_secs(180)).run();
    println!("{}", outcome.stderr);
    assert!(outcome.status.success() && outcome.stdout == "ok\n", "see above: {}", outcome.stdout);
    field.finish();
}

/// Where the matrix is played: pgpools that differ in where reads go, and one with the query cache, in front of the cluster without lag, and a table
/// there with the columns `id int PRIMARY KEY` and `note text`.
struct Field<'a> {
    table: &'a str,
    pools: [Pgpool; 4],
}

impl Field<'_> {
    fn with(table: &str) -> Field<'_> {
        let cluster = without_lag();
        cluster.primary().sql(&format!("CREATE TABLE {table} (id int PRIMARY KEY, note text)"));
        let pool = |weights: [f64; 3]| Pgpool::on(cluster).weights(&weights).set("num_init_children", 10);
        let anywhere = pool([1.0, 1.0, 1.0]).set("statement_level_load_balance", "on");
        let caching = pool([1.0, 0.0, 0.0]).set("memory_cache_enabled", "on");
        let pools = [pool([1.0, 0.0, 0.0]).start(), pool([0.0, 1.0, 0.0]).start(), anywhere.start(), caching.start()];
        Field { table, pools }
    }

    fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<_> = self.pools.iter().map(|pool| pool.port).collect();
        ports.dedup(); // A bare server has but one.
        ports
    }

    /// Removes the table, and checks that the test was one: that reads went to the standby where they should.
    fn finish(self) {
        without_lag().primary().sql(&format!("DROP TABLE {}", self.table));
        if !is_bare_server() {
            let nodes = self.pools[1].psql("SHOW POOL_NODES").succeeded();
            let selects: Vec<&str> = nodes.lines().filter_map(|line| line.split('|').nth(SELECT_CNT)).collect();
            assert!(selects.len() == 3 && selects[1] != "0", "reads on node 1: {nodes}");
        }
    }
}

/// The column of SHOW POOL_NODES that counts the reads of a node.
const SELECT_CNT: usize = 8;
