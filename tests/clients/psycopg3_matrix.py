"""psycopg 3: simple, extended and prepared statements, pipelines, cursors and COPY, with errors in the middle.

Writes and reads alternate everywhere: with a standby behind every read, a statement or setting that did not follow the
session to its other node shows up as a wrong result.
"""

import psycopg
from psycopg import errors, pq

from scenarios import READS_AT_ONE_NODE, expect, main, scenario

TABLE = "matrix_psycopg3"
PUT = f"INSERT INTO {TABLE} (id, note) VALUES (%s, %s)"
GET = f"SELECT note FROM {TABLE} WHERE id = %s"
COUNT = f"SELECT count(*) FROM {TABLE}"
# The last number is outside of int: an error that needs a server to find out.
HALF = "SELECT 100 / %s::int"

# How a statement is sent, as arguments of connect().
MODES = {
    "simple": {"cursor_factory": psycopg.ClientCursor},
    "extended": {"prepare_threshold": None},
    "prepared": {"prepare_threshold": 0},
    "prepared later": {"prepare_threshold": 3},
}


def first_column(_cursor):
    """A row as its first value."""
    return lambda values: values[0]


def connect(port, **options):
    options = {"row_factory": first_column, "autocommit": True, **options}
    return psycopg.connect(port=port, **options)


def every_mode(port, **options):
    """A session in each mode, with an empty table."""
    for mode, arguments in MODES.items():
        with connect(port, **arguments, **options) as conn:
            conn.execute(f"DELETE FROM {TABLE}")
            if not conn.autocommit:
                conn.commit()
            yield mode, conn


def one(conn, query, *values):
    return conn.execute(query, values or None).fetchone()


def fails(error, what, call, *arguments):
    try:
        call(*arguments)
    except error:
        return
    raise AssertionError(f"{what}: no {error}")


@scenario
def autocommit(port):
    for mode, conn in every_mode(port):
        for i in range(12):
            conn.execute(PUT, (i, f"note {i}"))
            expect(one(conn, GET, i), f"note {i}", f"{mode}: a read after an insert")
            conn.execute(f"UPDATE {TABLE} SET note = %s WHERE id = %s", (f"new {i}", i))
            expect(one(conn, GET, i), f"new {i}", f"{mode}: a read after an update")
        expect(one(conn, COUNT), 12, mode)


@scenario
def autocommit_goes_on_after_errors(port):
    for mode, conn in every_mode(port):
        conn.execute(PUT, (1, "one"))
        for i in range(6):
            fails(errors.UniqueViolation, f"{mode}: a write", conn.execute, PUT, (1, "twice"))
            fails(errors.DivisionByZero, f"{mode}: a read", conn.execute, HALF, (0,))
            fails(errors.SyntaxError, f"{mode}: no statement", conn.execute, "SELEC 1")
            expect(one(conn, HALF, 50), 2, f"{mode}: a read after errors")
            expect(one(conn, GET, 1), "one", f"{mode}: another read after errors")
            conn.execute(PUT, (100 + i, "after"))
        expect(one(conn, COUNT), 7, mode)


@scenario
def transactions_read_their_own_writes(port):
    for mode, conn in every_mode(port):
        for i in range(6):
            with conn.transaction():
                before = one(conn, COUNT)
                expect(one(conn, GET, i), None, f"{mode}: nothing there yet")
                conn.execute(PUT, (i, "mine"))
                expect(one(conn, GET, i), "mine", f"{mode}: the transaction's own row")
                expect(one(conn, COUNT), before + 1, f"{mode}: the transaction's own count")
            expect(one(conn, GET, i), "mine", f"{mode}: committed")


@scenario
def transactions_of_the_dbapi(port):
    for mode, conn in every_mode(port, autocommit=False):
        for i in range(6):
            expect(one(conn, COUNT), i, f"{mode}: a transaction begins with a read")
            conn.execute(PUT, (i, "kept"))
            conn.commit()
            conn.execute(PUT, (100 + i, "lost"))
            expect(one(conn, COUNT), i + 2, f"{mode}: own row")
            conn.rollback()
            expect(one(conn, COUNT), i + 1, f"{mode}: rolled back")
            conn.rollback()


@scenario
def failed_transactions(port):
    for mode, conn in every_mode(port):
        for i in range(6):
            try:
                with conn.transaction():
                    conn.execute(PUT, (1, "lost"))
                    fails(errors.DivisionByZero, mode, conn.execute, HALF, (0,))
                    fails(errors.InFailedSqlTransaction, mode, conn.execute, COUNT)
                    fails(errors.InFailedSqlTransaction, mode, conn.execute, PUT, (2, "lost"))
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            expect(one(conn, COUNT), 0, f"{mode}: rolled back")
            # COMMIT of a failed transaction is a rollback, and no error.
            conn.execute("BEGIN")
            conn.execute(PUT, (1, "lost"))
            fails(errors.UniqueViolation, mode, conn.execute, PUT, (1, "twice"))
            expect(conn.execute("COMMIT").statusmessage, "ROLLBACK", mode)
            expect(one(conn, COUNT), 0, f"{mode}: rolled back by COMMIT")


@scenario
def savepoints(port):
    for mode, conn in every_mode(port):
        for i in range(4):
            with conn.transaction():
                conn.execute(PUT, (10 * i, "kept"))
                try:
                    with conn.transaction():
                        conn.execute(PUT, (10 * i + 1, "lost"))
                        expect(one(conn, COUNT), 2 * i + 2, f"{mode}: inside the savepoint")
                        conn.execute(PUT, (10 * i, "twice"))
                except errors.UniqueViolation:
                    pass
                expect(one(conn, COUNT), 2 * i + 1, f"{mode}: after ROLLBACK TO")
                with conn.transaction():
                    conn.execute(PUT, (10 * i + 2, "kept"))
                expect(one(conn, GET, 10 * i + 1), None, f"{mode}: lost")
            expect(one(conn, COUNT), 2 * i + 2, f"{mode}: after COMMIT")


@scenario
def isolation_levels(port):
    for mode, conn in every_mode(port):
        for level in (2, 3, 4):
            conn.isolation_level = level
            with conn.transaction():
                conn.execute(PUT, (level, "level"))
                expect(one(conn, GET, level), "level", f"{mode}: level {level}")
        conn.isolation_level = None
        conn.read_only = True
        with conn.transaction():
            expect(one(conn, COUNT), 3, f"{mode}: read only")
        with conn.transaction(force_rollback=True):
            fails(errors.ReadOnlySqlTransaction, mode, conn.execute, PUT, (9, "read only"))
        conn.read_only = None
        conn.execute(PUT, (9, "written"))
        expect(one(conn, COUNT), 4, mode)


@scenario
def settings_follow_the_session(port):
    show = f"SELECT current_setting('application_name') FROM {TABLE} LIMIT 1"
    for mode, conn in every_mode(port):
        conn.execute(PUT, (1, "one"))
        for i in range(3):
            conn.execute("SELECT set_config('application_name', %s, false)", (f"by function {i}",))
            expect(one(conn, show), f"by function {i}", mode)
            conn.execute(f"SET application_name = 'by SET {i}'")
            expect(one(conn, show), f"by SET {i}", mode)
            with conn.transaction():
                conn.execute("SET LOCAL application_name = 'local'")
                expect(one(conn, show), "local", mode)
            expect(one(conn, show), f"by SET {i}", f"{mode}: after SET LOCAL")
            with conn.transaction(force_rollback=True):
                conn.execute("SET application_name = 'rolled back'")
            expect(one(conn, show), f"by SET {i}", f"{mode}: after a rollback")
            with conn.transaction():
                conn.execute(f"SET application_name = 'committed {i}'")
            expect(one(conn, show), f"committed {i}", f"{mode}: after a commit")


@scenario
def executemany_with_an_error_inside(port):
    for mode, conn in every_mode(port):
        with conn.transaction():
            conn.cursor().executemany(PUT, [(i, "many") for i in range(300)])
        expect(one(conn, COUNT), 300, mode)
        rows = [(i, "more") for i in range(300, 400)] + [(5, "twice")] + [(i, "never") for i in range(400, 500)]

        def insert():
            with conn.transaction():
                conn.cursor().executemany(PUT, rows)

        fails(errors.UniqueViolation, mode, insert)
        expect(one(conn, COUNT), 300, f"{mode}: all or nothing")
        cursor = conn.cursor()
        cursor.executemany(GET, [(i,) for i in range(0, 300, 10)], returning=True)
        notes = [cursor.fetchone()]
        while cursor.nextset():
            notes.append(cursor.fetchone())
        expect(notes, ["many"] * 30, f"{mode}: executemany of reads")


@scenario
def pipelines_in_autocommit(port):
    for mode, conn in every_mode(port):
        if mode == "simple":
            continue
        with conn.pipeline():
            results = []
            for i in range(100):
                conn.execute(PUT, (i, f"note {i}"))
                results.append(conn.execute(GET, (i,)))
            expect([r.fetchone() for r in results], [f"note {i}" for i in range(100)], f"{mode}: writes and reads")
        expect(one(conn, COUNT), 100, mode)
        # A Sync after each: every batch may go to another node, answers come in the order of the questions.
        with conn.pipeline() as pipeline:
            results = []
            for i in range(100):
                results.append(conn.execute(GET, (i,)))
                pipeline.sync()
                conn.execute(f"UPDATE {TABLE} SET note = %s WHERE id = %s", (f"new {i}", i))
                pipeline.sync()
                results.append(conn.execute(GET, (i,)))
                pipeline.sync()
            notes = [r.fetchone() for r in results]
        expect(notes[0::2], [f"note {i}" for i in range(100)], f"{mode}: before the update")
        expect(notes[1::2], [f"new {i}" for i in range(100)], f"{mode}: after the update")


def answers(conn, sent):
    """Sends statements, or None for Sync, as libpq's pipeline mode does: all before the first answer is read."""
    pgconn = conn.pgconn
    pgconn.nonblocking = 0
    pgconn.enter_pipeline_mode()
    for item in sent:
        if item is None:
            pgconn.pipeline_sync()
        else:
            query, *values = item
            pgconn.send_query_params(query.encode(), [str(value).encode() for value in values])
    found = []
    for item in sent:
        result = pgconn.get_result()
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        found.append(state.decode() if state else pq.ExecStatus(result.status).name)
        if item is not None:
            expect(pgconn.get_result(), None, "the end of a result")
    pgconn.exit_pipeline_mode()
    pgconn.nonblocking = 1
    return found


@scenario
def pipelines_with_errors(port):
    put, get = f"INSERT INTO {TABLE} VALUES ($1, 'piped')", f"SELECT note FROM {TABLE} WHERE id = $1"
    half, twice = ("SELECT 100 / $1::int", 0), (put, 1)
    with connect(port) as conn:
        for bad, state in ((half, "22012"), (twice, "23505")):
            conn.execute(f"DELETE FROM {TABLE}")
            conn.execute(PUT, (1, "one"))
            sent = [(get, 1), None, (put, 2), bad, (put, 3), (get, 1), None, (put, 4), None, (get, 4), (get, 1), None]
            expected = ["TUPLES_OK", "PIPELINE_SYNC", "COMMAND_OK", state, "PIPELINE_ABORTED", "PIPELINE_ABORTED"]
            expected += ["PIPELINE_SYNC", "COMMAND_OK", "PIPELINE_SYNC", "TUPLES_OK", "TUPLES_OK", "PIPELINE_SYNC"]
            expect(answers(conn, sent), expected, "the answers")
            # An implicit transaction ends at Sync: row 2 goes with the failed statement.
            expect([one(conn, GET, i) for i in (1, 2, 3, 4)], ["one", None, None, "piped"], "the rows")


@scenario
def pipelines_in_transactions(port):
    for mode, conn in every_mode(port):
        if mode == "simple":
            continue
        for i in range(5):
            with conn.pipeline(), conn.transaction():
                before = conn.execute(COUNT)
                conn.execute(PUT, (i, "piped"))
                after = conn.execute(COUNT)
                own = conn.execute(GET, (i,))
            expect([before.fetchone(), after.fetchone(), own.fetchone()], [i, i + 1, "piped"], mode)

        def failing():
            with conn.pipeline(), conn.transaction():
                conn.execute(PUT, (50, "lost"))
                conn.execute(PUT, (1, "twice"))
                conn.execute(COUNT)

        fails(errors.UniqueViolation, mode, failing)
        expect(conn.info.transaction_status.name, "IDLE", mode)
        expect(one(conn, COUNT), 5, f"{mode}: rolled back")


@scenario
def server_side_cursors(port):
    numbers = f"SELECT id FROM {TABLE} ORDER BY id"
    for mode, conn in every_mode(port):
        conn.cursor().executemany(PUT, [(i, f"note {i}") for i in range(500)])
        with conn.transaction():
            with conn.cursor("one") as first, conn.cursor("two", scrollable=True) as second:
                first.itersize = 37
                first.execute(numbers)
                second.execute(numbers)
                expect(second.fetchmany(3), [0, 1, 2], f"{mode}: the second cursor")
                expect(list(first), list(range(500)), f"{mode}: the first cursor")
                expect(second.fetchmany(3), [3, 4, 5], f"{mode}: the second cursor goes on")
                second.scroll(-2)
                expect(second.fetchone(), 4, f"{mode}: scrolled back")
                conn.execute(PUT, (1000, "while a cursor is open"))
                expect(second.fetchone(), 5, f"{mode}: goes on after a write")
                expect(one(conn, COUNT), 501, mode)
        with conn.cursor("held", withhold=True) as held:
            held.execute(numbers)
            expect(held.fetchmany(2), [0, 1], f"{mode}: WITH HOLD in autocommit")
            conn.execute(PUT, (1001, "meanwhile"))
            expect(one(conn, GET, 1001), "meanwhile", mode)
            expect(len(held.fetchall()), 499, f"{mode}: WITH HOLD")
        with conn.cursor("held", withhold=True) as held:
            with conn.transaction():
                held.execute(numbers)
            expect(len(held.fetchall()), 502, f"{mode}: WITH HOLD after COMMIT")
        try:
            with conn.transaction(), conn.cursor("bad") as bad:
                bad.execute("SELECT 10 / (5 - n) FROM generate_series(1, 10) n")
                expect(bad.fetchmany(4), [2, 3, 5, 10], f"{mode}: up to the error")
                bad.fetchmany(4)
            raise AssertionError(f"{mode}: no error in FETCH")
        except errors.DivisionByZero:
            pass
        expect(one(conn, COUNT), 502, f"{mode}: after an error in FETCH")


@scenario
def streams(port):
    for mode, conn in every_mode(port):
        if mode == "simple":
            continue
        query = "SELECT n FROM generate_series(1, %s) n"
        for _ in range(4):
            expect(sum(conn.cursor().stream(query, (2000,))), 2001000, f"{mode}: row by row")
            conn.execute(PUT, (one(conn, COUNT), "between"))
        rows = conn.cursor().stream("SELECT 10 / (5 - n) FROM generate_series(1, 10) n WHERE n <> %s", (0,))
        fails(errors.DivisionByZero, mode, list, rows)
        expect(one(conn, COUNT), 4, mode)


def copy_in(conn, rows):
    with conn.cursor().copy(f"COPY {TABLE} (id, note) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def copy_out(conn, query):
    with conn.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
        copy.set_types(["int4", "text"])
        return list(copy.rows())


@scenario
def copies(port):
    everything = f"SELECT id, note FROM {TABLE} ORDER BY id"
    for mode, conn in every_mode(port):
        rows = [(i, f"copied\t{i}\n" * (i % 7)) for i in range(3000)]
        copy_in(conn, rows)
        expect(one(conn, COUNT), 3000, f"{mode}: COPY in autocommit")
        expect(copy_out(conn, everything), rows, f"{mode}: COPY out of a query")
        with conn.transaction():
            copy_in(conn, [(5000, "in a transaction")])
            expect(copy_out(conn, everything + " OFFSET 3000"), [(5000, "in a transaction")], f"{mode}: own row")
            expect(one(conn, COUNT), 3001, mode)
        fails(errors.UniqueViolation, f"{mode}: COPY", copy_in, conn, [(6000, "lost"), (5000, "twice")])
        expect(one(conn, COUNT), 3001, f"{mode}: after a failed COPY")

        def broken_off():
            with conn.cursor().copy(f"COPY {TABLE} FROM STDIN") as copy:
                copy.write_row((7000, "lost"))
                raise LookupError

        # The driver raises one or the other, by its version.
        fails((LookupError, errors.QueryCanceled), mode, broken_off)
        expect(one(conn, COUNT), 3001, f"{mode}: after CopyFail")
        fails(errors.DivisionByZero, mode, copy_out, conn, "SELECT 10 / (5 - n), '' FROM generate_series(1, 10) n")
        with conn.transaction(force_rollback=True):
            fails(errors.UniqueViolation, f"{mode}: COPY", copy_in, conn, [(5000, "twice")])
            fails(errors.InFailedSqlTransaction, mode, conn.execute, COUNT)
        expect(one(conn, COUNT), 3001, f"{mode}: after a failed COPY in a transaction")


@scenario
def changing_tables_under_prepared_statements(port):
    for mode, conn in every_mode(port):
        conn.execute("DROP TABLE IF EXISTS matrix_psycopg3_ddl")
        conn.execute("CREATE TABLE matrix_psycopg3_ddl (id int)")
        conn.execute("INSERT INTO matrix_psycopg3_ddl VALUES (1)")
        read = "SELECT * FROM matrix_psycopg3_ddl WHERE id = %s"
        for _ in range(6):
            expect(conn.execute(read, (1,)).fetchall(), [1], mode)
        conn.execute("ALTER TABLE matrix_psycopg3_ddl ADD other int DEFAULT 7")
        if mode.startswith("prepared") and port in READS_AT_ONE_NODE:
            # "cached plan must not change result type": the driver does not prepare again by itself.
            fails(errors.FeatureNotSupported, mode, conn.execute, read, (1,))
        expect(len(conn.execute(read + " AND true", (1,)).description), 2, mode)
        conn.execute("DROP TABLE matrix_psycopg3_ddl")
        fails(errors.UndefinedTable, mode, conn.execute, "SELECT * FROM matrix_psycopg3_ddl")
        expect(one(conn, COUNT), 0, mode)


@scenario
def cancel_and_timeout(port):
    for mode, conn in every_mode(port):
        conn.execute("SET statement_timeout = '50ms'")
        fails(errors.QueryCanceled, f"{mode}: timeout", conn.execute, "SELECT pg_sleep(30)")
        conn.execute("RESET statement_timeout")
        expect(one(conn, HALF, 50), 2, f"{mode}: after a timeout")
        with conn.transaction():
            conn.execute(PUT, (1, "kept"))
            with conn.transaction(force_rollback=True):
                conn.execute("SET LOCAL statement_timeout = '50ms'")
                fails(errors.QueryCanceled, f"{mode}: timeout", conn.execute, "SELECT pg_sleep(30)")
            expect(one(conn, GET, 1), "kept", f"{mode}: the transaction goes on")
        expect(one(conn, COUNT), 1, mode)


@scenario
def large_values(port):
    for mode, conn in every_mode(port):
        long = "0123456789" * 400_000
        conn.execute(PUT, (1, long))
        expect(one(conn, GET, 1) == long, True, f"{mode}: 4 MB in and out")
        expect(one(conn, "SELECT length(%s::text)", long), len(long), f"{mode}: 4 MB as a parameter of a read")
        with conn.transaction():
            conn.execute(PUT, (2, long))
            expect(one(conn, f"SELECT sum(length(note)) FROM {TABLE}"), 2 * len(long), mode)


main()
