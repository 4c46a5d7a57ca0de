"""The contract of a vehicle at a station, on its CertificateInstallationReq.

[ISO 15118-2; OPCP 1.0.0, ccp.v1]. The request must be signed with the key of the provisioning
certificate that PCP holds now. The vehicle gets its default contract, if the request lists the V2G
root above the contract's CPS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from evcc import exi, signature
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.iso15118_2.bundle import ISO2, NO_SESSION, Message
from plugvault.pki import names, path
from plugvault.pki.verify import verify_p256
from plugvault.pools import checks, contracts, pcp
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Provisioning
from plugvault.pools.repositories import Records

SESSION_ID = 8  # bytes at most
NOTHING = "Contract or Vehicle not found."
BAD_EXI = "EXI format is invalid!"
BAD_SIGNATURE = "The signature of the certificateInstallationReq is invalid."


@dataclass
class VehicleRequest:
    """A CertificateInstallationReq on its way through `REQUEST`. `roots`: (issuer name, serial
    number) of each V2G root in the vehicle."""

    message: Message
    session_id: bytes = field(init=False)
    roots: tuple[tuple[str, int], ...] = field(init=False)
    signature: Message | None = field(init=False)
    body: Message = field(init=False)
    certificate: bytes = field(init=False)
    leaf: Certificate = field(init=False)
    pcid: str = field(init=False)


def _message(request: VehicleRequest) -> None:
    try:
        header = request.message["V2G_Message"]["Header"]
        request.body = request.message["V2G_Message"]["Body"]["CertificateInstallationReq"]
        listed = request.body["ListOfRootCertificateIDs"]["RootCertificateID"]
        request.roots = tuple(
            (root["X509IssuerName"], root["X509SerialNumber"]) for root in listed
        )
        request.session_id = header["SessionID"] or NO_SESSION
        request.signature = header.get("Signature")
        request.certificate = request.body["OEMProvisioningCert"]
    except (KeyError, TypeError) as error:
        raise PoolError("invalid", BAD_EXI) from error
    # The EXI schema states no length, and the signature does not cover the session ID.
    if len(request.session_id) > SESSION_ID:
        raise PoolError("invalid", BAD_EXI)


def _certificate(request: VehicleRequest) -> None:
    try:
        request.leaf = path.read(request.certificate)
    except CertificateError as error:
        raise PoolError("invalid", "Invalid certificate format on OEMProvisioningCert") from error
    request.pcid = read_pcid(request.leaf.names.get("CN", ""))


def _signature(request: VehicleRequest) -> None:
    if request.signature is None:
        raise PoolError("invalid", BAD_SIGNATURE)
    signed = request.body["Id"], "CertificateInstallationReq", request.body
    try:
        signature.verify(request.signature, [signed], request.leaf.point, verify_p256)
    except signature.SignatureError as error:
        raise PoolError("invalid", BAD_SIGNATURE) from error


# A vehicle's request, before any pool or partner is asked about the vehicle.
REQUEST: checks.Table[VehicleRequest] = (
    ("message", _message),
    ("certificate", _certificate),
    ("signature", _signature),
)


@dataclass(kw_only=True)
class _Installation(checks.Provision):
    """A vehicle's default contract on its way to a station."""

    request: VehicleRequest
    vehicle: Provisioning | None


def _vehicle(installation: _Installation) -> None:
    vehicle = installation.vehicle
    if vehicle is None or vehicle.certificate != installation.request.certificate:
        installation.refuse()


def _vehicle_path(installation: _Installation) -> None:
    vehicle = installation.vehicle
    if vehicle is None or not pcp.is_good(installation.records, vehicle, installation.now):
        installation.refuse()


def _v2g_root(installation: _Installation) -> None:
    fingerprint = installation.contract.root_fingerprint
    if not is_listed(installation.records, fingerprint, installation.request.roots):
        installation.refuse()


# The default contract of a vehicle, before a station gets it.
INSTALL: checks.Table[_Installation] = (
    ("vehicle", _vehicle),
    ("vehicle-path", _vehicle_path),
    *checks.USABLE,
    ("v2g-root", _v2g_root),
)


def read_request(raw: bytes) -> VehicleRequest:
    """Decode a vehicle's request (EXI). Raises PoolError("invalid", "EXI format is invalid!")."""
    try:
        request = VehicleRequest(exi.decode(raw))
    except exi.ExiError as error:
        raise PoolError("invalid", BAD_EXI) from error
    return checks.run(REQUEST[:1], request)


def check_signature(request: VehicleRequest) -> str:
    """The PCID of a request that the key of its own certificate has signed.

    Raises PoolError("invalid"). No pool and no partner is asked about a vehicle before this.
    """
    return checks.run(REQUEST[1:], request).pcid


def install(records: Records, request: VehicleRequest, pcid: str, now: float) -> Contract:
    """The contract for a vehicle at a station, and its operator is told.

    `pcid`: from `check_signature`. Raises PoolError("not-found", "Contract or Vehicle not found.")
    when a check of `INSTALL` fails.
    """
    name = pcid.upper()
    records.lock(name)
    vehicle, its_contracts = records.vehicle_with_contracts(name, ISO2)
    installation = _Installation(
        records=records,
        now=now,
        stored=next((contract for contract in its_contracts if contract.default), None),
        refusal=NOTHING,
        request=request,
        vehicle=vehicle,
    )
    contract = checks.run(INSTALL, installation).contract
    contracts.deliver(records, contract, now)
    return contract


def is_listed(records: Records, fingerprint: str, roots: Sequence[tuple[str, int]]) -> bool:
    """Whether a V2G root of RCP is among the roots that a vehicle's request lists."""
    root = records.roots.by_fingerprint(fingerprint)
    if root is None:
        return False
    certificate = path.read(root.certificate)
    return any(names.is_root_of(certificate, name, serial) for name, serial in roots)
