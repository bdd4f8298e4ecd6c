//! Upgrades and nodes: sessions of the old pgpool use those that the new one uses, by whatever name.

use std::fs;

use crate::harness::{Pgpool, give_to_server_user, shared, wait_for};
use crate::only_ours;
use crate::pcp;

#[test]
fn a_primary_of_another_name_is_the_same_primary() {
    only_ours!("it has to be stopped");
    shared().primary().sql("DROP TABLE IF EXISTS renamed; CREATE TABLE renamed (i int)");
    let mut pool = pcp::start(Pgpool::on(shared()));
    let mut session = pool.connect();
    session.query("BEGIN; INSERT INTO renamed VALUES (1)").succeeded();
    pool.set("backend_hostname0", "localhost");
    pool.upgrade().expect("the upgrade");
    // When the new one has told of this, it has told of the primary before.
    assert_eq!(pcp::login(&pool).ask(b'D', b"2\0").1, b"CommandComplete\0");
    wait_for("the failover", || pool.log().contains("=== Failover done."));
    session.query("INSERT INTO renamed VALUES (2); COMMIT").succeeded();
    session.query("INSERT INTO renamed VALUES (3)").succeeded();
    assert_eq!(pool.connect().value("SELECT count(*) FROM renamed WHERE i < 3 /*NO LOAD BALANCE*/"), "2");
}

#[test]
fn what_an_administrator_has_detached_stays_so_whatever_the_files_say() {
    only_ours!("it has to be stopped");
    let mut pool = pcp::start(Pgpool::on(shared()));
    assert_eq!(pcp::login(&pool).ask(b'D', b"2\0").1, b"CommandComplete\0");
    wait_for("the failover", || pool.log().contains("=== Failover done."));
    let directory = pool.path("elsewhere");
    fs::create_dir(&directory).expect("directory");
    give_to_server_user(&directory);
    pool.set("work_dir", directory.display());
    pool.upgrade().expect("the upgrade");
    let nodes = pool.connect().query("SHOW POOL_NODES").succeeded().rows();
    let is_down = |row: &Vec<Option<String>>| row.contains(&Some("down".to_owned()));
    assert_eq!(nodes.iter().map(is_down).collect::<Vec<_>>(), [false, false, true], "{nodes:?}");
    let reasons = fs::read_to_string(directory.join("pgpool_status.reasons")).expect("reasons");
    assert!(reasons.contains("administrator detached by an administrator"), "{reasons}");
}
