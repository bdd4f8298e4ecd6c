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
