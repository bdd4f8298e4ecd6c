//! The committed documents that are written from `conf/parameters.toml` are what the catalogue says today.
//! `UPDATE=1 cargo test --test generated_documents` writes them anew.

use pgpool::config::document;
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
