//! Python: asyncpg.

use super::{python_matrix, python_smoke};
use crate::{needs_pgpool, only_ours};

#[test]
fn smoke() {
    python_smoke("asyncpg_smoke.py");
}

#[test]
fn matrix() {
    python_matrix("asyncpg_matrix.py", "matrix_asyncpg");
}

#[test]
fn administration() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    python_smoke("asyncpg_admin.py");
}
