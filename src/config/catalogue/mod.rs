//! The catalogue: what is known about every parameter, as one static table.
//!
//! [`PARAMETERS`] is generated from `conf/parameters.toml`. Whoever reads files, prints values, reloads or documents
//! works through this table; no other code knows parameters one by one. [`find`] resolves a name as users write it.

mod lookup;

pub use lookup::{Found, LookupError, Target, find, known_names};

use super::choices::{Choice, Spellings};
use super::settings::{Settings, row_mut};
use super::value::{Field, Unit, Value};

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Spelling in the file; for a numbered parameter without the index.
    pub name: &'static str,
    /// Heading it stands under in the sample file.
    pub group: &'static str,
    /// Second heading.
    pub subgroup: Option<&'static str>,
    /// What its text may be.
    pub kind: Kind,
    /// Where its value lives.
    pub access: Access,
    /// What it takes to change it.
    pub context: Context,
    /// Extra condition of a reload.
    pub reload_rule: ReloadRule,
    /// Example for the sample file where the default says little.
    pub sample: Option<&'static str>,
    /// A relative path is taken from the directory of pgpool.conf.
    pub relative_to_config_file: bool,
    /// PGPOOL SHOW prints `*****`.
    pub hidden_value: bool,
    /// Left out of PGPOOL SHOW ALL.
    pub hidden_in_show_all: bool,
    /// Listed by SHOW POOL_STATUS.
    pub in_pool_status: bool,
    /// This is only the former name of that parameter.
    pub alias_of: Option<&'static str>,
    /// Names of earlier releases with the same meaning.
    pub aliases: &'static [&'static str],
    /// Names of earlier releases whose job this one took over.
    pub replaces: &'static [&'static str],
    /// First Pgpool-II release series that knows it; none for our own.
    pub since: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
    /// What else to know.
    pub note: Option<&'static str>,
}

/// What the text of a value may be.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the variants are the types of the catalogue")]
pub enum Kind {
    Bool,
    Int(IntKind),
    Double { min: f64, max: f64 },
    Text,
    Enum(&'static Spellings),
    StringList { separator: char },
    RegexList { separator: char },
    RedirectList,
    RelationPairs,
    LogDestinations,
    NodeFlags,
}

/// A whole number.
#[derive(Clone, Copy, Debug)]
pub struct IntKind {
    /// Smallest value that may be written.
    pub min: i64,
    /// Largest value that may be written.
    pub max: i64,
    /// 32 or 64.
    pub bits: u8,
    /// Unit of a bare number; without it a suffix is an error.
    pub unit: Option<Unit>,
    /// Shown as a file mode.
    pub octal: bool,
    /// 0 may be written although it lies outside the range.
    pub zero_is_unset: bool,
}

/// What it takes to change a parameter, from the most to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// A restart.
    Startup,
    /// A reload.
    Reload,
    /// PGPOOL SET changes it for one session, a reload for all.
    Session,
}

/// Extra condition under which a reload takes a new value (config 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadRule {
    /// None.
    Take,
    /// Only while the node's slot is unused.
    UnusedSlot,
    /// Only while the node's slot is unused or the node is down.
    NodeDown,
    /// Taken, logged, and in force for new sessions.
    NewSessions,
    /// Failover permission is taken, ALWAYS_PRIMARY stays once set.
    MergeFlags,
}

/// Where the value lives in [`Settings`].
#[derive(Debug)]
pub enum Access {
    /// In a field of its own.
    Plain(Plain),
    /// In a numbered table.
    Numbered(Numbered),
}

/// A field of [`Settings`].
#[derive(Debug)]
pub struct Plain {
    /// Reads it.
    pub get: fn(&Settings) -> &dyn Field,
    /// Writes it.
    pub get_mut: fn(&mut Settings) -> &mut dyn Field,
}

/// A field of the rows of a numbered table.
#[derive(Debug)]
pub struct Numbered {
    /// The table.
    pub table: Table,
    /// The value of every index that the file does not set itself.
    pub global: Option<Plain>,
    /// Reads row `i`, if there is one.
    pub get: fn(&Settings, usize) -> Option<&dyn Field>,
    /// Writes row `i`; rows up to it come into being. `i` is below [`Table::slots`].
    pub get_mut: fn(&mut Settings, usize) -> &mut dyn Field,
}

/// The numbered tables of [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// PostgreSQL nodes.
    Nodes,
    /// pgpool nodes of a watchdog cluster.
    WatchdogNodes,
    /// Addresses for heartbeats.
    Heartbeats,
}

impl Table {
    /// Number of slots: the indexes are `0 .. slots() - 1`.
    pub const fn slots(self) -> usize {
        match self {
            Self::Nodes | Self::WatchdogNodes => 128,
            Self::Heartbeats => 256,
        }
    }
}

impl Parameter {
    /// Whether the name is written with an index.
    pub fn is_numbered(&self) -> bool {
        matches!(self.access, Access::Numbered(_))
    }

    /// Whether the name is valid without an index.
    pub fn has_plain_form(&self) -> bool {
        !matches!(self.access, Access::Numbered(Numbered { global: None, .. }))
    }

    /// The name as written in a file: with the index if there is one.
    pub fn full_name(&self, index: Option<usize>) -> String {
        index.map_or_else(|| self.name.to_owned(), |index| format!("{}{index}", self.name))
    }

    /// The value in `settings`. A numbered parameter without an index gives its global value; a row that does not
    /// exist gives the global or default value.
    pub fn value(&self, settings: &Settings, index: Option<usize>) -> Value {
        match &self.access {
            Access::Plain(plain) => (plain.get)(settings).value(),
            Access::Numbered(numbered) => {
                let row = index.and_then(|index| (numbered.get)(settings, index)).map(Field::value);
                row.or_else(|| numbered.global.as_ref().map(|plain| (plain.get)(settings).value()))
                    .unwrap_or_else(|| self.default_value())
            }
        }
    }

    /// Puts `value`, which was made by this parameter's kind, into `settings`. Only an index below the table's slots
    /// makes sense; others are ignored, as is a missing index where one is needed.
    pub fn store(&self, settings: &mut Settings, index: Option<usize>, value: Value) {
        match (&self.access, index) {
            (Access::Plain(plain), _) => (plain.get_mut)(settings).store(value),
            (Access::Numbered(numbered), Some(index)) if index < numbered.table.slots() => {
                (numbered.get_mut)(settings, index).store(value);
            }
            (Access::Numbered(Numbered { global: Some(plain), .. }), None) => (plain.get_mut)(settings).store(value),
            (Access::Numbered(_), _) => {}
        }
    }

    /// The value when no file sets it.
    pub fn default_value(&self) -> Value {
        let mut settings = Settings::default();
        match &self.access {
            Access::Plain(plain) => (plain.get)(&settings).value(),
            Access::Numbered(numbered) => (numbered.get_mut)(&mut settings, 0).value(),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/parameters.rs"));

/// A name of earlier releases.
#[derive(Debug)]
pub struct OldName {
    /// As it was written, without an index.
    pub name: &'static str,
    /// What to do with it.
    pub meaning: Meaning,
    /// It was written with an index.
    pub numbered: bool,
    /// First release series without it.
    pub removed_in: Option<&'static str>,
    /// What took its place.
    pub replaced_by: Option<&'static str>,
    /// One sentence on its fate.
    pub doc: &'static str,
}

/// What a name of earlier releases means today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The same as that parameter.
    Renamed(&'static str),
    /// The value of that numbered parameter for this pgpool's own watchdog node.
    LocalValueOf(&'static str),
    /// Nothing any more.
    Gone,
}

/// The parameter called exactly `name`.
pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}
