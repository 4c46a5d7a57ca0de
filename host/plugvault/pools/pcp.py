"""PCP, the provisioning certificate pool: who a vehicle is [OPCP 1.0.0, pcp.v1].

There is no way to list or count vehicles: the size of a fleet is its maker's secret, and a maker
learns nothing of another's vehicles, not even whether they exist. Validity is checked again on
every read; of revocation it knows what `records.statuses` says.

When a vehicle's key goes, its contracts go: nobody could open them any more.
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

# As the messages call the certificates of a path, leaf first.
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
    """Store a vehicle's provisioning certificate, or put a new one in its place.

    The PCID is the certificate's CN. First failing check wins: as in `check`. A new key under the
    same PCID deletes the vehicle's contracts; the same key again changes nothing but the record.
    """
    anchor = check(records, caller, certificate, sub2, sub1, now, previous_pcid)
    return _keep(records, (certificate, sub2, sub1), anchor, now, v2g_roots, previous_pcid)


def check(
    records: Records,
    caller: Caller,
    certificate: bytes,
    sub2: bytes | None,
    sub1: bytes,
    now: float,
    previous_pcid: str | None = None,
) -> Certificate:
    """What `put` refuses, in this order: format, PCID, WMI, dates, revocation, path. The root."""
    for der, field in zip((certificate, sub2, sub1), _FIELDS, strict=True):
        if der is not None:
            read_certificate(der, field)
    pcid = read_pcid(path.read(certificate).names.get("CN", ""))
    authorization.check(caller, "pcp.write", pcid=pcid)
    if previous_pcid is not None:
        authorization.check(caller, "pcp.write", pcid=read_pcid(previous_pcid))
    return _check(records, certificate, sub2, sub1, now)


def get(records: Records, caller: Caller, pcid: str, now: float) -> Provisioning:
    """A vehicle's certificate, its path, dates and revocation checked again.

    A maker sees its own vehicles; an operator any whose PCID it was given. PoolError("not-found")
    says why, when what is stored is not good any more.
    """
    pcid = readable(caller, pcid)
    found = records.vehicles.get(pcid.upper(), ISO2)
    if found is None:
        raise PoolError("not-found", MISSING)
    try:
        _check(records, found.certificate, found.sub2, found.sub1, now)
    except PoolError as error:
        raise PoolError("not-found", f"{MISSING}\n{error.detail}") from error
    return found


def readable(caller: Caller, pcid: str) -> str:
    """A PCID that the caller may ask for, whether it exists or not."""
    pcid = read_pcid(pcid)
    authorization.check(caller, "pcp.read", pcid=pcid)
    return pcid


def find(records: Records, pcid: str, now: float) -> Provisioning | None:
    """For the other pools: whoever asks; None also when what was good once no longer is."""
    found = records.vehicles.get(pcid.upper(), ISO2)
    return found if found and is_good(records, found, now) else None


def is_good(records: Records, vehicle: Provisioning, now: float) -> bool:
    """Whether a vehicle's path is good now, with nothing on it revoked."""
    try:
        _check(records, vehicle.certificate, vehicle.sub2, vehicle.sub1, now)
    except PoolError:
        return False
    return True


def hangs_on(vehicle: Provisioning) -> list[tuple[str, str]]:
    """The certificates that a vehicle hangs on, as they would be revoked."""
    ders = (vehicle.certificate, *vehicle.subs, vehicle.root)
    return list(map(path.identity, map(path.read, ders)))


def delete(records: Records, caller: Caller, pcid: str, now: float) -> None:
    """Forget a vehicle of the caller's, good or not any more, with its contracts."""
    found = _own(records, caller, pcid)
    audit.note(records, caller.signature, "vehicle deleted", found.pcid, "", now)
    remove(records, found, now)


def reset(records: Records, caller: Caller, pcid: str, now: float) -> int:
    """The vehicle was wiped, or sold: its contracts go, it stays. How many contracts went.

    OPCP has the event for it and no call. Operators are told not to make the contracts again.
    """
    found = _own(records, caller, pcid)
    gone = _purge(records, found, "mo.prov.cert.factory.reset", now)
    audit.note(records, caller.signature, "factory reset", found.pcid, f"{gone} contracts", now)
    return gone


def remove(records: Records, found: Provisioning, now: float) -> None:
    """Take a vehicle out, with its contracts, and tell whom they concern."""
    records.lock(found.vehicle)
    _purge(records, found, "mo.prov.cert.deleted", now)
    records.vehicles.delete(found.vehicle, found.namespace)


def adopt(
    records: Records,
    origin: str,
    certificate: bytes,
    sub2: bytes | None,
    sub1: bytes,
    now: float,
    v2g_roots: Sequence[str] = (),
) -> Provisioning:
    """Keep a copy of a vehicle of another ecosystem; a vehicle of our own stays what it is.

    Raises PoolError as `put`, whoever says so: a peer's word is not better than a maker's.
    """
    leaf = read_certificate(certificate, "vehicleCertificate")
    vehicle = read_pcid(leaf.names.get("CN", "")).upper()
    anchor = _check(records, certificate, sub2, sub1, now)
    records.lock(vehicle)
    known = records.vehicles.get(vehicle, ISO2)
    if known and not known.origin:
        return known
    return _keep(records, (certificate, sub2, sub1), anchor, now, v2g_roots, origin=origin)


def read_certificate(der: bytes, field: str) -> Certificate:
    """A certificate of a request. Raises PoolError that names the request's `field`."""
    try:
        return path.read(der)
    except CertificateError as error:
        raise PoolError("invalid", f"Invalid certificate format on {field}") from error


def _own(records: Records, caller: Caller, pcid: str) -> Provisioning:
    """A vehicle of the caller's, nobody else's hand on it; refused before it is looked for."""
    pcid = read_pcid(pcid)
    authorization.check(caller, "pcp.write", pcid=pcid)
    records.lock(pcid.upper())
    found = records.vehicles.get(pcid.upper(), ISO2)
    if found is None:
        raise PoolError("not-found", MISSING)
    return found


def _keep(
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
        _purge(records, old, "mo.prov.cert.updated", now)
    # A root that ends is no reason to forget vehicles by itself: people decide that [rcp.v1].
    ends = min(path.read(der).not_after for der in ders if der)
    stored = Provisioning(
        pcid.upper(),
        ISO2,
        pcid,
        *ders,
        anchor.der,
        ",".join(root.replace(":", "").lower() for root in v2g_roots),
        previous_pcid,
        ends,
        *path.identity(leaf),
        origin,
    )
    records.vehicles.put(stored)
    return stored


def _purge(records: Records, found: Provisioning, kind: str, now: float) -> int:
    """Delete the vehicle's contracts and tell each operator of each of its own."""
    going = records.contracts.of_vehicle(found.vehicle, found.namespace)
    for contract in going:
        contracts.remove(records, contract, now)
        payload = events.provisioning_payload(found.pcid, contract.emaid)
        events.publish(
            records, kind, contract.emaid[:5], payload, now, found.vehicle, found.namespace
        )
    return len(going)


def _check(
    records: Records, certificate: bytes, sub2: bytes | None, sub1: bytes, now: float
) -> Certificate:
    """The root of a path that is good now. The order of the refusals is OPCP's."""
    ders = [certificate, *(sub for sub in (sub2, sub1) if sub)]
    given = list(map(path.read, ders))
    if min(map(_NOT_AFTER, given)) < now:
        raise PoolError("invalid", PAST)
    untrusted = None
    try:
        anchors = rcp.anchors(records, *ANCHORS)
        anchor = path.validate(certificate, ders[1:], anchors, chain.PROVISIONING, now)
        given.append(anchor)
    except CertificateError as error:
        untrusted = error
    identities = list(map(path.identity, given))
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
