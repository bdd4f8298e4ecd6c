//! Questions of pgpool's own that the server refuses: they cost clients nothing but answers from the cache.

use super::{assert_true, caching, is_hit, is_kept, make};
use crate::harness::frontend::{run, sync};
use crate::harness::{Pgpool, Wire, shared};
use crate::only_ours;

/// A database where the role of the same name may not read these catalogs, with a table `t` for everybody; and who owns it.
fn forbid(pool: &Pgpool, name: &str, catalogs: &str) -> Wire {
    for sql in [
        format!("DROP DATABASE IF EXISTS {name}"),
        format!("DROP ROLE IF EXISTS {name}"),
        format!("CREATE DATABASE {name}"),
        format!("CREATE ROLE {name} LOGIN"),
    ] {
        shared().primary().sql(&sql);
    }
    let mut owner = pool.connect_with(&[("user", "postgres"), ("database", name)]);
    for sql in [
        format!("REVOKE SELECT ON {catalogs} FROM public"),
        "CREATE TABLE t (a int); GRANT ALL ON t TO public".to_owned(),
    ] {
        owner.query(&sql).succeeded();
    }
    owner
}

fn login(pool: &Pgpool, name: &str) -> Wire {
    pool.connect_with(&[("user", name), ("database", name)])
}

fn forget(pool: Pgpool, name: &str) {
    drop(pool);
    shared().primary().sql(&format!("DROP DATABASE {name}"));
    shared().primary().sql(&format!("DROP ROLE {name}"));
}

#[test]
fn a_refusal_leaves_the_clients_transaction_as_it_was() {
    only_ours!("the original asks on a connection of its own");
    for (name, catalogs) in
        [("qcr1_calls", "pg_policy, pg_rewrite"), ("qcr1_settings", "pg_settings, pg_db_role_setting")]
    {
        let pool = caching().start();
        let mut owner = forbid(&pool, name, catalogs);
        let mut session = login(&pool, name);
        for _ in 0..2 {
            owner.query("CREATE TABLE u (a int)").succeeded();
            owner.query("DROP TABLE u").succeeded();
            session.query("BEGIN").succeeded();
            for sql in ["SELECT count(*) FROM t", "INSERT INTO t VALUES (1)"] {
                session.query(sql).succeeded();
                session.ask([run(sql), sync()].concat()).succeeded();
            }
            // What was refused does not undo it, nor a savepoint of the client's.
            session.query("SAVEPOINT mine").succeeded();
            session.query("INSERT INTO t SELECT a FROM t").succeeded();
            session.query("ROLLBACK TO mine").succeeded();
            session.query("COMMIT").succeeded();
        }
        assert_eq!(owner.value("SELECT count(*) FROM t"), "4", "{name}");
        drop((session, owner));
        forget(pool, name);
    }
}

#[test]
fn a_question_that_has_to_wait_ends_no_session() {
    only_ours!("the original asks other questions");
    let name = "qcr2";
    let pool = caching().start();
    let owner = forbid(&pool, name, "pg_seclabel");
    let mut holder =
        Wire::login_with(shared().primary().port, &[("user", "postgres"), ("database", name)]).expect("login");
    holder.query("BEGIN; LOCK TABLE pg_policy").succeeded();
    let mut session = login(&pool, name);
    session.query("BEGIN").succeeded();
    session.query("INSERT INTO t VALUES (1)").succeeded();
    session.query("COMMIT").succeeded();
    session.query("INSERT INTO t VALUES (2)").succeeded();
    holder.query("ROLLBACK").succeeded();
    assert_eq!(session.value("SELECT count(*) FROM t"), "2");
    drop((session, owner, holder));
    forget(pool, name);
}

#[test]
fn who_must_not_know_of_hidden_calls_takes_the_cache_from_nobody() {
    only_ours!("the original asks other questions");
    let name = "qcr3";
    let pool = caching().start();
    let mut owner = forbid(&pool, name, "pg_policy");
    let mut session = login(&pool, name);
    let read = "SELECT count(*) FROM t";
    assert!(is_kept(&mut owner, read));
    let ours = format!("[{}]", session.value("SELECT pg_backend_pid()"));
    for sql in ["SELECT a FROM t", "SELECT a + 1 FROM t", "BEGIN", "SELECT a FROM t", "COMMIT"] {
        session.query(sql).succeeded();
        assert!(is_hit(&mut owner, read), "{sql}");
    }
    let log = shared().primary().log_text();
    let refusals = log.lines().filter(|line| line.contains(&ours) && line.contains("ERROR:")).count();
    assert_eq!(refusals, 1);
    // Its writes are seen, and nothing of what it reads is kept, since it may have been made by anything.
    session.query("INSERT INTO t VALUES (1)").succeeded();
    assert_eq!(owner.value(read), "1");
    assert!(!is_kept(&mut session, "SELECT a FROM t"));
    drop((session, owner));
    forget(pool, name);
}

#[test]
fn what_is_sent_in_a_failed_block_takes_the_cache_from_nobody() {
    only_ours!("the original asks other questions");
    make("DROP TABLE IF EXISTS qcr4, qcr4_new", "CREATE TABLE qcr4 AS SELECT 1 AS a");
    let pool = caching().start();
    let (mut session, mut reader) = (pool.connect(), pool.connect());
    let read = "SELECT a FROM qcr4";
    for (end, in_vain) in [("ROLLBACK", true), ("ROLLBACK TO x", true), ("ROLLBACK TO x", false)] {
        session.query("BEGIN; SAVEPOINT x").succeeded();
        session.query("SELECT 1 / 0");
        // Nobody knows any more what is called.
        reader.query("CREATE TABLE qcr4_new (a int)").succeeded();
        reader.query("DROP TABLE qcr4_new").succeeded();
        reader.query("COMMENT ON TABLE qcr4 IS 'read'").succeeded();
        assert!(is_kept(&mut reader, read));
        let write = "UPDATE qcr4 SET a = a + 1";
        if in_vain {
            for sql in [read, write] {
                assert_eq!(session.query(sql).sqlstate(), "25P02");
                assert_eq!(session.ask([run(sql), sync()].concat()).sqlstate(), "25P02");
            }
            session.query(end).succeeded();
        } else {
            // Behind what leads out of it things are done.
            session.ask([run(end), run(write), sync()].concat()).succeeded();
        }
        session.query("COMMIT");
        assert_eq!(is_hit(&mut reader, read), in_vain, "{end}");
        assert_true(&mut reader, read);
    }
}
