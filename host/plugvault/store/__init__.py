"""The SQL implementation of `plugvault.pools.repositories`.

SQLite in a file, or PostgreSQL when one machine is not enough; the same statements and the same
tests for both. `tables` declares the layout, `migrate` brings a database to it.
"""

from plugvault.store.migrate import NewerDatabaseError, UnknownDatabaseError
from plugvault.store.sql import SqlStore

__all__ = ["NewerDatabaseError", "SqlStore", "UnknownDatabaseError"]
