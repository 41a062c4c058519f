"""The store: the only room that knows asyncio, asyncpg and SQL."""
