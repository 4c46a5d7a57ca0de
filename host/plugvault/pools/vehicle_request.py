"""A vehicle's CertificateInstallationReq, before any pool or partner is asked about the vehicle.

[ISO 15118-2; OPCP 1.0.0, ccp.v1]. The request must be signed with the key of the provisioning
certificate in it.
"""

from dataclasses import dataclass, field

from evcc import exi, protocols, signature
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from evcc.x509 import Certificate, CertificateError
from plugvault.contract.iso15118_2.bundle import NO_SESSION, Message
from plugvault.pki import path
from plugvault.pki.verify import verify_p256
from plugvault.pools import checks
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError

SESSION_ID = 8  # bytes at most
BAD_EXI = "EXI format is invalid!"
BAD_SIGNATURE = "The signature of the certificateInstallationReq is invalid."
NO_UPDATE = (
    "A contract is not updated here: the vehicle installs it with a CertificateInstallationReq."
)
FRAMED = "It is a V2GTP frame; send the EXI inside it."
_LATER = f"It is a message of {{}}: {protocols.LATER}."
_V2GTP = v2gtp.encode(b"")[:2]  # the version of the header
# The event code of CertificateInstallationReq among the roots of ISO 15118-20, in 6 bits.
_ISO20_REQUEST = 7


class UpdateError(PoolError):
    """A CertificateUpdateReq. Its answer is the same for every vehicle and contract. `session_id`:
    1 to 8 bytes, of the request."""

    def __init__(self, session_id: bytes) -> None:
        super().__init__("not-found", NO_UPDATE)
        self.session_id = session_id


@dataclass
class VehicleRequest:
    """A CertificateInstallationReq that the checks of `REQUEST` examine.

    `session_id`: 1 to 8 bytes; `roots`: (issuer name, serial number) of each V2G root in the
    vehicle; `certificate`: DER of the provisioning certificate, `leaf`: the same, parsed.
    """

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


def read_request(raw: bytes) -> VehicleRequest:
    """Decode a vehicle's request (EXI).

    Raises PoolError("invalid", "EXI format is invalid!"), with a second message for another
    protocol; UpdateError for a CertificateUpdateReq.
    """
    try:
        message = exi.decode(raw)
    except exi.ExiError as error:
        raise _bad_exi(raw) from error
    session_id, name, _, _ = messages.opened(message)
    if name == "CertificateUpdateReq" and len(session_id) <= SESSION_ID:
        raise UpdateError(session_id or NO_SESSION)
    if name != "CertificateInstallationReq":
        raise _bad_exi(raw)
    return checks.run(REQUEST[:1], VehicleRequest(message))


def _bad_exi(raw: bytes) -> PoolError:
    """The refusal of bytes that are no request of ISO 15118-2, with the name of what they are."""
    if raw.startswith(_V2GTP):
        protocol = protocols.of_payload(int.from_bytes(raw[2:4], "big"))
        hint = _LATER.format(protocol) if protocol else FRAMED
    elif protocols.is_din(raw):
        hint = _LATER.format(protocols.DIN)
    elif len(raw) > 1 and raw[0] == 0x80 and raw[1] >> 2 == _ISO20_REQUEST:
        hint = _LATER.format(protocols.ISO20)
    else:
        return PoolError("invalid", BAD_EXI)
    return PoolError("invalid", f"{BAD_EXI}\n{hint}")


def check_signature(request: VehicleRequest) -> str:
    """The PCID of a request that the key of its own certificate has signed.

    Raises PoolError("invalid"). No pool and no partner is asked about a vehicle before this.
    """
    return checks.run(REQUEST[1:], request).pcid
