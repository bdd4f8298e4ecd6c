//! `Settings` and the rows of its numbered tables: fields, documentation, defaults.

use super::pascal_case;
use super::schema::{Catalogue, Parameter, Syntax, Table, Type};
use std::fmt::Write;

/// The content of `settings.rs`.
pub fn generate(catalogue: &Catalogue) -> String {
    let mut code = String::new();
    let plain: Vec<_> = catalogue.stored().filter(|p| p.table.is_none() || p.also_global).collect();
    let tables: Vec<_> = Table::ALL
        .iter()
        .map(|table| (table.field(), format!("Vec<{}>", table.row_type()), "Vec::new()", TABLE_DOCS[*table as usize]))
        .collect();
    let fields = plain.iter().map(|p| Field::new(p, &p.name, None));
    let fields = fields.chain(tables.iter().map(|(name, kind, default, doc)| Field {
        name,
        kind: kind.clone(),
        default: (*default).to_owned(),
        doc: (*doc).to_owned(),
    }));
    write_struct(&mut code, "Settings", "Every parameter's value, checked and in its base unit.", fields);

    for table in Table::ALL {
        let rows = catalogue.stored().filter(|p| p.table == Some(table));
        let fields = rows.map(|p| Field::new(p, p.field(), p.field_type.as_deref()));
        write_struct(&mut code, table.row_type(), ROW_DOCS[table as usize], fields);
    }
    code
}

const TABLE_DOCS: [&str; 3] = [
    "Settings of the PostgreSQL nodes; the index is the node id. Slots in gaps are there but not in use.",
    "Settings of the pgpool nodes of the watchdog cluster; the index is the pgpool node id.",
    "Addresses for heartbeats; the index is the pgpool node id.",
];

const ROW_DOCS: [&str; 3] =
    ["What the file says about one PostgreSQL node.", "One pgpool of the watchdog cluster.", "One heartbeat address."];

struct Field<'a> {
    name: &'a str,
    kind: String,
    default: String,
    doc: String,
}

impl<'a> Field<'a> {
    fn new(parameter: &'a Parameter, name: &'a str, field_type: Option<&str>) -> Self {
        let unit = parameter.unit.as_ref().map_or(String::new(), |unit| format!(" Unit: {unit}."));
        Self {
            name,
            kind: field_type.map_or_else(|| rust_type(parameter), str::to_owned),
            default: default_value(parameter),
            doc: format!("`{}`: {}{unit}", parameter.name, escape_doc(&parameter.doc)),
        }
    }
}

fn write_struct<'a>(code: &mut String, name: &str, doc: &str, fields: impl Iterator<Item = Field<'a>>) {
    let fields: Vec<_> = fields.collect();
    let mut write = || -> std::fmt::Result {
        writeln!(code, "/// {doc}\n#[derive(Clone, Debug, PartialEq)]\npub struct {name} {{")?;
        for field in &fields {
            writeln!(code, "    /// {}\n    pub {}: {},", field.doc, field.name, field.kind)?;
        }
        writeln!(code, "}}\n\nimpl Default for {name} {{\n    fn default() -> Self {{\n        Self {{")?;
        for field in &fields {
            writeln!(code, "            {}: {},", field.name, field.default)?;
        }
        writeln!(code, "        }}\n    }}\n}}\n")
    };
    write().expect("a String takes everything");
}

fn rust_type(parameter: &Parameter) -> String {
    match (parameter.kind, parameter.syntax) {
        (Type::Bool, _) => "bool".to_owned(),
        (Type::Int, _) => "i32".to_owned(),
        (Type::Int64, _) => "i64".to_owned(),
        (Type::Double, _) => "f64".to_owned(),
        (Type::Enum, _) => parameter.enum_name(),
        (Type::StringList, _) => "StringList".to_owned(),
        (Type::RegexList, _) => "RegexList".to_owned(),
        (Type::String, None) => "String".to_owned(),
        (Type::String, Some(Syntax::RedirectList)) => "RedirectList".to_owned(),
        (Type::String, Some(Syntax::RelationPairs)) => "RelationPairs".to_owned(),
        (Type::String, Some(Syntax::CommaSet)) => "LogDestinations".to_owned(),
        (Type::String, Some(Syntax::PipeSet)) => "NodeFlags".to_owned(),
    }
}

fn default_value(parameter: &Parameter) -> String {
    let default = &parameter.default;
    let text = default.as_str().unwrap_or_default();
    match parameter.kind {
        Type::Bool | Type::Int | Type::Int64 | Type::Double => default.to_string(),
        Type::Enum => format!("{}::{}", parameter.enum_name(), pascal_case(text)),
        Type::StringList => format!("StringList::split({text:?}, {:?})", parameter.separator.unwrap_or(',')),
        Type::String if parameter.syntax.is_none() => format!("{text:?}.to_owned()"),
        // The default of a structured value is its type's: "nothing", or "stderr", or "ALLOW_TO_FAILOVER".
        Type::RegexList | Type::String => format!("{}::default()", rust_type(parameter)),
    }
}

/// Keeps rustdoc from taking `<port>` for HTML and `[..]` for a link.
fn escape_doc(doc: &str) -> String {
    doc.replace('<', "\\<").replace('[', "\\[")
}
