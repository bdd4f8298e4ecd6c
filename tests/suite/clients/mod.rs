//! Programs that people really use: PostgreSQL's own, and the drivers of five languages.
//!
//! A driver has up to two tests. `smoke` is a short tour with all reads on the primary. `matrix` goes through every way
//! the driver has of sending statements, in autocommit and in transactions, with errors in the middle, while its reads
//! go to another node than its writes. The programs are in tests/clients; each says what failed, and is killed, with
//! what it had printed, when its deadline passes.

mod asyncpg;
mod jdbc;
mod node;
mod programs;
mod psycopg;

use std::time::Duration;

use crate::harness::{Pgpool, Program, shared, without_lag};

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

fn python_matrix(name: &str, tables: &[&str]) {
    matrix(Program::new("/usr/bin/python3").args([client_program(name)]), tables);
}

/// Runs a program of the driver matrix. It finds in $PORTS pgpools that differ in where reads go, all of them in front
/// of the cluster without lag, and there these tables with the columns `id int PRIMARY KEY` and `note text`.
fn matrix(program: Program, tables: &[&str]) {
    let cluster = without_lag();
    for table in tables {
        let sql = format!("CREATE TABLE {table} (id int PRIMARY KEY, note text)");
        cluster.primary().sql(&sql);
    }
    let pool = |weights: [f64; 3]| Pgpool::on(cluster).weights(&weights).set("num_init_children", 10);
    let pools = [
        pool([1.0, 0.0, 0.0]).start(),
        pool([0.0, 1.0, 0.0]).start(),
        pool([1.0, 1.0, 1.0]).set("statement_level_load_balance", "on").start(),
    ];
    let mut ports: Vec<String> = pools.iter().map(|pool| pool.port.to_string()).collect();
    ports.dedup(); // A bare server has but one.
    let program = program.at_port(pools[0].port).env("PORTS", &ports.join(" "));
    let outcome = program.patience(Duration::from_secs(180)).run();
    println!("{}", outcome.stderr);
    assert!(outcome.status.success() && outcome.stdout == "ok\n", "see above: {}", outcome.stdout);
    for table in tables {
        cluster.primary().sql(&format!("DROP TABLE {table}"));
    }
}
