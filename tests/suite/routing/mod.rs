//! Where statements arrive, by the servers' own logs: the tables of `tests/data/routing` against real servers, and the
//! sequences of routing 17.
//!
//! `observed.txt` holds what was seen of Pgpool-II; its test runs against the original, too, and proves the expectations.

mod given;
#[allow(dead_code, reason = "the tables are also read without servers")]
#[path = "../../routing/rows.rs"]
mod rows;
mod scene;
mod sequences;
mod stage;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use given::prepare;
use rows::{Section, sections};
use scene::Scene;
use stage::{Stage, cluster};

use crate::{needs_pgpool, only_ours};

/// No test may take longer, whatever hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// The scenes of one file in the order of their settings, and how many rows were left out, by reason.
fn scenes<'a>(tables: &'a [Section], file: &str) -> (Vec<Scene<'a>>, BTreeMap<&'static str, usize>) {
    let mut left_out = BTreeMap::new();
    let mut scenes = Vec::new();
    for section in tables {
        for row in section.rows.iter().filter(|row| row.place.starts_with(file)) {
            match prepare(section, row) {
                Ok(before) => scenes.push(Scene { section, row, before }),
                Err(why) => *left_out.entry(why).or_default() += 1,
            }
        }
    }
    scenes.sort_by(|a, b| a.before.settings.cmp(&b.before.settings));
    (scenes, left_out)
}

/// Plays all rows of one file of the tables.
fn play(file: &str) {
    needs_pgpool!();
    let begin = Instant::now();
    let tables = sections();
    let cluster = cluster(&tables);
    let (scenes, left_out) = scenes(&tables, file);
    assert!(!scenes.is_empty(), "no row of {file} can be played");
    let mut failures = String::new();
    for act in scenes.chunk_by(|a, b| a.before.settings == b.before.settings) {
        let application = format!("routing_{}", file.trim_end_matches(".txt"));
        let mut stage = Stage::start(cluster, &application, &act[0].before.settings);
        for scene in act {
            assert!(begin.elapsed() < DEADLINE, "{file} takes too long\n{failures}");
            match scene.play(&mut stage) {
                Ok(outcome) => {
                    if let Err(why) = scene.judge(&outcome) {
                        scene.describe(&mut failures, why, Some(outcome));
                    }
                }
                Err(error) => scene.describe(&mut failures, &error, None),
            }
        }
    }
    let count = scenes.len();
    println!("{file}: {count} rows in {:?}, left out {left_out:?}", begin.elapsed());
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn most_rows_can_be_played() {
    let tables = sections();
    let (scenes, left_out) = scenes(&tables, "");
    let (count, without) = (scenes.len(), left_out.values().sum::<usize>());
    println!("{count} rows can be played, {without} cannot: {left_out:?}");
    assert!(count > 9 * without, "{count} rows can be played, {without} cannot");
}

/// The catalogue of observed destinations, also against the original (routing 17.1).
#[test]
fn observed() {
    play("observed.txt");
}

/// A test for each other file of the tables.
macro_rules! files {
    ($($file:ident)*) => {
        $(
            #[test]
            fn $file() {
                only_ours!("the tables say what ours does");
                play(concat!(stringify!($file), ".txt"));
            }
        )*

        /// A file without a test would be one that nobody plays.
        #[test]
        fn every_file_has_a_test() {
            let tested = ["observed", $(stringify!($file)),*];
            for row in sections().iter().flat_map(|section| &section.rows) {
                let (file, _) = row.place.split_once(".txt").expect("a file");
                assert!(tested.contains(&file), "no test for {file}");
            }
        }
    };
}

files! {
    after_writes beginnings copy_explain_cursors ddl functions lists nodes prepared reads relations settings texts
    transactions
}
