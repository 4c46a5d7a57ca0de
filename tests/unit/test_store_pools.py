"""The cache of the store equals the database; ended records are found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.pools import Pools
from plugvault.pki import path
from plugvault.pools.records import ISO2, Contract, Delivery, Event, Provisioning, Root, Status
from plugvault.store import SqlStore, chains
from plugvault.store.outbox import _DUE
from plugvault.store.transaction import compiled
from world import World

Open = Callable[[str], SqlStore]
ROOT = Root("id", "V2G", b"der", "ab" * 32)
VEHICLE = Provisioning("V", ISO2, "v", b"c", b"sub2", b"sub1", b"root", not_after=9)


def roots(store: SqlStore) -> list[Root]:
    with store.read() as records:
        return list(records.roots.all())


def vehicle(store: SqlStore, name: str = "V") -> Provisioning | None:
    with store.read() as records:
        return records.vehicles.get(name, ISO2)


def test_a_root_changed_by_another_process_is_seen_at_once(store_url: str, open_store: Open):
    reader, writer = open_store(store_url), open_store(store_url)
    assert roots(reader) == []
    with writer.write() as records:
        records.roots.put(ROOT)
    assert roots(reader) == [ROOT]
    with writer.write() as records:
        records.roots.put(replace(ROOT, kind="OEM"))
    with reader.read() as records:
        assert records.roots.all("V2G") == []
        assert records.roots.by_fingerprint(ROOT.fingerprint) == replace(ROOT, kind="OEM")
    with writer.write() as records:
        records.roots.delete("id")
    assert roots(reader) == []


def test_a_rolled_back_root_is_not_cached(store: SqlStore):
    def undone() -> None:
        with store.write() as records:
            records.roots.put(ROOT)
            assert list(records.roots.all()) == [ROOT]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    assert roots(store) == []
    second_root = replace(ROOT, root_id="other")
    with store.write() as records:
        records.roots.put(second_root)
    assert roots(store) == [second_root]


def test_vehicles_under_one_chain_keep_it_once(store: SqlStore):
    names = [f"V{number}" for number in range(5)]
    with store.write() as records:
        for name in names:
            records.vehicles.put(replace(VEHICLE, vehicle=name))
        records.vehicles.put(replace(VEHICLE, vehicle="short", sub2=None))
    with store.read() as records:
        chain_count = records._transaction.connection.execute(
            "SELECT count(*) FROM chains"
        ).fetchall()
    assert chain_count == [(2,)]
    assert [vehicle(store, name) for name in names] == [
        replace(VEHICLE, vehicle=name) for name in names
    ]
    assert vehicle(store, "short") == replace(VEHICLE, vehicle="short", sub2=None)


def test_a_contract_is_delivered_without_writing_it_anew(sqlite_store: SqlStore, tmp_path: Path):
    bundle = b"\x00" * 6000
    contract = Contract("E", ISO2, "V", "v", b"der", bundle, "ab", True, 1, 9, subs=(b"sub",))
    with sqlite_store.write() as records:
        records.contracts.put(contract)
    (log,) = tmp_path.glob("*.sqlite-wal")
    with closing(sqlite3.connect(str(log).removesuffix("-wal"))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with sqlite_store.write() as records:
        records.contracts.deliver("E", ISO2, 1_800_000_000)
    header, page = 32, 24 + 4096
    assert log.stat().st_size == header + page
    with sqlite_store.read() as records:
        assert records.contracts.get("E", ISO2) == replace(contract, delivered=1_800_000_000)


def test_a_rolled_back_chain_is_not_cached(store: SqlStore):
    def undone() -> None:
        with store.write() as records:
            records.vehicles.put(VEHICLE)
            assert records.vehicles.get("V", ISO2) == VEHICLE
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    second_vehicle = replace(VEHICLE, vehicle="W", sub1=b"another")
    with store.write() as records:
        records.vehicles.put(second_vehicle)  # may get the number of the rolled-back chain
        records.vehicles.put(VEHICLE)
    assert vehicle(store, "W") == second_vehicle
    assert vehicle(store) == VEHICLE


def test_a_chain_of_another_process_is_read(store_url: str, open_store: Open):
    writer, reader = open_store(store_url), open_store(store_url)
    with writer.write() as records:
        records.vehicles.put(VEHICLE)
    assert vehicle(reader) == vehicle(writer) == VEHICLE


def test_the_cache_of_chains_is_bounded(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chains, "MOST", 3)
    many = [replace(VEHICLE, vehicle=f"V{n}", sub1=bytes([n])) for n in range(8)]
    for row in many:
        with store.write() as records:
            records.vehicles.put(row)
        assert len(store._cache.chains) <= 3
    assert [vehicle(store, row.vehicle) for row in many] == many


def test_an_expired_or_revoked_contract_has_ended(store: SqlStore):
    good = Contract("A", ISO2, "V", "v", b"c", b"m", "f", True, 1, 99, issuer="ca", serial="1")
    with store.write() as records:
        for emaid, serial, end in (("A", "1", 99), ("B", "2", 99), ("C", "3", 4)):
            records.contracts.put(replace(good, emaid=emaid, serial=serial, not_after=end))
        records.statuses.put(Status("ca", "1", "A", 99))
        records.statuses.put(Status("ca", "2", "B", 99, revoked=3))
    with store.read() as records:
        assert {contract.emaid for contract in records.contracts.ended(5, 10)} == {"B", "C"}
        assert len(records.contracts.ended(5, 1)) == 1


def test_a_record_under_a_revoked_sub_ca_has_ended(store: SqlStore, pool_world: World):
    pools = Pools(store, pool_world)
    registered, contract = pools.register(), pools.put()
    with store.write() as records:
        assert not records.vehicles.ended(pools.now, 10)
        assert not records.contracts.ended(pools.now, 10)
        for sub in (registered.subs[0], contract.subs[0]):
            certificate = path.read(sub)
            issuer, serial = path.identity(certificate)
            records.statuses.put(Status(issuer, serial, "", certificate.not_after, revoked=1))
    with store.read() as records:
        assert records.vehicles.ended(pools.now, 10) == [registered]
        assert records.contracts.ended(pools.now, 10) == [contract]


def test_a_vehicle_is_read_with_its_own_contracts_only(store: SqlStore):
    default_contract = Contract(
        "DEPVT1", ISO2, "V", "v", b"c", b"m", "f", True, 1, 9, "note", None, subs=(b"a",)
    )
    second_contract = replace(default_contract, emaid="DEPVT0", default=False, delivered=5)
    bare = replace(VEHICLE, vehicle="W", pcid="w")
    with store.write() as records:
        for vehicle in (VEHICLE, bare, replace(VEHICLE, namespace="urn:iso:std:iso:15118:-20")):
            records.vehicles.put(vehicle)
        for contract in (default_contract, second_contract):
            records.contracts.put(contract)
        records.contracts.put(replace(default_contract, emaid="DEPVT2", vehicle="X"))
        records.contracts.put(replace(default_contract, namespace="urn:iso:std:iso:15118:-20"))
    with store.read() as records:
        assert records.vehicle_with_contracts("V", ISO2) == (
            VEHICLE,
            [second_contract, default_contract],
        )
        assert records.vehicle_with_contracts("W", ISO2) == (bare, [])
        assert records.vehicle_with_contracts("X", ISO2) == (None, [])


def test_the_contracts_of_a_provider_are_its_own(store: SqlStore):
    good = Contract("A", ISO2, "V", "v", b"c", b"m", "f", True, 1, 99)
    emaids = ["DEPVS999", "DEPVT000", "DEPVTZZZ", "DEPVU000", "DEPV"]
    with store.write() as records:
        for emaid in emaids:
            records.contracts.put(replace(good, emaid=emaid))
    with store.read() as records:
        listed = [contract.emaid for contract in records.contracts.of_provider("DEPVT", 10)]
        assert listed == ["DEPVT000", "DEPVTZZZ"]
        assert len(records.contracts.of_provider("DEPVT", 1)) == 1


def test_a_long_queue_is_not_sorted_to_take_its_first(postgresql_url: str, open_store: Open):
    store = open_store(postgresql_url)
    with store.write() as records:
        for number in range(300):
            records.events.add(Event(f"{number}", "kind", 1, "PVT", "{}", f"V{number}"))
            records.deliveries.put(Delivery(f"{number}", "w", f"V{number}"))
    with store.write() as records:
        connection = records._transaction.connection
        connection.execute("ANALYZE deliveries")
        records.deliveries.claim("w", 1, 9, 1)
        due = compiled(store._engine.dialect, _DUE)
        row = due.row({"of_endpoint": "w", "now": 1, "limit": 20})
        plan = connection.execute(f"EXPLAIN {due.text}", row).fetchall()
    bad = ("Sort", "Seq Scan on deliveries")
    assert not [line for (line,) in plan if any(word in line for word in bad)], plan
