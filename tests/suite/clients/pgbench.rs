//! libpq's pipeline mode, through pgbench. A script that reads something wrong divides by zero, which ends its client.

use std::fs;

use super::Field;
use crate::harness::{Pgpool, Program, Scratch, without_lag};

const CLIENTS: usize = 4;
const ROUNDS: usize = 100;

/// Two batches that write and read, and a read between them. One Sync ends each pipeline.
const AUTOCOMMIT: &str = r"
\set id :client_id
\startpipeline
UPDATE matrix_pgbench SET note = note::int + 1 WHERE id = :id;
SELECT 1 / (count(*) = 1)::int FROM matrix_pgbench WHERE id = :id AND note::int > 0;
SELECT abs(:id);
\endpipeline
SELECT 1 / (count(*) = 1)::int FROM matrix_pgbench WHERE id = :id AND note::int > 0;
\startpipeline
SELECT note FROM matrix_pgbench WHERE id = :id;
SELECT 1 / (count(*) = 1)::int FROM matrix_pgbench WHERE id = :id;
SELECT note FROM matrix_pgbench WHERE id = :id;
SELECT note FROM matrix_pgbench WHERE id = :id;
SELECT note FROM matrix_pgbench WHERE id = :id;
\endpipeline
";

/// A transaction inside of a pipeline, and one around two of them.
const TRANSACTION: &str = r"
\set id :client_id
\set other 1000 + :client_id
\startpipeline
BEGIN;
SELECT note FROM matrix_pgbench WHERE id = :id;
UPDATE matrix_pgbench SET note = note::int + 1 WHERE id = :id;
INSERT INTO matrix_pgbench VALUES (:other, 'own');
SELECT 1 / (note = 'own')::int FROM matrix_pgbench WHERE id = :other;
SAVEPOINT s;
DELETE FROM matrix_pgbench WHERE id = :id;
ROLLBACK TO SAVEPOINT s;
SELECT 1 / (count(*) = 1)::int FROM matrix_pgbench WHERE id = :id;
DELETE FROM matrix_pgbench WHERE id = :other;
END;
\endpipeline
BEGIN;
\startpipeline
SELECT note FROM matrix_pgbench WHERE id = :id;
INSERT INTO matrix_pgbench VALUES (:other, 'lost');
\endpipeline
SELECT 1 / (note = 'lost')::int FROM matrix_pgbench WHERE id = :other;
\startpipeline
SELECT 1 / (count(*) = 1)::int FROM matrix_pgbench WHERE id = :other;
ROLLBACK;
SELECT 1 / (count(*) = 0)::int FROM matrix_pgbench WHERE id = :other;
\endpipeline
";

/// Everybody changes the same row: some of the transactions fail in the middle, and are tried again.
const CONFLICTS: &str = r"
\startpipeline
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT note FROM matrix_pgbench WHERE id = 0;
UPDATE matrix_pgbench SET note = note::int + 1 WHERE id = 0;
SELECT 1 / (note::int > 0)::int FROM matrix_pgbench WHERE id = 0;
END;
\endpipeline
SELECT note FROM matrix_pgbench WHERE id = 0;
";

#[test]
fn pipelines() {
    let field = Field::with("matrix_pgbench");
    for pool in &field.pools {
        for mode in ["extended", "prepared"] {
            for (script, tries) in [(AUTOCOMMIT, 1), (TRANSACTION, 1), (CONFLICTS, 1000)] {
                run(pool, mode, script, tries);
            }
        }
    }
    field.finish();
}

/// Runs a script; the notes of all rows together count the transactions.
fn run(pool: &Pgpool, mode: &str, script: &str, tries: usize) {
    let primary = without_lag().primary();
    primary.sql("TRUNCATE matrix_pgbench");
    primary.sql(&format!("INSERT INTO matrix_pgbench SELECT n, 0 FROM generate_series(0, {CLIENTS} - 1) n"));
    let scratch = Scratch::new("pgbench");
    let file = scratch.path().join("script.sql");
    fs::write(&file, script).expect("script");
    let numbers = [("-c", CLIENTS), ("-t", ROUNDS), ("--max-tries", tries)];
    let numbers = numbers.iter().flat_map(|(option, value)| [(*option).to_owned(), value.to_string()]);
    let program =
        Program::client("pgbench").at_port(pool.port).args(["-n", "-M", mode, "-f"]).args([file]).args(numbers);
    let outcome = program.run();
    let shown = format!("{outcome:#?} {script}");
    assert!(!shown.contains("aborted"), "{shown}");
    assert!(outcome.succeeded().contains("number of failed transactions: 0 ("), "{shown}");
    let counted = primary.sql("SELECT sum(note::int) FROM matrix_pgbench");
    assert_eq!(counted, (CLIENTS * ROUNDS).to_string(), "{shown}");
}
