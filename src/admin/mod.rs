//! What pgpool tells about itself: the row sets of SHOW POOL_... (show-commands 5), PGPOOL SHOW and PGPOOL EXPLAIN.
//!
//! A command is one line in [`COMMANDS`]; a column is one line in its file, its name beside what it shows (`columns!`). A
//! row set is made from the parameters, the shared state and the asking session, at one moment.
//!
//! Invariants: no value is ever missing, "no value" is an empty string or a word (show-commands 6); nothing is changed;
//! no lock is taken; a table takes at most [`probe::LIMIT`] to make, however many servers do not answer.
//!
//! This room must not know a wire format, nor who asks. Words and formats that several tables share are in `format` and
//! `words`.

/// The columns of a table: `name => value` for each, with `row` of the given type at hand. Makes `COLUMNS`, their names,
/// and `values`, which turns one row into text.
macro_rules! columns {
    ($row:ident: $type:ty; $($name:ident => $value:expr,)*) => {
        pub(super) const COLUMNS: &[&str] = &[$(stringify!($name)),*];

        fn values($row: &$type) -> Vec<String> {
            vec![$($value.to_string()),*]
        }
    };
}

mod backend_stats;
mod cache;
mod explain;
mod figures;
mod format;
mod health_check_stats;
mod node_info;
mod nodes;
mod parameters;
mod pools;
mod probe;
mod processes;
mod queue;
mod status;
mod version;
mod words;

pub use explain::{Explained, explain, explain_columns};
pub use figures::{Figures, NodeFigures, PoolFigures, WorkerFigures, figures};
pub use node_info::node_info;
pub use parameters::{ParameterList, changed};

use crate::config::Settings;
use crate::state::Shared;
use std::os::fd::OwnedFd;

/// A command that pgpool answers itself.
#[derive(Clone, Copy)]
pub struct Command(&'static Definition);

struct Definition {
    name: &'static str,
    columns: &'static [&'static str],
    rows: fn(&View<'_>) -> Vec<Vec<String>>,
}

const COMMANDS: &[Definition] = &[
    Definition { name: "pool_backend_stats", columns: backend_stats::COLUMNS, rows: backend_stats::rows },
    Definition { name: "pool_cache", columns: cache::COLUMNS, rows: cache::rows },
    Definition {
        name: "pool_health_check_stats",
        columns: health_check_stats::COLUMNS,
        rows: health_check_stats::rows,
    },
    Definition { name: "pool_nodes", columns: nodes::COLUMNS, rows: nodes::rows },
    Definition { name: "pool_pools", columns: pools::COLUMNS, rows: pools::rows },
    Definition { name: "pool_processes", columns: processes::COLUMNS, rows: processes::rows },
    Definition { name: "pool_queue", columns: queue::COLUMNS, rows: queue::rows },
    Definition { name: "pool_status", columns: status::COLUMNS, rows: status::rows },
    Definition { name: "pool_version", columns: version::COLUMNS, rows: version::rows },
];

/// What a table is made from.
pub struct View<'a> {
    /// The parameters in force.
    pub settings: &'a Settings,
    /// Shared memory.
    pub shared: &'a Shared,
    /// Load balance node of the asking session.
    pub load_balance_node: usize,
    /// The listening sockets of the clients, where they are at hand.
    pub listeners: &'a [OwnedFd],
}

/// A row set; every row has a value for every column.
#[derive(Debug)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, all text.
    pub rows: Vec<Vec<String>>,
}

impl Command {
    /// The command of that name, which must be in lower case as the SQL grammar leaves it (show-commands 2.1).
    pub fn from_name(name: &str) -> Option<Self> {
        COMMANDS.iter().find(|command| command.name == name).map(Self)
    }

    /// The columns of its table.
    pub fn columns(self) -> Vec<String> {
        owned(self.0.columns)
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

/// Makes the table. Asks servers only for `pool_nodes`.
pub fn table(command: Command, view: &View<'_>) -> Table {
    Table { columns: command.columns(), rows: (command.0.rows)(view) }
}

/// The table of SHOW POOL_PROCESSES.
pub fn processes(view: &View<'_>) -> Table {
    Table { columns: owned(processes::COLUMNS), rows: processes::rows(view) }
}

fn owned(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;

    #[test]
    fn commands_have_exact_names() {
        for command in COMMANDS {
            assert_eq!(format!("{:?}", Command::from_name(command.name).expect("command")), command.name);
        }
        assert!(Command::from_name("POOL_NODES").is_none());
        assert!(Command::from_name("pool").is_none());
    }

    #[test]
    fn every_row_fits_its_columns() {
        let shared = Shared::create(Limits { workers: 2, pool_slots: 2, ..Limits::default() }).expect("shared");
        shared.nodes().update(|cluster| cluster.nodes.resize_with(2, Default::default)).expect("update");
        let view = View { settings: &Settings::default(), shared: &shared, load_balance_node: 0, listeners: &[] };
        for (name, rows) in [
            ("pool_backend_stats", 2),
            ("pool_cache", 1),
            ("pool_health_check_stats", 2),
            ("pool_nodes", 2),
            ("pool_pools", 8),
            ("pool_processes", 2),
            ("pool_queue", 0),
            ("pool_status", 149),
            ("pool_version", 1),
        ] {
            let table = table(Command::from_name(name).expect(name), &view);
            assert_eq!(table.rows.len(), rows, "{name}");
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{name}");
        }
    }
}
