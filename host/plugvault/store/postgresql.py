"""A transaction's way to PostgreSQL: statements prepared once, values in binary, few waits.

psycopg makes the connection and keeps it; but its cursors take longer over a small statement than
the server does. So a transaction talks to libpq through psycopg's own wrapper of it. Values go in
PostgreSQL's binary formats, by the types that the server named when the statement was prepared.

A statement whose answer nobody asks for goes out with the next one that somebody does ask: a
transaction waits as often as it reads, and once more at its end, where an error shows that came
before.
"""

import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice, repeat, starmap
from operator import call, itemgetter
from select import POLLIN, POLLOUT, poll
from time import perf_counter
from typing import Any

import psycopg
from psycopg import adapt, pq
from psycopg.abc import Transformer
from psycopg.errors import error_from_result

MOST = 500  # statements that go out together
COMMIT = "COMMIT"

_do: Callable[[Iterable[Any]], object] = deque(maxlen=0).extend

_RESULT = itemgetter(1)
_BINARY = pq.Format.BINARY
_GOOD = {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}
_INT8 = 20  # the number of this type: see pg_type

Row = tuple[Any, ...]


def _numbers(values: Sequence[int]) -> bytes:
    """An array of bigint."""
    head = struct.pack(">iiiii", 1, 0, _INT8, len(values), 1)
    return head + b"".join(struct.pack(">iq", 8, value) for value in values)


_WRITE: dict[int, Callable[[Any], bytes]] = {
    16: struct.Struct(">?").pack,
    17: bytes,
    _INT8: struct.Struct(">q").pack,
    23: struct.Struct(">i").pack,
    25: str.encode,
    1043: str.encode,
    701: struct.Struct(">d").pack,
    1016: _numbers,
}


@dataclass(frozen=True)
class _Prepared:
    name: bytes
    write: Sequence[Callable[[Any], bytes]]
    formats: Sequence[pq.Format]
    rows: Transformer  # psycopg's reader of values, which knows the columns' types

    def values(self, values: Sequence[Any]) -> list[Any]:
        try:
            each = zip(self.write, values, strict=True)
            if None in values:
                return [None if value is None else write(value) for write, value in each]
            return list(starmap(call, each))  # no interpreter between them
        except struct.error as error:
            raise psycopg.DataError(str(error)) from error


class Answer:
    """To one statement; whoever asks for it waits."""

    def __init__(self, line: "Line", rows: Transformer) -> None:
        self._line, self._rows = line, rows
        self.result: pq.abc.PGresult | None = None

    def fetchall(self) -> list[Row]:
        result = self.result or self._ask()
        self._rows.set_pgresult(result, set_loaders=False)
        return self._rows.load_rows(0, result.ntuples, tuple)

    @property
    def rowcount(self) -> int:
        return (self.result or self._ask()).command_tuples or 0

    def _ask(self) -> pq.abc.PGresult:
        self._line.flush()
        if self.result is None:
            raise psycopg.OperationalError("a statement before this one has failed")
        return self.result


class Silent(psycopg.OperationalError):
    """The server does not answer; its connection is of no more use."""


class Line:
    """Of one transaction. `known`: what is prepared on its connection, filled here; `patience`:
    milliseconds of silence before Silent, but never of what COMMIT came to: that nobody could say.

    Raises psycopg.Error.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        known: dict[str, _Prepared],
        patience: int | None = None,
    ) -> None:
        self._connection, self._libpq = connection, connection.pgconn
        self._known, self._patience = known, patience
        self._unsaid: list[tuple[Any, ...]] = []  # as libpq takes them
        self._answers: list[Answer] = []  # to those
        self._socket = poll()
        self.waited = 0.0  # seconds, for answers

    def execute(self, text: str, values: Sequence[Any] = ()) -> Answer:
        """`text`: with %s for values."""
        if text == COMMIT:
            self._patience = None
        prepared = self._known.get(text) or self._prepare(text)
        answer = Answer(self, prepared.rows)
        self._unsaid.append((prepared.name, prepared.values(values), prepared.formats, _BINARY))
        self._answers.append(answer)
        if len(self._unsaid) >= MOST:
            self.flush()
        return answer

    def executemany(self, text: str, rows: Iterable[Sequence[Any]]) -> None:
        for values in rows:
            self.execute(text, values)

    @property
    def in_transaction(self) -> bool:
        """And not in one that has failed; or it has not been said yet that one begins."""
        idle = pq.TransactionStatus.IDLE if self._unsaid else None
        return self._libpq.transaction_status in (pq.TransactionStatus.INTRANS, idle)

    def flush(self) -> None:
        """Say all, and wait for all the answers. What follows statements one by one is left to
        `map`, which needs no interpreter for it."""
        unsaid, answers, self._unsaid, self._answers = self._unsaid, self._answers, [], []
        if not unsaid:
            return
        libpq, together = self._libpq, len(unsaid) > 1
        if together:
            libpq.enter_pipeline_mode()
        _do(starmap(libpq.send_query_prepared, unsaid))
        if together:
            libpq.pipeline_sync()
        while libpq.flush():
            self._wait(POLLIN | POLLOUT)
        results = self._results(2 * len(unsaid) + together)  # each and its end; the end of all
        if together:
            libpq.exit_pipeline_mode()
        results = results[: 2 * len(unsaid) : 2]
        states = list(map(getattr, results, repeat("status"), repeat(None)))  # None: it is lost
        good = len(results)
        if not _GOOD.issuperset(states):  # what follows the first of them was not even tried
            good = next(at for at, state in enumerate(states) if state not in _GOOD)
        _do(map(setattr, answers, repeat("result"), results[:good]))
        if good < len(results):
            raise _error(results[good])

    def _only(self) -> pq.abc.PGresult:
        """The result of what was sent alone."""
        result, _ = self._results(2)  # and its end
        if result is None or result.status not in _GOOD:
            raise _error(result)
        return result

    def _results(self, many: int) -> list[pq.abc.PGresult | None]:
        found: list[tuple[int, pq.abc.PGresult | None]] = []
        while len(found) < many:
            if self._libpq.is_busy():
                self._wait(POLLIN)
            not_busy, results = iter(self._libpq.is_busy, 1), iter(self._libpq.get_result, self)
            found += islice(zip(not_busy, results, strict=False), many - len(found))
        return list(map(_RESULT, found))

    def _wait(self, what: int) -> None:
        """Others go on meanwhile, which libpq's own waiting for a result does not allow."""
        self._socket.register(self._libpq.socket, what)
        began = perf_counter()
        answers = self._socket.poll(self._patience)
        self.waited += perf_counter() - began
        if not answers:
            raise Silent("the server does not answer")
        self._libpq.consume_input()

    def _prepare(self, text: str) -> _Prepared:
        self.flush()
        name = b"plugvault_%d" % len(self._known)
        number = count(1)
        numbered = re.sub("%[s%]", lambda one: "%" if one[0] == "%%" else f"${next(number)}", text)
        self._libpq.send_prepare(name, numbered.encode())
        self._only()
        self._libpq.send_describe_prepared(name)
        found = self._only()
        rows: Transformer = adapt.Transformer(self._connection)
        rows.set_pgresult(found, format=_BINARY)
        made = _Prepared(
            name,
            [_WRITE[found.param_type(place)] for place in range(found.nparams)],
            [_BINARY] * found.nparams,
            rows,
        )
        self._known[text] = made
        return made


def _error(result: pq.abc.PGresult | None) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the connection is lost")
    return error_from_result(result)


def has_gone(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has closed its end, or says what nobody has asked."""
    looked = poll()
    looked.register(connection.fileno(), POLLIN)
    return bool(looked.poll(0))
