//! Real programs with passwords: psql, psycopg, asyncpg.
