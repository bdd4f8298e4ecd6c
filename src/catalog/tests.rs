//! Facts over one shared table, without a server.

use super::*;
use crate::config::Settings;
use crate::route::{Catalog, Known, RelationKind, Volatility};
use crate::sql::{Isolation, Lexing, Name, Statement, analyse};
use crate::state::{Limits, Shared};
use Known::{NotYet, Yes};

const TABLE: &str = "t";

struct Pgpool {
    shared: Shared,
    settings: Settings,
}

impl Pgpool {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let limits = Limits { workers: 1, pool_slots: 1, relcache: shared_facts(&settings), ..Limits::default() };
        Self { shared: Shared::create(limits).expect("shared"), settings }
    }

    /// A session of a worker of its own.
    fn session(&self, scope: &str) -> Facts {
        let relcache = self.shared.relcache();
        let mut facts = Facts::new(&self.shared, relcache.fingerprint(&scope), &self.settings, relcache.generation());
        facts.learn_origin("public");
        facts
    }

    /// What a session makes of table and function of this statement, without asking a server.
    fn known(&self, facts: &mut Facts, text: &str) -> (Known<RelationKind>, Known<Volatility>) {
        facts.begin_statement(false);
        facts.recall(&statement(text), &self.settings);
        (facts.relation(&Name::bare(TABLE)), facts.function(&Name::bare("f")))
    }
}

fn statement(text: &str) -> Statement {
    analyse(text.as_bytes(), Lexing::default())
}

/// As if a server had been asked.
fn learn(facts: &mut Facts, kind: RelationKind) {
    facts.begin_statement(false);
    facts.learn_relation(&Name::bare(TABLE), kind);
    facts.learn_function(&Name::bare("f"), Volatility::Reads);
    facts.learn_isolation(Isolation::ReadCommitted);
}

/// A statement is sent to the primary outside of a transaction block, and has been answered.
fn run(facts: &mut Facts, text: &str) {
    facts.note(&statement(text), text.as_bytes(), false);
    facts.settle(true);
}

const READ: &str = "select f() from t";
const ORDINARY: (Known<RelationKind>, Known<Volatility>) = (Yes(RelationKind::Ordinary), Yes(Volatility::Reads));
const NOTHING: (Known<RelationKind>, Known<Volatility>) = (NotYet, NotYet);

#[test]
fn what_one_worker_knows_the_others_find() {
    let pgpool = Pgpool::new(|_| {});
    let (mut a, mut b, mut other) = (pgpool.session("s"), pgpool.session("s"), pgpool.session("other"));
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut b, READ), ORDINARY);
    assert_eq!(b.default_isolation(), Yes(Isolation::ReadCommitted));
    assert_eq!(pgpool.known(&mut other, READ), NOTHING);
    let alone = Pgpool::new(|settings| settings.enable_shared_relcache = false);
    let (mut a, mut b) = (alone.session("s"), alone.session("s"));
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!((alone.known(&mut a, READ), alone.known(&mut b, READ)), (ORDINARY, NOTHING));
}

#[test]
fn connections_that_were_given_other_paths_do_not_share() {
    let pgpool = Pgpool::new(|_| {});
    let relcache = pgpool.shared.relcache();
    let new = || Facts::new(&pgpool.shared, relcache.fingerprint(&"s"), &pgpool.settings, relcache.generation());
    // As long as nothing is changed all are given the same.
    let (mut a, mut b) = (new(), new());
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut b, READ), ORDINARY);
    relcache.bump();
    // From then on it is asked what the old ones were given, and before that is known nothing is believed or told.
    let mut c = new();
    learn(&mut a, RelationKind::Ordinary);
    b.begin_statement(false);
    assert!(a.lacks_origin() && b.lacks_origin() && !c.lacks_origin());
    assert_eq!((pgpool.known(&mut b, READ), pgpool.known(&mut c, READ)), (NOTHING, NOTHING));
    a.learn_origin("s1");
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!((pgpool.known(&mut b, READ), pgpool.known(&mut c, READ)), (NOTHING, NOTHING));
    b.learn_origin("s2");
    assert_eq!((pgpool.known(&mut b, READ), b.default_isolation()), (NOTHING, NotYet));
    b.learn_origin("s1");
    assert_eq!(pgpool.known(&mut b, READ), ORDINARY);
    b.connection_changed();
    assert!(b.lacks_origin());
    assert_eq!(pgpool.known(&mut b, READ), NOTHING);
}

#[test]
fn what_only_the_session_can_know_is_not_told() {
    let pgpool = Pgpool::new(|_| {});
    let mut a = pgpool.session("s");
    for kind in [RelationKind::Temporary, RelationKind::None] {
        learn(&mut a, kind);
        assert_eq!(pgpool.known(&mut a, READ).0, Yes(kind));
        assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), (NotYet, Yes(Volatility::Reads)));
    }
    learn(&mut a, RelationKind::Temporary);
    let mut next = a.end_session().expect("nothing private");
    assert_eq!(pgpool.known(&mut next, READ), (NotYet, Yes(Volatility::Reads)));
}

#[test]
fn a_change_of_the_catalog_makes_everybody_forget_when_it_is_done() {
    let pgpool = Pgpool::new(|_| {});
    let (mut a, mut b) = (pgpool.session("s"), pgpool.session("s"));
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut b, READ), ORDINARY);
    let change = "alter table t set unlogged";
    a.note(&statement(change), change.as_bytes(), true);
    assert_eq!(pgpool.known(&mut a, READ), NOTHING);
    // The transaction is still open: others see the old table, and what this one sees is not for others.
    assert_eq!(pgpool.known(&mut b, READ), ORDINARY);
    learn(&mut a, RelationKind::Unlogged);
    assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), ORDINARY);
    a.settle(true);
    for facts in [&mut a, &mut b, &mut pgpool.session("s")] {
        assert_eq!((pgpool.known(facts, READ), facts.default_isolation()), (NOTHING, NotYet));
    }
    learn(&mut b, RelationKind::Unlogged);
    assert_eq!(pgpool.known(&mut a, READ).0, Yes(RelationKind::Unlogged));
}

#[test]
fn a_change_in_a_pipeline_is_told_at_each_rest_until_all_is_answered() {
    let pgpool = Pgpool::new(|_| {});
    let (mut a, mut b) = (pgpool.session("s"), pgpool.session("s"));
    a.note(&statement("drop table t"), b"drop table t", false);
    for answered in [false, false, true] {
        learn(&mut b, RelationKind::Ordinary);
        a.settle(answered);
        assert_eq!(pgpool.known(&mut b, READ), NOTHING);
    }
    learn(&mut b, RelationKind::Ordinary);
    a.settle(true);
    assert_eq!(pgpool.known(&mut b, READ), ORDINARY);
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_change_tells_the_others() {
    let pgpool = Pgpool::new(|_| {});
    let (mut a, mut b) = (pgpool.session("s"), pgpool.session("s"));
    learn(&mut b, RelationKind::Ordinary);
    a.note(&statement("drop table t"), b"drop table t", true);
    assert!(a.end_session().is_none());
    assert_eq!(pgpool.known(&mut b, READ), NOTHING);
}

#[test]
fn a_fact_asked_for_before_a_change_is_not_found_after_it() {
    let pgpool = Pgpool::new(|_| {});
    let (mut a, mut b) = (pgpool.session("s"), pgpool.session("s"));
    a.begin_statement(false);
    run(&mut b, "drop table t");
    a.learn_relation(&Name::bare(TABLE), RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut a, READ), NOTHING);
    assert_eq!(pgpool.known(&mut b, READ), NOTHING);
    // A transaction that was open at the change may still see the old catalog.
    b.begin_statement(false);
    run(&mut a, "drop table t");
    b.begin_statement(true);
    b.learn_relation(&Name::bare(TABLE), RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), NOTHING);
    b.settle(true);
    assert_eq!(pgpool.known(&mut b, READ), NOTHING);
}

#[test]
fn temporary_tables_and_roles_concern_their_session_only() {
    let pgpool = Pgpool::new(|_| {});
    for text in ["create temp table t (a int)", "set role r", "reset all", "call p()"] {
        let (mut a, mut b) = (pgpool.session(text), pgpool.session(text));
        learn(&mut b, RelationKind::Ordinary);
        let generation = pgpool.shared.relcache().generation();
        run(&mut a, text);
        assert_eq!(pgpool.shared.relcache().generation(), generation, "{text}");
        assert_eq!(pgpool.known(&mut a, READ), NOTHING, "{text}");
        learn(&mut a, RelationKind::Unlogged);
        assert_eq!(pgpool.known(&mut pgpool.session(text), READ), ORDINARY, "{text}");
        assert!(pgpool.known(&mut a, READ).0 == Yes(RelationKind::Unlogged) && a.end_session().is_none(), "{text}");
    }
}

#[test]
fn after_discard_all_names_mean_what_they_meant_at_the_beginning() {
    let pgpool = Pgpool::new(|_| {});
    let mut a = pgpool.session("s");
    run(&mut a, "set role r");
    run(&mut a, "set search_path = x");
    run(&mut a, "discard all");
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), ORDINARY);
    assert!(a.end_session().is_some());
    let note = |facts: &mut Facts, text: &str| facts.note(&statement(text), text.as_bytes(), false);
    let mut failed = pgpool.session("s");
    note(&mut failed, "discard all");
    failed.failed();
    let mut changed_again = pgpool.session("s");
    note(&mut changed_again, "discard all");
    note(&mut changed_again, "set role r");
    for facts in [&mut failed, &mut changed_again] {
        facts.settle(true);
        assert_eq!(pgpool.known(facts, READ), NOTHING);
    }
}

#[test]
fn sessions_with_the_same_search_path_share() {
    let pgpool = Pgpool::new(|_| {});
    let with_path = |path: &str| {
        let mut facts = pgpool.session("s");
        run(&mut facts, path);
        facts
    };
    let mut a = with_path("set search_path = x");
    learn(&mut a, RelationKind::Ordinary);
    assert_eq!(pgpool.known(&mut with_path("set search_path = x"), READ), ORDINARY);
    assert_eq!(pgpool.known(&mut with_path("set search_path = y"), READ), NOTHING);
    assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), NOTHING);
    // The path of the last one counts, and goes with its session.
    run(&mut a, "set search_path = y");
    assert_eq!(pgpool.known(&mut a, READ), NOTHING);
    run(&mut a, "set search_path = x");
    assert_eq!(pgpool.known(&mut a, READ), ORDINARY);
    assert!(a.end_session().is_none());
}

#[test]
fn a_search_path_that_is_not_certain_is_private() {
    let pgpool = Pgpool::new(|_| {});
    let set =
        |facts: &mut Facts, text: &str, in_transaction| facts.note(&statement(text), text.as_bytes(), in_transaction);
    let mut failed = pgpool.session("s");
    set(&mut failed, "set search_path = x", false);
    failed.failed();
    let mut two = pgpool.session("s");
    set(&mut two, "set search_path = x", false);
    set(&mut two, "set search_path = y", false);
    let mut inside = pgpool.session("s");
    set(&mut inside, "set search_path = x", true);
    learn(&mut pgpool.session("s"), RelationKind::Ordinary);
    for facts in [&mut failed, &mut two, &mut inside] {
        facts.settle(true);
        assert_eq!(pgpool.known(facts, READ), NOTHING);
        learn(facts, RelationKind::Unlogged);
        assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), ORDINARY);
    }
}

#[test]
fn prepared_changes_count_when_they_are_committed() {
    let pgpool = Pgpool::new(|_| {});
    let generation = || pgpool.shared.relcache().generation();
    let (mut a, mut b) = (pgpool.session("s"), pgpool.session("s"));
    run(&mut b, "commit prepared 'x'");
    assert_eq!(generation(), 0);
    a.note(&statement("drop table t"), b"drop table t", true);
    run(&mut a, "prepare transaction 'x'");
    assert_eq!(generation(), 1);
    run(&mut b, "commit prepared 'x'");
    assert_eq!(generation(), 2);
}

#[test]
fn relcache_size_bounds_the_names_between_statements() {
    let pgpool = Pgpool::new(|settings| settings.relcache_size = 3);
    let mut facts = pgpool.session("s");
    let names: Vec<Name> = (0..5).map(|number| Name::bare(&format!("t{number}"))).collect();
    let known = |facts: &Facts| names.iter().filter(|name| facts.relation(name) != NotYet).count();
    facts.begin_statement(false);
    names.iter().for_each(|name| facts.learn_relation(name, RelationKind::Ordinary));
    assert_eq!(known(&facts), 5, "the statement at hand may need all");
    facts.begin_statement(false);
    assert_eq!(known(&facts), 3);
}

#[test]
fn facts_expire_one_by_one_also_those_of_others() {
    let pgpool = Pgpool::new(|settings| settings.relcache_expire = 1);
    let (mut a, mut b) = (pgpool.session("s"), pgpool.session("s"));
    let began = pgpool.shared.relcache().now();
    learn(&mut a, RelationKind::Ordinary);
    let known = pgpool.known(&mut b, READ);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while pgpool.known(&mut a, READ) != NOTHING {
        assert!(std::time::Instant::now() < deadline, "facts do not expire");
        std::thread::yield_now();
    }
    assert!(pgpool.shared.relcache().now() > began && known == ORDINARY);
    assert_eq!((pgpool.known(&mut b, READ), b.default_isolation()), (NOTHING, NotYet));
    assert_eq!(pgpool.known(&mut pgpool.session("s"), READ), NOTHING);
}

#[test]
fn standbys_are_asked_when_they_can_know() {
    let pgpool = Pgpool::new(|_| {});
    let mut a = pgpool.session("s");
    assert!(!a.may_ask_standby(), "the default isolation level is the primary's to tell");
    learn(&mut a, RelationKind::Ordinary);
    assert!(a.may_ask_standby());
    run(&mut a, "drop table u");
    learn(&mut a, RelationKind::Ordinary);
    assert!(!a.may_ask_standby(), "the change may not have arrived");
}
