"""psycopg 3: what pgpool answers itself, prepared, in binary form, in pipelines and transactions."""

import psycopg

with psycopg.connect("", autocommit=True) as conn:
    version = conn.execute("SHOW pool_version").fetchone()[0]
    for _ in range(10):
        assert conn.execute("SHOW pool_version", prepare=True).fetchone() == (version,)
        assert len(conn.execute("SHOW POOL_NODES", binary=True).fetchall()) == 3
    with conn.pipeline() as pipeline:
        cursors = []
        for i in range(20):
            cursors.append((conn.execute("SELECT %s::text", (str(i),)), str(i)))
            cursors.append((conn.execute("SHOW pool_version"), version))
        pipeline.sync()
        for cursor, value in cursors:
            assert cursor.fetchone() == (value,), value

    # A refusal in the middle: what the pipeline did before is undone, what comes behind is not done.
    conn.execute("CREATE TABLE admin_psycopg3 (id int)")
    try:
        with conn.pipeline():
            conn.execute("INSERT INTO admin_psycopg3 VALUES (1)")
            conn.execute("PGPOOL SET port TO 1")
            conn.execute("INSERT INTO admin_psycopg3 VALUES (2)")
        raise AssertionError("a start-up parameter was changed")
    except psycopg.errors.InternalError_:
        pass
    assert conn.execute("SELECT count(*) FROM admin_psycopg3").fetchone() == (0,)
    conn.execute("DROP TABLE admin_psycopg3")

    with conn.transaction():
        conn.execute("SELECT 1")
        assert conn.execute("PGPOOL SHOW backend_port0").fetchone()[0].isdigit()
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with conn.pipeline():
            nodes = conn.execute("SHOW POOL_NODES")
            one = conn.execute("SELECT 1")
            assert len(nodes.fetchall()) == 3 and one.fetchone() == (1,)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    # The driver forgets its prepared statements.
    conn.execute("DEALLOCATE ALL")
    conn.execute("SELECT 1")

print("ok")
