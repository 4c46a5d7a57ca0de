"""A transaction reads its own writes, and after a lock what others committed before it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest

from fixtures.pools import OPERATOR, OTHER_OPERATOR, Pools
from plugvault.pools import contracts, cps
from plugvault.pools.contracts import SignedContract
from plugvault.pools.errors import PoolError
from plugvault.pools.records import ISO2, Endpoint, Provisioning, Root, Status
from plugvault.store import SqlStore
from world import PCID, World

VEHICLE = Provisioning("V", ISO2, "v", b"c", b"sub2", b"sub1", b"root", not_after=9)
ENDPOINT = Endpoint("hook", "me", "Me", "OEM", "AAA", "https://example.com/", "x", 1)
ROOT = Root("id", "V2G", b"der", "ab" * 32)
REVOKED = Status("ca", "2", "CN=It", 9, revoked=7, reason="superseded")


@pytest.fixture
def server(postgresql_url: str, open_store: Callable[[str], SqlStore]) -> SqlStore:
    store = open_store(postgresql_url)
    with store.write() as records:
        records.vehicles.put(VEHICLE)
    return store


def test_a_transaction_reads_its_own_writes(store: SqlStore):
    with store.write() as records:
        records.vehicles.put(VEHICLE)
    with store.write() as records:
        assert records.vehicles.get("V", ISO2) == VEHICLE
        assert records.endpoints.listening("AAA") == []
        changed = replace(VEHICLE, not_after=10)
        records.vehicles.put(changed)
        assert records.vehicles.get("V", ISO2) == changed
        records.endpoints.put(ENDPOINT)
        assert records.endpoints.listening("AAA") == [ENDPOINT]


def test_a_revocation_is_seen_by_the_transaction_that_enters_it(store: SqlStore):
    with store.write() as records:
        assert not records.statuses.revoked([("ca", "1"), ("ca", "2")])
        records.statuses.put(REVOKED)
        assert not records.statuses.revoked([("ca", "1")])
        assert records.statuses.revoked([("ca", "2")])


def test_a_transaction_reads_the_roots_again_after_each_change_of_its_own(store: SqlStore):
    with store.write() as records:
        assert list(records.roots.all()) == []
        records.roots.put(ROOT)
        assert list(records.roots.all()) == [ROOT]
        second = replace(ROOT, root_id="second", fingerprint="cd" * 32)
        records.roots.put(second)
        assert list(records.roots.all()) == [ROOT, second]
        records.roots.delete("id")
        assert list(records.roots.all()) == [second]


def test_a_lock_shows_a_root_that_another_writer_has_added_meanwhile(server: SqlStore):
    with server.write() as records:
        assert list(records.roots.all()) == []
        with server.write() as others:
            others.roots.put(ROOT)
        records.lock("V")
        assert list(records.roots.all()) == [ROOT]


def test_a_lock_shows_a_record_that_another_writer_has_changed_meanwhile(server: SqlStore):
    with server.write() as records:
        assert records.vehicles.get("V", ISO2) == VEHICLE
        changed = replace(VEHICLE, not_after=10)
        with server.write() as others:
            others.vehicles.put(changed)
        records.lock("V")
        assert records.vehicles.get("V", ISO2) == changed


def test_a_lock_shows_a_revocation_that_another_writer_has_entered_meanwhile(server: SqlStore):
    with server.write() as records:
        assert not records.statuses.revoked([("ca", "2")])
        with server.write() as others:
            others.statuses.put(REVOKED)
        records.lock("V")
        assert records.statuses.revoked([("ca", "2")])


def test_an_operator_locks_no_contract_of_another_operator(server: SqlStore, pool_world: World):
    """A caller that locked foreign EMAIDs all the time would keep their operators from them."""
    pools = Pools(server, pool_world)
    pools.register()
    data = pools.data()

    def sign() -> SignedContract:
        with server.write() as records:
            return cps.sign(records, OPERATOR, [pools.signer], data, PCID, pools.now)

    with ThreadPoolExecutor(1) as threads:
        with server.write() as records:
            records.lock(PCID.upper(), contracts.key(data.emaid))
            with pytest.raises(PoolError) as refused, server.write() as others:
                cps.sign(others, OTHER_OPERATOR, [pools.signer], data, PCID, pools.now)
            assert refused.value.reason == "forbidden"  # although the lock is held
            signing = threads.submit(sign)
            assert wait([signing], 0.5).not_done
        assert signing.result(20).data == data
