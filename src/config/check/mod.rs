//! `pgpool check`: what the configuration says, before anything is started on it.
//!
//! The report holds every problem with its place, the settings that differ from the defaults, and the arithmetic of
//! connections. What the servers allow, and what there is on this machine ([`surroundings`]), are inputs: asking the
//! servers is the business of a higher floor, and a test has a machine of its own.

mod arithmetic;
mod commented;
mod surroundings;

pub use arithmetic::{Limits, ServerLimits};
pub use surroundings::{PLACEHOLDERS, surroundings};

use super::changed::{Changed, changed};
use super::document::literal;
use super::load::{LoadResult, Loaded};
use super::problem::{Problem, Problems};
use std::fmt::Write;
use std::path::PathBuf;

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// What to print.
    pub text: String,
    /// 0 if pgpool would start with this configuration, else 1.
    pub exit_code: u8,
}

/// Writes the report on an attempt to load a configuration. `limits` holds what is known about servers, in any order;
/// servers that were not asked may be missing. `remarks` are told with the problems of the files.
pub fn report(outcome: &LoadResult, limits: &[ServerLimits], remarks: Vec<Problem>) -> CheckReport {
    let mut text = String::new();
    let exit_code = match outcome {
        Ok(loaded) => {
            let mut problems = loaded.warnings.clone();
            remarks.into_iter().for_each(|problem| problems.push(problem));
            write_problems(&mut text, problems, &loaded.files);
            write_usable(&mut text, loaded, limits);
            0
        }
        Err(problems) => {
            write_problems(&mut text, problems.clone(), problems.files());
            text.push_str("The configuration cannot be used.\n");
            1
        }
    };
    CheckReport { text, exit_code }
}

fn write_usable(text: &mut String, loaded: &Loaded, limits: &[ServerLimits]) {
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    add(text, format_args!("The configuration can be used: {}\n", files.join(", ")));

    text.push_str("\nSettings that differ from the defaults:\n");
    let differing: Vec<_> = changed(&loaded.settings).into_iter().map(difference).collect();
    let width = differing.iter().map(|line| line.setting.chars().count()).max().unwrap_or_default().min(60);
    for Difference { setting, default } in differing {
        match default {
            Some(default) => add(text, format_args!("  {setting:width$}  # default {default}\n")),
            None => add(text, format_args!("  {setting}\n")),
        }
    }
    text.push_str("\nConnections:\n");
    arithmetic::write(text, &loaded.settings, limits);
}

fn write_problems(text: &mut String, mut problems: Problems, files: &[PathBuf]) {
    commented::unknown_names(files, &mut problems);
    problems.sort();
    if problems.iter().next().is_none() {
        return;
    }
    let count = |severity: fn(&Problem) -> bool| problems.iter().filter(|problem| severity(problem)).count();
    let errors = count(Problem::is_error);
    let others = count(|problem| !problem.is_error());
    add(text, format_args!("{problems}\n{}, {}.\n", plural(errors, "error"), plural(others, "remark")));
}

fn plural(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A setting as a file would say it, and its default unless that is hidden.
struct Difference {
    setting: String,
    default: Option<String>,
}

fn difference(Changed { target, value, default }: Changed) -> Difference {
    let literal = |text: &str| literal(&target.parameter.kind, text);
    let value = if default.is_some() { literal(&value) } else { value };
    Difference { setting: format!("{} = {value}", target.name()), default: default.as_deref().map(literal) }
}

/// Appends to a report; a String takes everything.
fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use std::path::Path;

    fn check(text: &str, limits: &[ServerLimits]) -> CheckReport {
        report(&load_text(Path::new("/nowhere/pgpool.conf"), text.as_bytes()), limits, Vec::new())
    }

    const NODES: &str = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1\n";

    #[test]
    fn a_usable_configuration_is_shown_with_its_arithmetic() {
        let text = format!(
            "{NODES}backend_hostname1 = 'b'\nbackend_port1 = 5432\nnum_init_children = 100\nsr_check_password = 'secret'\nhealth_check_period = 10\nmemory_cache_enabled = on\nmemqcache_method = memcached\n"
        );
        let limits = [
            ServerLimits { node: 0, answer: Ok(Limits { max_connections: 100, superuser_reserved_connections: 3 }) },
            ServerLimits { node: 1, answer: Err("it is asleep".to_owned()) },
        ];
        let report = check(&text, &limits);
        assert_eq!(report.exit_code, 0);
        let expected = "\
The configuration can be used: /nowhere/pgpool.conf

Settings that differ from the defaults:
  backend_hostname0 = 'a'       # default ''
  backend_hostname1 = 'b'       # default ''
  backend_port0 = 5432          # default 0
  backend_port1 = 5432          # default 0
  backend_weight0 = 1           # default 0
  num_init_children = 100       # default 32
  sr_check_password = *****
  health_check_period = 10s     # default 0
  memory_cache_enabled = on     # default off
  memqcache_method = memcached  # default shmem

Connections:
  Clients served at a time: num_init_children (100) - reserved_connections (0) = 100
  Clients that may wait besides: num_init_children (100) x listen_backlog_multiplier (2) = 200
  Connections to each node at most: num_init_children (100) x max_pool (4) = 400, and 3 of pgpool's own
  Node 0 (a:5432) allows max_connections (100) - superuser_reserved_connections (3) = 97: TOO FEW, 306 more are needed
  HINT:  Raise max_connections of node 0, or lower num_init_children or max_pool: 94 = num_init_children x max_pool fits.
  Node 1 (b:5432): not known what it allows: it is asleep
";
        assert_eq!(report.text, expected);
    }

    #[test]
    fn an_unusable_one_is_explained() {
        let report = check("port = 80\nbackend_port0 = x\n", &[]);
        assert_eq!(report.exit_code, 1);
        assert!(report.text.contains("/nowhere/pgpool.conf:1:8: ERROR:  80 is outside the valid range"));
        assert!(report.text.ends_with("2 errors, 0 remarks.\nThe configuration cannot be used.\n"), "{}", report.text);
    }
}
