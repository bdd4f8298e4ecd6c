//! Reads a file and those it includes (config 2.5, 2.6).

use super::slip::{Slip, SlipKind};
use super::statement::{self, Statement, value_bytes};
use super::token::Token;
use crate::config::catalogue::{self, LookupError};
use crate::config::paths;
use crate::config::problem::{Place, Problems};
use crate::report::Report;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Includes nest at most this deep.
const MAX_DEPTH: usize = 10;
/// At most this many files are read.
const MAX_FILES: usize = 1000;
/// A larger file is no configuration.
const MAX_SIZE: u64 = 16 << 20;

/// One setting of a file.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The name as written.
    pub name: String,
    /// The value without its quotes; none if the line ends before it, which only an unknown name may do.
    pub value: Option<String>,
    /// Where the name stands.
    pub name_place: Place,
    /// Where the value stands.
    pub value_place: Place,
}

/// Everything the files say.
#[derive(Debug, Default)]
pub struct Statements {
    /// The settings in order.
    pub settings: Vec<Setting>,
    /// The files read, the main one first.
    pub files: Vec<PathBuf>,
}

/// Reads the file at `path`, which is absolute, and what it includes. Syntax errors and unreadable files become
/// problems.
pub fn read(path: &Path, problems: &mut Problems) -> Statements {
    let mut reader = Reader { statements: Statements::default(), open: Vec::new(), problems };
    if let Err(error) = reader.file(path, 0) {
        reader.problems.add(error, None);
    }
    reader.statements
}

/// As [`read`], with the text of the main file given.
pub fn read_text(path: &Path, text: &[u8], problems: &mut Problems) -> Statements {
    let mut reader = Reader { statements: Statements::default(), open: Vec::new(), problems };
    reader.text(path, text, 0);
    reader.statements
}

/// What looks like one setting behind a comment mark, in the file at `path`. An unreadable file has none.
pub fn commented_out(path: &Path, file_number: usize) -> Vec<Setting> {
    let file = File { path: path.into(), number: file_number };
    let text = read_bounded(path).unwrap_or_default();
    let mut offset = 0;
    let mut found = Vec::new();
    for (number, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = SourceLine { file: &file, bytes, text: lossy(bytes), number: number + 1, offset };
        found.extend(line.commented_setting());
        offset += bytes.len() + 1;
    }
    found
}

struct Reader<'a> {
    statements: Statements,
    /// The files that are being read, each included by the one before.
    open: Vec<PathBuf>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), Report> {
        let cannot =
            |why: String| Report::error(format!("could not open configuration file \"{}\"{why}", path.display()));
        let is_open = self.open.iter().any(|open| open == path);
        if depth > MAX_DEPTH || is_open {
            let report = cannot(": maximum nesting depth exceeded".to_owned());
            return Err(if is_open { report.hint("The file includes itself.") } else { report });
        }
        if self.statements.files.len() >= MAX_FILES {
            return Err(cannot(format!(": more than {MAX_FILES} files")));
        }
        let text = read_bounded(path).map_err(|error| cannot(String::new()).detail(error.to_string()))?;
        self.open.push(path.to_owned());
        self.text(path, &text, depth);
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, path: &Path, text: &[u8], depth: usize) {
        let text_without_mark = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut offset = text.len() - text_without_mark.len();
        let file = File { path: path.into(), number: self.statements.files.len() };
        self.statements.files.push(path.to_owned());
        for (number, bytes) in text_without_mark.split(|byte| *byte == b'\n').enumerate() {
            let line = SourceLine { file: &file, bytes, text: lossy(bytes), number: number + 1, offset };
            self.line(&line, depth);
            offset += bytes.len() + 1;
        }
    }

    fn line(&mut self, line: &SourceLine<'_>, depth: usize) {
        let parsed = statement::parse(line.bytes, is_known);
        for statement in parsed.statements {
            match self.setting(line, statement) {
                Some(setting) if setting.name.eq_ignore_ascii_case("include") => self.include(setting, depth),
                Some(setting) => self.statements.settings.push(setting),
                None => {}
            }
        }
        if let Some(slip) = parsed.slip {
            self.problems.add(syntax_error(line, &slip), Some(&line.place(slip.start)));
        }
    }

    fn setting(&mut self, line: &SourceLine<'_>, statement: Statement<'_>) -> Option<Setting> {
        let name = lossy(statement.name.bytes).to_string();
        let name_place = line.place(statement.name.start);
        let Some(token) = statement.value else {
            return Some(Setting { name, value: None, value_place: name_place.clone(), name_place });
        };
        let value_place = line.place(token.start);
        match String::from_utf8(value_bytes(token)) {
            Ok(value) => Some(Setting { name, value: Some(value), name_place, value_place }),
            Err(_) => {
                let report =
                    Report::error(format!("invalid value for parameter \"{name}\": \"{}\"", value_text(token)))
                        .detail("The value is not valid UTF-8.")
                        .hint("Save the file in UTF-8.");
                self.problems.add(report, Some(&value_place));
                None
            }
        }
    }

    fn include(&mut self, setting: Setting, depth: usize) {
        let Some(name) = setting.value else {
            let report = Report::error("syntax error: there is no value for \"include\"");
            return self.problems.add(report.hint("Write include = 'file'."), Some(&setting.name_place));
        };
        let directory = setting.name_place.file.parent().unwrap_or(Path::new("/"));
        let path = paths::absolute(Path::new(&name), directory);
        if let Err(error) = self.file(&path, depth + 1) {
            self.problems.add(error, Some(&setting.value_place));
        }
    }
}

struct File {
    path: Arc<Path>,
    number: usize,
}

struct SourceLine<'a> {
    file: &'a File,
    bytes: &'a [u8],
    text: Arc<str>,
    number: usize,
    offset: usize,
}

impl SourceLine<'_> {
    fn commented_setting(&self) -> Option<Setting> {
        let start = self.bytes.iter().position(|byte| !b"# \t".contains(byte))?;
        let is_comment = self.bytes[..start].contains(&b'#');
        let parsed = statement::parse(&self.bytes[start..], is_known);
        let [Statement { name, value: Some(_), equals: true }] = parsed.statements[..] else { return None };
        let place = self.place(start + name.start);
        let name = lossy(name.bytes).to_string();
        is_comment.then(|| Setting { name, value: None, value_place: place.clone(), name_place: place })
    }

    /// The place of the byte at `start` of the line.
    fn place(&self, start: usize) -> Place {
        Place {
            file: self.file.path.clone(),
            file_number: self.file.number,
            line: self.number,
            column: String::from_utf8_lossy(&self.bytes[..start]).chars().count() + 1,
            offset: self.offset + start,
            text: self.text.clone(),
        }
    }
}

fn is_known(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| {
        name.eq_ignore_ascii_case("include") || !matches!(catalogue::find(name, 0), Err(LookupError::Unknown))
    })
}

fn syntax_error(line: &SourceLine<'_>, slip: &Slip) -> Report {
    let message = format!("syntax error in configuration file \"{}\"", line.file.path.display());
    let number = line.number;
    let detail = match &slip.kind {
        SlipKind::Token(token, kind) => format!("parse error at line {number} '{token}' token = {}", *kind as u8),
        SlipKind::MissingValue(name) => format!("parse error at line {number}: there is no value for \"{name}\""),
        SlipKind::Prose(word) => {
            return Report::warning(format!("unrecognized configuration parameter \"{word}\"")).hint(&slip.hint);
        }
    };
    Report::error(message).detail(detail).hint(&slip.hint)
}

fn value_text(token: Token<'_>) -> String {
    String::from_utf8_lossy(&value_bytes(token)).into_owned()
}

fn lossy(bytes: &[u8]) -> Arc<str> {
    let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    String::from_utf8_lossy(line).into()
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    // A pipe or a device could keep us waiting.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(std::io::Error::other(format!("the file is larger than {} MB", MAX_SIZE >> 20)));
    }
    Ok(text)
}
