"""Asked ahead: a database that is far away is asked once what a request asks piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from evcc import ids
from fixtures.pools import OPERATOR, OTHER_OPERATOR, Pools, authority
from plugvault.contract.issue import issue_contract
from plugvault.patience import WouldWait, at_once
from plugvault.pools import ccp, contracts, cps
from plugvault.pools.errors import PoolError
from plugvault.pools.records import ISO2, Endpoint, Provisioning, Status
from plugvault.store import SqlStore
from plugvault.store.postgresql import Line
from plugvault.store.records import SqlRecords
from world import PCID, World

VEHICLE = Provisioning("V", ISO2, "v", b"c", b"sub2", b"sub1", b"root", not_after=9)
ENDPOINT = Endpoint("hook", "me", "Me", "OEM", "AAA", "https://example.com/", "x", 1)


class Waits:
    """How often the database was waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        flush = Line.flush

        def counted(line: Line) -> None:
            self.count += bool(line._unsaid)
            flush(line)

        monkeypatch.setattr(Line, "flush", counted)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)


@pytest.fixture
def far(postgresql_url: str, open_store: Callable[[str], SqlStore]) -> SqlStore:
    store = open_store(postgresql_url)
    with store.write() as records:
        records.vehicles.put(VEHICLE)
    with store.write() as records:  # learns the chain, and has its statements prepared
        records.lock("V")
        records.vehicles.get("V", ISO2)
        records.endpoints.listening("AAA")
    return store


def ask(records: SqlRecords) -> None:
    records.ahead(
        lambda: records.vehicles.get("V", ISO2),
        lambda: records.endpoints.listening("AAA"),
    )


def test_what_is_asked_ahead_goes_out_with_the_next_question(far: SqlStore, waits: Waits):
    with far.write() as records:
        ask(records)
        assert waits.count == 0
        assert records.vehicles.get("V", ISO2) == VEHICLE
        assert records.endpoints.listening("AAA") == []
        assert records.vehicles.get("V", ISO2) == VEHICLE
        assert waits.count == 1


def test_other_values_are_another_question(far: SqlStore):
    with far.write() as records:
        ask(records)
        assert records.vehicles.get("W", ISO2) is None
        assert records.vehicles.get("V", ISO2) == VEHICLE


def test_what_was_written_is_read_whatever_was_asked_before(store: SqlStore):
    with store.write() as records:
        records.vehicles.put(VEHICLE)
    with store.write() as records:
        ask(records)
        assert records.vehicles.get("V", ISO2) == VEHICLE
        changed = replace(VEHICLE, not_after=10)
        records.vehicles.put(changed)
        assert records.vehicles.get("V", ISO2) == changed
        records.endpoints.put(ENDPOINT)  # several rows at once, in a table beside it
        assert records.endpoints.listening("AAA") == [ENDPOINT]


def test_writing_elsewhere_leaves_the_answers(far: SqlStore, waits: Waits):
    with far.write() as records:
        ask(records)
        records.vehicles.get("V", ISO2)
        records.vehicles.put(VEHICLE)
        before = waits.count
        records.endpoints.listening("AAA")
        assert waits.count == before


def test_a_lock_sees_what_was_there_when_it_was_taken(far: SqlStore):
    with far.write() as records:
        ask(records)
        records.vehicles.get("V", ISO2)
        changed = replace(VEHICLE, not_after=10)
        with far.write() as others:
            others.vehicles.put(changed)
        records.lock("V")
        assert records.vehicles.get("V", ISO2) == changed


def test_a_lock_that_is_held_costs_nothing(far: SqlStore, waits: Waits):
    with far.write() as records:
        records.lock("V", "other")
        ask(records)
        records.lock("V")
        records.vehicles.get("V", ISO2)
        records.lock("other")
        records.endpoints.listening("AAA")
        assert waits.count == 1


def test_a_file_is_asked_nothing_ahead(sqlite_store: SqlStore):
    with sqlite_store.write() as records:
        records.ahead(lambda: pytest.fail("asked"))


def test_a_file_is_asked_once_of_all_whose_revocation_is_expected(sqlite_store: SqlStore):
    asked: list[str] = []
    with sqlite_store.read() as records:
        records._transaction.connection.set_trace_callback(asked.append)
        records.statuses.expect([("ca", "1"), ("ca", "2")])
        assert not records.statuses.revoked([("ca", "1")])
        assert not records.statuses.revoked([("ca", "2")])
        records._transaction.connection.set_trace_callback(None)
    assert len(asked) == 1


def test_so_is_a_far_database_and_of_what_was_asked_ahead(far: SqlStore, waits: Waits):
    def all_of_it() -> int:
        with far.write() as records:
            ask(records)
            waits.count = 0
            records.statuses.expect([("ca", "1"), ("ca", "2")])
            assert not records.statuses.revoked([("ca", "1")])
            assert not records.statuses.revoked([("ca", "2")])
            assert records.vehicles.get("V", ISO2) == VEHICLE
            return waits.count

    all_of_it()  # prepares its statement
    assert all_of_it() == 1


def test_a_lock_sees_who_has_been_revoked(far: SqlStore):
    """Not what was said of him before another's end was waited for."""
    with far.write() as records:
        records.statuses.expect([("ca", "2")])
        with far.write() as others:
            others.statuses.put(Status("ca", "2", "CN=It", 9, revoked=7, reason="superseded"))
        records.lock("V")
        assert records.statuses.revoked([("ca", "2")])


def test_who_is_revoked_is_so_whatever_was_expected(store: SqlStore):
    with store.write() as records:
        records.statuses.put(Status("ca", "2", "CN=It", 9, revoked=7, reason="superseded"))
        records.statuses.expect([("ca", "1"), ("ca", "2")])
        assert not records.statuses.revoked([("ca", "1")])
        assert records.statuses.revoked([("ca", "2")])


def test_nobody_has_a_hand_on_what_is_anothers(far: SqlStore, pool_world: World):
    """Who asked for it all the time would keep its operator from it."""
    pools = Pools(far, pool_world)
    pools.register()
    data = pools.data()
    with far.write() as records:
        records.lock(PCID.upper(), contracts.key(data.emaid))
        records.clients.all()  # now it is held
        with at_once(), pytest.raises(PoolError) as refused, far.write() as others:
            cps.sign(others, OTHER_OPERATOR, [pools.signer], data, PCID, pools.now)
        assert refused.value.reason == "forbidden"
        with at_once(), pytest.raises(WouldWait), far.write() as others:
            cps.sign(others, OPERATOR, [pools.signer], data, PCID, pools.now)


def test_a_contract_is_signed_stored_and_delivered_in_six_waits(
    far: SqlStore, pool_world: World, waits: Waits
):
    """Three for each of its requests: for what it decides by, for what that names, and to have it
    written."""
    pools, found = Pools(far, pool_world), []
    for number in range(3):  # what is asked for the first time is prepared, and waited for
        pcid, emaid = f"PVTA000000000100{number}", f"DEPVTC0000100{number}"
        leaf = pools.provisioning(pcid)
        pools.register(leaf)
        emaid += ids.emaid_check_digit(emaid)
        data = issue_contract(emaid, leaf.der, authority(pool_world.mo_sub2), pools.now)
        request = pools.request(leaf.der)
        waits.count = 0
        with far.write() as records:
            signed = cps.sign(records, OPERATOR, [pools.signer], data, pcid, pools.now)
            assert ccp.keep(records, signed, pools.now)
        stored = waits.count
        contract = pools.install(request)
        assert contract.emaid == emaid
        found.append((stored, waits.count - stored))
    assert found[-1] == (3, 3)
