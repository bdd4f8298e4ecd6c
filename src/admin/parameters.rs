//! PGPOOL SHOW: parameters as a file could say them (config 7).

use super::Table;
use crate::config::catalogue::{self, Access, Found, LookupError, PARAMETERS, Parameter, Table as Slots, Target};
use crate::config::{self, Changed, Settings};
use crate::report::{Report, Result};

/// The columns of everything but a single value.
const COLUMNS: [&str; 3] = ["item", "value", "description"];

/// Parameters that can be asked for together, and begin PGPOOL SHOW ALL.
#[derive(Debug)]
struct Group {
    name: &'static str,
    slots: Slots,
    parameters: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        name: "backend",
        slots: Slots::Nodes,
        parameters: &[
            "backend_hostname",
            "backend_port",
            "backend_weight",
            "backend_data_directory",
            "backend_application_name",
            "backend_flag",
        ],
    },
    Group { name: "watchdog", slots: Slots::WatchdogNodes, parameters: &["hostname", "pgpool_port", "wd_port"] },
    Group {
        name: "heartbeat",
        slots: Slots::Heartbeats,
        parameters: &["heartbeat_device", "heartbeat_hostname", "heartbeat_port"],
    },
    Group {
        name: "health_check",
        slots: Slots::Nodes,
        parameters: &[
            "health_check_period",
            "health_check_timeout",
            "health_check_user",
            "health_check_password",
            "health_check_database",
            "health_check_max_retries",
            "health_check_retry_delay",
            "connect_timeout",
        ],
    },
];

/// What PGPOOL SHOW is asked for.
#[derive(Debug)]
pub struct ParameterList {
    /// The name as it was written.
    name: Box<str>,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    /// One value.
    One(Target),
    /// A numbered parameter, of all slots in use.
    Numbered(&'static Parameter, Slots),
    Group(&'static Group),
    All,
}

impl ParameterList {
    /// What `name` stands for: `all`, a parameter, or a group, in that order (config 7.3).
    ///
    /// # Errors
    /// Nothing is called so.
    pub fn named(name: &str) -> Result<Self> {
        let scope = if name == "all" { Scope::All } else { scope_of(name)? };
        Ok(Self { name: name.into(), scope })
    }

    /// The columns of its table.
    pub fn columns(&self) -> Vec<String> {
        match self.scope {
            Scope::One(_) => vec![self.name.to_string()],
            _ => COLUMNS.map(str::to_owned).to_vec(),
        }
    }

    /// Its table.
    pub fn table(&self, settings: &Settings) -> Table {
        let rows = match self.scope {
            Scope::One(target) => vec![vec![target.show(settings)]],
            Scope::Numbered(parameter, slots) => rows(settings, slots, &[parameter.name]).collect(),
            Scope::Group(group) => rows(settings, group.slots, group.parameters).collect(),
            Scope::All => all(settings),
        };
        Table { columns: self.columns(), rows }
    }
}

fn scope_of(name: &str) -> Result<Scope> {
    let error = match catalogue::find(name, 0) {
        Ok(Found::Current(target) | Found::Alias(target, _)) => {
            return Ok(match (&target.parameter.access, target.index) {
                (Access::Numbered(numbered), None) => Scope::Numbered(target.parameter, numbered.table),
                _ => Scope::One(target),
            });
        }
        Ok(Found::Old(..)) => LookupError::Unknown,
        Err(error) => error,
    };
    if let Some(group) = GROUPS.iter().find(|group| group.name == name) {
        return Ok(Scope::Group(group));
    }
    if error == LookupError::IndexExpected
        && let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
        && let Access::Numbered(numbered) = &parameter.access
    {
        return Ok(Scope::Numbered(parameter, numbered.table));
    }
    Err(match error {
        LookupError::Unknown => Report::error(format!("config variable \"{name}\" not found")),
        LookupError::OutOfRange { index, last } => {
            let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
            Report::error(format!("invalid index {index} for configuration parameter \"{name}\""))
                .detail(format!("allowed index is between 0 and {last}"))
        }
        error => error.report(name),
    })
}

/// The values without an index, then those of every slot in use, slot by slot (config 7.4).
fn rows<'a>(
    settings: &'a Settings,
    slots: Slots,
    names: &'a [&'static str],
) -> impl Iterator<Item = Vec<String>> + use<'a> {
    let plain = parameters(names).filter(|parameter| parameter.has_plain_form()).map(|parameter| (parameter, None));
    let numbered =
        in_use(settings, slots).flat_map(move |index| parameters(names).map(move |parameter| (parameter, Some(index))));
    plain.chain(numbered).map(|(parameter, index)| row(Target { parameter, index }, settings))
}

/// The slots of a table that hold something.
fn in_use(settings: &Settings, slots: Slots) -> impl Iterator<Item = usize> + use<> {
    let used = match slots {
        Slots::Nodes => settings.nodes.iter().map(|node| node.port != 0).collect::<Vec<_>>(),
        Slots::WatchdogNodes => settings.watchdog_nodes.iter().map(|node| node.pgpool_port != 0).collect(),
        Slots::Heartbeats => settings.heartbeats.iter().map(|slot| slot.port != 0).collect(),
    };
    used.into_iter().enumerate().filter(|(_, used)| *used).map(|(index, _)| index)
}

fn parameters<'a>(names: &'a [&'static str]) -> impl Iterator<Item = &'static Parameter> + use<'a> {
    names.iter().filter_map(|name| catalogue::parameter(name))
}

/// The groups, then every other parameter, longest name first (config 7.5).
fn all(settings: &Settings) -> Vec<Vec<String>> {
    let in_groups = GROUPS.iter().flat_map(|group| rows(settings, group.slots, group.parameters));
    let mut others: Vec<_> =
        PARAMETERS.iter().filter(|parameter| !parameter.is_numbered() && !parameter.hidden_in_show_all).collect();
    others.sort_by_key(|parameter| std::cmp::Reverse(parameter.name.len()));
    in_groups.chain(others.into_iter().map(|parameter| row(Target { parameter, index: None }, settings))).collect()
}

/// The parameters that differ from their defaults: `item`, `value`, `default`. What is hidden stays hidden.
pub fn changed(settings: &Settings) -> Table {
    let row = |Changed { target, value, default }| vec![target.name(), value, default.unwrap_or_default()];
    let rows = config::changed(settings).into_iter().map(row).collect();
    Table { columns: ["item", "value", "default"].map(str::to_owned).to_vec(), rows }
}

fn row(target: Target, settings: &Settings) -> Vec<String> {
    vec![target.name(), target.show(settings), target.parameter.doc.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HIDDEN, load_text};
    use std::path::Path;

    const FILE: &str = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1.5\n\
                        backend_hostname2 = 'c'\nbackend_port2 = 5433\nhealth_check_period = 90\n\
                        health_check_period2 = 5\nhealth_check_password = 'secret'\npool_passwd = 'pool_passwd'\n\
                        hostname1 = 'w'\npgpool_port1 = 9999\nwd_port1 = 9000\n\
                        child_life_time = 5min\nlog_min_messages = debug2\nunix_socket_permissions = 0700\n";

    fn settings() -> Settings {
        load_text(Path::new("/etc/pgpool.conf"), FILE.as_bytes()).expect("settings").settings
    }

    fn show(name: &str) -> (String, Vec<String>) {
        let table = ParameterList::named(name).expect(name).table(&settings());
        let items = table.rows.iter().map(|row| row[..row.len().min(2)].join("="));
        (table.columns.join("|"), items.collect())
    }

    fn refusal(name: &str) -> String {
        let report = ParameterList::named(name).expect_err(name);
        format!("{} ({})", report.message, report.detail.unwrap_or_default())
    }

    #[test]
    fn one_value_is_a_column_of_its_name() {
        for (name, value) in [
            ("child_life_time", "5min"),
            ("Child_Life_Time", "5min"),
            ("log_min_messages", "debug2"),
            ("unix_socket_permissions", "0700"),
            ("ssl", "off"),
            ("backend_weight0", "1.5"),
            ("backend_port1", "0"),
            ("health_check_period2", "5s"),
            ("pool_passwd", HIDDEN),
            ("delegate_IP", ""),
        ] {
            assert_eq!(show(name), (name.to_owned(), vec![value.to_owned()]), "{name}");
        }
    }

    #[test]
    fn numbered_parameters_are_lists() {
        let list = |name| {
            let (columns, items) = show(name);
            assert_eq!(columns, "item|value|description", "{name}");
            items.join(" ")
        };
        assert_eq!(list("backend_port"), "backend_port0=5432 backend_port2=5433");
        let periods = "health_check_period=90s health_check_period0=90s health_check_period2=5s";
        assert_eq!(list("health_check_period"), periods);
        assert_eq!(list("watchdog"), "hostname1=w pgpool_port1=9999 wd_port1=9000");
        assert_eq!(list("heartbeat"), "");
        let backend = "backend_hostname0=a backend_port0=5432 backend_weight0=1.5 backend_data_directory0= \
                       backend_application_name0= backend_flag0=ALLOW_TO_FAILOVER backend_hostname2=c";
        assert!(list("backend").starts_with(backend), "{}", list("backend"));
        assert_eq!(show("health_check").1.len(), 8 + 2 * 8);
        assert!(!list("health_check").contains("secret"));
    }

    #[test]
    fn all_begins_with_the_groups_and_holds_everything_once() {
        let table = ParameterList::named("all").expect("all").table(&settings());
        let names: Vec<_> = table.rows.iter().map(|row| row[0].as_str()).collect();
        let grouped = 2 * 6 + 3 + 8 + 2 * 8;
        assert_eq!((names[0], names[12], names[15]), ("backend_hostname0", "hostname1", "health_check_period"));
        assert!(names[grouped..].windows(2).all(|pair| pair[0].len() >= pair[1].len()));
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
        let plain = |parameter: &&Parameter| parameter.has_plain_form() && parameter.alias_of.is_none();
        let missing: Vec<_> = PARAMETERS.iter().filter(plain).filter(|p| !names.contains(&p.name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(!table.rows.iter().flatten().any(|text| text == "secret"));
    }

    #[test]
    fn what_differs_from_the_default_is_told_and_no_password() {
        let rows: Vec<_> = changed(&settings()).rows.into_iter().map(|row| row.join("=")).collect();
        for row in [
            "backend_weight0=1.5=0",
            "health_check_period=90s=0",
            "health_check_period2=5s=90s",
            "log_min_messages=debug2=warning",
        ] {
            assert!(rows.iter().any(|found| found == row), "{row}: {rows:#?}");
        }
        assert!(rows.contains(&format!("health_check_password={HIDDEN}=")), "{rows:#?}");
        assert!(!rows.iter().any(|row| row.starts_with("pool_passwd")), "{rows:#?}");
        assert!(!rows.iter().any(|row| row.contains("secret") || row.starts_with("child_life_time")), "{rows:#?}");
        assert!(!rows.iter().any(|row| row.starts_with("health_check_period0")), "as all others");
        assert!(changed(&Settings::default()).rows.is_empty());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(refusal("nonsense"), "config variable \"nonsense\" not found ()");
        assert_eq!(refusal("parallel_mode"), "config variable \"parallel_mode\" not found ()");
        let expected = "invalid index 128 for configuration parameter \"backend_port\" \
                        (allowed index is between 0 and 127)";
        assert_eq!(refusal("backend_port128"), expected);
        let expected = "invalid index value for parameter \"backend_portx\"  \
                        (index part contains the invalid non digit character)";
        assert_eq!(refusal("backend_portx"), expected);
    }
}
