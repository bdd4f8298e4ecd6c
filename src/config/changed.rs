//! The settings that differ from their defaults: what `pgpool check` and the status page tell.

use super::HIDDEN;
use super::catalogue::{Access, PARAMETERS, Parameter, Table, Target};
use super::settings::Settings;

/// A setting that differs; texts as PGPOOL SHOW has them.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The parameter.
    pub target: Target,
    /// Its value; `*****` if that is hidden.
    pub value: String,
    /// Its default; of a node's parameter the value of all nodes that have none of their own. `None` if it is hidden.
    pub default: Option<String>,
}

/// All of them, in the order of the catalogue.
pub fn changed(settings: &Settings) -> Vec<Changed> {
    let mut list = Vec::new();
    for parameter in PARAMETERS.iter().filter(|p| p.alias_of.is_none()) {
        if parameter.has_plain_form() {
            list.extend(difference(settings, Target { parameter, index: None }));
        }
        for index in used_slots(settings, parameter) {
            list.extend(difference(settings, Target { parameter, index: Some(index) }));
        }
    }
    list
}

fn difference(settings: &Settings, target: Target) -> Option<Changed> {
    let Target { parameter, index } = target;
    // The value of a node that has none of its own is not worth repeating.
    let default = match index {
        Some(_) if parameter.has_plain_form() => parameter.value(settings, None),
        _ => parameter.default_value(),
    };
    let (value, default) = (target.text(settings), default.text(&parameter.kind));
    // A relative default was made absolute, which is no difference.
    let is_default_path = parameter.relative_to_config_file && value.ends_with(&format!("/{default}"));
    if value == default || is_default_path {
        return None;
    }
    Some(if parameter.hidden_value {
        Changed { target, value: HIDDEN.to_owned(), default: None }
    } else {
        Changed { target, value, default: Some(default) }
    })
}

fn used_slots(settings: &Settings, parameter: &Parameter) -> Vec<usize> {
    let Access::Numbered(numbered) = &parameter.access else { return Vec::new() };
    match numbered.table {
        Table::Nodes => settings.used_nodes().map(|(id, _)| id).collect(),
        Table::WatchdogNodes => (0..settings.watchdog_nodes.len()).collect(),
        Table::Heartbeats => (0..settings.heartbeats.len()).collect(),
    }
}
