//! JavaScript: node's pg with pg-cursor and pg-query-stream.

use super::{client_program, matrix as run_matrix, pool_on_shared};
use crate::harness::{Program, target_dir};

/// The modules are npm's, put into our target directory by scripts/setup, or else Debian's.
fn node(name: &str) -> Program {
    let modules = format!("{}/node/node_modules:/usr/share/nodejs", target_dir().display());
    Program::new("node").env("NODE_PATH", &modules).args([client_program(name)])
}

#[test]
fn smoke() {
    let pool = pool_on_shared();
    assert_eq!(node("node_smoke.js").at_port(pool.port).run().succeeded(), "ok");
}

#[test]
fn matrix() {
    run_matrix(node("node_matrix.js"), "matrix_node");
}
