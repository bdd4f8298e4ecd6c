//! What a session has written that others have not been told of: when it may be in force, and when it cannot be.
//!
//! Answers are made wrong by a commit, not by a write, so that a long transaction does not take the cache from everybody. But
//! a write counts as committed as soon as it could be: outside of a block, and behind every statement that may end one.

use crate::cache::Answers;
use crate::sql::{Kind, Statement};
use crate::state::TableSet;
use crate::wire::TransactionStatus;

/// What was written and is not published, with what has been sent since the primary was last at rest.
#[derive(Debug, Default)]
pub(super) struct Unpublished {
    tables: TableSet,
    /// How often the database had been defined otherwise before the first write was judged by its tables.
    judged: Option<u64>,
    /// When the primary last owed nothing, it was in a block, from which no statement since leads out.
    stays_in_block: bool,
    /// Since the primary was last at rest, a statement was sent that may commit on its way.
    commits_inside: bool,
    /// One was sent that may commit and go on, perhaps for long.
    goes_on: bool,
    /// One has been done, or as much of it as was asked for.
    has_completed: bool,
    /// One has failed.
    has_failed: bool,
    /// One has failed that the server had begun to run.
    has_failed_inside: bool,
    /// The block has failed, and nothing was sent since that leads out of that.
    is_in_failed_block: bool,
}

impl Unpublished {
    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What was written.
    pub fn tables(&self) -> &TableSet {
        &self.tables
    }

    /// Whether something has been sent that may commit and go on, so that others may hear of its commits before its end.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Whether the server will refuse the statement with these `facts`, since its block has failed.
    pub fn is_in_vain(&self, facts: &Statement) -> bool {
        self.is_in_failed_block && !facts.kinds().any(leads_out)
    }

    /// The statement with these `facts` is about to be sent.
    pub fn send(&mut self, facts: &Statement, tables: &TableSet) {
        let ends_block = facts.kinds().any(ends_block);
        self.is_in_failed_block &= !facts.kinds().any(leads_out);
        let goes_on = match facts.kind {
            Kind::Call | Kind::Do => facts.is_multi() || !self.stays_in_block,
            Kind::Unparsable(_) => true,
            _ => facts.is_multi(),
        };
        self.goes_on |= ends_block && goes_on;
        self.stays_in_block &= !(facts.is_multi() || ends_block);
        self.commits_inside |= facts.is_multi() || !is_atomic(&facts.kind);
        self.add(tables);
    }

    /// Something that cannot be read is about to be sent.
    pub fn send_unknown(&mut self) {
        self.stays_in_block = false;
        self.is_in_failed_block = false;
        self.commits_inside = true;
        self.goes_on = true;
        self.add(&TableSet::everything());
    }

    /// Something was judged by its tables, as they were with so many `definitions` of the database.
    pub fn judge(&mut self, definitions: u64) {
        self.judged.get_or_insert(definitions);
    }

    fn add(&mut self, tables: &TableSet) {
        if !tables.is_empty() {
            self.tables.add(tables);
        }
    }

    /// The primary has answered with an error. `is_unread`: it could not read the text, and has run nothing of it.
    pub fn failed(&mut self, is_unread: bool) {
        self.has_failed = true;
        self.has_failed_inside |= !is_unread;
    }

    /// A statement has come to its end, or a portal to the limit of its rows.
    pub fn completed(&mut self, answers: &mut Answers, database: &str, invalidates: bool) {
        self.has_completed = true;
        if !self.stays_in_block {
            self.publish(answers, database, invalidates);
        }
    }

    /// The primary is ready. `settled`: it owes nothing.
    pub fn ready(
        &mut self,
        status: TransactionStatus,
        settled: bool,
        answers: &mut Answers,
        database: &str,
        invalidates: bool,
    ) {
        let is_idle = status == TransactionStatus::Idle;
        self.is_in_failed_block = status == TransactionStatus::Failed && (settled || self.is_in_failed_block);
        let is_undone = is_idle && settled && self.nothing_was_done();
        if !self.stays_in_block && !is_undone {
            self.publish(answers, database, invalidates);
        }
        if settled && is_idle {
            *self = Self::default();
        } else if settled {
            self.stays_in_block = true;
            self.goes_on = false;
        }
    }

    /// Whether the server has said of all that was sent since it was at rest that it was not done.
    fn nothing_was_done(&self) -> bool {
        self.has_failed && !self.has_completed && !(self.commits_inside && self.has_failed_inside)
    }

    fn publish(&mut self, answers: &mut Answers, database: &str, invalidates: bool) {
        let all = TableSet::database(database);
        if self.is_misjudged(answers, database) {
            self.tables.add(&all);
        }
        // Definitions and privileges are no matter of taste.
        if self.tables.is_empty() || !(invalidates || self.tables.counters().contains(&0)) {
            return;
        }
        answers.invalidate(database, &self.tables);
        // Memcached may just have told what others have defined.
        if self.is_misjudged(answers, database) && answers.are_elsewhere() {
            answers.invalidate(database, &all);
        }
    }

    /// What was looked up to judge a write may have changed before it could run.
    fn is_misjudged(&self, answers: &Answers, database: &str) -> bool {
        self.judged.is_some_and(|definitions| definitions != answers.shared().definitions(database))
    }
}

/// Whether a transaction block may not be the same behind it.
fn ends_block(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::PrepareTransaction
            | Kind::CommitPrepared
            | Kind::Call
            | Kind::Do
            | Kind::Unparsable(_)
    )
}

/// Whether it may be run in a failed block, and what follows then, too.
fn leads_out(kind: &Kind) -> bool {
    ends_block(kind) || matches!(kind, Kind::RollbackTo(_))
}

/// Whether a statement of this kind is done as a whole or not at all. Definitions are not: some commit their first step
/// before they wait for the second.
fn is_atomic(kind: &Kind) -> bool {
    match kind {
        Kind::Explain { inner, .. } => is_atomic(inner),
        Kind::Select
        | Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Merge
        | Kind::CopyFrom(_)
        | Kind::CopyTo { .. }
        | Kind::Declare { .. }
        | Kind::Fetch(_)
        | Kind::Truncate
        | Kind::CreateTable { .. }
        | Kind::CreateTableAs { .. }
        | Kind::Prepare { .. }
        | Kind::Execute(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
