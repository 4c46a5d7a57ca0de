"""What happens to a contract whoever does it: stored, replaced, delivered, ended; who is told.

Below CCP and PCP, so that both can end contracts.

An EMAID names one contract whatever way it is written: in either case, with hyphens or without,
with its check digit or without. OPCP leaves the last one open. The check digit says nothing that
the 14 characters before it do not; two contracts that differ in it alone would be one customer
twice, and an operator that deletes one would leave the other good.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from plugvault.contract.iso15118_2.bundle import ISO2, Message, to_exi
from plugvault.contract.issue import ContractData
from plugvault.pki import path
from plugvault.pools import certificates, events
from plugvault.pools.caller import read_emaid
from plugvault.pools.records import Contract, Provisioning
from plugvault.pools.repositories import Records

ENDED = "cessationOfOperation"
MISSING = "The contract for the given EMAID not found."
TUPPLE = "Invalid Tupple - EMAID is already used by other PCID."
_KEY = 14  # characters of an EMAID before its check digit


@dataclass(frozen=True)
class Place:
    """Where a contract goes: the vehicle, the contract of the same EMAID that it replaces, and
    whether the vehicle has any."""

    vehicle: Provisioning
    replaces: Contract | None
    has_contracts: bool


def key(emaid: str) -> str:
    """What all spellings of an EMAID have in common, of one that `read_emaid` gave."""
    return emaid[:_KEY]


def find(records: Records, emaid: str) -> Contract | None:
    """The contract of an EMAID that `read_emaid` gave, with or without its check digit."""
    found = records.contracts.of_provider(key(emaid), 2)  # a prefix, whatever its length
    return next((contract for contract in found if contract.namespace == ISO2), None)


def store(
    records: Records,
    message: Message,
    data: ContractData,
    cps: Sequence[bytes],
    root_fingerprint: str,
    place: Place,
    now: float,
    metadata: str | None = None,
) -> Contract:
    """Keep a checked bundle and tell the vehicle's maker, with its vehicle and EMAID locked.

    `data`: the contract in it; `cps`: who has signed it, DER of the leaf and of what is above.
    A vehicle's first contract is its default; what is replaced hands on whether it was; a vehicle
    that has others and no default keeps none, until its maker chooses.
    """
    emaid = read_emaid(data.emaid)
    leaf = path.read(data.certificate)
    vehicle, replaces = place.vehicle, place.replaces
    if replaces:
        default = replaces.default
        if replaces.emaid != emaid:  # the check digit came or went
            records.contracts.delete(replaces.emaid, replaces.namespace)
    else:
        default = not place.has_contracts
    contract = Contract(
        emaid,
        ISO2,
        vehicle.vehicle,
        vehicle.pcid,
        leaf.der,
        to_exi(message),
        root_fingerprint,
        default,
        leaf.not_before,
        leaf.not_after,
        metadata,
        None,
        *path.identity(leaf),
        (*data.subs, *cps),
    )
    records.contracts.put(contract)
    tell_maker(records, f"oem.contract.{'updated' if replaces else 'created'}", contract, now)
    return contract


def good(records: Records, contracts: Sequence[Contract], now: float) -> list[Contract]:
    """Those inside their dates, with nothing revoked that they hang on: what may be handed out."""
    found = [one for one in contracts if _is_current(one, now)]
    if not found or not records.statuses.revoked(hang_on(found)):
        return found
    return [one for one in found if not records.statuses.revoked(hang_on([one]))]


def _is_current(contract: Contract, now: float) -> bool:
    return contract.not_before <= now <= contract.not_after


def hang_on(contracts: Sequence[Contract]) -> list[tuple[str, str]]:
    """The certificates that contracts hang on, as they would be revoked; each once."""
    above = dict.fromkeys(one.subs for one in contracts)
    leaves = [(one.issuer, one.serial) for one in contracts]
    return [*leaves, *dict.fromkeys(chain.from_iterable(map(_identities, above)))]


@lru_cache(maxsize=64)  # the same few above very many
def _identities(subs: tuple[bytes, ...]) -> list[tuple[str, str]]:
    return [path.identity(path.read(der)) for der in subs]


def deliver(records: Records, contract: Contract, now: float) -> None:
    """The vehicle, or its maker for it, has this bundle: its operator is told, once. With its
    vehicle locked since it was read."""
    if contract.delivered is not None:
        return
    records.contracts.deliver(contract.emaid, contract.namespace, int(now))
    _tell(records, "mo.contract.delivered.to.oem", _operator(contract), contract, now)


def remove(records: Records, contract: Contract, now: float, revoke: bool = True) -> None:
    """Delete a contract, tell its vehicle's maker, and revoke what one of our own CAs issued.

    Revoked first and deleted only if that succeeds. `revoke=False`: the certificate stays good,
    which its operator asks for. Nothing takes the place of a default that goes.
    """
    if revoke and certificates.is_ours(records, contract.issuer, contract.serial):
        certificates.revoke(records, contract.issuer, contract.serial, ENDED, now)
    records.contracts.delete(contract.emaid, contract.namespace)
    tell_maker(records, "oem.contract.deleted", contract, now)


def tell_maker(records: Records, kind: str, contract: Contract, now: float) -> None:
    """`kind`: "oem.contract.created", ".updated" or ".deleted"."""
    _tell(records, kind, maker(contract.vehicle), contract, now)


def maker(vehicle: str) -> str:
    """Who is told of what happens to its contracts: its WMI."""
    return vehicle[:3]


def _operator(contract: Contract) -> str:
    return contract.emaid[:5]


def _tell(records: Records, kind: str, audience: str, contract: Contract, now: float) -> None:
    events.publish(
        records,
        kind,
        audience,
        events.contract_payload(records, contract),
        now,
        contract.vehicle,
        contract.namespace,
    )
