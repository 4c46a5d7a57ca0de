"""The way to PostgreSQL: what is said together, where its errors show, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from plugvault.store.postgresql import MOST, Line


@pytest.fixture
def connection(postgresql_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgresql_url, autocommit=True) as made:
        made.execute("CREATE TABLE things (name text PRIMARY KEY, size bigint, body bytea)")
        yield made


Start = Callable[[], Line]


@pytest.fixture
def start(connection: psycopg.Connection[Any]) -> Start:
    known: dict[str, Any] = {}
    return lambda: Line(connection, known)


PUT = "INSERT INTO things VALUES (%s, %s, %s)"
ALL = "SELECT name, size, body FROM things ORDER BY name"


def test_values_come_back_as_they_went(start: Start) -> None:
    line = start()
    rows = [("", -(2**63), b""), ("m ä % \\ '", 2**63 - 1, bytes(range(256))), ("z", None, None)]
    line.executemany(PUT, rows)
    assert line.execute(ALL).fetchall() == rows
    numbers = "SELECT true, %s::boolean, %s::float8, %s::int, unnest(%s::bigint[]), 7 %% 4"
    assert line.execute(numbers, (False, 0.1, -5, [3, -4])).fetchall() == [
        (True, False, 0.1, -5, 3, 3),
        (True, False, 0.1, -5, -4, 3),
    ]


def test_nothing_is_said_before_an_answer_is_asked_for(
    start: Start, connection: psycopg.Connection[Any]
) -> None:
    line = start()
    line.execute("SELECT 1").fetchall()
    put = line.execute(PUT, ("a", 1, b""))
    assert connection.execute("SELECT count(*) FROM things").fetchall() == [(0,)]
    assert put.rowcount == 1
    assert connection.execute("SELECT count(*) FROM things").fetchall() == [(1,)]


def test_each_answer_is_its_own_statements(start: Start) -> None:
    line = start()
    line.execute("BEGIN")
    answers = [line.execute("SELECT %s::bigint", (number,)) for number in range(20)]
    line.execute("COMMIT").fetchall()
    assert [answer.fetchall() for answer in answers] == [[(number,)] for number in range(20)]


def test_an_error_shows_with_the_next_answer_and_nothing_after_it_is_done(
    start: Start, connection: psycopg.Connection[Any]
) -> None:
    line = start()
    line.execute("BEGIN")
    line.execute(PUT, ("a", 1, b""))
    line.execute(PUT, ("a", 2, b""))  # the same key
    line.execute(PUT, ("b", 3, b""))
    with pytest.raises(psycopg.errors.UniqueViolation):
        line.execute("COMMIT").fetchall()
    connection.rollback()
    assert start().execute(ALL).fetchall() == []


def test_an_answer_that_an_error_took_away_is_an_error_too(
    start: Start, connection: psycopg.Connection[Any]
) -> None:
    line = start()
    line.execute("BEGIN")
    line.execute("SELECT 1 / %s::int", (1,))
    line.execute(ALL).fetchall()  # all is prepared now
    line.execute("SELECT 1 / %s::int", (0,))
    lost = line.execute(ALL)
    with pytest.raises(psycopg.errors.DivisionByZero):
        lost.fetchall()
    connection.rollback()
    with pytest.raises(psycopg.OperationalError, match="before this one"):
        lost.fetchall()


def test_a_line_is_good_again_after_an_error(
    start: Start, connection: psycopg.Connection[Any]
) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        start().execute("SELECT 1 / %s::int", (0,)).fetchall()
    connection.rollback()
    assert start().execute("SELECT 1 / %s::int", (1,)).fetchall() == [(1,)]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_number_too_large_for_its_column_is_the_values_fault(start: Start, value: int) -> None:
    with pytest.raises(psycopg.DataError):
        start().execute(PUT, ("a", value, b""))


@pytest.mark.parametrize("values", [("a", 1), ("a", 1, b"", 2), ("a", None, b"", 2)])
def test_values_are_as_many_as_the_statement_has(start: Start, values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        start().execute(PUT, values)


def test_a_statement_that_is_none_is_refused(start: Start) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        start().execute("SELECT name FROM nothing")


def test_text_with_a_nul_is_refused_and_not_cut_short(start: Start) -> None:
    with pytest.raises(psycopg.DataError):
        start().execute(PUT, ("a\0b", 1, b"")).fetchall()


def test_more_than_a_socket_takes_at_once_goes_through(start: Start) -> None:
    line = start()
    body = bytes(1 << 16)
    line.execute("BEGIN")
    line.executemany(PUT, ((f"{number:04}", number, body) for number in range(MOST + 100)))
    answers = [line.execute(ALL) for _ in range(3)]  # and much comes back
    line.execute("COMMIT").fetchall()
    assert all(len(answer.fetchall()) == MOST + 100 for answer in answers)


def test_a_connection_that_is_lost_is_an_error(
    start: Start, connection: psycopg.Connection[Any], postgresql_url: str
) -> None:
    line = start()
    line.execute(ALL).fetchall()
    pid = connection.info.backend_pid
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    for statements in (1, 2):
        line.executemany(ALL, [()] * statements)
        with pytest.raises(psycopg.Error):
            line.execute(ALL).fetchall()
    with pytest.raises(psycopg.OperationalError):
        start().execute("SELECT 1")  # is not even prepared
