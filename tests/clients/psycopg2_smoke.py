"""psycopg2: transactions, named cursors, COPY, large objects, error and recovery."""

import io

import psycopg2
import psycopg2.extras

conn = psycopg2.connect("")
cur = conn.cursor()
cur.execute("DROP TABLE IF EXISTS smoke_psycopg2")
cur.execute("CREATE TABLE smoke_psycopg2 (id int PRIMARY KEY, name text)")
conn.commit()

psycopg2.extras.execute_values(cur, "INSERT INTO smoke_psycopg2 VALUES %s", [(i, "x" * i) for i in range(500)])
conn.commit()
cur.copy_expert("COPY smoke_psycopg2 FROM STDIN", io.StringIO("".join(f"{i}\tcopied\n" for i in range(1000, 2000))))
conn.commit()

named = conn.cursor(name="server_side")
named.itersize = 50
named.execute("SELECT id FROM smoke_psycopg2")
assert sum(1 for _ in named) == 1500
conn.commit()

try:
    cur.execute("INSERT INTO smoke_psycopg2 VALUES (1, 'twice')")
    raise AssertionError("a duplicate key was accepted")
except psycopg2.errors.UniqueViolation:
    conn.rollback()

large = conn.lobject(0, "wb")
large.write(b"abc" * 100_000)
oid = large.oid
large.close()
conn.commit()
large = conn.lobject(oid, "rb")
assert large.read() == b"abc" * 100_000
large.unlink()
conn.commit()

conn.autocommit = True
cur.execute("DROP TABLE smoke_psycopg2")
conn.close()
print("ok")
