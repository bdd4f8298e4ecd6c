//! Configuration: what the files say, checked and typed.
//!
//! One way through this room: [`load`] reads the files into statements (`file/`), names and values are resolved
//! against the catalogue (`apply`, `catalogue/`, `value/`), missing things are completed, several settings are checked
//! together (`cross_check`), and out come [`Settings`] with warnings, or all [`Problems`] at once, each with its place.
//!
//! Invariants: what a parameter is stands in `conf/parameters.toml` and nowhere else; everything here works through
//! the table [`catalogue::PARAMETERS`]. A [`Settings`] that exists is valid. Loading starts no thread and touches no
//! global state, so the parent may do it before and after forking.
//!
//! This room must not know processes, sockets or servers, and never logs by itself: problems are values, the caller
//! decides when they are written and whether they are fatal.

mod apply;
mod by_name;
pub mod catalogue;
mod changed;
pub mod check;
mod checks;
pub mod choices;
mod cross_check;
pub mod document;
mod file;
mod load;
mod log;
mod node_id;
mod not_yet;
mod paths;
mod problem;
pub mod reload;
pub mod settings;
mod snapshot;
mod suggest;
mod unlikely;
pub mod value;

pub use apply::Positions;
pub use by_name::HIDDEN;
pub use changed::{Changed, changed};
pub use choices::*;
pub use load::{LoadResult, Loaded, load, load_leniently, load_text};
pub use paths::{FileLocations, SYSCONFDIR, absolute};
pub use problem::{Place, Problem, Problems};
pub use settings::{HeartbeatSettings, NodeSettings, Settings, WatchdogNodeSettings};
pub use value::{LogDestinations, NodeFlags, RedirectList, RedirectTarget, RegexList, RelationPairs, StringList};
