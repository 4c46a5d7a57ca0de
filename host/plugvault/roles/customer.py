"""The customer's view of a vehicle in the maker's app: PCID, contracts, the default one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugvault.roles.work_queue import Work
from plugvault.telematics import ContractStatus


@dataclass(frozen=True)
class CustomerContract:
    """A contract as the customer sees it.

    `provider`: country and provider, as in "DEPVA"; `valid_to`: RFC 3339, "" when only the vehicle
    has the contract; `default`: stations install it; `in_vehicle`: the vehicle has it with its
    key; `active`: the vehicle pays with it; `lost`: the vehicle has lost its key, and gets it
    again; these are None while the vehicle is not reachable. `waiting`: work that waits for the
    vehicle.
    """

    emaid: str
    provider: str
    valid_to: str
    default: bool
    in_vehicle: bool | None
    active: bool | None
    lost: bool | None
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class CustomerView:
    """The contracts of a vehicle. `reachable`: whether the vehicle answered."""

    pcid: str
    reachable: bool
    contracts: tuple[CustomerContract, ...]


def view(
    pcid: str,
    listed: Sequence[Mapping[str, Any]],
    held: Sequence[ContractStatus] | None,
    waiting: Sequence[Work] = (),
) -> CustomerView:
    """The customer's view of a vehicle.

    `listed`: CCP's XMLContracts of the vehicle; `held`: the contracts in the vehicle, None when it
    is not reachable; `waiting`: the backend's work for it.
    """
    pool = {str(entry["emaid"]): entry for entry in listed}
    inside = {contract.emaid: contract for contract in held or ()}
    whole = {emaid: contract.active for emaid, contract in inside.items() if not contract.lost}

    def contract(emaid: str) -> CustomerContract:
        entry = pool.get(emaid, {})
        return CustomerContract(
            emaid,
            emaid[:5],
            entry.get("certValidTo", ""),
            entry.get("defaultContract", False),
            None if held is None else emaid in whole,
            None if held is None else whole.get(emaid, False),
            None if held is None else emaid in inside and emaid not in whole,
            tuple(work.reason or work.action for work in waiting if work.emaid == emaid),
        )

    names = dict.fromkeys([*pool, *inside])
    return CustomerView(pcid, held is not None, tuple(contract(emaid) for emaid in names))
