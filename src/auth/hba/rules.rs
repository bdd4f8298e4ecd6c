//! The file as a whole: all rules, or all slips.

use super::method::Method;
use super::record::Record;
use super::sources::Sources;
use super::token::Tokenizer;
use crate::report::Report;
use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// The rules of a file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The rules.
    pub records: Vec<Record>,
    /// The file they stand in.
    pub file: PathBuf,
}

/// What there is to say of a file: each with its line as context (auth 3.11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slips(Vec<Report>);

impl Slips {
    pub(super) fn add(&mut self, path: &Path, line: usize, report: Report) {
        self.0.push(report.context(format!("line {line} of configuration file \"{}\"", path.display())));
    }

    /// All of them.
    pub fn reports(&self) -> &[Report] {
        &self.0
    }

    /// Writes them to the log.
    pub fn log(&self) {
        self.0.iter().for_each(Report::log);
    }
}

impl Rules {
    /// Reads the file at `path`, which is absolute, and those it includes. `ssl`: whether clients can use TLS. What is
    /// right may deserve remarks, too.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn load(path: &Path, ssl: bool) -> Result<(Self, Slips, Sources), Slips> {
        let mut sources = Sources::default();
        let (rules, mut remarks) = Self::read(path, ssl, &mut |path| sources.read(path))?;
        let has_password = |record: &&Record| matches!(&record.method, Method::Ldap(ldap) if ldap.has_password());
        if let (Some(record), Some(file)) = (rules.records.iter().find(has_password), sources.open_to_all()) {
            let text =
                format!("everybody on this machine can read \"{}\", and there is an ldapbindpasswd", file.display());
            let hint = "Permissions should be u=rw,g=r (0640) or less.";
            remarks.add(path, record.line, Report::warning(text).hint(hint));
        }
        Ok((rules, remarks, sources))
    }

    /// The rules of files that somebody else has read.
    ///
    /// # Errors
    /// As [`Rules::load`].
    pub fn from_sources(path: &Path, ssl: bool, sources: &Sources) -> Result<Self, Slips> {
        Self::read(path, ssl, &mut |path| sources.get(path)).map(|(rules, _)| rules)
    }

    fn read(
        path: &Path,
        ssl: bool,
        read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<(Self, Slips), Slips> {
        let place = path.display();
        let content = match read(path) {
            Ok(content) => content,
            Err(error) => {
                let what = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { "open configuration" };
                let text = format!("could not {what} file \"{place}\": {}", cause(&error));
                return Err(Slips(vec![Report::log_line(text)]));
            }
        };
        let (mut slips, mut remarks) = (Slips::default(), Slips::default());
        let lines = Tokenizer { read, slips: &mut slips, included: 0 }.lines(path, &content, 0);
        let mut records = Vec::new();
        for line in lines {
            let number = line.number;
            match Record::parse(line, ssl, |remark| remarks.add(path, number, remark)) {
                Ok(record) => records.push(record),
                Err(slip) => slips.add(path, number, slip),
            }
        }
        if records.is_empty() && slips.0.is_empty() {
            slips.0.push(Report::log_line(format!("configuration file \"{place}\" contains no entries")));
        }
        if !slips.0.is_empty() {
            return Err(slips);
        }
        Ok((Self { records, file: path.to_owned() }, remarks))
    }
}

/// An error of the system in its own words alone.
pub(super) fn cause(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}
