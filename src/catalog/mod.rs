//! Facts asked from the server: which functions may write, what kind of relation a name means (query-cache 10).
//!
//! Each worker keeps [`Facts`] per [`Scope`], which is everything but the name that decides what a name means; workers
//! find each other's facts in the shared relation cache ([`crate::state::Relcache`]). `docs/relation-cache.md` tells the
//! whole story.
//!
//! Invariants:
//! - A fact is used only while the generation stands that was current before it was asked for. The generation moves when
//!   a statement that changes the catalog has come to its end.
//! - A session whose names may mean something of their own neither tells others its facts nor hears theirs.
//! - Names that do not exist are remembered for some seconds, and never for others.
//!
//! It must not decide where a statement goes, and not wait for longer than a look-up may take.

mod change;
mod exchange;
mod facts;
mod hidden;
mod lookup;
mod names;
mod scope;
mod tables;

#[cfg(test)]
mod tests;

pub use facts::{Facts, shared_facts};
pub use hidden::{HiddenCalls, look_up_hidden_calls};
pub use lookup::{look_up, look_up_until};
pub use scope::{Scope, scope};
pub use tables::{Tables, look_up_tables};
