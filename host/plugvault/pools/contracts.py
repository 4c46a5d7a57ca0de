"""The life of a contract: stored, replaced, delivered, deleted, and the events of each step.

This module stands below CCP and PCP, because both delete contracts.

All spellings of an EMAID name one contract: either case, with or without hyphens, with or without
the check digit. OPCP leaves the check digit open. It follows from the 14 characters before it; two
contracts that differ in it alone would be one customer twice, and deleting one would leave the
other valid.
"""

from dataclasses import dataclass
from functools import lru_cache

from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import ISO2, Message, to_exi
from plugvault.pki import path
from plugvault.pools import certificates, events
from plugvault.pools.caller import read_emaid
from plugvault.pools.records import Contract, Provisioning, Root
from plugvault.pools.repositories import Records

ENDED = "cessationOfOperation"
MISSING = "The contract for the given EMAID not found."
_KEY = 14  # characters of an EMAID before its check digit


@dataclass(frozen=True)
class Destination:
    """The vehicle of a new contract. `replaced`: its contract of the same EMAID;
    `has_contracts`: whether the vehicle has any contract."""

    vehicle: Provisioning
    replaced: Contract | None
    has_contracts: bool


@dataclass(frozen=True)
class SignedContract:
    """Contract data with the signature of a CPS.

    `message`: the bundle; `cps`: DER of the CPS leaf and of its sub-CAs; `root`: the V2G root
    above them; `destination`: None when it was signed for no vehicle.
    """

    message: Message
    data: ContractData
    cps: tuple[bytes, ...]
    root: Root
    destination: Destination | None


def key(emaid: str) -> str:
    """The part that all spellings of an EMAID have in common. `emaid`: from `read_emaid`."""
    return emaid[:_KEY]


def find(records: Records, emaid: str) -> Contract | None:
    """The contract of an EMAID, with or without its check digit. `emaid`: from `read_emaid`."""
    contracts = records.contracts.of_provider(key(emaid), 2)  # searches by a prefix of any length
    return next((contract for contract in contracts if contract.namespace == ISO2), None)


def store(
    records: Records,
    signed: SignedContract,
    destination: Destination,
    now: float,
    metadata: str | None = None,
) -> Contract:
    """Store a checked bundle, with an event for the vehicle's maker. The caller has locked vehicle
    and EMAID.

    The first contract of a vehicle becomes its default, and a contract that replaces the default
    becomes the default. A vehicle with other contracts and no default keeps none: its maker
    chooses. `metadata`: text of the operator, stored as it is.
    """
    data, vehicle, replaced = signed.data, destination.vehicle, destination.replaced
    emaid = read_emaid(data.emaid)
    leaf = path.read(data.certificate)
    if replaced:
        default = replaced.default
        if replaced.emaid != emaid:  # one of the two has no check digit
            records.contracts.delete(replaced.emaid, replaced.namespace)
    else:
        default = not destination.has_contracts
    contract = Contract(
        emaid,
        ISO2,
        vehicle.vehicle,
        vehicle.pcid,
        leaf.der,
        to_exi(signed.message),
        signed.root.fingerprint,
        default,
        leaf.not_before,
        leaf.not_after,
        metadata,
        None,
        *path.identity(leaf),
        (*data.subs, *signed.cps),
    )
    records.contracts.put(contract)
    tell_maker(records, f"oem.contract.{'updated' if replaced else 'created'}", contract, now)
    return contract


def is_revoked(records: Records, contract: Contract) -> bool:
    """Whether a certificate of the contract, of its path or of its CPS's path is revoked."""
    leaf = contract.issuer, contract.serial
    return records.statuses.revoked([leaf, *_identities(contract.subs)])


@lru_cache(maxsize=64)  # most contracts have one of a few paths above them
def _identities(subs: tuple[bytes, ...]) -> list[tuple[str, str]]:
    return [path.identity(path.read(der)) for der in subs]


def deliver(records: Records, contract: Contract, now: float) -> None:
    """Record that the vehicle or its maker got this bundle, with an event for its operator at the
    first delivery alone.

    The caller locked the vehicle before it read the contract.
    """
    if contract.delivered is not None:
        return
    records.contracts.deliver(contract.emaid, contract.namespace, int(now))
    _tell(records, "mo.contract.delivered.to.oem", _operator(contract), contract, now)


def remove(records: Records, contract: Contract, now: float, revoke: bool = True) -> None:
    """Delete a contract, with an event for its vehicle's maker, and revoke the certificate if one
    of our CAs issued it.

    The contract is deleted only after the revocation succeeded. `revoke=False`: the certificate
    stays valid, as its operator asked. A deleted default has no successor.
    """
    if revoke and certificates.is_ours(records, contract.issuer, contract.serial):
        certificates.revoke(records, contract.issuer, contract.serial, ENDED, now)
    records.contracts.delete(contract.emaid, contract.namespace)
    tell_maker(records, "oem.contract.deleted", contract, now)


def tell_maker(records: Records, kind: str, contract: Contract, now: float) -> None:
    """Publish an event for the maker of the contract's vehicle. `kind`: "oem.contract.created",
    "oem.contract.updated" or "oem.contract.deleted"."""
    _tell(records, kind, maker(contract.vehicle), contract, now)


def maker(vehicle: str) -> str:
    """The WMI in a PCID, which is the audience of events about the vehicle's contracts. `vehicle`:
    the PCID in upper case."""
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
