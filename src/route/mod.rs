//! Where a statement goes, and why: a pure function of its facts, the session's state and the catalog (routing 2, 4-7).
//!
//! [`decide`] asks for the statement's class first (by its kind alone, `class.rs`), and then puts it through the
//! load balance test, one question after the other. [`choose`] draws the load balance node of a session,
//! [`shares`] tells how likely each is.
//! [`sets_writing_flag`] tells which statements send later reads to the primary, [`relations_touched`] and
//! [`relations_written`] the relations whose reads go there.
//!
//! Invariants: a statement goes to the load balance node only if every test says that it is a read which that node can
//! answer; whatever is not understood, or not known yet, goes to the primary. Each test that decides has a [`Reason`] of
//! its own. No I/O, no clock, no randomness: random numbers come in as arguments.

mod adaptive;
mod balance;
mod catalog;
mod class;
mod decide;
mod delay;
mod label;
mod reason;
mod session;
mod shares;
mod writing;

pub use adaptive::{RecentWrites, SharedWrites, relations_touched, relations_written};
pub use balance::{Candidate, Client, choose};
pub use catalog::{Catalog, Known, RelationKind, Volatility};
pub use decide::{decide, missing};
pub use delay::{exceeds_limit, lowest_delay};
pub use reason::Reason;
pub use session::{SessionView, Transaction};
pub use shares::shares;
pub use writing::sets_writing_flag;

/// Where a statement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The primary; the main node if no primary is known.
    Primary,
    /// The primary at once; other nodes of the session learn of it when they are needed (design decision 4).
    Both,
    /// The session's load balance node.
    Balance,
    /// The main node: the attached node with the lowest id.
    Main,
}

/// A decision with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub target: Target,
    /// Why.
    pub reason: Reason,
}

impl Route {
    fn new(target: Target, reason: Reason) -> Self {
        Self { target, reason }
    }

    fn primary(reason: Reason) -> Self {
        Self::new(Target::Primary, reason)
    }
}

#[cfg(test)]
mod tests;
