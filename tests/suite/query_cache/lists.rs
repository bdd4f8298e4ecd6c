//! Lists of functions say what is no read, not what lasts: with them the cache keeps what it keeps without them.

use super::{caching, is_hit, is_kept, make};
use crate::only_ours;

#[test]
fn what_calls_functions_is_kept_where_lists_say_which_ones_write() {
    only_ours!("the original keeps now(), too, where a list does not name it");
    make(
        "DROP TABLE IF EXISTS qcl, qcl_other; DROP FUNCTION IF EXISTS qcl_touch(), qcl_twice(int)",
        "CREATE TABLE qcl AS SELECT 1 AS a; CREATE TABLE qcl_other (a int); \
         CREATE FUNCTION qcl_touch() RETURNS int LANGUAGE sql AS 'INSERT INTO qcl VALUES (1) RETURNING a'; \
         CREATE FUNCTION qcl_twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'",
    );
    for (list, value) in [("write_function_list", "nextval,setval"), ("read_only_function_list", "count,qcl_twice")] {
        let pool = caching().set(list, value).start();
        let (mut session, mut other) = (pool.connect(), pool.connect());
        let kept = "SELECT count(*) FROM qcl";
        assert!(is_kept(&mut session, kept), "{list}");
        // Where the cache is not asked, either.
        for sql in ["BEGIN", "INSERT INTO qcl_other VALUES (1)", kept, "COMMIT"] {
            other.query(sql).succeeded();
        }
        assert!(is_hit(&mut session, kept), "{list}");
        for sql in ["SELECT qcl_twice(a) FROM qcl", "SELECT count(*), pg_sleep(0) FROM qcl"] {
            other.query(sql).succeeded();
            assert!(is_hit(&mut session, kept), "{list}: {sql}");
        }
        assert!(is_kept(&mut session, "SELECT qcl_twice(a) FROM qcl"), "{list}");
        assert!(!is_kept(&mut session, "SELECT count(*), now() FROM qcl"), "{list}");
        other.query("SELECT qcl_touch()").succeeded();
        assert!(!is_hit(&mut session, kept), "{list}");
    }
    make("DROP TABLE qcl, qcl_other", "DROP FUNCTION qcl_touch(), qcl_twice(int)");
}
