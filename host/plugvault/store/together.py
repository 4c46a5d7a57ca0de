"""What an event loop reads and writes within one turn shares a transaction.

To begin a transaction, and above all to end it, costs more than most of what a request writes;
neighbouring requests write to the same pages, and ask the same. So those who must not wait
[`plugvault.patience`] share one, one after the other. It ends when each whose turn it is has had
his say, and before that nobody is answered (`Store.kept`).

Who fails after he has written takes the others with him: all is undone, and each is done again
where he may wait, by himself. That is rare, for nearly all refusals come before the first write;
to be able to undo only one's own would cost every request more than that.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable

import psycopg

from plugvault.patience import is_last
from plugvault.pools.errors import PoolError
from plugvault.store.outbox import Mark
from plugvault.store.records import SqlRecords
from plugvault.store.transaction import Transaction

log = logging.getLogger("plugvault.store")

LATE = 0.005  # seconds after which nobody joins any more: the first one's answer waits for all
UNAVAILABLE = "The database is not available."

# What a database says, and what is said of values that it cannot have.
_FAILED = (sqlite3.Error, psycopg.Error, ValueError, OverflowError)

Said = tuple[int, Mark]  # by those before: statements that change something, and events


class Together:
    """One transaction of many, which has begun. `over(members)` is called when it has ended, with
    how many they were, and undoes what is not in the database."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transaction: Transaction,
        records: SqlRecords,
        over: Callable[[int], None],
    ) -> None:
        self.records, self._loop, self._transaction = records, loop, transaction
        self._over: Callable[[int], None] | None = over
        self._members = 0
        self._kept: bool | PoolError = False
        self._late = loop.time() + LATE
        self._waiting: list[asyncio.Future[bool]] = []
        loop.call_soon(self.commit)

    @property
    def is_late(self) -> bool:
        return self._loop.time() >= self._late

    def kept(self) -> asyncio.Future[bool] | bool:
        """Whether all of it is in the database, when that is known: at once for the last. A future
        is for one only: to cancel it is to cancel nobody else's. PoolError("unavailable"): nobody
        knows."""
        if is_last():
            self.commit()
            if isinstance(self._kept, PoolError):
                raise self._kept
            return self._kept
        waiting = self._loop.create_future()
        self._waiting.append(waiting)
        return waiting

    def join(self) -> Said:
        """What has been said before one who has his say now."""
        self._members += 1
        self._transaction.forget()
        return self._transaction.changes, self.records.outbox.mark()

    def leave(self, before: Said) -> bool:
        """One has failed. Whether that is his own affair: else all is undone."""
        changes, outbox = before
        if self._transaction.changes == changes and self._transaction.is_good:
            self.records.outbox.cut(outbox)
            return True
        self.end()
        return False

    def commit(self) -> bool:
        """Whether all is in the database; or nothing, and all have to do it again."""
        if self._over is None:
            return self._kept is True
        try:
            self._transaction.be_patient()
            self.records.finish()
            self._end_transaction()
        except _FAILED as error:  # whoever does it again is told
            log.warning("database: %s", error)
        finally:
            self.end()
        return self._kept is True

    def _end_transaction(self) -> None:
        try:
            self._transaction.commit()
            self._kept = True
        except psycopg.Error as error:
            if not error.sqlstate:  # who is gone has not said what came of it
                self._kept = PoolError("unavailable", UNAVAILABLE)
            raise

    def end(self) -> None:
        """What is not in the database by now is undone."""
        over, self._over = self._over, None
        if over is None:
            return
        try:
            over(self._members)
        finally:
            for waiting in self._waiting:
                self._tell(waiting)

    def _tell(self, waiting: asyncio.Future[bool]) -> None:
        if waiting.done():
            return
        if isinstance(self._kept, PoolError):
            waiting.set_exception(self._kept)
        else:
            waiting.set_result(self._kept)
