"""A vehicle at a station asks CCP for its contract [ISO 15118-2, OPCP 1.0.0, ccp.v1].

Its CertificateInstallationReq must be signed with the key of the provisioning certificate that PCP
holds for it now; it gets its default contract, if a V2G root it lists stands above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evcc import exi, signature
from evcc.x509 import CertificateError
from plugvault.contract.iso15118_2.bundle import ISO2, NO_SESSION, Message
from plugvault.pki import names, path
from plugvault.pki.verify import verify_p256
from plugvault.pools import contracts, pcp
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract
from plugvault.pools.repositories import Records

SESSION_ID = 8  # bytes at most
NOTHING = "Contract or Vehicle not found."
BAD_EXI = "EXI format is invalid!"
BAD_SIGNATURE = "The signature of the certificateInstallationReq is invalid."


@dataclass(frozen=True)
class Request:
    """A CertificateInstallationReq taken apart. `roots`: (issuer name, serial number)."""

    session_id: bytes
    certificate: bytes
    roots: tuple[tuple[str, int], ...]
    signature: Message | None
    body: Message


def read_request(raw: bytes) -> Request:
    """Decode a vehicle's request. Raises PoolError("invalid", "EXI format is invalid!")."""
    try:
        message = exi.decode(raw)["V2G_Message"]
        body = message["Body"]["CertificateInstallationReq"]
        roots = body["ListOfRootCertificateIDs"]["RootCertificateID"]
        session_id = message["Header"]["SessionID"] or NO_SESSION
        if len(session_id) > SESSION_ID:  # EXI has no lengths; nothing signed covers this one
            raise PoolError("invalid", BAD_EXI)
        return Request(
            session_id,
            body["OEMProvisioningCert"],
            tuple((root["X509IssuerName"], root["X509SerialNumber"]) for root in roots),
            message["Header"].get("Signature"),
            body,
        )
    except (exi.ExiError, KeyError, TypeError) as error:
        raise PoolError("invalid", BAD_EXI) from error


def check_signature(request: Request) -> str:
    """The PCID of a request that its own certificate's key has signed.

    Raises PoolError("invalid"): whether the vehicle is known, or known elsewhere, is not asked
    for one that cannot sign.
    """
    try:
        certificate = path.read(request.certificate)
        pcid = read_pcid(certificate.names.get("CN", ""))
        if request.signature is None:
            raise PoolError("invalid", BAD_SIGNATURE)
        part = (request.body["Id"], "CertificateInstallationReq", request.body)
        signature.verify(request.signature, [part], certificate.point, verify_p256)
    except CertificateError as error:
        raise PoolError("invalid", "Invalid certificate format on OEMProvisioningCert") from error
    except signature.SignatureError as error:
        raise PoolError("invalid", BAD_SIGNATURE) from error
    return pcid


def install(records: Records, request: Request, pcid: str, now: float) -> Contract:
    """The contract a vehicle gets at a station: its default, under a root it says it has. Its
    operator is told.

    `pcid`: what `check_signature` found. Raises PoolError("not-found", "Contract or Vehicle not
    found.") when there is nothing for it.
    """
    name = pcid.upper()
    records.lock(name)
    vehicle, of_vehicle = records.vehicle_with_contracts(name, ISO2)
    if vehicle is None or vehicle.certificate != request.certificate:
        raise PoolError("not-found", NOTHING)
    default = [contract for contract in of_vehicle if contract.default]
    if not pcp.is_good(records, vehicle, now):
        raise PoolError("not-found", NOTHING)
    for contract in contracts.good(records, default, now):
        if is_listed(records, contract.root_fingerprint, request.roots):
            contracts.deliver(records, contract, now)
            return contract
    raise PoolError("not-found", NOTHING)


def is_listed(records: Records, fingerprint: str, roots: Sequence[tuple[str, int]]) -> bool:
    """Whether a V2G root of RCP is among those that a vehicle's request lists."""
    root = records.roots.by_fingerprint(fingerprint)
    if root is None:
        return False
    certificate = path.read(root.certificate)
    return any(names.is_root_of(certificate, name, serial) for name, serial in roots)
