"""PostgreSQL's driver: values come back as they went, and its errors are told apart."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from plugvault.pools.errors import PoolError
from plugvault.pools.records import ISO2, Event, Provider, Provisioning
from plugvault.store import SqlStore

VEHICLE = Provisioning("V", ISO2, "v", b"c", b"sub2", b"sub1", b"root")


@pytest.fixture
def server(postgresql_url: str, open_store: Callable[[str], SqlStore]) -> SqlStore:
    return open_store(postgresql_url)


def test_values_come_back_as_they_went(server: SqlStore):
    records_put = [
        Provisioning("", ISO2, "m ä % \\ '", bytes(range(256)), None, b"sub1", b"root"),
        Provisioning("V", ISO2, "v", b"", b"sub2", b"sub1", b"root", not_after=2**63 - 1),
        Provisioning("W", ISO2, "w", b"c", None, b"", b"r", not_after=-(2**63), issuer="%s"),
    ]
    with server.write() as records:
        for record in records_put:
            records.vehicles.put(record)
    with server.read() as records:
        assert [
            records.vehicles.get(record.vehicle, ISO2) for record in records_put
        ] == records_put


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_too_large_for_its_column_is_the_callers_mistake(server: SqlStore, number: int):
    def put() -> None:
        with server.write() as records:
            records.vehicles.put(
                Provisioning("V", ISO2, "v", b"", None, b"", b"", "", None, number)
            )

    with pytest.raises(PoolError) as refused:
        put()
    assert refused.value.reason == "invalid"


def test_text_with_a_nul_is_refused_and_not_cut_short(server: SqlStore):
    def put() -> None:
        with server.write() as records:
            records.providers.put(Provider("DEPVA", "a\0b", ""))

    with pytest.raises(PoolError) as refused:
        put()
    assert refused.value.reason == "invalid"
    with server.read() as records:
        assert records.providers.all() == []


def test_nothing_is_written_after_a_statement_that_failed(server: SqlStore):
    def write() -> None:
        with server.write() as records:
            records.providers.put(Provider("DEPVA", "A", ""))
            with pytest.raises(psycopg.ProgrammingError):
                records._transaction.connection.execute("SELECT 1 FROM nowhere")
            records.providers.put(Provider("DEPVB", "B", ""))

    with pytest.raises(PoolError, match="unavailable"):
        write()
    with server.read() as records:
        assert records.providers.all() == []


def test_many_rows_are_written_by_one_transaction(server: SqlStore):
    texts = [f"{number:05}" + "x" * 1000 for number in range(2000)]
    with server.write() as records:
        for text in texts:
            records.events.add(Event(text[:5], "kind", 1, "who", text))
    with server.read() as records:
        assert [event.payload for event in records.events.since(0, None, 3000)] == texts


def test_a_lost_connection_is_no_answer(server: SqlStore, postgresql_url: str):
    def read() -> None:
        with server.read() as records:
            pid = records._transaction.connection.info.backend_pid
            with psycopg.connect(postgresql_url, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            records.providers.all()

    with pytest.raises(PoolError) as refused:
        read()
    assert refused.value.reason == "unavailable"
    with server.read() as records:
        assert records.providers.all() == []
