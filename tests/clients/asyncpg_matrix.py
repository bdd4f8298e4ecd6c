"""asyncpg: its statement cache, cursors, COPY and executemany, with errors in the middle, in and out of transactions.

asyncpg prepares everything it is given parameters for, keeps the statements by text and asks the server about types it
does not know; a statement that did not follow the session to its other node shows up at once.
"""

import asyncio
import io

import asyncpg

from scenarios import READS_AT_ONE_NODE, expect, main, scenario

TABLE = "matrix_asyncpg"
PUT = f"INSERT INTO {TABLE} (id, note) VALUES ($1, $2)"
GET = f"SELECT note FROM {TABLE} WHERE id = $1"
COUNT = f"SELECT count(*) FROM {TABLE}"
HALF = "SELECT 100 / $1::int"

# With the cache statements have names and stay; without it they are named and closed, or unnamed.
CACHES = {"cache": {}, "small cache": {"statement_cache_size": 2}, "no cache": {"statement_cache_size": 0}}


async def every_cache(port, **options):
    for name, arguments in CACHES.items():
        conn = await asyncpg.connect(port=port, timeout=20, command_timeout=30, **arguments, **options)
        try:
            await conn.execute(f"DELETE FROM {TABLE}")
            yield name, conn
        finally:
            conn.terminate() if conn.is_in_transaction() else await conn.close()


async def fails(error, what, awaitable):
    try:
        await awaitable
    except error:
        return
    raise AssertionError(f"{what}: no {error.__name__}")


@scenario
async def autocommit(port):
    async for cache, conn in every_cache(port):
        for i in range(10):
            await conn.execute(PUT, i, f"note {i}")
            expect(await conn.fetchval(GET, i), f"note {i}", f"{cache}: a read after an insert")
            changed = await conn.fetchval(f"UPDATE {TABLE} SET note = $1 WHERE id = $2 RETURNING note", f"new {i}", i)
            expect(changed, f"new {i}", f"{cache}: RETURNING")
            expect(await conn.fetchval(GET, i), f"new {i}", f"{cache}: a read after an update")
            expect(await conn.fetchval(COUNT), i + 1, cache)


@scenario
async def autocommit_goes_on_after_errors(port):
    async for cache, conn in every_cache(port):
        await conn.execute(PUT, 1, "one")
        for i in range(5):
            await fails(asyncpg.UniqueViolationError, cache, conn.execute(PUT, 1, "twice"))
            await fails(asyncpg.DivisionByZeroError, cache, conn.fetchval(HALF, 0))
            await fails(asyncpg.PostgresSyntaxError, cache, conn.fetchval("SELEC $1", 1))
            await fails(asyncpg.UndefinedTableError, cache, conn.fetch("SELECT * FROM no_such_table WHERE id = $1", 1))
            expect(await conn.fetchval(HALF, 50), 2, f"{cache}: a read after errors")
            expect(await conn.fetchval(GET, 1), "one", f"{cache}: another read after errors")
            await conn.execute(PUT, 100 + i, "after")
        expect(await conn.fetchval(COUNT), 6, cache)


@scenario
async def transactions(port):
    async for cache, conn in every_cache(port):
        for isolation in ("read_committed", "repeatable_read", "serializable"):
            await conn.execute(f"DELETE FROM {TABLE}")
            for i in range(4):
                async with conn.transaction(isolation=isolation):
                    expect(await conn.fetchval(GET, i), None, f"{cache}, {isolation}: nothing there yet")
                    await conn.execute(PUT, i, "mine")
                    expect(await conn.fetchval(GET, i), "mine", f"{cache}, {isolation}: own row")
                    expect(await conn.fetchval(COUNT), i + 1, f"{cache}, {isolation}: own count")
                expect(await conn.fetchval(GET, i), "mine", f"{cache}, {isolation}: committed")
        async with conn.transaction(readonly=True):
            expect(await conn.fetchval(COUNT), 4, f"{cache}: read only")
        async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
            expect(await conn.fetchval(COUNT), 4, f"{cache}: serializable, read only, deferrable")


@scenario
async def failed_transactions(port):
    async for cache, conn in every_cache(port):
        for i in range(4):
            transaction = conn.transaction()
            await transaction.start()
            await conn.execute(PUT, 1, "lost")
            await fails(asyncpg.DivisionByZeroError, cache, conn.fetchval(HALF, 0))
            await fails(asyncpg.InFailedSQLTransactionError, cache, conn.fetchval(COUNT))
            await fails(asyncpg.InFailedSQLTransactionError, cache, conn.execute(PUT, 2, "lost"))
            await transaction.rollback()
            expect(await conn.fetchval(COUNT), 0, f"{cache}: rolled back")
            expect(await conn.fetchval(HALF, 20), 5, f"{cache}: the session goes on")


@scenario
async def savepoints(port):
    async for cache, conn in every_cache(port):
        for i in range(4):
            async with conn.transaction():
                await conn.execute(PUT, 10 * i, "kept")
                try:
                    async with conn.transaction():
                        await conn.execute(PUT, 10 * i + 1, "lost")
                        expect(await conn.fetchval(COUNT), i + 2, f"{cache}: inside the savepoint")
                        await conn.execute(PUT, 10 * i, "twice")
                except asyncpg.UniqueViolationError:
                    pass
                expect(await conn.fetchval(COUNT), i + 1, f"{cache}: after ROLLBACK TO")
                expect(await conn.fetchval(GET, 10 * i + 1), None, f"{cache}: lost")
            expect(await conn.fetchval(COUNT), i + 1, f"{cache}: after COMMIT")


@scenario
async def executemany_with_an_error_inside(port):
    async for cache, conn in every_cache(port):
        await conn.executemany(PUT, [(i, "many") for i in range(2000)])
        expect(await conn.fetchval(COUNT), 2000, cache)
        rows = [(i, "more") for i in range(2000, 3000)] + [(5, "twice")] + [(i, "never") for i in range(3000, 4000)]
        await fails(asyncpg.UniqueViolationError, cache, conn.executemany(PUT, rows))
        expect(await conn.fetchval(COUNT), 2000, f"{cache}: all or nothing")
        async with conn.transaction():
            await conn.executemany(PUT, [(i, "more") for i in range(2000, 2500)])
            expect(await conn.fetchval(COUNT), 2500, f"{cache}: in a transaction")
        await conn.executemany("SELECT $1::int", [(i,) for i in range(500)])
        await fails(asyncpg.DivisionByZeroError, cache, conn.executemany(HALF, [(1,), (0,), (2,)]))
        expect(await conn.fetchval(COUNT), 2500, cache)


@scenario
async def prepared_statements(port):
    async for cache, conn in every_cache(port):
        put, get, count = await conn.prepare(PUT), await conn.prepare(GET), await conn.prepare(COUNT)
        half = await conn.prepare(HALF)
        expect([p.name for p in get.get_parameters()], ["int4"], cache)
        for i in range(6):
            await put.fetch(i, f"note {i}")
            expect(await get.fetchval(i), f"note {i}", cache)
            async with conn.transaction():
                expect(await count.fetchval(), i + 1, f"{cache}: read in a transaction")
                await put.fetch(100 + i, "in a transaction")
                expect(await get.fetchval(100 + i), "in a transaction", f"{cache}: own row")
                await conn.execute(f"DELETE FROM {TABLE} WHERE id = {100 + i}")
            await fails(asyncpg.DivisionByZeroError, cache, half.fetchval(0))
            await fails(asyncpg.UniqueViolationError, cache, put.fetch(i, "twice"))
            expect(await half.fetchval(10), 10, f"{cache}: after an error")


@scenario
async def cursors(port):
    everything = f"SELECT id FROM {TABLE} WHERE id >= $1 ORDER BY id"
    async for cache, conn in every_cache(port):
        await conn.executemany(PUT, [(i, "many") for i in range(500)])
        async with conn.transaction():
            seen = [row["id"] async for row in conn.cursor(everything, 0, prefetch=37)]
            expect(seen, list(range(500)), f"{cache}: all rows")
            one, two = await conn.cursor(everything, 0), await conn.cursor(everything, 100)
            expect([r[0] for r in await one.fetch(3)], [0, 1, 2], f"{cache}: the first cursor")
            expect([r[0] for r in await two.fetch(2)], [100, 101], f"{cache}: the second cursor")
            await conn.execute(PUT, 1000, "while cursors are open")
            expect(await conn.fetchval(COUNT), 501, cache)
            await one.forward(10)
            expect((await one.fetchrow())[0], 13, f"{cache}: the first cursor goes on")
            expect(len(await two.fetch(1000)), 398, f"{cache}: the second cursor goes on")
        try:
            async with conn.transaction():
                bad = await conn.cursor("SELECT 10 / ($1 - n) FROM generate_series(1, 10) n", 5)
                expect([r[0] for r in await bad.fetch(4)], [2, 3, 5, 10], f"{cache}: up to the error")
                await bad.fetch(4)
            raise AssertionError(f"{cache}: no error in a cursor")
        except asyncpg.DivisionByZeroError:
            pass
        expect(await conn.fetchval(COUNT), 501, f"{cache}: after an error in a cursor")


@scenario
async def copies(port):
    async for cache, conn in every_cache(port):
        records = [(i, f"copied {i}") for i in range(5000)]
        await conn.copy_records_to_table(TABLE, records=records)
        expect(await conn.fetchval(COUNT), 5000, f"{cache}: binary COPY")
        out = io.BytesIO()
        await conn.copy_from_query(f"SELECT id, note FROM {TABLE} WHERE id < $1 ORDER BY id", 1000, output=out)
        expect(out.getvalue(), b"".join(b"%d\tcopied %d\n" % (i, i) for i in range(1000)), f"{cache}: a query")
        async with conn.transaction():
            await conn.copy_to_table(TABLE, source=io.BytesIO(b"7000\tfrom text\n"), columns=["id", "note"])
            out = io.BytesIO()
            await conn.copy_from_table(TABLE, output=out, format="csv")
            expect(out.getvalue().count(b"\n"), 5001, f"{cache}: own row in COPY")
            expect(await conn.fetchval(GET, 7000), "from text", f"{cache}: own row")
        twice = conn.copy_records_to_table(TABLE, records=[(8000, "lost"), (7000, "twice")])
        await fails(asyncpg.UniqueViolationError, cache, twice)

        async def broken_off():
            yield b"9000\tlost\n"
            raise LookupError

        await fails(LookupError, cache, conn.copy_to_table(TABLE, source=broken_off()))
        broken = conn.copy_from_query("SELECT 10 / (5 - n) FROM generate_series(1, 10) n", output=io.BytesIO())
        await fails(asyncpg.DivisionByZeroError, cache, broken)
        expect(await conn.fetchval(COUNT), 5001, f"{cache}: after failed COPYs")


@scenario
async def schema_changes(port):
    if port not in READS_AT_ONE_NODE:
        return
    async for cache, conn in every_cache(port):
        await conn.execute("DROP TABLE IF EXISTS matrix_asyncpg_ddl; CREATE TABLE matrix_asyncpg_ddl (id int)")
        await conn.execute("INSERT INTO matrix_asyncpg_ddl VALUES (1)")
        read = "SELECT * FROM matrix_asyncpg_ddl WHERE id = $1"
        for columns in (1, 2, 3):
            # "cached plan must not change result type": asyncpg drops its statement and prepares again by itself.
            for _ in range(3):
                expect(len(await conn.fetchrow(read, 1)), columns, cache)
            await conn.execute(f"ALTER TABLE matrix_asyncpg_ddl ADD other{columns} int")
        async with conn.transaction():
            await conn.execute("ALTER TABLE matrix_asyncpg_ddl DROP other1")
        expect(len(await conn.fetchrow(read + " AND true", 1)), 3, cache)
        await conn.execute("DROP TABLE matrix_asyncpg_ddl")


@scenario
async def types_the_driver_must_ask_for(port):
    async for cache, conn in every_cache(port):
        await conn.execute("DROP TYPE IF EXISTS matrix_asyncpg_mood; CREATE TYPE matrix_asyncpg_mood AS ENUM ('ok', 'sad')")
        expect(await conn.fetchval("SELECT $1::matrix_asyncpg_mood", "ok"), "ok", cache)
        expect(await conn.fetchval("SELECT $1::matrix_asyncpg_mood[]", ["ok", "sad"]), ["ok", "sad"], cache)
        async with conn.transaction():
            await conn.execute("CREATE TYPE matrix_asyncpg_pair AS (a int, b matrix_asyncpg_mood)")
            pair = await conn.fetchval("SELECT ROW(1, 'sad')::matrix_asyncpg_pair")
            expect((pair["a"], pair["b"]), (1, "sad"), f"{cache}: made in this transaction")
        await conn.execute("DROP TYPE matrix_asyncpg_pair, matrix_asyncpg_mood")


@scenario
async def timeouts_and_cancels(port):
    async for cache, conn in every_cache(port):
        await fails(asyncio.TimeoutError, cache, conn.fetchval("SELECT pg_sleep($1)", 30, timeout=0.1))
        expect(await conn.fetchval(HALF, 50), 2, f"{cache}: after a timeout")
        task = asyncio.create_task(conn.fetch("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        task.cancel()
        await fails(asyncio.CancelledError, cache, task)
        await conn.execute(PUT, 1, "after a cancel")
        expect(await conn.fetchval(GET, 1), "after a cancel", cache)
        async with conn.transaction():
            await conn.execute("SET LOCAL statement_timeout = 50")
            with_savepoint = conn.transaction()
            await with_savepoint.start()
            await fails(asyncpg.QueryCanceledError, cache, conn.fetchval("SELECT pg_sleep($1)", 30))
            await with_savepoint.rollback()
            expect(await conn.fetchval(GET, 1), "after a cancel", f"{cache}: the transaction goes on")


@scenario
async def settings(port):
    show = f"SELECT current_setting('application_name') FROM {TABLE} LIMIT 1"
    async for cache, conn in every_cache(port, server_settings={"application_name": "at login"}):
        await conn.execute(PUT, 1, "one")
        expect(await conn.fetchval(show), "at login", cache)
        for i in range(3):
            await conn.execute(f"SET application_name = 'by SET {i}'")
            expect(await conn.fetchval(show), f"by SET {i}", cache)
            await conn.fetchval("SELECT set_config('application_name', $1, false)", f"by function {i}")
            expect(await conn.fetchval(show), f"by function {i}", cache)
            await conn.reset()
            expect(await conn.fetchval(show), "at login", f"{cache}: after reset()")


@scenario
async def many_tasks_on_a_pool(port):
    pool = await asyncpg.create_pool(port=port, min_size=4, max_size=4, timeout=20, command_timeout=30)
    await pool.execute(f"DELETE FROM {TABLE}")

    async def work(task):
        for i in range(10):
            id = 100 * task + i
            async with pool.acquire() as conn:
                try:
                    async with conn.transaction():
                        await conn.execute(PUT, id, f"task {task}")
                        expect(await conn.fetchval(GET, id), f"task {task}", "own row")
                        await conn.fetchval(HALF, i % 3)
                except asyncpg.DivisionByZeroError:
                    pass
                expect(await conn.fetchval(GET, id), f"task {task}" if i % 3 else None, f"task {task}, row {i}")

    await asyncio.gather(*(work(task) for task in range(12)))
    expect(await pool.fetchval(COUNT), 12 * 6, "rows of all tasks")
    await pool.close()


@scenario
async def large_values(port):
    async for cache, conn in every_cache(port):
        long = "0123456789" * 400_000
        await conn.execute(PUT, 1, long)
        expect(await conn.fetchval(GET, 1) == long, True, f"{cache}: 4 MB in and out")
        expect(await conn.fetchval("SELECT length($1::text)", long), len(long), f"{cache}: a parameter of a read")
        async with conn.transaction():
            await conn.execute(PUT, 2, long)
            expect(await conn.fetchval(f"SELECT sum(length(note)) FROM {TABLE}"), 2 * len(long), cache)


main(lambda function, port: asyncio.run(function(port)))
