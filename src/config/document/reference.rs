//! `docs/parameters.md`: the reference page of all parameters.

use super::{OWN, allowed, default_literal, takes_effect};
use crate::config::catalogue::{Access, Meaning, OLD_NAMES, OldName, PARAMETERS, PGPOOL_VERSION, Parameter, Table};

const HEAD: &str = "\
# Parameters of pgpool.conf

Written from `conf/parameters.toml`; do not edit (`UPDATE=1 cargo test --test generated_documents` writes it anew).

*Change* says what it takes to change a value of a running pgpool. A name that ends in **N** is written with a number:
the id of a PostgreSQL node, or of a pgpool node for watchdog parameters. A number without a unit is in the unit named.
";

/// The content of the page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(&format!("Names, defaults and ranges are those of Pgpool-II {PGPOOL_VERSION} and later.\n"));
    let (mut group, mut subgroup) = ("", None);
    for parameter in PARAMETERS.iter().filter(|p| p.alias_of.is_none()) {
        if parameter.group != group {
            (group, subgroup) = (parameter.group, None);
            page.push_str(&format!("\n## {}\n", heading(group)));
        }
        if parameter.subgroup != subgroup {
            subgroup = parameter.subgroup;
            page.push_str(&subgroup.map_or(String::new(), |text| format!("\n### {}\n", heading(text))));
        }
        page.push_str(&entry(parameter));
    }
    page.push_str("\n## Names of earlier releases\n\nEach of them causes one warning.\n\n");
    page.push_str("| name | today | what became of it |\n|---|---|---|\n");
    for parameter in PARAMETERS {
        if let Some(today) = parameter.alias_of {
            page.push_str(&format!(
                "| `{}` | `{today}` | {} |\n",
                parameter.name,
                parameter.note.unwrap_or("Renamed.")
            ));
        }
    }
    OLD_NAMES.iter().for_each(|old| page.push_str(&old_name(old)));
    page
}

fn entry(parameter: &Parameter) -> String {
    let name = match (&parameter.access, parameter.has_plain_form()) {
        (Access::Plain(_), _) => format!("`{}`", parameter.name),
        (Access::Numbered(_), false) => format!("`{}N`", parameter.name),
        (Access::Numbered(_), true) => format!("`{0}`, `{0}N`", parameter.name),
    };
    let mut facts = Vec::new();
    facts.extend(allowed(&parameter.kind));
    facts.push(format!("default `{}`", default_literal(parameter)));
    facts.push(format!("change: {}", takes_effect(parameter.context)));
    facts.extend(slots(parameter));
    match parameter.since {
        Some("3.0") => {}
        Some(since) => facts.push(format!("since Pgpool-II {since}")),
        None => facts.push(OWN.to_owned()),
    }
    let facts = facts.join("; ");
    let note = parameter.note.map_or(String::new(), |note| format!(" {note}"));
    format!("\n**{name}** ({facts})\\\n{}{}\n", escape(parameter.doc), escape(&note))
}

fn slots(parameter: &Parameter) -> Option<String> {
    let Access::Numbered(numbered) = &parameter.access else { return None };
    let what = match numbered.table {
        Table::Nodes => "node id",
        Table::WatchdogNodes | Table::Heartbeats => "pgpool node id",
    };
    Some(format!("N: {what}, 0 to {}", numbered.table.slots() - 1))
}

fn old_name(old: &OldName) -> String {
    let number = if old.numbered { "N" } else { "" };
    let today = match old.meaning {
        Meaning::Renamed(name) => format!("`{name}`"),
        Meaning::LocalValueOf(name) => format!("`{name}N` of this pgpool"),
        Meaning::Gone => old.replaced_by.map_or("none".to_owned(), |name| format!("see `{name}`")),
    };
    format!("| `{}{number}` | {today} | {} |\n", old.name, escape(old.doc))
}

/// `LOAD BALANCING MODE` -> `Load balancing mode`; headings in mixed case stay.
fn heading(text: &str) -> String {
    if text.chars().any(|c| c.is_ascii_lowercase()) {
        return text.to_owned();
    }
    text[..1].to_owned() + &text[1..].to_ascii_lowercase()
}

fn escape(text: &str) -> String {
    text.replace('<', "\\<").replace('*', "\\*").replace('|', "\\|")
}
