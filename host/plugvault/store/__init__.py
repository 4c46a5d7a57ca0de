"""Where the ecosystem's records are kept: SQL behind the interfaces of `plugvault.pools.records`.

SQLite in a file, or PostgreSQL when one machine is not enough; the same statements for both, and
the same tests. `tables` says what is kept, `migrate` brings a database there.
"""

from plugvault.store.migrate import StoreError
from plugvault.store.sql import SqlStore

__all__ = ["SqlStore", "StoreError"]
