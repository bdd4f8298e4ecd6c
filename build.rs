//! Turns `conf/parameters.toml`, the single source of parameters, into Rust (see `src/config/generate/mod.rs`).

#[path = "src/config/generate/mod.rs"]
mod generate;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let source = format!("{root}/conf/parameters.toml");
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed={root}/src/config/generate");
    println!("cargo::rerun-if-env-changed=PGPOOL_SYSCONFDIR");

    let text = std::fs::read_to_string(&source).unwrap_or_else(|e| panic!("{source}: {e}"));
    let catalogue = generate::Catalogue::parse(&text).unwrap_or_else(|e| panic!("{source}: {e}"));
    for (file, code) in generate::files(&catalogue) {
        let path = format!("{out}/{file}");
        std::fs::write(&path, code).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}
