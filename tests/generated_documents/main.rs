//! The committed documents that are written from `conf/parameters.toml`, from the tables of metrics and signals and from the
//! programs' help texts are what these say today.
//! `UPDATE=1 cargo test --test generated_documents` writes them anew.

mod help;
mod manual;
mod roff;

use pgpool::config::document;
use pgpool::metrics;
use pgpool::sys::signal;
use std::path::Path;

fn assert_fresh(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, wanted).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == wanted, "{file} is stale; write it anew with: UPDATE=1 cargo test --test generated_documents");
}

#[test]
fn the_sample_file_is_fresh() {
    assert_fresh("conf/pgpool.conf.sample", &document::sample());
}

#[test]
fn the_reference_page_is_fresh() {
    assert_fresh("docs/parameters.md", &document::reference());
}

/// The tables between their marks in a document.
fn assert_tables_fresh(file: &str, tables: &[String]) {
    const BEGIN: &str = "<!-- written by cargo test --test generated_documents -->\n";
    const END: &str = "<!-- end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(path).expect(file);
    let mut parts = text.split(BEGIN);
    let mut wanted = parts.next().expect("a beginning").to_owned();
    for (table, part) in tables.iter().zip(parts) {
        let (_, rest) = part.split_once(END).expect("an end");
        wanted.push_str(&[BEGIN, table, END, rest].concat());
    }
    assert_fresh(file, &wanted);
}

#[test]
fn the_tables_of_metrics_are_fresh() {
    assert_tables_fresh("docs/metrics.md", &metrics::tables());
}

#[test]
fn the_table_of_signals_is_fresh() {
    assert_tables_fresh("docs/operations.md", &[signal::table()]);
}

#[test]
fn the_manual_pages_are_fresh() {
    let pages = manual::all();
    pages.iter().for_each(|(file, page)| assert_fresh(&format!("docs/man/{file}"), page));
    let directory = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man")).expect("docs/man");
    let files = directory.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let unknown = files.filter(|file| file != "pages.toml" && !pages.iter().any(|(page, _)| page == file));
    assert_eq!(unknown.collect::<Vec<_>>(), [""; 0], "nobody writes these");
}
