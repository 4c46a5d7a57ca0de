"""Where the pools' records are kept: SQL behind the interfaces of `plugvault.pools.records`.

SQLite in WAL mode by default; the tables and statements keep to what PostgreSQL has too.
"""

from plugvault.store.sql import SqlStore

__all__ = ["SqlStore"]
