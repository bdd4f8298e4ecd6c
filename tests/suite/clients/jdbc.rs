//! Java: Debian's JDBC driver.

use std::time::Duration;

use super::{client_program, matrix as run_matrix, pool_on_shared};
use crate::harness::Program;
use crate::{needs_pgpool, only_ours};

/// A single source file, compiled by the launcher.
fn java(name: &str) -> Program {
    Program::new("java").args([
        "-XX:TieredStopAtLevel=1",
        "-cp",
        "/usr/share/java/postgresql.jar",
        &client_program(name),
    ])
}

#[test]
fn smoke() {
    let pool = pool_on_shared();
    let program = java("JdbcSmoke.java").at_port(pool.port).patience(Duration::from_secs(180));
    assert_eq!(program.run().succeeded(), "ok");
}

#[test]
fn matrix() {
    run_matrix(java("JdbcMatrix.java"), "matrix_jdbc");
}

#[test]
fn administration() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let pool = pool_on_shared();
    let program = java("JdbcAdmin.java").at_port(pool.port).patience(Duration::from_secs(180));
    assert_eq!(program.run().succeeded(), "ok");
}
