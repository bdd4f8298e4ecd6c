//! A cache that is full: what is asked for again stays, what is asked for once costs it nothing.

use super::{caching, counts, is_hit, make};
use crate::needs_pgpool;

#[test]
fn a_full_cache_keeps_what_is_asked_for_again() {
    needs_pgpool!();
    make("DROP TABLE IF EXISTS qc_full", "CREATE TABLE qc_full AS SELECT repeat('x', 1000) AS a");
    let pool = caching()
        .set("memqcache_total_size", 65536)
        .set("memqcache_cache_block_size", 32768)
        .set("memqcache_maxcache", 30000)
        .start();
    let mut session = pool.connect();
    let used = "SELECT a, 'used' FROM qc_full";
    session.query(used).succeeded();
    for number in 0..200 {
        session.query(&format!("SELECT a, {number} FROM qc_full")).succeeded();
        assert!(is_hit(&mut session, used), "pushed out by {number}");
    }
    let (hits, _) = counts(&mut session);
    let late = "SELECT a, 'late' FROM qc_full";
    assert!(!is_hit(&mut session, late));
    assert!(!is_hit(&mut session, late), "it was not let in by the first");
    assert!(is_hit(&mut session, late), "it was let in by the second");
    let forced = "/*FORCE QUERY CACHE*/ SELECT a, 'forced' FROM qc_full";
    assert!(!is_hit(&mut session, forced));
    assert!(is_hit(&mut session, forced));
    assert_eq!(counts(&mut session).0, hits + 2);
    // An answer that is out of date gives its place to the new one.
    session.query("UPDATE qc_full SET a = repeat('z', 1000)").succeeded();
    assert!(!is_hit(&mut session, late));
    assert!(is_hit(&mut session, late));
}
