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
    /// Statements since the primary was last at rest, and how many of them could commit on their way.
    sent: u32,
    commits_inside: bool,
    /// One of them has come to its end.
    has_completed: bool,
    /// The server has not understood one of them.
    is_refused: bool,
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

    /// The statement with these `facts` is about to be sent.
    pub fn send(&mut self, facts: &Statement, tables: &TableSet) {
        self.stays_in_block &= !ends_block(facts);
        self.commits_inside |= facts.is_multi() || facts.kinds().any(commits_inside);
        self.add(tables);
    }

    /// Something that cannot be read is about to be sent.
    pub fn send_unknown(&mut self) {
        self.stays_in_block = false;
        self.add(&TableSet::everything());
    }

    /// Something was judged by its tables, as they were with so many `definitions` of the database.
    pub fn judge(&mut self, definitions: u64) {
        self.judged.get_or_insert(definitions);
    }

    fn add(&mut self, tables: &TableSet) {
        self.sent = self.sent.saturating_add(1);
        if !tables.is_empty() {
            self.tables.add(tables);
        }
    }

    /// The server has not understood a statement, or does not know it.
    pub fn refused(&mut self) {
        self.is_refused = true;
    }

    /// A statement has come to its end.
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
        let is_undone = is_idle && settled && self.nothing_was_done();
        if !self.stays_in_block && !is_undone {
            self.publish(answers, database, invalidates);
        }
        if settled && is_idle {
            *self = Self::default();
        } else if settled {
            self.stays_in_block = true;
        }
    }

    /// Whether the server has refused all that was sent since it was at rest.
    fn nothing_was_done(&self) -> bool {
        !self.has_completed && (!self.commits_inside || (self.is_refused && self.sent == 1))
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
fn ends_block(facts: &Statement) -> bool {
    let ends = |kind: &Kind| {
        matches!(kind, Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction | Kind::CommitPrepared)
            || commits_inside(kind)
    };
    facts.is_multi() || facts.kinds().any(ends)
}

fn commits_inside(kind: &Kind) -> bool {
    matches!(kind, Kind::Call | Kind::Do | Kind::Unparsable(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};
    use crate::state::{AnswerStore, Limits, QueryCache, Shared, StoreSize};

    const TABLE: u32 = 4711;

    /// A session's writes of one table, and how often others have heard of them.
    struct Stage {
        shared: Shared,
        unpublished: Unpublished,
        stamp: u64,
    }

    impl Stage {
        fn new() -> Self {
            let cache = Some(AnswerStore::Here(StoreSize { bytes: 1 << 20, entries: 100, largest: 1000 }));
            let limits = Limits { workers: 1, pool_slots: 1, query_cache: cache, ..Limits::default() };
            Self { shared: Shared::create(limits).expect("shared"), unpublished: Unpublished::default(), stamp: 0 }
        }

        fn cache(&self) -> QueryCache {
            self.shared.query_cache().expect("a cache").clone()
        }

        fn is_heard(&mut self) -> bool {
            let now = self.cache().stamp("d", &TableSet::of("d", [TABLE]));
            std::mem::replace(&mut self.stamp, now) != now
        }

        fn send(&mut self, text: &str) {
            let facts = analyse(text.as_bytes(), Lexing::default());
            let writes = facts.has.modification || facts.kinds().any(commits_inside);
            let tables = if writes { TableSet::of("d", [TABLE]) } else { TableSet::default() };
            self.unpublished.send(&facts, &tables);
        }

        fn complete(&mut self) -> bool {
            let cache = self.cache();
            self.unpublished.completed(&mut Answers::new(&cache, None), "d", true);
            self.is_heard()
        }

        fn ready(&mut self, status: TransactionStatus, settled: bool) -> bool {
            let cache = self.cache();
            self.unpublished.ready(status, settled, &mut Answers::new(&cache, None), "d", true);
            self.is_heard()
        }
    }

    use TransactionStatus::{Failed, Idle, Open};

    #[test]
    fn a_write_outside_of_a_block_is_published_with_its_completion() {
        let mut stage = Stage::new();
        stage.send("insert into t values (1)");
        assert!(stage.complete() && stage.ready(Idle, true));
        assert!(stage.unpublished.is_empty());
        stage.send("select 1");
        assert!(!stage.complete() && !stage.ready(Idle, true));
    }

    #[test]
    fn a_block_publishes_with_its_end_only() {
        let mut stage = Stage::new();
        stage.send("begin");
        assert!(!stage.complete() && !stage.ready(Open, true));
        for text in ["insert into t values (1)", "select 1", "savepoint a", "show port"] {
            stage.send(text);
            assert!(!stage.complete() && !stage.ready(Open, true), "{text}");
        }
        stage.send("commit and chain");
        assert!(stage.complete() && stage.ready(Open, true));
        stage.send("commit");
        assert!(stage.complete());
        stage.ready(Idle, true);
        assert!(stage.unpublished.is_empty());
    }

    #[test]
    fn whatever_may_commit_on_its_way_counts_as_a_commit() {
        for text in ["call p()", "do ''", "commit; insert into t values (1)", "gibberish"] {
            let mut stage = Stage::new();
            stage.send("begin");
            stage.complete();
            stage.ready(Open, true);
            stage.send("insert into t values (1)");
            assert!(!stage.complete() && !stage.ready(Open, true));
            stage.send(text);
            assert!(stage.complete() | stage.ready(Open, true), "{text}");
        }
        // It was done before it failed.
        let mut stage = Stage::new();
        stage.send("call p()");
        assert!(stage.ready(Idle, true));
    }

    #[test]
    fn a_pipeline_that_ends_a_block_publishes_all_that_follows() {
        let mut stage = Stage::new();
        stage.send("begin");
        stage.complete();
        stage.ready(Open, true);
        for text in ["insert into t values (1)", "commit", "insert into t values (2)"] {
            stage.send(text);
        }
        stage.complete();
        stage.ready(Open, false);
        assert!(stage.complete());
        stage.ready(Idle, false);
        assert!(stage.complete() && stage.ready(Idle, true), "the second write has committed by itself");
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut stage = Stage::new();
        stage.send("insert into t values (1)");
        assert!(!stage.ready(Idle, true) && stage.unpublished.is_empty());
        for refused in [true, false] {
            stage.send("gibberish");
            if refused {
                stage.unpublished.refused();
            }
            assert_eq!(stage.ready(Idle, true), !refused);
        }
        // Among others it is not known which one was refused.
        stage.send("call p()");
        stage.send("gibberish");
        stage.unpublished.refused();
        assert!(stage.ready(Idle, true));
        // A failed block takes nothing along until it ends.
        stage.send("begin");
        stage.complete();
        stage.ready(Open, true);
        stage.send("insert into t values (1)");
        assert!(!stage.ready(Failed, true));
    }

    #[test]
    fn what_was_judged_by_tables_that_have_changed_since_concerns_the_database() {
        let mut stage = Stage::new();
        let cache = stage.cache();
        let other = TableSet::of("d", [1]);
        let before = cache.stamp("d", &other);
        stage.unpublished.judge(cache.definitions("d"));
        stage.send("insert into t values (1)");
        stage.complete();
        assert_eq!(cache.stamp("d", &other), before);
        cache.invalidate(&TableSet::everything());
        stage.ready(Idle, true);
        assert_eq!(cache.stamp("d", &other), before + 2);
    }
}
