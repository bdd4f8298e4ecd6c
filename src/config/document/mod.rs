//! Documents written from the catalogue: the sample file, the reference page, and the report of a check.
//!
//! The first two are committed; `cargo test` fails when they are stale, and `UPDATE=1 cargo test --test
//! generated_documents` writes them anew.

mod reference;
mod sample;

pub use reference::reference;
pub use sample::sample;

use super::catalogue::{Context, IntKind, Kind, Parameter};
use super::value::Unit;

/// A value as it is written in a file: in quotes unless it is a number, a switch or a word.
pub(super) fn literal(kind: &Kind, text: &str) -> String {
    match kind {
        Kind::Bool | Kind::Int(_) | Kind::Double { .. } | Kind::Enum(_) => text.to_owned(),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

/// The default as it is written in a file.
fn default_literal(parameter: &Parameter) -> String {
    literal(&parameter.kind, &parameter.default_value().text(&parameter.kind))
}

/// What may be written, in a few words; nothing for plain texts.
fn allowed(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Bool => Some("on or off".to_owned()),
        Kind::Int(int) => Some(whole_number(int)),
        Kind::Double { min, max } => Some(format!("{min} to {max}")),
        Kind::Enum(spellings) => Some(spellings.values.join(", ")),
        Kind::StringList { separator } => Some(format!("list, separated by \"{separator}\"")),
        Kind::RegexList { separator } => Some(format!("regular expressions, separated by \"{separator}\"")),
        Kind::RedirectList => Some("list of pattern:node or pattern:node(weight)".to_owned()),
        Kind::RelationPairs => Some("list of object:dependent".to_owned()),
        Kind::Text | Kind::LogDestinations | Kind::NodeFlags => None,
    }
}

fn whole_number(int: &IntKind) -> String {
    let highest = if int.bits == 32 { i64::from(i32::MAX) } else { i64::MAX };
    let bound = |number: i64| if int.octal { format!("0{number:03o}") } else { number.to_string() };
    let range = if int.max == highest {
        format!("{} or more", bound(int.min))
    } else {
        format!("{} to {}", bound(int.min), bound(int.max))
    };
    let unit = match int.unit {
        Some(unit @ (Unit::B | Unit::Kb)) => format!(", in {} or with kB, MB, GB, TB", unit.as_str()),
        Some(unit) => format!(", in {} or with us, ms, s, min, h, d", unit.as_str()),
        None if int.octal => ", a mode in octal".to_owned(),
        None => String::new(),
    };
    let unset = if int.zero_is_unset { "; 0: not set" } else { "" };
    format!("{range}{unit}{unset}")
}

/// Marks a parameter that is our own, for whoever thinks of taking the file back to Pgpool-II.
const OWN: &str = "not in Pgpool-II";

/// What it takes to change it, in one word or two.
fn takes_effect(context: Context) -> &'static str {
    match context {
        Context::Startup => "restart",
        Context::Reload => "reload",
        Context::Session => "reload, or PGPOOL SET",
    }
}
