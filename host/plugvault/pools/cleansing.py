"""The periodic removal of expired and revoked records from the pools, with its events.

[OPCP 1.0.0, the pools' automated checks]. Each transaction has a limited size and is complete in
itself: after a kill the next run continues, and two runs at a time remove each record once. The
records below a removed root stay until they expire themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass

from plugvault.pki import path
from plugvault.pools import contracts, pcp, rcp, registry
from plugvault.pools.records import Root
from plugvault.pools.repositories import Records, Store

BATCH = 500
WHO = "cleansing"


@dataclass(frozen=True)
class Counts:
    """The numbers of removed records of each kind."""

    roots: int
    vehicles: int
    contracts: int


def cleanse(store: Store, now: float, batch: int = BATCH) -> Counts:
    """Remove everything that has ended at `now` (Unix seconds). `batch`: vehicles or contracts in
    one transaction.

    The contracts of a removed vehicle, forgotten DH points and wrong proofs are not counted.
    Raises PoolError("unavailable") without the database.
    """
    _batches(store, batch, lambda records: records.seen.forget(now, batch))
    with store.write() as records:  # events may be published while their webhook is deleted
        records.deliveries.forget_deleted()
    _batches(store, batch, lambda records: registry.forget(records, now, batch))
    return Counts(
        _roots(store, now),
        _batches(store, batch, lambda records: _vehicles(records, now, batch)),
        _batches(store, batch, lambda records: _contracts(records, now, batch)),
    )


def _batches(store: Store, batch: int, remove: Callable[[Records], int]) -> int:
    total = 0
    while True:
        with store.write() as records:
            removed = remove(records)
        total += removed
        if removed < batch:  # a concurrent worker may hold the locks of further records
            return total


def _vehicles(records: Records, now: float, batch: int) -> int:
    ended = records.vehicles.ended(now, batch)
    records.lock(*{vehicle.vehicle for vehicle in ended})
    unchanged = [
        vehicle
        for vehicle in ended
        if records.vehicles.get(vehicle.vehicle, vehicle.namespace) == vehicle
    ]
    for vehicle in unchanged:
        pcp.remove(records, vehicle, now)
    return len(unchanged)


def _contracts(records: Records, now: float, batch: int) -> int:
    """Remove contracts that have ended, without revocation, because their certificates have
    expired or are revoked."""
    ended = records.contracts.ended(now, batch)
    records.lock(*{contract.vehicle for contract in ended})
    unchanged = [
        contract
        for contract in ended
        if records.contracts.get(contract.emaid, contract.namespace) == contract
    ]
    for contract in unchanged:
        contracts.remove(records, contract, now, revoke=False)
    return len(unchanged)


def _roots(store: Store, now: float) -> int:
    with store.read() as records:
        ended = [root for root in records.roots.all() if _has_ended(records, root, now)]
    removed = 0
    for root in ended:
        with store.write() as records:
            records.lock(root.fingerprint)
            if records.roots.get(root.root_id):
                rcp.remove(records, root, now, who=WHO)
                removed += 1
    return removed


def _has_ended(records: Records, root: Root, now: float) -> bool:
    certificate = path.read_any(root.certificate)
    return certificate.not_after < now or records.statuses.revoked([path.identity(certificate)])
