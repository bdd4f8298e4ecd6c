//! Where a statement goes, and why: a pure function of its facts, the session's state and the catalog (routing 4-6).
//!
//! Invariants: a statement goes to the load balance node only if every test says that it is a read which that node can
//! answer; whatever is not understood, or not known yet, goes to the primary. No I/O, no clock, no randomness: random
//! numbers come in as arguments.

mod balance;
mod decide;
mod reason;

pub use balance::{Candidate, Client, choose};
pub use decide::{Catalog, Known, RelationKind, SessionView, Volatility, decide, missing};
pub use reason::Reason;

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The primary.
    Primary,
    /// The primary at once; other nodes of the session learn of it when they are needed (design decision 4).
    Both,
    /// The session's load balance node.
    Balance,
}

/// A decision with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub target: Target,
    /// Why.
    pub reason: Reason,
}
