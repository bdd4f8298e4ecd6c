"""asyncpg: prepared statements, cursors (portal suspension), binary values, transactions, COPY, notifications."""

import asyncio
import datetime

import asyncpg


async def main():
    conn = await asyncpg.connect()
    await conn.execute("DROP TABLE IF EXISTS smoke_asyncpg")
    await conn.execute("CREATE TABLE smoke_asyncpg (id int PRIMARY KEY, name text, day date)")
    today = datetime.date(2024, 2, 29)
    rows = [(i, f"name {i}", today) for i in range(1000)]
    await conn.executemany("INSERT INTO smoke_asyncpg VALUES ($1, $2, $3)", rows)

    async with conn.transaction():
        assert await conn.fetchval("SELECT count(*) FROM smoke_asyncpg") == 1000
        assert sum([1 async for _ in conn.cursor("SELECT * FROM smoke_asyncpg", prefetch=30)]) == 1000
        assert (await conn.fetchrow("SELECT * FROM smoke_asyncpg WHERE id = $1", 7))["day"] == today

    try:
        async with conn.transaction():
            await conn.execute("INSERT INTO smoke_asyncpg VALUES ($1, 'lost', NULL)", 5000)
            await conn.execute("INSERT INTO smoke_asyncpg VALUES ($1, 'twice', NULL)", 1)
        raise AssertionError("a duplicate key was accepted")
    except asyncpg.UniqueViolationError:
        pass

    async with conn.transaction():
        await conn.copy_records_to_table("smoke_asyncpg", records=[(i, "copied", None) for i in range(2000, 3000)])
        statement = await conn.prepare("SELECT count(*) FROM smoke_asyncpg WHERE id >= $1")
        assert await statement.fetchval(2000) == 1000
        assert await statement.fetchval(0) == 2000

    heard = asyncio.get_running_loop().create_future()
    await conn.add_listener("smoke_asyncpg_channel", lambda _c, _pid, _channel, payload: heard.set_result(payload))
    await conn.execute("SELECT pg_notify('smoke_asyncpg_channel', 'hello')")
    assert await asyncio.wait_for(heard, 20) == "hello"
    await conn.execute("DROP TABLE smoke_asyncpg")
    await conn.close()

    # Two connections at a time, each used again and again: asyncpg resets them in between.
    pool = await asyncpg.create_pool(min_size=2, max_size=2)
    values = await asyncio.gather(*(pool.fetchval("SELECT $1::int + 1", i) for i in range(100)))
    assert values == list(range(1, 101))
    await pool.close()


asyncio.run(main())
print("ok")
