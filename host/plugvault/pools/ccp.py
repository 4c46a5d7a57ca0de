"""CCP, the contract certificate pool: signed contracts, waiting for their vehicles.

[OPCP 1.0.0, ccp.v1]. Contracts come in signed by a CPS under a V2G root of RCP, and go out as
EXI: to a station in answer to a vehicle's signed request, or to the vehicle's maker. Validity is
checked on each read. The first contract of a vehicle is its default; nothing replaces a deleted
default.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evcc import chain, exi, signature
from evcc.x509 import CertificateError
from plugvault.contract import response
from plugvault.contract.bundle import ISO2, NO_SESSION, Message, to_exi
from plugvault.pki import names, path
from plugvault.pki.verify import verify_p256
from plugvault.pools import contracts, cps, pcp, rcp
from plugvault.pools.caller import OPERATORS, Caller, read_emaid, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Records

SESSION_ID = 8  # bytes at most
MISSING = "The contract for the given EMAID not found."
NOTHING = "Contract or Vehicle not found."
BAD_EXI = "EXI format is invalid!"
BAD_SIGNATURE = "The signature of the certificateInstallationReq is invalid."

remove = contracts.remove

_NO_BUNDLE = (
    response.ResponseError,
    exi.ExiError,
    CertificateError,
    signature.SignatureError,
)


@dataclass(frozen=True)
class Request:
    """A CertificateInstallationReq taken apart. `roots`: (issuer name, serial number)."""

    session_id: bytes
    certificate: bytes
    roots: tuple[tuple[str, int], ...]
    signature: Message | None
    body: Message


def put(
    records: Records,
    message: Message,
    pcid: str,
    now: float,
    metadata: str | None = None,
) -> Contract:
    """Store a signed bundle for a vehicle. The same EMAID on the same vehicle is replaced.

    The CPS's signature and its path to a V2G root are verified, whoever brings the bundle.
    """
    pcid = read_pcid(pcid)
    taken, root_fingerprint = check_bundle(records, message, now)
    data = taken.contract
    emaid = read_emaid(data.emaid)
    leaf = path.read(data.certificate)
    if leaf.not_after < now:
        raise PoolError("invalid", "The validUntil date of contract certificate is in the past.")
    cps.check_tupple(records, emaid, pcid)
    if pcp.find(records, pcid, now) is None:
        raise PoolError("invalid", cps.NO_VEHICLE)
    vehicle = pcid.upper()
    old = records.contracts.get(emaid, ISO2)
    first = not records.contracts.of_vehicle(vehicle, ISO2)
    contract = Contract(
        emaid,
        ISO2,
        vehicle,
        pcid,
        data.certificate,
        to_exi(message),
        root_fingerprint,
        old.default if old else first,
        leaf.not_before,
        leaf.not_after,
        metadata,
        None,
        *path.identity(leaf),
    )
    records.contracts.put(contract)
    return contract


def check_bundle(records: Records, message: Message, now: float) -> tuple[response.Response, str]:
    """The parts of a bundle whose CPS path and signature hold, and its root's fingerprint."""
    try:
        taken = response.read(message)
        anchor = path.validate(
            taken.cps, taken.cps_subs, rcp.anchors(records, "V2G"), chain.CPS, now
        )
        point = path.read(taken.cps).point
        signature.verify(taken.signature, list(taken.signed), point, verify_p256)
        path.read(taken.contract.certificate)
    except _NO_BUNDLE as error:
        raise PoolError("invalid", f"signedContractDataXML is not valid ({error}).") from error
    return taken, path.fingerprint(anchor.der)


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


def install(records: Records, request: Request, now: float) -> Contract:
    """The contract a vehicle gets at a station: its default, under a root it says it has.

    The request must be signed with the key of the provisioning certificate that PCP holds for
    this PCID now. Raises PoolError("not-found", "Contract or Vehicle not found.") when there is
    nothing for it, "invalid" when the request itself is wrong.
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
    vehicle = pcp.find(records, pcid, now)
    if vehicle is None or vehicle.certificate != request.certificate:
        raise PoolError("not-found", NOTHING)
    for contract in records.contracts.of_vehicle(vehicle.vehicle, ISO2):
        good = contract.default and is_valid(contract, now)
        if good and _is_listed(records, contract, request.roots):
            return contract
    raise PoolError("not-found", NOTHING)


def provide(records: Records, caller: Caller, emaid: str, pcid: str, now: float) -> Contract:
    """A contract for the vehicle's maker, default or not."""
    pcid, emaid = read_pcid(pcid), read_emaid(emaid)
    caller.owns_vehicle(pcid)
    contract = records.contracts.get(emaid, ISO2)
    if contract is None or contract.vehicle != pcid.upper() or not is_valid(contract, now):
        raise PoolError("not-found", MISSING)
    return contract


def of_vehicle(records: Records, caller: Caller, pcid: str, now: float) -> Sequence[Contract]:
    """A vehicle's contracts, for its maker; an empty list when it has none."""
    pcid = read_pcid(pcid)
    caller.owns_vehicle(pcid)
    found = records.contracts.of_vehicle(pcid.upper(), ISO2)
    return [contract for contract in found if is_valid(contract, now)]


def lookup(records: Records, caller: Caller, emaid: str, fingerprint: str | None) -> Contract:
    """One contract by EMAID: its operator, its vehicle's maker, or a charge point operator."""
    emaid = read_emaid(emaid)
    if caller.roles & OPERATORS:
        caller.owns_contract(emaid)
    contract = records.contracts.get(emaid, ISO2)
    if contract is None or (fingerprint and contract.root_fingerprint != fingerprint.lower()):
        raise PoolError("not-found", MISSING)
    if "OEM" in caller.roles:
        caller.owns_vehicle(contract.pcid)
    return contract


def set_default(records: Records, caller: Caller, pcid: str, emaid: str) -> None:
    """Make one contract of a vehicle the one stations install."""
    pcid, emaid = read_pcid(pcid), read_emaid(emaid)
    caller.owns_vehicle(pcid)
    contracts = records.contracts.of_vehicle(pcid.upper(), ISO2)
    if emaid not in {contract.emaid for contract in contracts}:
        raise PoolError("not-found", MISSING)
    for contract in contracts:
        wanted = contract.emaid == emaid
        if contract.default != wanted:
            records.contracts.put(replace(contract, default=wanted))


def mark_delivered(records: Records, contract: Contract, now: float) -> None:
    """The vehicle, or its maker for it, has the contract: this one, not one put since."""
    current = records.contracts.get(contract.emaid, ISO2)
    if current == contract and contract.delivered is None:
        records.contracts.put(replace(contract, delivered=int(now)))


def is_valid(contract: Contract, now: float) -> bool:
    """Inside its dates. Revocation has its place here, and no source yet."""
    return contract.not_before <= now <= contract.not_after


def _is_listed(records: Records, contract: Contract, roots: Sequence[tuple[str, int]]) -> bool:
    root = records.roots.by_fingerprint(contract.root_fingerprint)
    if root is None:
        return False
    certificate = path.read(root.certificate)
    return any(names.is_root_of(certificate, name, serial) for name, serial in roots)
