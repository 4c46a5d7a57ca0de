"""PCP, the provisioning certificate pool: the certificates of vehicles [OPCP 1.0.0, pcp.v1].

No call lists or counts vehicles: the size of a fleet is its maker's secret. A maker does not learn
whether another maker's vehicle exists. Validity and revocation are checked again on every read.

A new key of a vehicle deletes its contracts, because the vehicle could not open them any more.
"""

from collections.abc import Sequence
from operator import attrgetter

from evcc import chain
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pools import audit, authorization, contracts, events, rcp
from plugvault.pools.caller import Caller, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Records

ANCHORS = ("OEM", "V2G")
MISSING = "The OEM provisioning certificate with given PCID is not found."
PAST = "The validUntil date of a certificate is in the past."

# The fields of the messages for the certificates of a path, leaf first.
_FIELDS = ("vehicleCertificate", "subCa2Certificate", "subCa1Certificate")
_NOT_AFTER = attrgetter("not_after")


def put(
    records: Records,
    caller: Caller,
    certificate: bytes,
    sub2: bytes | None,
    sub1: bytes,
    now: float,
    *,
    v2g_roots: Sequence[str] = (),
    previous_pcid: str | None = None,
) -> Provisioning:
    """Check a vehicle's provisioning certificate as `check` does, and store or replace it.

    The PCID is the CN of the certificate. A new key under the same PCID deletes the vehicle's
    contracts; the same key changes the record only.
    """
    anchor = check(records, caller, certificate, sub2, sub1, now, previous_pcid)
    return _store(records, (certificate, sub2, sub1), anchor, now, v2g_roots, previous_pcid)


def check(
    records: Records,
    caller: Caller,
    certificate: bytes,
    sub2: bytes | None,
    sub1: bytes,
    now: float,
    previous_pcid: str | None = None,
) -> Certificate:
    """The root above a certificate. Checked in this order: format, PCID, WMI, dates, revocation,
    path. Raises PoolError."""
    for der, field in zip((certificate, sub2, sub1), _FIELDS, strict=True):
        if der is not None:
            read_certificate(der, field)
    pcid = read_pcid(path.read(certificate).names.get("CN", ""))
    authorization.check(caller, "pcp.write", pcid=pcid)
    if previous_pcid is not None:
        authorization.check(caller, "pcp.write", pcid=read_pcid(previous_pcid))
    anchor = _check(records, certificate, sub2, sub1, now)
    try:
        path.check_order(certificate, [sub for sub in (sub2, sub1) if sub is not None])
    except CertificateError as error:
        raise PoolError("invalid", f"subCa2Certificate : {error.detail}") from error
    return anchor


def get(records: Records, caller: Caller, pcid: str, now: float) -> Provisioning:
    """A vehicle's certificate, with path, dates and revocation checked again.

    A maker reads its own vehicles, an operator any vehicle by its PCID. Raises PoolError:
    "forbidden" for another maker's vehicle; "not-found", with the reason when the stored
    certificate is no longer valid.
    """
    pcid = readable(caller, pcid)
    vehicle = records.vehicles.get(pcid.upper(), ISO2)
    if vehicle is None:
        raise PoolError("not-found", MISSING)
    try:
        _check(records, vehicle.certificate, vehicle.sub2, vehicle.sub1, now)
    except PoolError as error:
        raise PoolError("not-found", f"{MISSING}\n{error.detail}") from error
    return vehicle


def readable(caller: Caller, pcid: str) -> str:
    """The PCID, for a caller with the right to read it; the vehicle may not exist. Raises
    PoolError: "invalid", "forbidden"."""
    pcid = read_pcid(pcid)
    authorization.check(caller, "pcp.read", pcid=pcid)
    return pcid


def find(records: Records, pcid: str, now: float) -> Provisioning | None:
    """A vehicle whose path is valid, for other pools and without a caller. None for an unknown
    PCID and for a path that is not valid."""
    vehicle = records.vehicles.get(pcid.upper(), ISO2)
    return vehicle if vehicle and is_good(records, vehicle, now) else None


def is_good(records: Records, vehicle: Provisioning, now: float) -> bool:
    """Whether a vehicle's path is valid now and no certificate on it is revoked."""
    return problem(records, vehicle, now) is None


def problem(records: Records, vehicle: Provisioning, now: float) -> str | None:
    """The reason why a vehicle's certificate is not valid now, in OPCP's words; None for a valid
    one."""
    try:
        _check(records, vehicle.certificate, vehicle.sub2, vehicle.sub1, now)
    except PoolError as error:
        return error.detail
    return None


def delete(records: Records, caller: Caller, pcid: str, now: float) -> None:
    """Delete a vehicle of the caller with its contracts, valid or not. Raises PoolError:
    "forbidden", "not-found"."""
    vehicle = _own(records, caller, pcid)
    audit.note(records, caller.signature, "vehicle deleted", vehicle.pcid, "", now)
    remove(records, vehicle, now)


def reset(records: Records, caller: Caller, pcid: str, now: float) -> int:
    """Delete the contracts of a vehicle that was wiped or sold. Return their number.

    OPCP has the event and no call. The event tells the operators not to make the contracts again.
    Raises PoolError: "forbidden", "not-found".
    """
    vehicle = _own(records, caller, pcid)
    deleted = _delete_contracts(records, vehicle, "mo.prov.cert.factory.reset", now)
    detail = f"{deleted} contracts"
    audit.note(records, caller.signature, "factory reset", vehicle.pcid, detail, now)
    return deleted


def remove(records: Records, vehicle: Provisioning, now: float) -> None:
    """Delete a vehicle with its contracts, with events for their operators and its maker."""
    records.lock(vehicle.vehicle)
    _delete_contracts(records, vehicle, "mo.prov.cert.deleted", now)
    records.vehicles.delete(vehicle.vehicle, vehicle.namespace)


def adopt(
    records: Records,
    origin: str,
    certificate: bytes,
    sub2: bytes | None,
    sub1: bytes,
    now: float,
    v2g_roots: Sequence[str] = (),
) -> Provisioning:
    """Store a copy of a partner's vehicle. A vehicle of this ecosystem is not overwritten.

    Raises PoolError as `put`: a partner's certificates are checked as a maker's are.
    """
    leaf = read_certificate(certificate, "vehicleCertificate")
    vehicle = read_pcid(leaf.names.get("CN", "")).upper()
    anchor = _check(records, certificate, sub2, sub1, now)
    records.lock(vehicle)
    stored = records.vehicles.get(vehicle, ISO2)
    if stored and not stored.origin:
        return stored
    return _store(records, (certificate, sub2, sub1), anchor, now, v2g_roots, origin=origin)


def read_certificate(der: bytes, field: str) -> Certificate:
    """A certificate of a request. Raises PoolError("invalid") with the name of the request's
    `field`."""
    try:
        return path.read(der)
    except CertificateError as error:
        raise PoolError("invalid", f"Invalid certificate format on {field}") from error


def _own(records: Records, caller: Caller, pcid: str) -> Provisioning:
    """A vehicle of the caller's, locked. The right is checked before the vehicle is read."""
    pcid = read_pcid(pcid)
    authorization.check(caller, "pcp.write", pcid=pcid)
    records.lock(pcid.upper())
    vehicle = records.vehicles.get(pcid.upper(), ISO2)
    if vehicle is None:
        raise PoolError("not-found", MISSING)
    return vehicle


def _store(
    records: Records,
    ders: tuple[bytes, bytes | None, bytes],
    anchor: Certificate,
    now: float,
    v2g_roots: Sequence[str],
    previous_pcid: str | None = None,
    origin: str = "",
) -> Provisioning:
    leaf = path.read(ders[0])
    pcid = leaf.names["CN"]
    records.lock(pcid.upper())
    old = records.vehicles.get(pcid.upper(), ISO2)
    if old and path.read(old.certificate).point != leaf.point:
        _delete_contracts(records, old, "mo.prov.cert.updated", now)
    # Without the root: administrators decide about the vehicles below an expired root [rcp.v1].
    not_after = min(path.read(der).not_after for der in ders if der)
    stored = Provisioning(
        pcid.upper(),
        ISO2,
        pcid,
        *ders,
        anchor.der,
        ",".join(root.replace(":", "").lower() for root in v2g_roots),
        previous_pcid,
        not_after,
        *path.identity(leaf),
        origin,
    )
    records.vehicles.put(stored)
    return stored


def _delete_contracts(records: Records, vehicle: Provisioning, kind: str, now: float) -> int:
    """Delete a vehicle's contracts, with an event of this kind to the operator of each."""
    its_contracts = records.contracts.of_vehicle(vehicle.vehicle, vehicle.namespace)
    for contract in its_contracts:
        contracts.remove(records, contract, now)
        payload = events.provisioning_payload(vehicle.pcid, contract.emaid)
        events.publish(
            records, kind, contract.emaid[:5], payload, now, vehicle.vehicle, vehicle.namespace
        )
    return len(its_contracts)


def _check(
    records: Records, certificate: bytes, sub2: bytes | None, sub1: bytes, now: float
) -> Certificate:
    """The root of a path that is valid now. The order of the refusals is OPCP's."""
    ders = [certificate, *(sub for sub in (sub2, sub1) if sub)]
    certificates = list(map(path.read, ders))
    if min(map(_NOT_AFTER, certificates)) < now:
        raise PoolError("invalid", PAST)
    untrusted = None
    try:
        anchors = rcp.anchors(records, *ANCHORS)
        anchor = path.validate(certificate, ders[1:], anchors, chain.PROVISIONING, now)
        certificates.append(anchor)
    except CertificateError as error:
        untrusted = error
    identities = list(map(path.identity, certificates))
    if records.statuses.revoked(identities):
        fields = _FIELDS if sub2 else (_FIELDS[0], _FIELDS[2])
        for field, identity in zip((*fields, "root certificate"), identities, strict=False):
            if records.statuses.revoked([identity]):
                raise PoolError("invalid", f"The OCSP status of the {field} is revoked.")
    if untrusted:
        raise PoolError(
            "invalid", f"The certificate chain leads to no root in RCP ({untrusted})."
        ) from untrusted
    return anchor
