"""The scheduled cleaning of the pools: what has expired or is revoked goes, and who must know is
told [OPCP 1.0.0, the pools' automated checks].

Every transaction is bounded, and whole in itself: a process that is killed in the middle has done
some of it, the next run does the rest, and two at once do each thing once. A root that goes takes
nothing with it; what hung under it goes when it ends itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from plugvault.pki import path
from plugvault.pools import contracts, pcp, rcp
from plugvault.pools.records import Root
from plugvault.pools.repositories import Records, Store

BATCH = 500
WHO = "cleansing"


@dataclass(frozen=True)
class Counts:
    """How many of each went."""

    roots: int
    vehicles: int
    contracts: int


def cleanse(store: Store, now: float, batch: int = BATCH) -> Counts:
    """Do all there is to do at `now`. `batch`: vehicles or contracts in one transaction.

    Contracts of a vehicle that goes are not counted apart; what is forgotten is not counted.
    """
    _batches(store, batch, lambda records: records.seen.forget(now, batch))
    return Counts(
        _roots(store, now),
        _batches(store, batch, lambda records: _vehicles(records, now, batch)),
        _batches(store, batch, lambda records: _contracts(records, now, batch)),
    )


def _batches(store: Store, batch: int, take: Callable[[Records], int]) -> int:
    total = 0
    while True:
        with store.write() as records:
            taken = take(records)
        total += taken
        if taken < batch:  # the rest, if any, is in another worker's hands
            return total


def _vehicles(records: Records, now: float, batch: int) -> int:
    ended = records.vehicles.ended(now, batch)
    records.lock(*{one.vehicle for one in ended})
    mine = [one for one in ended if records.vehicles.get(one.vehicle, one.namespace) == one]
    for one in mine:
        pcp.remove(records, one, now)
    return len(mine)


def _contracts(records: Records, now: float, batch: int) -> int:
    """Nothing is revoked: what ended needs it no more."""
    ended = records.contracts.ended(now, batch)
    records.lock(*{one.vehicle for one in ended})
    mine = [one for one in ended if records.contracts.get(one.emaid, one.namespace) == one]
    for one in mine:
        contracts.remove(records, one, now, revoke=False)
    return len(mine)


def _roots(store: Store, now: float) -> int:
    with store.read() as records:
        ended = [root for root in records.roots.all() if _has_ended(records, root, now)]
    gone = 0
    for root in ended:
        with store.write() as records:
            records.lock(root.fingerprint)
            if records.roots.get(root.root_id):
                rcp.remove(records, root, now, who=WHO)
                gone += 1
    return gone


def _has_ended(records: Records, root: Root, now: float) -> bool:
    certificate = path.read_any(root.certificate)
    return certificate.not_after < now or records.statuses.revoked([path.identity(certificate)])
