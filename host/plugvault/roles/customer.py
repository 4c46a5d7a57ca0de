"""What a vehicle's customer sees in the maker's app: the PCID, the contracts, which one pays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugvault.roles.work_queue import Work
from plugvault.telematics import Held


@dataclass(frozen=True)
class CustomerContract:
    """`provider`: country and provider, as in "DEPVA"; `valid_to`: RFC 3339, "" when only the
    vehicle has it; `default`: stations install it; `in_vehicle`, `active`: None while the vehicle
    is not there; `waiting`: what is still to happen in the vehicle."""

    emaid: str
    provider: str
    valid_to: str
    default: bool
    in_vehicle: bool | None
    active: bool | None
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class CustomerView:
    pcid: str
    reachable: bool
    contracts: tuple[CustomerContract, ...]


def view(
    pcid: str,
    listed: Sequence[Mapping[str, Any]],
    held: Sequence[Held] | None,
    waiting: Sequence[Work] = (),
) -> CustomerView:
    """`listed`: CCP's XMLContracts of the vehicle; `held`: what the vehicle has, None when it
    cannot be asked; `waiting`: the backend's work for it."""
    pool = {str(entry["emaid"]): entry for entry in listed}
    inside = {one.emaid: one for one in held or ()}

    def contract(emaid: str) -> CustomerContract:
        entry = pool.get(emaid, {})
        return CustomerContract(
            emaid,
            emaid[:5],
            entry.get("certValidTo", ""),
            entry.get("defaultContract", False),
            None if held is None else emaid in inside,
            None if held is None else emaid in inside and inside[emaid].active,
            tuple(work.reason or work.action for work in waiting if work.emaid == emaid),
        )

    names = dict.fromkeys([*pool, *inside])
    return CustomerView(pcid, held is not None, tuple(contract(emaid) for emaid in names))
