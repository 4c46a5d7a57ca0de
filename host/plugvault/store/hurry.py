"""Connections for those who must not wait [`plugvault.patience`]: an event loop, above all.

They come one after the other, and the pool of connections, which sees to many at once, would take
longer than what they ask. So a connection or two are kept apart, on which another's lock is waited
for hardly at all. A file is always at hand. A database server is while it is on this machine and
answers quickly: each commit that has to wait for a slow disk would make a loop stand still.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import psycopg
from psycopg import pq
from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from plugvault.patience import wait
from plugvault.store.postgresql import Line, has_gone

HURRY = 10  # milliseconds for another's lock: who is sent away at once does all its work twice
SILENCE = 200  # milliseconds in which a server answers, if it answers soon
SLOW = 0.005  # seconds for a transaction's answers, on an average of as many as these
LATELY = 16
AWAY = 1.0  # seconds in which a server that is slow is left to those who may wait

_BEGUN = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)


class Hurry:
    """`engine`: what opens them; `close()` when done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_file = engine.dialect.name == "sqlite"
        self._is_here = self._is_file or is_local(engine.url)
        self._ready: list[tuple[Any, dict[str, Any]]] = []  # with what is prepared on each
        self._opening = threading.Lock()
        self._waited = 0.0  # seconds, lately
        self._away_until = 0.0

    @property
    def at_hand(self) -> bool:
        return self._is_here and (self._is_file or time.monotonic() >= self._away_until)

    def connect(self) -> tuple[Any, Callable[..., None]]:
        """A connection, and what gives it back, with how many have shared it."""
        connection, prepared = self._take()
        line = None if self._is_file else Line(connection, prepared, SILENCE)

        def give_back(members: int = 1) -> None:
            if line:
                self._note(line.waited / max(1, members))
            if self._is_clean(connection):
                self._ready.append((connection, prepared))
            else:
                connection.close()

        return line or connection, give_back

    def keep_one(self) -> None:
        """Have one ready, by who may wait for a server to take it. When there is none to be had,
        who asks has one from the pool all the same."""
        if self._ready or self._is_file or not self._is_here:
            return
        pool = cast(QueuePool, self._engine.pool)
        if pool.checkedout() >= pool.size():  # who has none yet comes first
            return
        if self._opening.acquire(blocking=False):
            try:
                with suppress(psycopg.Error, SQLAlchemyError):
                    self._ready.append(self._open())
            finally:
                self._opening.release()

    def close(self) -> None:
        while self._ready:
            self._ready.pop()[0].close()

    def _take(self) -> tuple[Any, dict[str, Any]]:
        while self._ready:
            connection, prepared = self._ready.pop()
            if self._is_file or not has_gone(connection):
                return connection, prepared
            connection.close()
        if not self._is_file:
            wait()  # for the server: see `keep_one`
        return self._open()

    def _open(self) -> tuple[Any, dict[str, Any]]:
        held = self._engine.raw_connection()
        connection: Any = held.driver_connection
        prepared = held.info.setdefault("prepared", {})
        held.detach()
        setting = "PRAGMA busy_timeout" if self._is_file else "SET lock_timeout"
        connection.execute(f"{setting}={HURRY}")
        return connection, prepared

    def _is_clean(self, connection: Any) -> bool:
        """With nothing begun on it any more; or it is of no use."""
        if self._is_file:
            if connection.in_transaction:
                connection.rollback()
            return True
        if connection.pgconn.transaction_status in _BEGUN:
            with suppress(psycopg.Error):
                connection.rollback()
        return bool(connection.pgconn.transaction_status == pq.TransactionStatus.IDLE)

    def _note(self, waited: float) -> None:
        self._waited += (waited - self._waited) / LATELY
        if self._waited > SLOW:
            self._waited, self._away_until = 0.0, time.monotonic() + AWAY


def is_local(url: URL) -> bool:
    """Whether a server is on this machine, at a socket among its files: as libpq reads it."""
    host = url.host or url.query.get("host") or os.environ.get("PGHOST", "/")
    return str(host).startswith(("/", "@"))
