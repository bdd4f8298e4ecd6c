//! The session's part in a decision.

use super::{RecentWrites, Target};
use crate::config::Settings;
use crate::sql::{Isolation, Statement};
use crate::state::Delay;

/// What routing must know of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    /// The parameters in force.
    pub settings: &'a Settings,
    /// A node other than the primary is there to read from.
    pub has_balance_node: bool,
    /// The session holds something that cannot be brought to another node: a temporary table, a lock, ...
    pub tied: bool,
    /// The transaction block, if one is open on the primary.
    pub transaction: Transaction,
    /// Statements inside a transaction block may go to the load balance node: the session can open one there too.
    pub balance_in_transaction: bool,
    /// The session has written; see [`sets_writing_flag`](super::sets_writing_flag) (routing 7.1).
    pub writing: bool,
    /// Relations touched by writes in the transaction block, for `disable_load_balance_on_write = dml_adaptive`: what
    /// [`relations_touched`](super::relations_touched) said of each statement (routing 7.4).
    pub written: &'a [Box<str>],
    /// Writes of all sessions, for `dml_adaptive_global`; None counts as if everything had just been written.
    pub recent: Option<&'a dyn RecentWrites>,
    /// Prepared statements made by PREPARE may be put on the load balance node: the session follows where they are.
    pub follows_prepared: bool,
    /// Where the statement was prepared that this EXECUTE or DEALLOCATE names; None if it is not known (routing 10).
    pub prepared: Option<Target>,
    /// The facts of the text that prepared what this EXECUTE carries out, so that it is held against the same tests. None:
    /// what let it pass when it was prepared is not asked again.
    pub runs: Option<&'a Statement>,
    /// How far the load balance node is behind the primary; none for the primary itself.
    pub delay: Delay,
}

impl<'a> SessionView<'a> {
    /// A session outside of a transaction that has done nothing yet. It can read from another node, which is up to date.
    pub fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            has_balance_node: true,
            tied: false,
            transaction: Transaction::Idle,
            balance_in_transaction: false,
            writing: false,
            written: &[],
            recent: None,
            follows_prepared: false,
            prepared: None,
            runs: None,
            delay: Delay::default(),
        }
    }
}

/// The state of a session's transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// None is open.
    Idle,
    /// One is open.
    Open {
        /// Its isolation level; None if it is not known.
        isolation: Option<Isolation>,
        /// It was opened by a text of several statements, so it exists on the primary only (routing 7.8).
        on_primary_only: bool,
    },
    /// One is open and has failed: only its end is accepted.
    Failed,
}
