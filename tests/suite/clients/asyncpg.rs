//! Python: asyncpg.

use super::{python_matrix, python_smoke};

#[test]
fn smoke() {
    python_smoke("asyncpg_smoke.py");
}

#[test]
fn matrix() {
    python_matrix("asyncpg_matrix.py", "matrix_asyncpg");
}
