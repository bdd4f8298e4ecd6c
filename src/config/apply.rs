//! From statements to settings: names, values, duplicates (config 2.3, 2.4, 2.6, 5.2, 5.4).

use super::catalogue::{self, Access, Found, LookupError, Meaning, OldName, PARAMETERS, Parameter, Table, Target};
use super::file::Setting;
use super::problem::{Place, Problems};
use super::settings::Settings;
use super::suggest;
use super::value::{self, Value};
use crate::report::Report;
use std::collections::{BTreeMap, HashMap};

/// Where each setting that counts was written, by parameter and index; duplicates are listed in order.
#[derive(Clone, Debug, Default)]
pub struct Positions(HashMap<(&'static str, Option<usize>), Vec<Written>>);

/// One setting as written.
#[derive(Clone, Debug)]
struct Written {
    order: usize,
    place: Place,
    value: String,
}

impl Positions {
    /// Where the setting in force was written.
    pub fn place(&self, name: &'static str, index: Option<usize>) -> Option<&Place> {
        self.written(name, index).last().map(|written| &written.place)
    }

    /// Whether any file sets it.
    pub fn is_set(&self, name: &'static str, index: Option<usize>) -> bool {
        self.0.contains_key(&(name, index))
    }

    fn written(&self, name: &'static str, index: Option<usize>) -> &[Written] {
        self.0.get(&(name, index)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Applies `statements` to the defaults. `own_node` is this pgpool's watchdog node id.
pub fn apply(statements: &[Setting], own_node: usize, problems: &mut Problems) -> (Settings, Positions) {
    let mut run = Run { settings: Settings::default(), positions: Positions::default(), problems };
    let named: Vec<_> = statements.iter().map(|setting| (setting, catalogue::find(&setting.name, own_node))).collect();
    // A name of an earlier release must not override the current one, wherever it stands.
    let is_old = |found: &Result<Found, LookupError>| matches!(found, Ok(Found::Old(..)));
    for wanted in [true, false] {
        for (order, (setting, found)) in named.iter().enumerate() {
            if is_old(found) == wanted {
                run.statement(order, setting, found);
            }
        }
    }
    run.report_duplicates();
    run.report_nodes_without_port();
    let Run { mut settings, positions, .. } = run;
    hand_down_global_values(&mut settings, &positions);
    (settings, positions)
}

struct Run<'a> {
    settings: Settings,
    positions: Positions,
    problems: &'a mut Problems,
}

impl Run<'_> {
    fn statement(&mut self, order: usize, setting: &Setting, found: &Result<Found, LookupError>) {
        let target = match found {
            Ok(Found::Current(target)) => *target,
            Ok(Found::Alias(target, alias)) => {
                self.problems.add(renamed(&setting.name, &target.name()), Some(&setting.name_place));
                // config 5.4: an empty logdir changes nothing.
                if alias.name == "logdir" && setting.value.as_deref() == Some("") {
                    return;
                }
                *target
            }
            Ok(Found::Old(old, target)) => {
                self.problems.add(old_name(&setting.name, old, *target), Some(&setting.name_place));
                let Some(target) = target else { return };
                *target
            }
            Err(LookupError::Unknown) => return self.problems.add(unknown(&setting.name), Some(&setting.name_place)),
            Err(error) => return self.problems.add(error.report(&setting.name), Some(&setting.name_place)),
        };
        self.assign(order, setting, target);
    }

    fn assign(&mut self, order: usize, setting: &Setting, target: Target) {
        let text = setting.value.as_deref().unwrap_or_default();
        let mut remarks = Vec::new();
        let value = value::parse(&setting.name, &target.parameter.kind, text, &mut remarks);
        for report in remarks {
            self.problems.add(report, Some(&setting.value_place));
        }
        match value {
            Ok(value) => target.parameter.store(&mut self.settings, target.index, value),
            Err(report) => self.problems.add(report, Some(&setting.value_place)),
        }
        let written = Written { order, place: setting.name_place.clone(), value: text.to_owned() };
        self.positions.0.entry((target.parameter.name, target.index)).or_default().push(written);
    }

    /// Two lines for the same parameter: the later one counts, and somebody should know.
    fn report_duplicates(&mut self) {
        for ((name, index), written) in self.positions.0.iter().filter(|(_, written)| written.len() > 1) {
            let full_name = full_name(name, *index);
            let slip = self.index_slip(name, *index).map(|(written, meant)| {
                format!(
                    "Line {} stands among the settings of node {meant}, which has no {name}{meant}: \
                     did you mean \"{name}{meant}\"?",
                    written.place.line
                )
            });
            for pair in written.windows(2) {
                let [earlier, later] = pair else { continue };
                let was = seen_from(&later.place, &earlier.place);
                let report = Report::warning(format!("\"{full_name}\" is set more than once, the last value counts"))
                    .detail(format!("It was set to \"{}\" {was} already.", earlier.value));
                self.problems.add(Report { hint: slip.clone(), ..report }, Some(&later.place));
            }
        }
    }

    fn report_nodes_without_port(&mut self) {
        let (hostname, port) = ("backend_hostname", "backend_port");
        for id in 0..self.settings.nodes.len() {
            let Some(place) = self.positions.place(hostname, Some(id)) else { continue };
            if self.positions.is_set(port, Some(id)) {
                continue;
            }
            let message = format!("node {id} has a backend_hostname{id} but no backend_port{id}, so it does not exist");
            let strayed = (0..self.settings.nodes.len()).find_map(|other| {
                self.index_slip(port, Some(other)).filter(|(_, meant)| *meant == id).map(|slip| (other, slip.0))
            });
            let hint = match strayed {
                Some((other, written)) => format!(
                    "backend_port{other} is set more than once; line {} probably means backend_port{id}.",
                    written.place.line
                ),
                None => format!("Add backend_port{id}, or remove the settings of node {id}."),
            };
            self.problems.add(Report::warning(message).hint(hint), Some(place));
        }
    }

    /// For a numbered parameter set twice: the line that stands among the settings of another node, which lacks it.
    fn index_slip(&self, name: &'static str, index: Option<usize>) -> Option<(&Written, usize)> {
        let written = self.positions.written(name, index);
        if written.len() < 2 {
            return None;
        }
        let neighbours = Neighbours::of(catalogue::parameter(name)?, &self.positions);
        written.iter().find_map(|written| {
            let around = neighbours.around(written.order);
            let meant = around.into_iter().flatten().find(|id| !self.positions.is_set(name, Some(*id)))?;
            Some((written, meant))
        })
    }
}

/// The indexes of all settings of one numbered table, in the order of the file.
struct Neighbours(BTreeMap<usize, usize>);

impl Neighbours {
    /// Those of the table of `parameter`, without `parameter` itself.
    fn of(parameter: &Parameter, positions: &Positions) -> Self {
        let table = table(parameter);
        let same_table =
            |name: &str| catalogue::parameter(name).is_some_and(|p| table.is_some() && self::table(p) == table);
        let others = positions.0.iter().filter(|((name, _), _)| *name != parameter.name && same_table(name));
        let orders = others.flat_map(|((_, index), all)| all.iter().filter_map(|one| Some((one.order, (*index)?))));
        Self(orders.collect())
    }

    /// The index before and the index behind the setting at `order`.
    fn around(&self, order: usize) -> [Option<usize>; 2] {
        let before = self.0.range(..order).next_back();
        let behind = self.0.range(order..).next();
        [before.map(|(_, index)| *index), behind.map(|(_, index)| *index)]
    }
}

fn table(parameter: &Parameter) -> Option<Table> {
    match &parameter.access {
        Access::Plain(_) => None,
        Access::Numbered(numbered) => Some(numbered.table),
    }
}

/// The value without an index is that of every index the file does not set (config 6.3).
fn hand_down_global_values(settings: &mut Settings, positions: &Positions) {
    for parameter in PARAMETERS.iter().filter(|p| p.is_numbered() && p.has_plain_form()) {
        let global: Value = parameter.value(settings, None);
        for id in 0..settings.nodes.len() {
            if !positions.is_set(parameter.name, Some(id)) {
                parameter.store(settings, Some(id), global.clone());
            }
        }
    }
}

fn renamed(name: &str, today: &str) -> Report {
    Report::warning(format!("{name} is changed to {today}"))
        .detail(format!("if {name} is specified, the value will be set to {today}"))
}

fn old_name(name: &str, old: &OldName, target: Option<Target>) -> Report {
    match (target, old.meaning) {
        (Some(target), Meaning::LocalValueOf(_)) => {
            let today = target.name();
            renamed(name, &today).hint(format!("{today} is that of this pgpool itself. {}", old.doc))
        }
        (Some(target), _) => renamed(name, &target.name()),
        (None, _) => {
            let report = Report::warning(format!("unrecognized configuration parameter \"{name}\""));
            let removed = old.removed_in.map(|release| format!("It was removed in {release}: {}", old.doc));
            let report = report.detail(removed.unwrap_or_else(|| old.doc.to_owned()));
            match old.replaced_by {
                Some(successor) => report.hint(format!("Use {successor}.")),
                None => report.hint("Remove the line."),
            }
        }
    }
}

fn unknown(name: &str) -> Report {
    let report = Report::warning(format!("unrecognized configuration parameter \"{name}\""));
    let lower = name.to_ascii_lowercase();
    let base = lower.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = PARAMETERS.iter().filter(|p| p.is_numbered() && base != lower).map(|p| p.name);
    let guess = suggest::closest(base, numbered).map(|guess| format!("{guess}{}", &lower[base.len()..]));
    let guess = guess.or_else(|| suggest::closest(&lower, catalogue::known_names()).map(str::to_owned));
    report.hint(guess.map_or("The line has no effect.".to_owned(), |guess| format!("Did you mean \"{guess}\"?")))
}

/// `other` for a reader who looks at `place`.
fn seen_from(place: &Place, other: &Place) -> String {
    if place.file_number == other.file_number { format!("in line {}", other.line) } else { format!("at {other}") }
}

fn full_name(name: &str, index: Option<usize>) -> String {
    index.map_or_else(|| name.to_owned(), |index| format!("{name}{index}"))
}
