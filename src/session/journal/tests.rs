//! A journal, and the primary of which it is told.

use super::*;
use crate::sql::{Kind, Lexing, analyse};
use TransactionStatus::{Failed, Idle, Open};

/// A journal, and the primary of which it is told.
#[derive(Default)]
struct Session {
    journal: Journal,
    sent: u64,
    in_batch: bool,
}

impl Session {
    fn send(&mut self, text: &str) -> u64 {
        self.sent += 1;
        let facts = analyse(text.as_bytes(), Lexing::default());
        let for_all = facts.writes().map(|name| name.name.clone()).collect();
        let writes = Writes { flag: matches!(facts.kind, Kind::Insert), for_all, ..Writes::default() };
        self.journal.sent(self.sent, &facts, text.as_bytes(), writes, self.in_batch);
        self.sent
    }

    /// A simple query that succeeds.
    fn run(&mut self, text: &str, status: TransactionStatus) {
        let number = self.send(text);
        self.journal.finished(number, text.starts_with("ROLLBACK") && !text.contains(" TO "), OnWrite::Transaction);
        self.journal.ready(status);
    }

    fn replay(&mut self, node: usize) -> Vec<String> {
        let mut texts = Vec::new();
        self.journal.replay(node, |text| texts.push(String::from_utf8_lossy(text).into_owned()));
        assert!(self.journal.is_current(node));
        texts
    }

    /// The nodes that must end their transaction.
    fn ending(&mut self) -> Vec<usize> {
        let mut nodes = Vec::new();
        if self.journal.take_ended() {
            self.journal.release(NodeSet::EMPTY, |node| nodes.push(node));
        }
        nodes
    }

    fn transaction(&self, status: TransactionStatus) -> Transaction {
        self.journal.transaction(status, Some(Isolation::ReadCommitted))
    }
}

#[test]
fn settings_are_replayed_once_per_node_and_the_last_one_counts() {
    let mut session = Session::default();
    session.run("SET a.b = 1", Idle);
    session.run("SET a.c = 2", Idle);
    session.run("SET a.b = 3", Idle);
    assert!(!session.journal.is_current(1));
    assert_eq!(session.replay(1), ["SET a.c = 2", "SET a.b = 3"]);
    session.run("RESET a.c", Idle);
    assert_eq!(session.replay(1), ["RESET a.c"]);
    assert_eq!(session.replay(2), ["SET a.b = 3", "RESET a.c"]);
    session.journal.forget_node(1);
    assert_eq!(session.replay(1), ["SET a.b = 3", "RESET a.c"]);
}

#[test]
fn each_statement_stands_and_falls_by_its_own_answer() {
    let mut session = Session::default();
    let (first, second) = (session.send("SET a.b = 1"), session.send("SET a.c = 1"));
    session.journal.failed(first, 1);
    session.journal.finished(first, false, OnWrite::Transaction);
    session.journal.ready(Idle);
    session.journal.finished(second, false, OnWrite::Transaction);
    session.journal.ready(Idle);
    assert_eq!(session.replay(1), ["SET a.c = 1"]);
    // In one batch the error undoes both.
    let (first, second) = (session.send("SET a.d = 1"), session.send("SET a.e = 1"));
    session.journal.finished(first, false, OnWrite::Transaction);
    session.journal.failed(second, 1);
    session.journal.ready(Idle);
    assert!(session.journal.is_current(1));
}

#[test]
fn a_block_is_opened_where_it_is_needed_and_ended_there() {
    let mut session = Session::default();
    session.run("BEGIN", Open);
    session.run("SET a.b = 1", Open);
    assert_eq!(session.replay(1), ["BEGIN", "SET a.b = 1"]);
    session.run("SAVEPOINT s", Open);
    session.run("SET a.c = 1", Open);
    assert_eq!(session.ending(), [0usize; 0]);
    session.run("COMMIT", Idle);
    // What was set there is undone with the transaction and made again when the node is needed.
    assert_eq!(session.ending(), [1]);
    assert_eq!(session.replay(1), ["SET a.b = 1", "SET a.c = 1"]);
    assert_eq!(session.replay(2), ["SET a.b = 1", "SET a.c = 1"]);
    session.run("BEGIN", Open);
    session.run("SET a.b = 7", Open);
    session.replay(2);
    session.run("ROLLBACK", Idle);
    assert_eq!(session.ending(), [2]);
    assert!(session.journal.is_current(1) && session.journal.is_current(2));
}

#[test]
fn what_a_savepoint_undoes_is_not_replayed_later() {
    let mut session = Session::default();
    session.run("BEGIN", Open);
    session.run("SET a.b = 1", Open);
    session.run("SAVEPOINT s", Open);
    session.run("SET a.c = 1", Open);
    session.run("ROLLBACK TO s", Open);
    session.run("SET a.d = 1", Open);
    session.run("COMMIT", Idle);
    assert_eq!(session.replay(1), ["SET a.b = 1", "SET a.d = 1"]);
}

#[test]
fn a_released_savepoint_is_no_aim_any_more() {
    let mut session = Session::default();
    for text in ["BEGIN", "SAVEPOINT s", "SET a.b = 1", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s"] {
        session.run(text, Open);
    }
    session.run("SET a.c = 1", Open);
    session.run("COMMIT", Idle);
    assert_eq!(session.replay(1), ["SET a.c = 1"]);
}

#[test]
fn what_a_new_primary_cannot_have_keeps_the_session() {
    let leaves = |texts: &[&str]| {
        let mut session = Session::default();
        texts.iter().for_each(|text| session.run(text, Idle));
        session.journal.can_leave_primary()
    };
    assert!(leaves(&["SET a.b = 1", "SELECT count(*) FROM t", "INSERT INTO t VALUES (1)", "RESET ALL"]));
    assert!(leaves(&["LISTEN x", "DISCARD ALL"]));
    for text in [
        "LISTEN x",
        "SET search_path = pg_temp, public",
        "SET \"SEARCH_PATH\" = 'PG_TEMP'",
        "SET LOCAL search_path = pg_temp",
        "UPDATE pg_settings SET setting = 1; SELECT 1",
        "UPDATE pg_catalog.pg_settings SET setting = 1",
        "SELECT my_function()",
    ] {
        assert!(!leaves(&[text]), "{text}");
    }
    let mut session = Session { journal: Journal::opened(b"options\0-c search_path=pg_temp\0"), ..Session::default() };
    session.run("DISCARD ALL", Idle);
    assert!(!session.journal.can_leave_primary());
    // In one batch, answered together.
    let mut session = Session::default();
    let numbers = ["DISCARD ALL", "SELECT pg_advisory_lock(1)"].map(|text| session.send(text));
    numbers.into_iter().for_each(|number| session.journal.finished(number, false, OnWrite::Transaction));
    session.journal.ready(Idle);
    assert!(!session.journal.can_leave_primary());
}

#[test]
fn what_stands_in_front_of_begin_in_its_batch_belongs_to_the_block() {
    let mut session = Session { in_batch: true, ..Session::default() };
    let numbers = ["SET a.b = 1", "BEGIN"].map(|text| session.send(text));
    numbers.into_iter().for_each(|number| session.journal.finished(number, false, OnWrite::Transaction));
    session.journal.ready(Open);
    let isolation = Some(Isolation::ReadCommitted);
    assert_eq!(session.transaction(Open), Transaction::Open { isolation, on_primary_only: true });
    session.run("COMMIT", Idle);
    assert_eq!(session.replay(1), ["SET a.b = 1"]);
}

#[test]
fn settings_do_not_pile_up() {
    let mut session = Session::default();
    for _ in 0..10_000 {
        session.run("RESET ALL", Idle);
        session.run("DEALLOCATE ALL", Idle);
    }
    assert!(!session.journal.tied());
    assert_eq!(session.replay(1), ["RESET ALL", "DEALLOCATE ALL"]);
}

#[test]
fn chains_go_on_with_the_same_begin() {
    let mut session = Session::default();
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ", Open);
    session.replay(1);
    session.run("COMMIT AND CHAIN", Open);
    assert_eq!(session.ending(), [1]);
    assert_eq!(session.replay(1), ["BEGIN ISOLATION LEVEL REPEATABLE READ"]);
    assert_eq!(session.replay(2), ["BEGIN ISOLATION LEVEL REPEATABLE READ"]);
}

#[test]
fn an_end_that_nobody_spelt_out_is_an_end() {
    let mut session = Session::default();
    session.run("BEGIN", Open);
    session.replay(1);
    session.run("PREPARE TRANSACTION 'x'", Idle);
    assert_eq!(session.ending(), [1]);
    session.run("SELECT 1; BEGIN", Open);
    assert_eq!(session.transaction(Open), Transaction::Open { isolation: None, on_primary_only: true });
    session.run("COMMIT", Idle);
    assert_eq!(session.ending(), [0usize; 0]);
}

#[test]
fn what_several_statements_have_made_of_a_block_is_not_known() {
    for texts in [
        &["BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"][..],
        &["BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; COMMIT AND CHAIN"],
        &["BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "COMMIT AND CHAIN"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"],
        &["BEGIN", "SET a.b = 1; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
        &["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
    ] {
        let mut session = Session::default();
        texts.iter().for_each(|text| session.run(text, Open));
        assert!(matches!(session.transaction(Open), Transaction::Open { isolation: None, .. }), "{texts:?}");
    }
    let mut session = Session::default();
    session.send("BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(session.transaction(Idle), Transaction::Open { isolation: None, on_primary_only: true });
    // The last of them has failed.
    let mut session = Session::default();
    session.run("BEGIN", Open);
    let number = session.send("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SAVEPOINT s; SELECT 1/0");
    session.journal.failed(number, 1);
    session.journal.ready(Failed);
    session.run("ROLLBACK TO s", Open);
    assert!(matches!(session.transaction(Open), Transaction::Open { isolation: None, .. }));
}

#[test]
fn what_is_still_to_be_answered_counts_as_done() {
    let mut session = Session::default();
    assert_eq!(session.transaction(Idle), Transaction::Idle);
    session.send("BEGIN ISOLATION LEVEL SERIALIZABLE");
    let isolation = Some(Isolation::Serializable);
    assert_eq!(session.transaction(Idle), Transaction::Open { isolation, on_primary_only: false });
    session.send("COMMIT");
    assert_eq!(session.transaction(Idle), Transaction::Idle);
    assert_eq!(Session::default().transaction(Failed), Transaction::Failed);
}

#[test]
fn a_standby_is_not_asked_to_write() {
    let mut session = Session::default();
    session.run("BEGIN READ WRITE", Open);
    assert_eq!(session.replay(1), ["BEGIN"]);
    session.run("COMMIT", Idle);
    session.run("SET default_transaction_isolation = 'serializable'", Idle);
    assert!(session.journal.tied());
    session.run("DISCARD ALL", Idle);
    assert!(!session.journal.tied() && session.journal.take_discarded());
}

#[test]
fn what_cannot_be_replayed_ties_until_discard_all() {
    for text in ["SELECT set_config('a.b', 'c', false)", "SET a.b = 1; SET a.c = 2"] {
        let mut session = Session::default();
        session.run(text, Idle);
        assert!(session.journal.tied(), "{text}");
    }
    let mut session = Session::default();
    for text in ["LISTEN x", "CREATE TEMP TABLE t (a int)", "SELECT pg_advisory_lock(1)", "DO $$BEGIN END$$", "selct"] {
        session.run(text, Idle);
        assert!(!session.journal.tied(), "{text}");
    }
    for i in 0..1000 {
        session.run(&format!("SET a.b{i} = '{}'", "x".repeat(100)), Idle);
    }
    assert!(session.journal.tied());
    session.run("DISCARD ALL", Idle);
    assert!(!session.journal.tied());
    assert_eq!(session.replay(1), ["DISCARD ALL"]);
}

#[test]
fn writes_are_told_when_they_are_committed() {
    let mut session = Session::default();
    session.run("INSERT INTO a VALUES (1)", Idle);
    assert_eq!(session.journal.take_committed(), ["a".into()]);
    session.run("BEGIN", Open);
    session.run("INSERT INTO b VALUES (1)", Open);
    assert!(session.journal.take_committed().is_empty());
    session.run("ROLLBACK", Idle);
    assert!(session.journal.take_committed().is_empty());
    session.run("BEGIN", Open);
    session.run("INSERT INTO c VALUES (1)", Open);
    session.run("COMMIT", Idle);
    assert_eq!(session.journal.take_committed(), ["c".into()]);
    let number = session.send("INSERT INTO d VALUES (1)");
    session.journal.failed(number, 1);
    session.journal.finished(number, false, OnWrite::Transaction);
    session.journal.ready(Idle);
    assert!(session.journal.take_committed().is_empty());
}

#[test]
fn the_writing_flag_lives_as_long_as_the_block() {
    let mut session = Session::default();
    session.run("BEGIN", Open);
    session.run("INSERT INTO t VALUES (1)", Open);
    session.run("ROLLBACK TO s", Open);
    assert!(session.journal.writing());
    session.run("COMMIT", Idle);
    assert!(!session.journal.writing());
}
