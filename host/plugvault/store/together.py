"""What an event loop writes within one turn goes into a file together.

To begin a transaction, and above all to end it, costs a file's database more than most of what a
request writes, and neighbouring requests write to the same pages. So those who must not wait
[`plugvault.patience`] share a transaction, one after the other. It ends when each whose turn it is
has had his say, and before that nobody is answered (`Store.kept`).

Who fails after he has written takes the others with him: all is undone, and each is done again
where he may wait, by himself. That is rare, for nearly all refusals come before the first write;
to be able to undo only one's own would cost every request more than that.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from plugvault.store.postgresql import COMMIT
from plugvault.store.transaction import Transaction

log = logging.getLogger("plugvault.store")

LATE = 0.005  # seconds after which nobody joins any more: the first one's answer waits for all


class Together:
    """One transaction of many, which has begun. `over(kept)` is called when it has ended: whether
    all is in the file, or nothing."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: Any, over: Callable[[bool], None]
    ) -> None:
        self.loop, self.connection = loop, connection
        self._over: Callable[[bool], None] | None = over
        self._kept = False
        self._late = loop.time() + LATE
        self._committed: list[Callable[[], None]] = []
        self._waiting: list[asyncio.Future[bool]] = []
        loop.call_soon(self.commit)

    @property
    def is_late(self) -> bool:
        return self.loop.time() >= self._late

    def kept(self) -> asyncio.Future[bool]:
        """Whether what was written is in the file, when that is known. One for each who asks: to
        cancel it is to cancel nobody else's."""
        waiting = self.loop.create_future()
        self._waiting.append(waiting)
        return waiting

    def add(self, transaction: Transaction) -> None:
        """One has had his say."""
        self._committed += transaction.committed

    def is_spoilt(self, transaction: Transaction) -> bool:
        """Whether one that failed left anything behind, or had all undone, as a full disk does."""
        return transaction.has_written or not self.connection.in_transaction

    def commit(self) -> bool:
        """Whether all is in the file; or nothing, and all have to do it again."""
        if self._over:
            try:
                self.connection.execute(COMMIT)
            except sqlite3.Error as error:  # whoever does it again is told
                log.warning("database: %s", error)
            else:
                for done in self._committed:
                    done()
                self._kept = True
            self.end()
        return self._kept

    def end(self) -> None:
        """What is not in the file by now is undone."""
        over, self._over = self._over, None
        if over is None:
            return
        if self.connection.in_transaction:
            self.connection.rollback()
        over(self._kept)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(self._kept)
