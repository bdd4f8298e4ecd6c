//! Python: psycopg 2 and 3.

use super::{python_matrix, python_smoke};
use crate::{needs_pgpool, only_ours};

#[test]
fn smoke_2() {
    python_smoke("psycopg2_smoke.py");
}

#[test]
fn smoke_3() {
    python_smoke("psycopg3_smoke.py");
}

#[test]
fn matrix_3() {
    python_matrix("psycopg3_matrix.py", "matrix_psycopg3");
}

#[test]
fn administration() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    python_smoke("psycopg3_admin.py");
}
