"""psycopg 3: a long pipeline with much in both directions, so that each side has to wait for the other."""

import hashlib

import psycopg

COUNT = 2000

with psycopg.connect("", autocommit=True) as conn:
    with conn.pipeline() as pipeline:
        values = [hashlib.md5(str(i).encode()).hexdigest() * 128 for i in range(COUNT)]
        cursors = [conn.execute("SELECT %s::text, repeat(%s::text, 2)", (value, value)) for value in values]
        pipeline.sync()
        for value, cursor in zip(values, cursors):
            assert cursor.fetchone() == (value, value * 2)

print("ok")
