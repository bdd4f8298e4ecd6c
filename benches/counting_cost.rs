//! What counting costs per statement: `cargo bench --bench counting_cost`.
//!
//! Nanoseconds for all that is counted of one statement: its class, its reason, and how long its node took to answer. The
//! median of many short rounds, so that what disturbs the machine for a moment does not count.

use pgpool::state::{Limits, NodeCounters, Shared};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 201;
const PER_ROUND: usize = 1000;

/// Nanoseconds at most: 1 % of the 20 microseconds that a query costs.
const TARGET: f64 = 200.0;

fn main() {
    let shared = Shared::create(Limits { workers: 4, pool_slots: 1, ..Limits::default() }).expect("shared memory");
    let slot = shared.worker(2);
    let counts = median(|| {
        let node = black_box(1);
        NodeCounters::count(&slot.counters(node).select);
        slot.count_reason(black_box(46));
    });
    let all = median(|| {
        let asked = black_box(Instant::now());
        let node = black_box(1);
        NodeCounters::count(&slot.counters(node).select);
        slot.count_reason(black_box(46));
        slot.counters(node).latency.observe(asked.elapsed());
    });
    println!("class and reason      {counts:6.1} ns");
    println!("and the latency       {all:6.1} ns (target {TARGET})");
    assert!(all <= TARGET, "counting costs too much");
}

/// Nanoseconds per call.
fn median(mut statement: impl FnMut()) -> f64 {
    let mut round = || {
        let began = Instant::now();
        (0..PER_ROUND).for_each(|_| statement());
        began.elapsed().as_nanos() as f64 / PER_ROUND as f64
    };
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
