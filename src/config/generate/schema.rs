//! What `conf/parameters.toml` may say (its head explains every field), and the checks of the catalogue itself.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub pgpool_version: String,
    #[serde(rename = "parameter")]
    pub parameters: Vec<Parameter>,
    #[serde(rename = "removed_parameter")]
    pub removed: Vec<Removed>,
}

/// One `[[parameter]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    pub name: String,
    pub group: String,
    pub subgroup: Option<String>,
    #[serde(rename = "type")]
    pub kind: Type,
    pub type_name: Option<String>,
    pub default: toml::Value,
    pub sample: Option<toml::Value>,
    pub min: Option<toml::Value>,
    pub max: Option<toml::Value>,
    #[serde(default)]
    pub zero_is_unset: bool,
    pub unit: Option<String>,
    pub format: Option<Format>,
    #[serde(default)]
    pub values: Vec<String>,
    #[serde(default)]
    pub synonyms: BTreeMap<String, String>,
    #[serde(default)]
    pub hidden_synonyms: BTreeMap<String, String>,
    #[serde(default)]
    pub old_values: BTreeMap<String, String>,
    pub separator: Option<char>,
    pub syntax: Option<Syntax>,
    pub context: Context,
    pub reload_rule: Option<ReloadRule>,
    pub table: Option<Table>,
    pub field: Option<String>,
    pub field_type: Option<String>,
    #[serde(default)]
    pub also_global: bool,
    #[serde(default)]
    pub relative_to_config_file: bool,
    #[serde(default)]
    pub hidden_value: bool,
    #[serde(default)]
    pub hidden_in_show_all: bool,
    #[serde(default)]
    pub in_pool_status: bool,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub alias_of: Option<String>,
    #[serde(default)]
    pub replaces: Vec<String>,
    pub since: Option<String>,
    pub doc: String,
    pub note: Option<String>,
}

/// One `[[removed_parameter]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    pub name: String,
    #[serde(default)]
    pub numbered: bool,
    #[allow(dead_code, reason = "documentation in the catalogue")]
    pub since: String,
    pub removed_in: String,
    pub replaced_by: Option<String>,
    pub local_value_of: Option<String>,
    pub doc: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    Bool,
    Int,
    Int64,
    Double,
    String,
    Enum,
    StringList,
    RegexList,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Octal,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Syntax {
    RedirectList,
    RelationPairs,
    CommaSet,
    PipeSet,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    Startup,
    Reload,
    Session,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadRule {
    UnusedSlot,
    NodeDown,
    NewSessions,
    MergeFlags,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Nodes,
    WatchdogNodes,
    Heartbeats,
}

impl Table {
    pub const ALL: [Self; 3] = [Self::Nodes, Self::WatchdogNodes, Self::Heartbeats];

    /// The field of `Settings` that holds the rows.
    pub fn field(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::WatchdogNodes => "watchdog_nodes",
            Self::Heartbeats => "heartbeats",
        }
    }

    /// The type of a row.
    pub fn row_type(self) -> &'static str {
        match self {
            Self::Nodes => "NodeSettings",
            Self::WatchdogNodes => "WatchdogNodeSettings",
            Self::Heartbeats => "HeartbeatSettings",
        }
    }
}

impl Catalogue {
    /// Reads and checks the catalogue.
    pub fn parse(text: &str) -> Result<Self, String> {
        let catalogue: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        catalogue.check()?;
        Ok(catalogue)
    }

    /// The parameter called `name`; it exists in a checked catalogue when another one refers to it.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }

    /// Parameters that have a place of their own in `Settings`.
    pub fn stored(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|p| p.alias_of.is_none())
    }

    fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for parameter in &self.parameters {
            parameter.check().map_err(|problem| format!("parameter {}: {problem}", parameter.name))?;
            if !names.insert(&parameter.name) {
                return Err(format!("parameter {} stands twice", parameter.name));
            }
            if let Some(target) = &parameter.alias_of
                && self.parameter(target).is_none()
            {
                return Err(format!("parameter {}: alias_of {target}, which does not exist", parameter.name));
            }
        }
        for removed in &self.removed {
            if let Some(target) = &removed.local_value_of
                && self.parameter(target).is_none()
            {
                return Err(format!("removed parameter {}: {target} does not exist", removed.name));
            }
        }
        Ok(())
    }
}

impl Parameter {
    /// Field name in `Settings` or in a row of its table.
    pub fn field(&self) -> &str {
        self.field.as_deref().unwrap_or(&self.name)
    }

    /// Rust name of the enum of an enum parameter.
    pub fn enum_name(&self) -> String {
        self.type_name.clone().unwrap_or_else(|| super::pascal_case(&self.name))
    }

    fn check(&self) -> Result<(), &'static str> {
        let is_number = matches!(self.kind, Type::Int | Type::Int64 | Type::Double);
        let fits = match self.kind {
            Type::Bool => self.default.is_bool(),
            Type::Int | Type::Int64 => self.default.is_integer(),
            Type::Double => self.default.is_float(),
            _ => self.default.is_str(),
        };
        let default_is_a_value = self.default.as_str().is_some_and(|d| self.values.iter().any(|v| v == d));
        let spellings = [&self.synonyms, &self.hidden_synonyms, &self.old_values];
        let rules = [
            (fits, "the default does not fit the type"),
            (
                is_number == self.min.is_some() && is_number == self.max.is_some(),
                "numbers, and only they, have min and max",
            ),
            ((self.kind == Type::Enum) == default_is_a_value, "an enum's default is one of its values"),
            (spellings.iter().all(|s| s.values().all(|v| self.values.contains(v))), "a synonym stands for a value"),
            (
                matches!(self.kind, Type::StringList | Type::RegexList) == self.separator.is_some(),
                "lists, and only they, have a separator",
            ),
            (self.syntax.is_none() || self.kind == Type::String, "only a string has a syntax"),
            (self.table.is_some() || (self.field.is_none() && !self.also_global), "field and also_global need a table"),
            (
                self.unit.as_deref().is_none_or(|u| matches!(u, "B" | "kB" | "ms" | "s" | "min")),
                "the unit is one of B kB ms s min",
            ),
            (!self.doc.is_empty() && !self.doc.contains('\n'), "doc is one paragraph"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, problem)| Err(problem))
    }
}
