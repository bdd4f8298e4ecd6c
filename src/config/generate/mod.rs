//! Build time only: writes the typed settings and the parameter table from `conf/parameters.toml`.
//!
//! `build.rs` includes this folder; the library does not. Three files come out of it, each included by the module of
//! the library that owns the concept:
//!
//! | file | included by | holds |
//! |---|---|---|
//! | `enums.rs` | `config::choices` | one enum per distinct list of values |
//! | `settings.rs` | `config::settings` | `Settings` and the rows of its numbered tables, with their defaults |
//! | `parameters.rs` | `config::catalogue` | `PARAMETERS` and `OLD_NAMES` |
//!
//! A mistake in the catalogue stops the build with a message that names the parameter.

mod enums;
mod parameters;
mod schema;
mod settings;

pub use schema::Catalogue;

/// The generated files: name and content.
pub fn files(catalogue: &Catalogue) -> [(&'static str, String); 3] {
    [
        ("enums.rs", enums::generate(catalogue)),
        ("settings.rs", settings::generate(catalogue)),
        ("parameters.rs", parameters::generate(catalogue)),
    ]
}

/// `backend_clustering_mode` -> `BackendClusteringMode`, `LOCAL0` -> `Local0`.
fn pascal_case(name: &str) -> String {
    name.split(['_', '-'])
        .flat_map(|word| {
            let mut chars = word.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(chars.map(|c| c.to_ascii_lowercase()))
        })
        .collect()
}
