//! Problems of a configuration: a report with the place in the file it is about.

use crate::report::{Report, Severity};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Number of the file in reading order, from 0.
    pub file_number: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Offset in bytes from the beginning of the file.
    pub offset: usize,
    /// The whole line.
    pub text: Arc<str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One problem. Its severity is ERROR (the file cannot be used), WARNING, or NOTICE (only worth knowing when somebody
/// checks the file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong and what to do about it.
    pub report: Report,
    /// Where.
    pub place: Option<Place>,
}

impl Problem {
    /// A problem at `place`.
    pub fn new(report: Report, place: Option<&Place>) -> Self {
        Self { report, place: place.cloned() }
    }

    /// Whether the configuration cannot be used because of it.
    pub fn is_error(&self) -> bool {
        self.report.severity >= Severity::Error
    }

    /// The report for the log: the place is its context, and an error has the severity that the situation gives it
    /// (FATAL at start, WARNING on reload).
    pub fn to_report(&self, error_severity: Severity) -> Report {
        let mut report = self.report.clone();
        if self.is_error() {
            report.severity = error_severity;
        }
        if let Some(place) = &self.place {
            report.context = Some(format!("{place}: {}", excerpt(place).trim()));
        }
        report
    }
}

/// As compilers do: place and message, the line with a mark under the column, then detail and hint.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { severity, message, detail, hint, .. } = &self.report;
        if let Some(place) = &self.place {
            writeln!(f, "{place}: {}:  {}", severity.word(), message.trim_end())?;
            let line = excerpt(place);
            let before = place.column - 1 - (place.text.chars().count() - line.chars().count());
            let indent: String = line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "    | {}\n    | {indent}^", cut(line, 160))?;
        } else {
            writeln!(f, "{}:  {}", severity.word(), message.trim_end())?;
        }
        for (label, text) in [("DETAIL", detail), ("HINT", hint)] {
            if let Some(text) = text {
                writeln!(f, "    {label}:  {text}")?;
            }
        }
        Ok(())
    }
}

/// The line from where it is worth showing: blanks in front are left out unless the place is among them.
fn excerpt(place: &Place) -> &str {
    let trimmed = place.text.trim_start();
    let blanks = place.text.chars().count() - trimmed.chars().count();
    if place.column > blanks { trimmed } else { &place.text }
}

fn cut(line: &str, length: usize) -> String {
    let mut shown: String = line.chars().take(length).collect();
    if line.chars().nth(length).is_some() {
        shown.push_str("...");
    }
    shown
}

/// How many problems are kept; a file that is no configuration at all has one on every line.
const LIMIT: usize = 200;

/// All problems found in a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    list: Vec<Problem>,
    left_out: usize,
    has_errors: bool,
    files: Vec<PathBuf>,
}

impl Problems {
    /// Adds a problem.
    pub fn push(&mut self, problem: Problem) {
        self.has_errors |= problem.is_error();
        if self.list.len() < LIMIT { self.list.push(problem) } else { self.left_out += 1 }
    }

    /// Adds `report` as a problem at `place`.
    pub fn add(&mut self, report: Report, place: Option<&Place>) {
        self.push(Problem::new(report, place));
    }

    /// Whether one of them makes the configuration unusable.
    pub fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// The problems, in the order of the files once [`Problems::sort`] was called.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many more there were than are kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The files that were read, the main one first.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn set_files(&mut self, files: &[PathBuf]) {
        self.files = files.to_vec();
    }

    /// Puts the problems in the order of the files; those without a place come last.
    pub fn sort(&mut self) {
        let key = |problem: &Problem| problem.place.as_ref().map_or((usize::MAX, 0), |p| (p.file_number, p.offset));
        self.list.sort_by_key(key);
    }

    /// Writes all of them to the log, errors as `error_severity`.
    pub fn log(&self, error_severity: Severity) {
        self.list.iter().for_each(|problem| problem.to_report(error_severity).log());
        if self.left_out > 0 {
            Report::warning(format!("{} more problems are not listed", self.left_out)).log();
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|problem| problem.fmt(f))?;
        if self.left_out > 0 { writeln!(f, "... and {} more", self.left_out) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_with_a_mark_under_the_column() {
        let place = Place {
            file: Path::new("/etc/pgpool.conf").into(),
            file_number: 0,
            line: 3,
            column: 10,
            offset: 100,
            text: "  ñport = x # why".into(),
        };
        let problem = Problem::new(Report::error("invalid value").hint("Write a number."), Some(&place));
        let expected = "/etc/pgpool.conf:3:10: ERROR:  invalid value\n    \
                        | ñport = x # why\n    \
                        |        ^\n    HINT:  Write a number.\n";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn the_number_kept_is_bounded() {
        let mut problems = Problems::default();
        (0..LIMIT + 5).for_each(|n| problems.add(Report::warning(n.to_string()), None));
        assert_eq!((problems.iter().count(), problems.left_out()), (LIMIT, 5));
        problems.add(Report::error("the last"), None);
        assert!(problems.has_errors());
    }
}
