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
            let is_read = |kind: &Kind| {
                matches!(kind, Kind::Select | Kind::Begin(_) | Kind::Commit { .. } | Kind::Savepoint(_) | Kind::Show(_))
            };
            let writes = !facts.kinds().all(is_read);
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
        for text in ["call p()", "do ''", "alter table t detach partition u concurrently", "vacuum t"] {
            let mut stage = Stage::new();
            stage.send(text);
            stage.unpublished.failed(false);
            assert!(stage.ready(Idle, true), "{text}");
        }
    }

    #[test]
    fn what_commits_and_goes_on() {
        let goes_on = |stage: &mut Stage, text: &str| {
            stage.send(text);
            let goes_on = stage.unpublished.goes_on();
            stage.complete();
            stage.ready(if text == "begin" { Open } else { Idle }, true);
            assert!(!stage.unpublished.goes_on());
            goes_on
        };
        for (text, outside, in_block) in [
            ("call p()", true, false),
            ("do ''", true, false),
            ("gibberish", true, true),
            ("select 1; call p()", true, true),
            ("insert into t values (1); commit; select 1", true, true),
            ("insert into t values (1); select 1", false, false),
            ("insert into t values (1)", false, false),
            ("commit", false, false),
            ("alter table t add a int", false, false),
        ] {
            let mut stage = Stage::new();
            assert_eq!(goes_on(&mut stage, text), outside, "{text}");
            goes_on(&mut stage, "begin");
            assert_eq!(goes_on(&mut stage, text), in_block, "{text} in a block");
        }
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
        for text in ["insert into t values (1)", "explain analyze insert into t values (1)", "execute p"] {
            stage.send(text);
            stage.unpublished.failed(false);
            assert!(!stage.ready(Idle, true) && stage.unpublished.is_empty(), "{text}");
            stage.send(text);
            assert!(stage.ready(Idle, true), "nobody has said that it failed: {text}");
        }
        stage.send("gibberish");
        stage.unpublished.failed(true);
        assert!(!stage.ready(Idle, true));
        // Among others it is not known which one has failed.
        for failures in [[true, false], [false, true]] {
            stage.send("call p()");
            stage.send("gibberish");
            failures.into_iter().for_each(|is_unread| stage.unpublished.failed(is_unread));
            assert!(stage.ready(Idle, true));
        }
        // A failed block takes nothing along until it ends.
        stage.send("begin");
        stage.complete();
        stage.ready(Open, true);
        stage.send("insert into t values (1)");
        assert!(!stage.ready(Failed, true));
    }

    #[test]
    fn in_a_failed_block_nothing_is_run_until_something_leads_out_of_it() {
        let facts = |text: &str| analyse(text.as_bytes(), Lexing::default());
        for (leads_out, text) in [
            (false, "insert into t values (1)"),
            (false, "select 1; insert into t values (1)"),
            (false, "savepoint a"),
            (true, "rollback to a"),
            (true, "commit"),
            (true, "rollback; insert into t values (1)"),
            (true, "gibberish"),
        ] {
            let mut stage = Stage::new();
            let write = facts("insert into t values (1)");
            stage.send("begin");
            stage.ready(Open, true);
            assert!(!stage.unpublished.is_in_vain(&write));
            stage.ready(Failed, true);
            assert_eq!(stage.unpublished.is_in_vain(&facts(text)), !leads_out, "{text}");
            stage.send(text);
            stage.ready(Failed, false);
            assert_eq!(stage.unpublished.is_in_vain(&write), !leads_out, "{text}");
            stage.ready(Failed, true);
            assert!(stage.unpublished.is_in_vain(&write));
            stage.unpublished.send_unknown();
            assert!(!stage.unpublished.is_in_vain(&write));
        }
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
