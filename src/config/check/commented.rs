//! Commented-out settings whose names are no parameters: whoever takes the comment mark away is in for a surprise.

use crate::config::catalogue::{self, LookupError};
use crate::config::file::{Setting, commented_out};
use crate::config::problem::Problems;
use crate::config::suggest;
use crate::report::Report;
use std::path::PathBuf;

/// Adds a notice for each of them. Comments are for people, so only what looks exactly like a setting counts: a name
/// with an underscore, an equal sign and a value.
pub(super) fn unknown_names(files: &[PathBuf], problems: &mut Problems) {
    for (number, file) in files.iter().enumerate() {
        for Setting { name, name_place, .. } in commented_out(file, number) {
            if name.contains('_') && catalogue::find(&name, 0).is_err_and(|error| error == LookupError::Unknown) {
                let guess = suggest::closest(&name.to_ascii_lowercase(), catalogue::known_names());
                let report = Report::notice(format!("the comment names \"{name}\", which is no parameter"));
                let hint = guess.map(|guess| format!("Did you mean \"{guess}\"?"));
                problems.add(Report { hint, ..report }, Some(&name_place));
            }
        }
    }
}
