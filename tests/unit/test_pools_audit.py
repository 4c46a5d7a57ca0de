"""The audit trail: append-only, and an edit made behind the store's back is found."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from sqlalchemy.engine import make_url

from plugvault.pools import audit
from plugvault.store import SqlStore

LINES = 5


def write(store: SqlStore, number: int) -> None:
    with store.write() as records:
        audit.note(records, "Ada (a1)", "root added", f"root {number}", "MO 00ff", 1000 + number)


@pytest.fixture
def trail(store: SqlStore) -> SqlStore:
    for number in range(LINES):
        write(store, number)
    return store


def verify(store: SqlStore, head: str = "") -> audit.Verdict:
    with store.read() as records:
        return audit.verify(records, head)


def sequences(store: SqlStore) -> list[int]:
    with store.read() as records:
        return [entry.sequence for entry in records.audit.since(0, 100)]


def behind(url: str, *statements: str) -> None:
    """Edit the database directly, past the store."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database or "")) as database, database:
            for statement in statements:
                database.execute(statement)
    else:
        with psycopg.connect(url) as database:
            for statement in statements:
                database.execute(statement.encode())


def without_triggers(url: str, *statements: str) -> None:
    """Edit the database directly, with its triggers disabled."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database or "")) as database:
            triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            guards = [f"DROP TRIGGER {name}" for (name,) in triggers]
    else:
        guards = ["ALTER TABLE audit DISABLE TRIGGER USER"]
    behind(url, *guards, *statements)


def test_an_untouched_trail_is_whole(trail: SqlStore):
    verdict = verify(trail)
    assert (verdict.lines, verdict.broken, verdict.cut) == (LINES, None, False)
    with trail.read() as records:
        assert verdict.head == records.audit.since(0, 100)[-1].digest
        assert verify(trail, verdict.head) == verdict


def test_an_empty_trail_is_whole(store: SqlStore):
    assert verify(store) == audit.Verdict(0, "")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET detail = 'x'", "DELETE FROM audit", "DELETE FROM audit WHERE at = 1002"],
)
def test_the_database_refuses_an_edit(trail: SqlStore, store_url: str, statement: str):
    with pytest.raises((sqlite3.Error, psycopg.Error)):
        behind(store_url, statement)
    assert verify(trail).lines == LINES


@pytest.mark.parametrize(
    "change",
    [
        "at = 1",
        "who = 'Eve'",
        "action = 'root deleted'",
        "subject = 'another'",
        "detail = ''",
        "digest = ''",
    ],
)
def test_an_edited_line_is_named(trail: SqlStore, store_url: str, change: str):
    edited = sequences(trail)[2]
    without_triggers(store_url, f"UPDATE audit SET {change} WHERE sequence = {edited}")
    verdict = verify(trail)
    assert (verdict.lines, verdict.broken) == (2, edited)


def test_the_line_after_one_that_was_taken_out_is_named(trail: SqlStore, store_url: str):
    _, second, third, *_ = sequences(trail)
    without_triggers(store_url, f"DELETE FROM audit WHERE sequence = {second}")
    assert verify(trail).broken == third


def test_an_edit_with_a_fitting_digest_breaks_the_next_line(trail: SqlStore, store_url: str):
    with trail.read() as records:
        before, edited, after, *_ = records.audit.since(0, 100)
    forged = audit.digest(before.digest, audit.AuditEntry(edited.at, "Eve", "root added", "x"))
    change = f"who = 'Eve', subject = 'x', detail = '', digest = '{forged}'"
    without_triggers(store_url, f"UPDATE audit SET {change} WHERE sequence = {edited.sequence}")
    assert verify(trail).broken == after.sequence


def test_a_cut_end_is_found_with_a_noted_head(trail: SqlStore, store_url: str):
    noted = verify(trail).head
    without_triggers(store_url, f"DELETE FROM audit WHERE sequence = {sequences(trail)[-1]}")
    assert verify(trail, noted).cut
    assert verify(trail).broken is None  # without the head the cut cannot be seen


def test_concurrent_writers_make_one_chain(store: SqlStore):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: write(store, number), range(40)))
    assert (verify(store).lines, verify(store).broken) == (40, None)


def test_a_long_trail_is_walked_to_its_end(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit, "_PAGE", 2)
    for number in range(LINES):
        write(store, number)
    assert verify(store).lines == LINES


def test_a_transaction_that_is_rolled_back_leaves_no_line(store: SqlStore):
    def give_up_half_way() -> None:
        with store.write() as records:
            audit.note(records, "Ada", "root added", "x", "", 1)
            raise KeyError

    with pytest.raises(KeyError):
        give_up_half_way()
    assert verify(store).lines == 0
