//! What routing costs per statement: `cargo bench --bench routing_cost`.
//!
//! Nanoseconds for a text whose facts are known (hit), and for one never seen before (miss), with the decision after it.
//! The median of many short rounds, so that what disturbs the machine for a moment does not count.

use pgpool::config::Settings;
use pgpool::route::{Catalog, Known, RelationKind, SessionView, Target, Volatility, decide};
use pgpool::sql::{FactsCache, Lexing, Name};
use std::hint::black_box;
use std::time::Instant;

/// 100 bytes, with a place that makes texts different.
const TEXT: &str =
    "SELECT id, name, count(*) FROM accounts WHERE region = 'XXXXXXXX' AND balance > 1000 GROUP BY id, name";

const ROUNDS: usize = 201;
const PER_ROUND: usize = 500;

/// Nanoseconds at most (the project's targets).
const HIT: f64 = 300.0;
const MISS: f64 = 4_000.0;

struct AllOrdinary;

impl Catalog for AllOrdinary {
    fn function(&self, _: &Name) -> Known<Volatility> {
        Known::Yes(Volatility::Reads)
    }

    fn relation(&self, _: &Name) -> Known<RelationKind> {
        Known::Yes(RelationKind::Ordinary)
    }
}

fn main() {
    let settings = Settings::default();
    let mut cache = FactsCache::new(FactsCache::DEFAULT_BYTES);
    let mut route = |text: &[u8]| {
        let facts = cache.get(text, Lexing::default());
        decide(&facts, text, SessionView::new(&settings), &AllOrdinary).target
    };

    assert_eq!(route(TEXT.as_bytes()), Target::Balance);
    let hit = median(|| {
        for _ in 0..PER_ROUND {
            black_box(route(black_box(TEXT.as_bytes())));
        }
    });

    let mut number = 0usize;
    let mut unseen = TEXT.as_bytes().to_vec();
    let place = TEXT.find("XXXXXXXX").expect("the place");
    let miss = median(|| {
        for _ in 0..PER_ROUND {
            number += 1;
            // Letters, because numbers would not make another text of it.
            for (byte, shift) in unseen[place..place + 8].iter_mut().zip([0, 4, 8, 12, 16, 20, 24, 28]) {
                *byte = b'a' + (number >> shift & 15) as u8;
            }
            black_box(route(black_box(&unseen)));
        }
    });

    println!("routing of a SELECT of {} bytes", TEXT.len());
    for (what, measured, target) in [("text seen before", hit, HIT), ("text not seen before", miss, MISS)] {
        let verdict = if measured <= target { "ok" } else { "NOT OK" };
        println!("{what:<22} {measured:>7.0} ns   wanted <= {target:>5.0} ns   {verdict}");
    }
}

/// Nanoseconds per statement of the median round.
fn median(mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            round();
            begin.elapsed().as_nanos() as f64 / PER_ROUND as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
