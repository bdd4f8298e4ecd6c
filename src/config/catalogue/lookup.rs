//! From a name as users write it to a parameter and an index (config 2.3, 5.2).

use super::{Meaning, OLD_NAMES, OldName, PARAMETERS, Parameter, parameter};
use crate::report::Report;
use std::collections::HashMap;
use std::sync::LazyLock;

/// A parameter with the index it was written with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The parameter; never an alias.
    pub parameter: &'static Parameter,
    /// The number behind the name.
    pub index: Option<usize>,
}

impl Target {
    /// The full name of the parameter meant, whatever it was written as.
    pub fn name(&self) -> String {
        self.parameter.full_name(self.index)
    }
}

/// What a name means.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// That parameter.
    Current(Target),
    /// That parameter under the name of an earlier release that is a full parameter still (`logdir`): of two lines
    /// the later one wins, as if the names were the same.
    Alias(Target, &'static Parameter),
    /// A name of an earlier release: what it was, and the parameter it stands for if it can be understood. A line
    /// with the current name wins over it.
    Old(&'static OldName, Option<Target>),
}

/// Why a name means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No parameter is called so.
    Unknown,
    /// A numbered parameter without its number.
    IndexExpected,
    /// What stands behind the name of a numbered parameter is no number.
    NotDigits,
    /// The number is beyond the table.
    OutOfRange {
        /// The number.
        index: String,
        /// The last one there is.
        last: usize,
    },
}

impl LookupError {
    /// The error of a file or command that uses `name` (config 5.2).
    pub fn report(&self, name: &str) -> Report {
        match self {
            Self::Unknown => Report::error(format!("unrecognized configuration parameter \"{name}\"")),
            Self::IndexExpected => Report::error(format!("parameter \"{name}\" expects the index value"))
                .hint(format!("Write the number of the node behind the name, such as {name}0.")),
            Self::NotDigits => Report::error(format!("invalid index value for parameter \"{name}\" "))
                .detail("index part contains the invalid non digit character"),
            Self::OutOfRange { index, last } => {
                Report::error(format!("{index} index outside the valid range for parameter \"{name}\" (0 .. {last})"))
            }
        }
    }
}

/// All names, in lower case. The one pair that differs only in case, `delegate_ip` and `delegate_IP`, is told apart
/// by [`find`].
static BY_NAME: LazyLock<HashMap<String, &'static Parameter>> = LazyLock::new(|| {
    let without_case_twins = PARAMETERS.iter().rev();
    without_case_twins
        .filter(|p| p.alias_of.is_none_or(|target| !target.eq_ignore_ascii_case(p.name)))
        .map(|p| (p.name.to_ascii_lowercase(), p))
        .collect()
});

/// Resolves `name`, written in any case. `own_node` is this pgpool's watchdog node id; names of earlier releases that
/// meant "this host" refer to it.
pub fn find(name: &str, own_node: usize) -> Result<Found, LookupError> {
    let lower = name.to_ascii_lowercase();
    if let Some(found) = parameter(name).or_else(|| BY_NAME.get(&lower).copied()) {
        return found_plainly(found);
    }
    let base = lower.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &lower[base.len()..];
    if let Some(old) = OLD_NAMES.iter().find(|old| is_written_as(old, &lower, base, digits)) {
        return Ok(Found::Old(old, meaning(old, own_node)));
    }
    match BY_NAME.get(base).filter(|p| p.is_numbered() && !digits.is_empty()) {
        Some(parameter) => numbered(parameter, digits),
        None => Err(misspelt_index(&lower)),
    }
}

/// Every name that may stand in a file, without indexes; the candidates for suggestions.
pub fn known_names() -> impl Iterator<Item = &'static str> {
    PARAMETERS.iter().filter(|p| p.alias_of.is_none()).map(|p| p.name)
}

fn found_plainly(found: &'static Parameter) -> Result<Found, LookupError> {
    if let Some(target) = found.alias_of.and_then(parameter) {
        return Ok(Found::Alias(Target { parameter: target, index: None }, found));
    }
    if !found.has_plain_form() {
        return Err(LookupError::IndexExpected);
    }
    Ok(Found::Current(Target { parameter: found, index: None }))
}

fn numbered(parameter: &'static Parameter, digits: &str) -> Result<Found, LookupError> {
    let super::Access::Numbered(numbered) = &parameter.access else { return Err(LookupError::Unknown) };
    let last = numbered.table.slots() - 1;
    let index = digits.parse().ok().filter(|index| *index <= last);
    let index = index.ok_or_else(|| LookupError::OutOfRange { index: digits.to_owned(), last })?;
    Ok(Found::Current(Target { parameter, index: Some(index) }))
}

/// A name that begins with that of a numbered parameter is a bad index, not an unknown name.
fn misspelt_index(lower: &str) -> LookupError {
    let is_one = PARAMETERS.iter().any(|p| p.is_numbered() && lower.starts_with(p.name));
    if is_one { LookupError::NotDigits } else { LookupError::Unknown }
}

fn is_written_as(old: &OldName, lower: &str, base: &str, digits: &str) -> bool {
    if old.numbered {
        old.name.eq_ignore_ascii_case(base) && !digits.is_empty()
    } else {
        old.name.eq_ignore_ascii_case(lower)
    }
}

fn meaning(old: &OldName, own_node: usize) -> Option<Target> {
    match old.meaning {
        Meaning::Renamed(name) => parameter(name).map(|parameter| Target { parameter, index: None }),
        Meaning::LocalValueOf(name) => parameter(name).map(|parameter| Target { parameter, index: Some(own_node) }),
        Meaning::Gone => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(name: &str) -> String {
        match find(name, 0) {
            Ok(Found::Current(target)) => target.name(),
            other => panic!("{name}: {other:?}"),
        }
    }

    fn error(name: &str) -> String {
        match find(name, 0) {
            Err(error) => error.report(name).message,
            Ok(found) => panic!("{name}: {found:?}"),
        }
    }

    #[test]
    fn names_ignore_case_and_leading_zeros() {
        assert_eq!(current("PORT"), "port");
        assert_eq!(current("backend_port00"), "backend_port0");
        assert_eq!(current("Backend_HostName127"), "backend_hostname127");
        assert_eq!(current("health_check_period"), "health_check_period");
        assert_eq!(current("health_check_period3"), "health_check_period3");
        assert_eq!(current("recovery_1st_stage_command"), "recovery_1st_stage_command");
        assert_eq!(current("heartbeat_port255"), "heartbeat_port255");
        assert_eq!(current("Delegate_IP"), "delegate_ip");
    }

    #[test]
    fn bad_indexes_are_errors_of_the_parameter() {
        assert_eq!(error("backend_port"), "parameter \"backend_port\" expects the index value");
        assert_eq!(error("backend_portx"), "invalid index value for parameter \"backend_portx\" ");
        assert_eq!(error("hostname_x"), "invalid index value for parameter \"hostname_x\" ");
        let expected = "128 index outside the valid range for parameter \"backend_port128\" (0 .. 127)";
        assert_eq!(error("backend_port128"), expected);
        assert!(error("backend_port99999999999999999999999").contains("outside the valid range"));
        for unknown in ["port1", "nonsense", ""] {
            assert_eq!(find(unknown, 0).unwrap_err(), LookupError::Unknown, "{unknown}");
        }
    }

    #[test]
    fn old_names_lead_to_their_successors() {
        let target = |name| match find(name, 2) {
            Ok(Found::Alias(target, _) | Found::Old(_, Some(target))) => target.name(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(target("delegate_IP"), "delegate_ip");
        assert_eq!(target("logdir"), "work_dir");
        assert_eq!(target("socket_dir"), "unix_socket_directories");
        assert_eq!(target("follow_master_command"), "follow_primary_command");
        assert_eq!(target("wd_hostname"), "hostname2");
        assert_eq!(target("wd_heartbeat_port"), "heartbeat_port2");
        assert!(matches!(find("parallel_mode", 0), Ok(Found::Old(_, None))));
        assert!(matches!(find("other_pgpool_hostname0", 0), Ok(Found::Old(_, None))));
    }
}
