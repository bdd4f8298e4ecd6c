"""psycopg 3: simple and prepared statements, transactions, pipeline mode, COPY, notifications."""

import psycopg

with psycopg.connect("", autocommit=True) as conn:
    conn.execute("DROP TABLE IF EXISTS smoke_psycopg3")
    conn.execute("CREATE TABLE smoke_psycopg3 (id int PRIMARY KEY, name text)")

    with conn.transaction():
        for i in range(10):
            conn.execute("INSERT INTO smoke_psycopg3 VALUES (%s, %s)", (i, f"name {i}"))
    try:
        with conn.transaction():
            conn.execute("INSERT INTO smoke_psycopg3 VALUES (100, 'lost')")
            conn.execute("INSERT INTO smoke_psycopg3 VALUES (1, 'twice')")
        raise AssertionError("a duplicate key was accepted")
    except psycopg.errors.UniqueViolation:
        pass
    with conn.transaction():
        assert conn.execute("SELECT count(*) FROM smoke_psycopg3").fetchone() == (10,)

    # The sixth execution and later use a named prepared statement.
    for i in range(20):
        assert conn.execute("SELECT %s::int + 1", (i,)).fetchone() == (i + 1,)

    with conn.pipeline() as pipeline:
        cursors = [conn.execute("SELECT %s::int * 2", (i,)) for i in range(200)]
        pipeline.sync()
        assert [c.fetchone()[0] for c in cursors] == [i * 2 for i in range(200)]

    # An error ends its part of the pipeline; after the next sync all is well.
    with conn.pipeline() as pipeline:
        good = conn.execute("SELECT 1")
        pipeline.sync()
        # The driver may notice the error at any later call, by the time its answer comes.
        try:
            bad = conn.execute("SELECT 1 / 0")
            conn.execute("SELECT 2")
            pipeline.sync()
            bad.fetchone()
            raise AssertionError("a division by zero succeeded")
        except (psycopg.errors.DivisionByZero, psycopg.errors.PipelineAborted):
            pass
        assert good.fetchone() == (1,)
        last = conn.execute("SELECT 3")
        pipeline.sync()
        assert last.fetchone() == (3,)

    with conn.cursor() as cur:
        with cur.copy("COPY smoke_psycopg3 FROM STDIN") as copy:
            for i in range(1000, 3000):
                copy.write_row((i, f"copied {i}"))
        with cur.copy("COPY (SELECT * FROM smoke_psycopg3 ORDER BY id) TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 2010

    with conn.transaction(), conn.cursor(name="server_side") as cur:
        cur.itersize = 100
        cur.execute("SELECT id FROM smoke_psycopg3 ORDER BY id")
        assert sum(1 for _ in cur) == 2010

    heard = []
    conn.add_notify_handler(lambda notify: heard.append(notify.payload))
    conn.execute("LISTEN smoke_channel")
    conn.execute("NOTIFY smoke_channel, 'hello'")
    conn.execute("SELECT 1")
    assert heard == ["hello"], heard
    conn.execute("DROP TABLE smoke_psycopg3")

print("ok")
