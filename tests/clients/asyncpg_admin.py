"""asyncpg: what pgpool answers itself, by a driver that knows the extended protocol with binary results only."""

import asyncio

import asyncpg


async def refused(conn, sql, code):
    try:
        await conn.fetch(sql)
    except asyncpg.PostgresError as error:
        assert error.sqlstate == code, f"{sql}: {error.sqlstate} {error}"
        return
    raise AssertionError(f"{sql} was accepted")


async def main():
    conn = await asyncpg.connect()
    for _ in range(3):
        nodes = await conn.fetch("SHOW POOL_NODES")
        assert [row["node_id"] for row in nodes] == ["0", "1", "2"]
        assert nodes[0]["role"] == "primary"
    assert "tasuki" not in await conn.fetchval("SHOW pool_version")
    statement = await conn.prepare("PGPOOL SHOW ALL")
    assert [a.name for a in statement.get_attributes()] == ["item", "value", "description"]
    assert len(await statement.fetch()) > 150

    # Portions of a portal, in a transaction that goes on.
    async with conn.transaction():
        await conn.fetch("SELECT 1")
        items = [row["item"] async for row in conn.cursor("SHOW POOL_STATUS", prefetch=7)]
        assert len(items) == len(set(items)) > 150
        assert await conn.fetchval("PGPOOL SHOW client_idle_limit") == "0"
        assert conn.is_in_transaction()
        assert await conn.fetchval("SELECT 2") == 2

    await conn.fetch("PGPOOL SET client_idle_limit TO 300")
    assert await conn.fetchval("PGPOOL SHOW client_idle_limit") == "5min"
    assert "client_idle_limit" in [row["item"] for row in await conn.fetch("SHOW POOL_STATUS")]
    await conn.fetch("PGPOOL RESET ALL")
    assert await conn.fetchval("PGPOOL SHOW client_idle_limit") == "0"
    await refused(conn, "PGPOOL SHOW nonsense", "XX000")
    await refused(conn, "PGPOOL SET port TO 1", "XX000")
    assert await conn.fetchval("SELECT 3") == 3
    assert (await conn.fetchrow("PGPOOL EXPLAIN SELECT 1"))["class"] == "read"

    # A failed transaction refuses them, and is over with ROLLBACK.
    transaction = conn.transaction()
    await transaction.start()
    await refused(conn, "SELECT 1 / 0", "22012")
    await refused(conn, "SHOW POOL_NODES", "25P02")
    await transaction.rollback()
    assert len(await conn.fetch("SHOW POOL_NODES")) == 3
    await conn.close()


asyncio.run(main())
print("ok")
