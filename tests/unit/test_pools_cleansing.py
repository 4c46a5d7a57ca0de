"""The scheduled cleaning removes ended records and their dependents once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fixtures.pools import Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.delivery import AtPlausibleTime, plausible
from plugvault.pki import path
from plugvault.pools import cleansing, rcp
from plugvault.pools.cleansing import Counts, cleanse
from plugvault.pools.records import Contract, Event, Provisioning, Status
from plugvault.store import SqlStore
from world import NOW, PCID, World, root

DAY = 86_400
LATER = NOW + 91 * DAY  # the world's leaves are good for 90


def events(store: SqlStore, *kinds: str) -> list[Event]:
    with store.read() as records:
        return [event for event in records.events.since(0, None, 10_000) if event.kind in kinds]


def revoke(store: SqlStore, der: bytes) -> None:
    certificate = path.read(der)
    with store.write() as records:
        records.statuses.put(
            Status(*path.identity(certificate), "", certificate.not_after, NOW, "keyCompromise")
        )


def test_valid_records_stay(pools: Pools):
    pools.register()
    pools.put()
    assert cleanse(pools.store, pools.now) == Counts(0, 0, 0)
    assert pools.contract()


def test_an_expired_vehicle_goes_with_its_contracts_and_owners_are_notified(pools: Pools):
    pools.register()
    contract = pools.put()
    counts = cleanse(pools.store, LATER)
    assert (counts.roots, counts.vehicles) == (0, 1)
    with pools.store.read() as records:
        assert records.vehicles.get(PCID, ISO2) is None
    assert pools.contract() is None
    (mo,) = events(pools.store, "mo.prov.cert.deleted")
    assert (mo.audience, mo.vehicle) == ("DEPVT", PCID)
    assert json.loads(mo.payload) == {"emaid": contract.emaid, "pcid": PCID}
    (oem,) = events(pools.store, "oem.contract.deleted")
    assert oem.audience == "PVT"


def test_a_revoked_vehicle_goes(pools: Pools):
    stored = pools.register()
    pools.put()
    revoke(pools.store, stored.certificate)
    assert cleanse(pools.store, NOW).vehicles == 1
    assert pools.contract() is None


@pytest.mark.parametrize("level", ["oem_sub2", "oem_sub1"])
def test_a_vehicle_under_a_revoked_sub_ca_goes(pools: Pools, level: str):
    pools.register()
    revoke(pools.store, getattr(pools.world, level).der)
    assert cleanse(pools.store, NOW).vehicles == 1


def test_an_expired_contract_goes_and_its_vehicle_stays(pools: Pools):
    pools.register()
    contract = pools.put()
    with pools.store.write() as records:
        records.contracts.put(replace(contract, not_after=NOW + DAY))
    assert cleanse(pools.store, NOW + DAY).contracts == 0
    assert cleanse(pools.store, NOW + DAY + 1) == Counts(0, 0, 1)
    assert pools.contract() is None
    assert pools.provisioning_der()
    assert len(events(pools.store, "oem.contract.deleted")) == 1
    assert events(pools.store, "mo.prov.cert.deleted") == []


def test_a_revoked_contract_goes(pools: Pools):
    pools.register()
    revoke(pools.store, pools.put().certificate)
    assert cleanse(pools.store, NOW) == Counts(0, 0, 1)


def test_an_expired_root_goes_and_takes_nothing_with_it(pools: Pools):
    pools.register()
    pools.put()
    old = root("Old Root", dc="OEM", not_after=NOW + DAY)
    with pools.store.write() as records:
        rcp.put(records, old.der, "OEM", NOW)
    assert cleanse(pools.store, NOW + 2 * DAY) == Counts(1, 0, 0)
    (event,) = events(pools.store, "root.cert.expired")
    assert json.loads(event.payload)["fingerprintSHA256"] == path.fingerprint(old.der)
    assert pools.contract()
    with pools.store.read() as records:
        assert records.audit.since(0, 100)[-1].who == cleansing.WHO


def test_a_revoked_root_goes_and_its_vehicles_stay(pools: Pools):
    pools.register()
    revoke(pools.store, pools.world.oem_root.der)
    assert cleanse(pools.store, NOW).roots == 1
    assert len(events(pools.store, "root.cert.revoked")) == 1
    with pools.store.read() as records:
        assert records.vehicles.get(PCID, ISO2)


# Many of them: bounded transactions, two at once, one that is killed


def fleet(store: SqlStore, world: World, vehicles: int) -> None:
    """Expired vehicles with two contracts each, as records."""
    leaf = world.provisioning(world.cps.point)
    of = world.contract
    with store.write() as records:
        for number in range(vehicles):
            pcid = f"PVTP{number:013}"
            records.vehicles.put(
                Provisioning(
                    pcid, ISO2, pcid, leaf.der, leaf.chain[1], leaf.chain[2], world.oem_root.der,
                    not_after=NOW - 1, issuer="00", serial=f"{number:x}",
                )
            )  # fmt: skip
            for letter in "AB":
                emaid = f"DEPV{letter}C{number:08}0"
                records.contracts.put(
                    Contract(
                        emaid, ISO2, pcid, pcid, of.der, b"-", "00", letter == "A", NOW - DAY,
                        NOW + DAY, issuer="01", serial=f"{letter}{number:x}",
                    )
                )  # fmt: skip


def told(store: SqlStore, kind: str) -> Counter[str]:
    """How often the event was told of each contract."""
    return Counter(json.loads(event.payload)["emaid"] for event in events(store, kind))


def assert_each_went_once(store: SqlStore, vehicles: int) -> None:
    expected = {f"DEPV{letter}C{number:08}0" for letter in "AB" for number in range(vehicles)}
    for kind in ("mo.prov.cert.deleted", "oem.contract.deleted"):
        counted = told(store, kind)
        assert set(counted) == expected
        assert set(counted.values()) == {1}
    with store.read() as records:
        for number in range(vehicles):
            assert records.vehicles.get(f"PVTP{number:013}", ISO2) is None
            assert not records.contracts.of_vehicle(f"PVTP{number:013}", ISO2)


def test_transactions_are_bounded(
    store: SqlStore, pool_world: World, monkeypatch: pytest.MonkeyPatch
):
    fleet(store, pool_world, 25)
    sizes: list[int] = []
    real = cleansing._vehicles

    def spy(*arguments) -> int:
        sizes.append(real(*arguments))
        return sizes[-1]

    monkeypatch.setattr(cleansing, "_vehicles", spy)
    assert cleanse(store, NOW, batch=10) == Counts(0, 25, 0)
    assert sizes == [10, 10, 5]
    assert_each_went_once(store, 25)


def test_concurrent_runs_remove_each_record_once(
    store_url: str, open_store: Callable[[str], SqlStore], pool_world: World
):
    stores = [open_store(store_url) for _ in range(3)]
    fleet(stores[0], pool_world, 60)
    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda store: cleanse(store, NOW, batch=7), stores))
    last = cleanse(stores[0], NOW)
    assert sum(count.vehicles for count in [*counts, last]) == 60
    assert_each_went_once(stores[0], 60)


def test_concurrent_runs_publish_an_expired_root_once(
    store_url: str, open_store: Callable[[str], SqlStore]
):
    stores = [open_store(store_url) for _ in range(2)]
    with stores[0].write() as records:
        for number in range(5):
            old = root(f"Old {number}", dc="OEM", not_after=NOW + 1)
            rcp.put(records, old.der, "OEM", NOW)
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda store: cleanse(store, NOW + 2), stores))
    assert sum(count.roots for count in counts) == 5
    assert len(events(stores[0], "root.cert.expired")) == 5


WORKER = """
import sys
from plugvault.pools import cleansing
from plugvault.store import SqlStore

remove, removed = cleansing.pcp.remove, []

def stop_in_the_second_batch(*arguments):
    remove(*arguments)
    removed.append(arguments)
    if len(removed) == 15:
        print("half way", flush=True)
        sys.stdin.read()

cleansing.pcp.remove = stop_in_the_second_batch
cleansing.cleanse(SqlStore.open(sys.argv[1]), float(sys.argv[2]), batch=10)
"""


def test_a_killed_run_leaves_whole_steps_and_the_next_run_finishes(
    store_url: str, open_store: Callable[[str], SqlStore], pool_world: World
):
    store = open_store(store_url)
    fleet(store, pool_world, 40)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, store_url, str(NOW)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with worker:
        assert worker.stdout
        assert worker.stdout.readline() == "half way\n"
        worker.kill()
    with store.read() as records:
        remaining = [n for n in range(40) if records.vehicles.get(f"PVTP{n:013}", ISO2)]
        for number in range(40):
            contracts = records.contracts.of_vehicle(f"PVTP{number:013}", ISO2)
            assert len(contracts) == (2 if number in remaining else 0)
    assert len(remaining) == 30
    deleted = told(store, "mo.prov.cert.deleted")
    assert len(deleted) == 20
    assert deleted == told(store, "oem.contract.deleted")
    assert cleanse(store, NOW).vehicles == 30
    assert_each_went_once(store, 40)


def test_a_vehicle_renewed_while_it_was_looked_at_stays(pools: Pools):
    """Between finding it and taking it: what was found is no more what is there."""
    stored = pools.register()
    with pools.store.write() as records:
        renewed = replace(stored, not_after=LATER + DAY)

        class Late:
            """`ended` answers from before the renewal."""

            def __getattr__(self, name: str):
                return getattr(records.vehicles, name)

            def ended(self, now: float, limit: int) -> list[Provisioning]:
                records.vehicles.put(renewed)
                return [stored]

        class Raced:
            vehicles = Late()

            def __getattr__(self, name: str):
                return getattr(records, name)

        assert cleansing._vehicles(Raced(), LATER, 10) == 0
        assert records.vehicles.get(PCID, ISO2) == renewed


class Ran:
    """A cleansing of the pools, and the clock of its process that never goes back."""

    def __init__(self, pools: Pools) -> None:
        self._store, self.seconds = pools.store, 0.0
        self.at = AtPlausibleTime("cleansing", cleanse, lambda: self.seconds)

    def __call__(self, now: float) -> object:
        return self.at(self._store, now)


def test_a_clock_that_is_ahead_for_a_while_costs_no_contract(pools: Pools):
    pools.register()
    pools.put()
    assert Ran(pools)(pools.now) == Counts(0, 0, 0)
    process = Ran(pools)  # it starts with the clock ahead
    for process.seconds in (0.0, 60.0, plausible.DOUBT - 1):
        assert process(LATER) is None
    assert process(pools.now + 60) == Counts(0, 0, 0)
    assert pools.contract()


def test_after_a_long_rest_the_clock_is_believed_in_the_end(pools: Pools):
    pools.register()
    assert Ran(pools)(pools.now) == Counts(0, 0, 0)
    process = Ran(pools)
    assert process(LATER) is None
    process.seconds = plausible.DOUBT
    assert process(LATER) == Counts(0, 1, 0)
    assert Ran(pools)(LATER + plausible.LEAP) == Counts(0, 0, 0)


def test_a_doubt_begins_anew_after_a_plausible_time(pools: Pools):
    process = Ran(pools)
    process(pools.now)
    assert process(LATER) is None
    process(pools.now)
    process.seconds = plausible.DOUBT
    assert process(LATER) is None
