//! Configuration.

#[allow(missing_docs)]
pub mod catalogue;
pub mod choices;
pub mod settings;
mod suggest;
pub mod value;

pub use choices::*;
pub use settings::{HeartbeatSettings, NodeSettings, Settings, WatchdogNodeSettings};
pub use value::{LogDestinations, NodeFlags, RedirectList, RegexList, RelationPairs, StringList};
