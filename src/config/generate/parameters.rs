//! The tables `PARAMETERS` (one row per parameter, with its way into `Settings`) and `OLD_NAMES`.

use super::schema::{Catalogue, Format, Parameter, Removed, Syntax, Type};
use std::fmt::Write;

/// The content of `parameters.rs`.
pub fn generate(catalogue: &Catalogue) -> String {
    let mut code = String::new();
    let version = &catalogue.pgpool_version;
    let mut write = || -> std::fmt::Result {
        writeln!(
            code,
            "/// The Pgpool-II release whose parameters these are.\npub const PGPOOL_VERSION: &str = {version:?};\n"
        )?;
        writeln!(
            code,
            "/// All parameters, in the order of the sample file.\npub static PARAMETERS: &[Parameter] = &["
        )?;
        for parameter in &catalogue.parameters {
            write_row(&mut code, catalogue, parameter)?;
        }
        writeln!(code, "];\n\n/// Names of earlier releases.\npub static OLD_NAMES: &[OldName] = &[")?;
        for (old, meaning, note) in old_names(catalogue) {
            writeln!(code, "    OldName {{ name: {old:?}, meaning: {meaning}, {note} }},")?;
        }
        writeln!(code, "];")
    };
    write().expect("a String takes everything");
    code
}

fn write_row(code: &mut String, catalogue: &Catalogue, p: &Parameter) -> std::fmt::Result {
    let target = p.alias_of.as_ref().and_then(|name| catalogue.parameter(name)).unwrap_or(p);
    writeln!(code, "    Parameter {{")?;
    writeln!(code, "        name: {:?},", p.name)?;
    writeln!(code, "        group: {:?},", p.group)?;
    writeln!(code, "        subgroup: {:?},", p.subgroup)?;
    writeln!(code, "        kind: {},", kind(target))?;
    writeln!(code, "        access: {},", access(target))?;
    writeln!(code, "        context: Context::{:?},", p.context)?;
    writeln!(
        code,
        "        reload_rule: ReloadRule::{},",
        p.reload_rule.map_or("Take".to_owned(), |r| format!("{r:?}"))
    )?;
    writeln!(code, "        sample: {:?},", p.sample.as_ref().map(plain_text))?;
    writeln!(code, "        relative_to_config_file: {},", target.relative_to_config_file)?;
    writeln!(code, "        hidden_value: {},", p.hidden_value)?;
    writeln!(code, "        hidden_in_show_all: {},", p.hidden_in_show_all)?;
    writeln!(code, "        in_pool_status: {},", p.in_pool_status)?;
    writeln!(code, "        alias_of: {:?},", p.alias_of)?;
    writeln!(code, "        aliases: &{:?},", p.aliases)?;
    writeln!(code, "        replaces: &{:?},", p.replaces)?;
    writeln!(code, "        since: {:?},", p.since)?;
    writeln!(code, "        doc: {:?},", p.doc)?;
    writeln!(code, "        note: {:?},", p.note)?;
    writeln!(code, "    }},")
}

fn kind(p: &Parameter) -> String {
    let unit = p.unit.as_ref().map_or("None".to_owned(), |unit| format!("Some(Unit::{})", super::pascal_case(unit)));
    let number = |value: &Option<toml::Value>| value.as_ref().map(plain_text).unwrap_or_default();
    let (min, max) = (number(&p.min), number(&p.max));
    let separator = p.separator.unwrap_or(',');
    match (p.kind, p.syntax) {
        (Type::Bool, _) => "Kind::Bool".to_owned(),
        (Type::Int | Type::Int64, _) => format!(
            "Kind::Int(IntKind {{ min: {min}, max: {max}, bits: {}, unit: {unit}, octal: {}, zero_is_unset: {} }})",
            if p.kind == Type::Int { 32 } else { 64 },
            matches!(p.format, Some(Format::Octal)),
            p.zero_is_unset,
        ),
        (Type::Double, _) => format!("Kind::Double {{ min: {min}, max: {max} }}"),
        (Type::Enum, _) => format!("Kind::Enum(<crate::config::choices::{} as Choice>::SPELLINGS)", p.enum_name()),
        (Type::StringList, _) => format!("Kind::StringList {{ separator: {separator:?} }}"),
        (Type::RegexList, _) => format!("Kind::RegexList {{ separator: {separator:?} }}"),
        (Type::String, None) => "Kind::Text".to_owned(),
        (Type::String, Some(Syntax::RedirectList)) => "Kind::RedirectList".to_owned(),
        (Type::String, Some(Syntax::RelationPairs)) => "Kind::RelationPairs".to_owned(),
        (Type::String, Some(Syntax::CommaSet)) => "Kind::LogDestinations".to_owned(),
        (Type::String, Some(Syntax::PipeSet)) => "Kind::NodeFlags".to_owned(),
    }
}

/// The parameter's way into `Settings`.
fn access(p: &Parameter) -> String {
    let plain = format!("Plain {{ get: |s| &s.{0}, get_mut: |s| &mut s.{0} }}", p.name);
    let Some(table) = p.table else { return format!("Access::Plain({plain})") };
    let (rows, field) = (table.field(), p.field());
    let global = if p.also_global { format!("Some({plain})") } else { "None".to_owned() };
    format!(
        "Access::Numbered(Numbered {{ table: Table::{table:?}, global: {global}, \
         get: |s, i| s.{rows}.get(i).map(|row| -> &dyn Field {{ &row.{field} }}), \
         get_mut: |s, i| &mut row_mut(&mut s.{rows}, i).{field} }})"
    )
}

/// Names of earlier releases: those that other parameters list, then those that are gone for good.
fn old_names(catalogue: &Catalogue) -> Vec<(&str, String, String)> {
    let removed = |name: &str| catalogue.removed.iter().find(|r| r.name == name);
    let mut rows = Vec::new();
    for p in catalogue.stored() {
        for alias in p.aliases.iter().filter(|alias| catalogue.parameter(alias).is_none()) {
            rows.push((alias.as_str(), format!("Meaning::Renamed({:?})", p.name), facts(removed(alias))));
        }
    }
    for r in &catalogue.removed {
        if rows.iter().any(|(name, ..)| *name == r.name) {
            continue;
        }
        let meaning =
            r.local_value_of.as_ref().map_or("Meaning::Gone".to_owned(), |p| format!("Meaning::LocalValueOf({p:?})"));
        rows.push((&r.name, meaning, facts(Some(r))));
    }
    rows
}

fn facts(removed: Option<&Removed>) -> String {
    let numbered = removed.is_some_and(|r| r.numbered);
    let removed_in = removed.map(|r| &r.removed_in);
    let replaced_by = removed.and_then(|r| r.replaced_by.as_ref());
    let doc = removed.map_or("Renamed.", |r| &r.doc);
    format!("numbered: {numbered}, removed_in: {removed_in:?}, replaced_by: {replaced_by:?}, doc: {doc:?}")
}

fn plain_text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
