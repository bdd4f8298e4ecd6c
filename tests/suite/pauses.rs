//! Nobody waits for the wrong side: whoever speaks next is heard at once. The limits are several times what a busy
//! machine needs, and a fraction of what a pause at each turn would make of it.

use std::time::{Duration, Instant};

use crate::harness::frontend::{bind, describe_statement, execute, flush, parse, query, sync};
use crate::harness::{Pgpool, shared};

#[track_caller]
fn takes_less_than(seconds: u64, what: &str, work: impl FnOnce()) {
    let started = Instant::now();
    work();
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(seconds), "{what} took {taken:?}");
}

#[test]
fn a_long_statement_is_passed_on_without_pauses() {
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    let text = format!("SELECT length('{}')", "x".repeat(32 << 20));
    takes_less_than(6, "a statement of 32 MB", || {
        assert_eq!(session.ask(query(&text)).succeeded().first_value(), Some((32 << 20).to_string()));
    });
}

#[test]
fn flush_is_answered_without_pauses() {
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    takes_less_than(3, "400 times Flush", || {
        for _ in 0..200 {
            session.send([parse("", "SELECT 1", &[]), describe_statement(""), flush()].concat());
            assert_eq!(session.read_some(3).kinds(), "1tT");
            session.send([bind("", "", &[]), execute("", 0), flush()].concat());
            assert_eq!(session.read_some(3).kinds(), "2DC");
            session.ask(sync()).succeeded();
        }
    });
}
