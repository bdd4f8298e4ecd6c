//! What a role is given by ALTER ROLE counts for server connections that are made later; pooled ones have what they had. What
//! was learnt on the one does not count on the other.

use super::{caching, is_kept, make};
use crate::harness::{Wire, shared, wait_for};
use crate::only_ours;

const UNDO: &str = "DROP SCHEMA IF EXISTS qcv_1, qcv_2 CASCADE; DROP ROLE IF EXISTS qcv";

#[test]
fn names_mean_on_a_new_connection_what_its_path_says() {
    only_ours!("the original leaves search_path out");
    make(
        UNDO,
        "CREATE SCHEMA qcv_1; CREATE SCHEMA qcv_2; CREATE TABLE qcv_1.t (a int); CREATE TABLE qcv_2.t (a int); \
         CREATE ROLE qcv LOGIN; ALTER ROLE qcv SET search_path = qcv_1; GRANT ALL ON SCHEMA qcv_1, qcv_2 TO qcv; \
         GRANT ALL ON ALL TABLES IN SCHEMA qcv_1, qcv_2 TO qcv",
    );
    // The reader has one process, so the other one serves each session of the role, one after the other.
    let pool = caching().set("num_init_children", 2).start();
    let mut reader = pool.connect();
    let login = || pool.connect_with(&[("user", "qcv"), ("database", "test")]);
    let write = |session: &mut Wire| session.query("INSERT INTO t VALUES (1)").succeeded();
    let mut old = login();
    let pid = old.value("SELECT pg_backend_pid()");
    write(&mut old);
    old.close();
    reader.query("ALTER ROLE qcv SET search_path = qcv_2").succeeded();
    let mut old = login();
    assert_eq!([old.value("SELECT pg_backend_pid()"), old.value("SHOW search_path")], [&*pid, "qcv_1"]);
    write(&mut old);
    old.close();
    shared().primary().sql(&format!("SELECT pg_terminate_backend({pid})"));
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    wait_for("the pooled connection to end", || shared().primary().sql(&gone) == "0");
    let there = "SELECT count(*) FROM qcv_2.t";
    assert!(is_kept(&mut reader, there));
    let mut new = login();
    assert_eq!(new.value("SHOW search_path"), "qcv_2");
    write(&mut new);
    assert_eq!(reader.value(there), "1", "it has written the other table");
    let here = "SELECT count(*) FROM t";
    assert!(is_kept(&mut new, here));
    reader.query("INSERT INTO qcv_2.t VALUES (2)").succeeded();
    assert_eq!(new.value(here), "2", "it has read the other table");
    drop((new, reader));
    drop(pool);
    make(UNDO, "SELECT 1");
}
