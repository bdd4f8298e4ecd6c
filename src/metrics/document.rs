//! The tables of docs/metrics.md.

use super::aliases::ALIASES;
use super::families::{FAMILIES, Family};

/// The metrics of ours, and those of pgpool2_exporter, as tables in Markdown.
pub fn tables() -> [String; 2] {
    [table(FAMILIES), table(ALIASES)]
}

fn table(families: &[Family]) -> String {
    let row = |Family { name, help, labels, figures }: &Family| {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{name}` | {} | {} | {help} |\n", figures.kind(), labels.join(", "))
    };
    let rows: String = families.iter().map(row).collect();
    format!("| metric | type | labels | what it tells |\n|---|---|---|---|\n{rows}")
}
