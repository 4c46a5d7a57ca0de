"""Pool and vehicle compared: the work that makes the vehicle hold what the pool says.

Events tell the maker of changes, and may be lost with a connection, a disk or a process. So the
backend compares the lists themselves. The pool's list decides:

- The vehicle holds each contract of the pool, except those that its customer took out.
- A contract that the pool had and has no longer is removed. A contract that the pool never had
  stays: a station may have installed it from a partner's pool.
- The pool's default pays, as soon as its key is in the vehicle. Without a default none of the
  pool's contracts pays: the customer chooses, and no contract pays that was not chosen.
"""

import base64
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evcc import ids
from evcc.x509 import CertificateError
from plugvault.pki import path
from plugvault.roles.client import OpcpError
from plugvault.roles.health import LOST, UNKNOWN, Health
from plugvault.roles.oem import ForwardError, VehicleMaker
from plugvault.roles.work_queue import CHOOSE, INSTALL, REMOVE, WorkQueue
from plugvault.telematics import ContractStatus, Maker

log = logging.getLogger("plugvault.roles.comparison")

Task = tuple[str, str, bytes]  # action, EMAID, message


@dataclass(frozen=True)
class Listed:
    """A contract in the pool. `dates`: notBefore and notAfter of its certificate, Unix seconds;
    `default`: the customer's choice, which stations install."""

    emaid: str
    dates: tuple[int, int]
    default: bool


@dataclass(frozen=True)
class Customer:
    """A customer's contracts. `listed`: EMAIDs that the pool has or had; `unwanted`: EMAIDs that
    the customer removed from the vehicle."""

    listed: Collection[str]
    unwanted: Collection[str]


def _read(entry: Mapping[str, Any]) -> Listed:
    """An entry of OPCP's XMLContracts. Raises OpcpError("answer")."""
    try:
        leaf = path.read(base64.b64decode(entry["contractCertificate"]))
        emaid, default = ids.parse_emaid(entry["emaid"]), bool(entry.get("defaultContract"))
    except (KeyError, ValueError, CertificateError, ids.IdError) as error:
        raise OpcpError("answer", f"not an entry of XMLContracts: {error}") from error
    return Listed(emaid, (leaf.not_before, leaf.not_after), default)


def differences(
    pool: Sequence[Listed],
    held: Sequence[ContractStatus],
    customer: Customer,
) -> list[tuple[str, str]]:
    """(action, EMAID) of the work that the vehicle needs: removals first, because they make room,
    then installations."""
    inside = {contract.emaid: contract for contract in held}
    listed = {contract.emaid: contract for contract in pool}
    removals = [
        (REMOVE, emaid)
        for emaid in inside
        if emaid in customer.unwanted or (emaid in customer.listed and emaid not in listed)
    ]
    installations = [
        (INSTALL, contract.emaid)
        for contract in pool
        if contract.emaid not in customer.unwanted and not _is_whole(inside, contract)
    ]
    return [*removals, *installations]


def choice(
    pool: Sequence[Listed], held: Sequence[ContractStatus], customer: Customer
) -> str | None:
    """The EMAID with which the vehicle must pay from now on, "" for no contract; None when no
    change is needed."""
    active = next((contract for contract in held if contract.active), None)
    default = next((contract.emaid for contract in pool if contract.default), None)
    usable = [contract.emaid for contract in held if not contract.lost]
    if default is None:
        return "" if active and active.emaid in customer.listed else None
    if default in usable and (active is None or active.emaid != default):
        return default
    return None


def _is_whole(inside: Mapping[str, ContractStatus], contract: Listed) -> bool:
    """Whether the vehicle has exactly this bundle, and its key. EMAID and dates identify a
    bundle."""
    held = inside.get(contract.emaid)
    return (
        held is not None and not held.lost and (held.not_before, held.not_after) == contract.dates
    )


class Comparison:
    """Compares vehicles with the pool, and puts the work that they need into the queue."""

    def __init__(self, maker: VehicleMaker, queue: WorkQueue, health: Health) -> None:
        self._maker, self._queue, self._health = maker, queue, health

    def run(self, vehicle: str, link: Maker) -> bool:
        """Compare one vehicle. Returns whether there is new work for it, or the comparison must be
        repeated. Raises OpcpError, StateError, TelematicsError."""
        last = self._queue.last(vehicle)
        pool = [_read(entry) for entry in self._maker.contracts(vehicle)]
        self._queue.note_listed(vehicle, {contract.emaid for contract in pool})
        held = link.contracts()
        customer = Customer(self._queue.listed(vehicle), self._queue.unwanted(vehicle))
        self._tell(vehicle, held, customer)
        waiting = {(work.action, work.emaid) for work in self._queue.waiting(vehicle)}
        needed = [task for task in differences(pool, held, customer) if task not in waiting]
        work = [task for each in needed for task in self._tasks(vehicle, *each)]
        if not work:
            emaid = choice(pool, held, customer)
            if emaid is not None and (CHOOSE, emaid) not in waiting:
                work = [(CHOOSE, emaid, b"")]
        if not work:
            return False
        if self._queue.add_after(last, vehicle, work):
            log.info("%s needs %s", vehicle, [task[:2] for task in work])
        return True

    def _tasks(self, vehicle: str, action: str, emaid: str) -> list[Task]:
        """The task for one difference; no task for a contract that the vehicle cannot have."""
        if action == REMOVE:
            return [(action, emaid, b"")]
        try:
            message = self._maker.pull(emaid, vehicle).message
        except ForwardError as error:
            log.info("%s is not forwarded: %s", emaid, error)
            return []
        except OpcpError as error:
            if error.status != 404:
                raise
            return []  # deleted meanwhile
        is_refused = self._queue.is_refused(vehicle, emaid, message)
        return [] if is_refused else [(action, emaid, message)]

    def _tell(self, vehicle: str, held: Sequence[ContractStatus], customer: Customer) -> None:
        lost = [contract.emaid for contract in held if contract.lost]
        unknown = [contract.emaid for contract in held if contract.emaid not in customer.listed]
        self._health.tell_change(LOST, vehicle, ", ".join(lost))
        self._health.tell_change(UNKNOWN, vehicle, ", ".join(unknown))
