//! One Rust enum per distinct list of values.

use super::pascal_case;
use super::schema::{Catalogue, Parameter, Type};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The content of `enums.rs`.
pub fn generate(catalogue: &Catalogue) -> String {
    let mut code = String::new();
    let mut done = BTreeSet::new();
    for parameter in catalogue.stored().filter(|p| p.kind == Type::Enum) {
        if done.insert(parameter.enum_name()) {
            write_enum(&mut code, parameter).expect("a String takes everything");
        }
    }
    code
}

fn write_enum(code: &mut String, parameter: &Parameter) -> std::fmt::Result {
    let name = parameter.enum_name();
    let variants: Vec<String> = parameter.values.iter().map(|value| pascal_case(value)).collect();
    writeln!(code, "/// Value of `{}`: {}", parameter.name, parameter.doc)?;
    writeln!(code, "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]")?;
    writeln!(code, "pub enum {name} {{")?;
    for (value, variant) in parameter.values.iter().zip(&variants) {
        writeln!(code, "    /// `{value}`\n    {variant},")?;
    }
    writeln!(code, "}}\n")?;
    writeln!(code, "impl Choice for {name} {{")?;
    writeln!(code, "    const SPELLINGS: &'static Spellings = &{};", spellings(parameter))?;
    writeln!(code, "    const ALL: &'static [Self] = &[{}];", join(&variants, |v| format!("Self::{v}")))?;
    writeln!(code, "}}\n")?;
    writeln!(code, "choice_methods!({name});\n")
}

fn spellings(parameter: &Parameter) -> String {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        // In the order of the values they stand for.
        let mut pairs: Vec<_> = map.iter().map(|(from, to)| (position(parameter, to), from)).collect();
        pairs.sort();
        join(&pairs, |(value, from)| format!("({from:?}, {value})"))
    };
    format!(
        "Spellings {{ values: &[{}], synonyms: &[{}], hidden_synonyms: &[{}], old: &[{}] }}",
        join(&parameter.values, |v| format!("{v:?}")),
        pairs(&parameter.synonyms),
        pairs(&parameter.hidden_synonyms),
        pairs(&parameter.old_values),
    )
}

fn position(parameter: &Parameter, value: &str) -> usize {
    parameter.values.iter().position(|v| v == value).expect("checked by the schema")
}

fn join<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}
