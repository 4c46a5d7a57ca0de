"""The certificate provisioning service: signs contract data so that vehicles can trust it.

A vehicle knows the V2G root and not every operator; the CPS's signature vouches that the
operator's path was checked here, against RCP [OPCP 1.0.0, cps.v1]. The signing key is a function:
where it lives is not this module's business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evcc import chain
from evcc.p256 import on_curve
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.bundle import ISO2, Message, bundle
from plugvault.contract.issue import ContractData
from plugvault.pki import path
from plugvault.pools import pcp, rcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning, Records, Root

WRAPPED = 48
TUPPLE = "Invalid Tupple - EMAID is already used by other PCID."
NO_VEHICLE = "The OEM provisioning certificate with the given PCID is not available."


@dataclass(frozen=True)
class Signer:
    """A CPS leaf under one V2G root. `sign(digest: 32 bytes) -> r | s, 64 bytes`."""

    certificate: bytes
    subs: tuple[bytes, ...]
    root_fingerprint: str
    sign: Callable[[bytes], bytes] = field(repr=False)


def sign(
    records: Records,
    caller: Caller,
    signers: Sequence[Signer],
    data: ContractData,
    pcid: str | None,
    now: float,
    fingerprint: str | None = None,
) -> tuple[Message, Signer]:
    """Check an operator's contract data and sign it.

    `pcid`: also check that this vehicle exists and may get the contract; `fingerprint`: of the
    V2G root whose CPS shall sign, else one that the vehicle has. Changes nothing in the records.
    """
    leaf = check(records, caller, data, now)
    vehicle = None
    if pcid:
        check_tupple(records, data.emaid, pcid)
        vehicle = pcp.find(records, pcid, now)
        if vehicle is None:
            raise PoolError("invalid", NO_VEHICLE)
        if path.read(vehicle.certificate).point == leaf.point:
            raise PoolError("invalid", "The contract must have a key of its own.")
    signer = choose(records, signers, vehicle, fingerprint)
    return bundle(data, signer.certificate, signer.subs, signer.sign), signer


def check(records: Records, caller: Caller, data: ContractData, now: float) -> Certificate:
    """Format, EMAID against CN, the caller's provider, then the path to a root in RCP."""
    leaf = pcp.read_certificate(data.certificate, "contractCertificate")
    for sub in data.subs:
        pcp.read_certificate(sub, "contractSignatureCertChainSubCertificates list")
    if len(data.wrapped) != WRAPPED:
        raise PoolError(
            "invalid", f"contractSignatureEncryptedPrivateKey : must have {WRAPPED} bytes"
        )
    if not on_curve(data.dh_point):
        raise PoolError("invalid", "dHpublickey : must be an uncompressed point of P-256")
    if leaf.names.get("CN", "").replace("-", "").upper() != data.emaid:
        raise PoolError("invalid", "emaid : must be the CN of the contract certificate")
    caller.owns_contract(data.emaid)
    try:
        path.validate(
            data.certificate, data.subs, rcp.anchors(records, "MO", "V2G"), chain.CONTRACT, now
        )
    except CertificateError as error:
        raise PoolError(
            "invalid", f"The contract certificate chain is not valid under RCP ({error})."
        ) from error
    return leaf


def check_tupple(records: Records, emaid: str, pcid: str) -> None:
    """An EMAID belongs to one vehicle until it is deleted."""
    bound = records.contracts.get(emaid, ISO2)
    if bound and bound.vehicle != pcid.upper():
        raise PoolError("invalid", TUPPLE)


def choose(
    records: Records,
    signers: Sequence[Signer],
    vehicle: Provisioning | None,
    fingerprint: str | None,
) -> Signer:
    """The signer under the root that was asked for, else under one the vehicle has."""
    wanted = rcp.by_fingerprint(records, fingerprint).fingerprint if fingerprint else None
    known = vehicle.v2g_roots.split(",") if vehicle and vehicle.v2g_roots else None
    for signer in signers:
        if wanted and signer.root_fingerprint != wanted:
            continue
        root = root_of(records, signer)
        if known and rcp.key_identifier(root) not in known:
            continue
        return signer
    raise PoolError("invalid", "No CPS of this ecosystem stands under a root the vehicle trusts.")


def root_of(records: Records, signer: Signer) -> Root:
    """The V2G root a signer stands under, which must still be in RCP."""
    root = records.roots.by_fingerprint(signer.root_fingerprint)
    if root is None:
        raise PoolError("unavailable", "The V2G root of the CPS is not in RCP.")
    return root
