//! From a file to checked settings, or to all problems of it at once.

use super::apply::{Positions, apply};
use super::file::{self, Statements};
use super::problem::Problems;
use super::settings::Settings;
use super::{cross_check, node_id, not_yet, paths, unlikely};
use crate::report::Report;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// This pgpool's watchdog node id; there whenever `use_watchdog` is on.
    pub own_node: Option<usize>,
    /// What deserves a remark; no errors among them.
    pub warnings: Problems,
    /// The files read, the main one first.
    pub files: Vec<PathBuf>,
    /// Where settings were written.
    pub positions: Positions,
}

/// A usable configuration, or why there is none.
pub type LoadResult = Result<Loaded, Problems>;

/// Reads, checks and completes the configuration in the file at `path` (relative to the working directory). All
/// problems of all files are found in one go.
pub fn load(path: &Path) -> LoadResult {
    let working_directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let path = paths::absolute(path, &working_directory);
    let mut problems = Problems::default();
    let statements = file::read(&path, &mut problems);
    finish(&path, &statements, problems)
}

/// The settings of the file at `path` (relative to the working directory) as far as they can be understood, for programs
/// that need only one of them.
///
/// # Errors
/// The file cannot be opened.
pub fn load_leniently(path: &Path) -> io::Result<Settings> {
    let path = paths::absolute(path, &std::env::current_dir()?);
    fs::File::open(&path)?;
    let mut problems = Problems::default();
    let statements = file::read(&path, &mut problems);
    let (mut settings, _) = apply(&statements.settings, 0, &mut problems);
    paths::resolve(&mut settings, path.parent().unwrap_or(Path::new("/")));
    Ok(settings)
}

/// As [`load`], from a text that stands for the file at `path`, which is absolute and need not exist.
pub fn load_text(path: &Path, text: &[u8]) -> LoadResult {
    let mut problems = Problems::default();
    let statements = file::read_text(path, text, &mut problems);
    finish(path, &statements, problems)
}

fn finish(path: &Path, statements: &Statements, mut problems: Problems) -> LoadResult {
    problems.set_files(&statements.files);
    let directory = path.parent().unwrap_or(Path::new("/"));
    if statements.settings.is_empty() && !problems.has_errors() {
        let report = Report::error(format!("configuration file \"{}\" contains no settings", path.display()));
        problems.add(report.hint("At least backend_hostname0 and backend_port0 are needed."), None);
        return Err(problems);
    }
    let node_id = node_id::read(directory);
    let guess = node_id.as_ref().copied().unwrap_or(0);
    let (mut settings, positions) = apply(&statements.settings, guess, &mut problems);
    complete(&mut settings, guess, &positions);
    paths::resolve(&mut settings, directory);
    let own_node = match node_id {
        Ok(id) => Some(id),
        Err(report) if settings.use_watchdog => {
            problems.add(report, positions.place("use_watchdog", None));
            None
        }
        Err(_) => None,
    };
    // Settings that are wrong by themselves would only make these checks complain about consequences.
    if !problems.has_errors() {
        cross_check::check(&settings, own_node, &positions, &mut problems);
        unlikely::check(&settings, &positions, &mut problems);
        not_yet::check(&settings, &positions, &mut problems);
    }
    problems.sort();
    if problems.has_errors() {
        return Err(problems);
    }
    Ok(Loaded { settings, own_node, warnings: problems, files: statements.files.clone(), positions })
}

/// Fills in what a missing setting means (config 5.3, rules 1 and 2).
fn complete(settings: &mut Settings, own_node: usize, positions: &Positions) {
    for node in &mut settings.nodes {
        if !node.in_use() {
            node.hostname.clear();
        } else if node.hostname.is_empty() {
            "/tmp".clone_into(&mut node.hostname);
        }
    }
    truncate(&mut settings.nodes, |node| node.in_use());
    truncate(&mut settings.watchdog_nodes, |node| node.in_use() || node.pgpool_port != 0);
    truncate(&mut settings.heartbeats, |slot| slot.in_use());
    if settings.use_watchdog
        && !positions.is_set("hostname", Some(own_node))
        && let Some(node) = settings.watchdog_nodes.get_mut(own_node)
        && let Some(name) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok())
    {
        node.hostname = name;
    }
}

/// A table ends with its last used row.
fn truncate<T>(rows: &mut Vec<T>, in_use: impl Fn(&T) -> bool) {
    let length = rows.iter().rposition(in_use).map_or(0, |last| last + 1);
    rows.truncate(length);
}
