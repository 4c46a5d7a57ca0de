"""PCP, the provisioning certificate pool: who a vehicle is [OPCP 1.0.0, pcp.v1].

There is no way to list or count vehicles: the size of a fleet is its maker's secret. Validity is
checked again on every read. Revocation has its place in `_check`, and no source yet.
"""

from collections.abc import Sequence

from evcc import chain
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.bundle import ISO2
from plugvault.pki import path
from plugvault.pools import rcp
from plugvault.pools.caller import CPS, OPERATORS, Caller, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning, Records

ANCHORS = ("OEM", "V2G")
MISSING = "The OEM provisioning certificate with given PCID is not found."


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

    The PCID is the certificate's CN. First failing check wins: format, WMI, validity, path.
    A new key under the same PCID deletes the vehicle's contracts: it could not open them.
    """
    leaf = read_certificate(certificate, "vehicleCertificate")
    subs = [sub for sub in (sub2, sub1) if sub]
    if sub2:
        read_certificate(sub2, "subCa2Certificate")
    read_certificate(sub1, "subCa1Certificate")
    pcid = read_pcid(leaf.names.get("CN", ""))
    caller.owns_vehicle(pcid)
    anchor = _check(records, certificate, subs, now)
    old = records.vehicles.get(pcid.upper(), ISO2)
    if old and path.read(old.certificate).point != leaf.point:
        for contract in records.contracts.of_vehicle(old.vehicle, ISO2):
            records.contracts.delete(contract.emaid, ISO2)
    stored = Provisioning(
        pcid.upper(),
        ISO2,
        pcid,
        certificate,
        sub2,
        sub1,
        anchor.der,
        ",".join(root.replace(":", "").lower() for root in v2g_roots),
        previous_pcid,
        min(path.read(der).not_after for der in (certificate, *subs)),
        *path.identity(leaf),
    )
    records.vehicles.put(stored)
    return stored


def get(records: Records, caller: Caller, pcid: str, now: float) -> Provisioning:
    """A vehicle's certificate, its path and dates checked again.

    A maker sees its own vehicles; an operator any whose PCID it was given.
    """
    pcid = read_pcid(pcid)
    if not caller.roles & (OPERATORS | {CPS}):
        caller.owns_vehicle(pcid)
    found = find(records, pcid, now)
    if found is None:
        raise PoolError("not-found", MISSING)
    return found


def find(records: Records, pcid: str, now: float) -> Provisioning | None:
    """For the other pools: whoever asks; None also when what was good once no longer is."""
    found = records.vehicles.get(pcid.upper(), ISO2)
    if found is None:
        return None
    try:
        _check(records, found.certificate, found.subs, now)
    except PoolError:
        return None
    return found


def read_certificate(der: bytes, field: str) -> Certificate:
    """A certificate of a request. Raises PoolError that names the request's `field`."""
    try:
        return path.read(der)
    except CertificateError as error:
        raise PoolError("invalid", f"Invalid certificate format on {field}") from error


def _check(records: Records, certificate: bytes, subs: Sequence[bytes], now: float) -> Certificate:
    for der in (certificate, *subs):
        if path.read(der).not_after < now:
            raise PoolError("invalid", "The validUntil date of a certificate is in the past.")
    try:
        return path.validate(
            certificate, subs, rcp.anchors(records, *ANCHORS), chain.PROVISIONING, now
        )
    except CertificateError as error:
        raise PoolError(
            "invalid", f"The certificate chain leads to no root in RCP ({error})."
        ) from error
