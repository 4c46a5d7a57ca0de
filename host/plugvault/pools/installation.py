"""The contract of a vehicle at a station [ISO 15118-2; OPCP 1.0.0, ccp.v1].

The vehicle's request (`pools.vehicle_request`) must be signed with the key of the provisioning
certificate that PCP holds now. The vehicle gets its default contract, if the request lists the V2G
root above the contract's CPS.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, serial_hex, timestamp
from plugvault.pools import checks, contracts, events, listed_roots, pcp
from plugvault.pools.errors import WithheldError
from plugvault.pools.listed_roots import AmbiguousError, ListedRoot
from plugvault.pools.records import Contract, Provisioning
from plugvault.pools.refusals import CAUSES
from plugvault.pools.repositories import Records
from plugvault.pools.vehicle_request import VehicleRequest

log = logging.getLogger("plugvault.pools")

NOTHING = "Contract or Vehicle not found."
_LONGEST_LIST = 1000  # characters of a vehicle's list of roots in an event


@dataclass(kw_only=True)
class _Installation(checks.Provision):
    """A vehicle's default contract on its way to a station. `listed_root`: the vehicle's name of
    the V2G root above the CPS."""

    request: VehicleRequest
    vehicle: Provisioning | None
    listed_root: ListedRoot = field(init=False)


def _vehicle(installation: _Installation) -> None:
    vehicle, request = installation.vehicle, installation.request
    if vehicle is None:
        installation.refuse("unknown-vehicle", request.pcid)
    if vehicle.certificate != request.certificate:
        stored = path.read(vehicle.certificate)
        installation.refuse(
            "other-certificate",
            f"in PCP: serial number {serial_hex(stored.serial)} of {timestamp(stored.not_before)};"
            f" in the request: {serial_hex(request.leaf.serial)}"
            f" of {timestamp(request.leaf.not_before)}",
        )


def _vehicle_path(installation: _Installation) -> None:
    vehicle = installation.vehicle
    problem = vehicle and pcp.problem(installation.records, vehicle, installation.now)
    if problem:
        installation.refuse("vehicle-not-valid", problem)


def _v2g_root(installation: _Installation) -> None:
    records, fingerprint = installation.records, installation.contract.root_fingerprint
    root = records.roots.by_fingerprint(fingerprint)
    if root is None:
        installation.refuse("root-missing", fingerprint)
    try:
        listed = listed_roots.find(records, root, installation.request.roots)
    except AmbiguousError as error:
        installation.refuse("root-ambiguous", str(error))
    if listed is None:
        names = "; ".join(f"{name} {serial_hex(n)}" for name, n in installation.request.roots)
        certificate = path.read(root.certificate)
        wanted = f"{distinguished_name(certificate.names)} {serial_hex(certificate.serial)}"
        installation.refuse("root-not-listed", f"{wanted} is none of: {names[:_LONGEST_LIST]}")
    installation.listed_root = listed


# The default contract of a vehicle, before a station gets it.
INSTALL: checks.Table[_Installation] = (
    ("vehicle", _vehicle),
    ("vehicle-path", _vehicle_path),
    *checks.USABLE,
    ("v2g-root", _v2g_root),
)


def install(records: Records, request: VehicleRequest, pcid: str, now: float) -> Contract:
    """The contract for a vehicle at a station. Its operator gets an event at the first delivery.

    `pcid`: from `vehicle_request.check_signature`. Raises WithheldError("Contract or Vehicle not
    found.") when a check of `INSTALL` fails.
    """
    records.lock(pcid.upper())
    installation = checks.run(INSTALL, prepare(records, request, pcid, now))
    contract, listed_root = installation.contract, installation.listed_root
    if listed_root.tolerances:
        log.info("%s: tolerated %s in %r", pcid, _joined(listed_root), listed_root.name)
        if contract.delivered is None:
            _tell_tolerated(records, installation, now)
    contracts.deliver(records, contract, now)
    return contract


def prepare(records: Records, request: VehicleRequest, pcid: str, now: float) -> _Installation:
    """The values that the checks of `INSTALL` examine."""
    vehicle, its_contracts = records.vehicle_with_contracts(pcid.upper(), ISO2)
    return _Installation(
        records=records,
        now=now,
        stored=next((contract for contract in its_contracts if contract.default), None),
        absence="no-default" if its_contracts else "no-contract",
        refusal=NOTHING,
        request=request,
        vehicle=vehicle,
    )


def tell_refused(
    records: Records, request: VehicleRequest, error: WithheldError, who: str, now: float
) -> None:
    """Publish an event for the administrators: why a vehicle got no contract. `who`: the
    caller."""
    payload = {
        "pcid": request.pcid,
        "cause": error.cause,
        "meaning": CAUSES[error.cause].meaning,
        "circumstances": error.circumstances,
        "remedy": CAUSES[error.cause].remedy,
        "caller": who,
    }
    vehicle = request.pcid.upper()
    events.publish(records, events.REFUSED, events.ADMINISTRATORS, payload, now, vehicle)


def _tell_tolerated(records: Records, installation: _Installation, now: float) -> None:
    contract, listed_root = installation.contract, installation.listed_root
    payload = {
        "pcid": contract.pcid,
        "emaid": contract.emaid,
        "rootName": listed_root.name,
        "tolerances": sorted(listed_root.tolerances),
    }
    events.publish(
        records, events.TOLERATED, events.ADMINISTRATORS, payload, now, contract.vehicle
    )


def _joined(listed_root: ListedRoot) -> str:
    return ", ".join(sorted(listed_root.tolerances))


def is_listed(records: Records, fingerprint: str, roots: Sequence[tuple[str, int]]) -> bool:
    """Whether the V2G root of RCP with this SHA-256 is among the (issuer name, serial number) that
    a vehicle's request lists. An ambiguous name counts as not listed."""
    root = records.roots.by_fingerprint(fingerprint)
    try:
        return root is not None and listed_roots.find(records, root, roots) is not None
    except AmbiguousError:
        return False
