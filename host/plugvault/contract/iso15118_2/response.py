"""CertificateInstallationRes: set its SessionID, parse it, and make the negative responses.

`read` parses only; the callers check (pools, roles, vehicle).
"""

from dataclasses import dataclass
from typing import Any

from evcc import exi
from evcc.errors import EvccError
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import SIGNED, Message

_START = b"\x80\x98"  # EXI header, V2G_Message, Header: 18 bits, the rest of them zero
NO_RETRY = -1  # RetryCounter
_SHORTEST_EMAID = 14
_SHIFT = 2  # bits of the third byte that belong to them


class ResponseError(EvccError):
    """Bytes or a message that is no usable CertificateInstallationRes."""

    REASONS = ("format", "session-id")


@dataclass(frozen=True)
class Response:
    """A parsed positive response. `cps`: DER of the CPS leaf; `cps_subs`: DER, Sub2 first;
    `signed`: (Id, name, value) of each signed element."""

    contract: ContractData
    cps: bytes
    cps_subs: tuple[bytes, ...]
    signature: Message
    signed: tuple[tuple[str, str, Message], ...]


def with_session_id(message: bytes, session_id: bytes) -> bytes:
    """The same EXI message with another SessionID (1 to 8 bytes); the signature stays valid.

    The SessionID is the first value of every V2G message and a whole number of bytes long, so that
    the bits after it keep their position within a byte. Raises ResponseError: "session-id" for
    another length, "format" for other bytes.
    """
    if not 1 <= len(session_id) <= 8:
        raise ResponseError("session-id", "1 to 8 bytes")
    if not message.startswith(_START) or len(message) < 13 or message[2] >> (8 - _SHIFT):
        raise ResponseError("format", "not a V2G message of ISO 15118-2 in EXI")
    old = int.from_bytes(message[2:4], "big") >> (8 - _SHIFT) & 0xFF
    if not old <= 8:
        raise ResponseError("format", "SessionID longer than 8 bytes")
    tail = message[3 + old :]
    tail_bits = 8 - _SHIFT  # of its first byte
    head = len(session_id).to_bytes(1, "big") + session_id
    shifted = int.from_bytes(head, "big") << tail_bits | tail[0] & (1 << tail_bits) - 1
    return _START + shifted.to_bytes(len(head) + 1, "big") + tail[1:]


def read(message: Message) -> Response:
    """Parse a decoded, positive message. Raises ResponseError("format"), also for another
    ResponseCode than OK."""
    try:
        header = message["V2G_Message"]["Header"]
        body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
        if body["ResponseCode"] != "OK":
            raise ResponseError("format", body["ResponseCode"])
        cps, cps_subs = _chain(body["SAProvisioningCertificateChain"])
        leaf, subs = _chain(body["ContractSignatureCertChain"])
        return Response(
            ContractData(
                body["eMAID"]["value"],
                leaf,
                subs,
                body["ContractSignatureEncryptedPrivateKey"]["value"],
                body["DHpublickey"]["value"],
            ),
            cps,
            cps_subs,
            header["Signature"],
            tuple((body[name]["Id"], name, body[name]) for _, name in SIGNED),
        )
    except (KeyError, TypeError) as error:
        raise ResponseError("format", f"not a positive response: {error}") from error


def negative(session_id: bytes) -> bytes:
    """A pool's CertificateInstallationRes without a contract, EXI: FAILED_NoCertificateAvailable.
    `session_id`: 1 to 8 bytes.

    It is unsigned; the mandatory elements hold dummies that are valid by the schema. The published
    pool has the same message with an eMAID of one character, which some vehicles cannot read.
    """
    return _negative(session_id, "CertificateInstallationRes", "certificate installation", {})


def negative_update(session_id: bytes) -> bytes:
    """A pool's CertificateUpdateRes without a contract, as `negative`. Its RetryCounter is -1: the
    vehicle need not try again."""
    members = {"RetryCounter": NO_RETRY}
    return _negative(session_id, "CertificateUpdateRes", "certificate update", members)


def _negative(session_id: bytes, name: str, subject: str, members: dict[str, Any]) -> bytes:
    chain = {"Certificate": b"\x00"}
    notification = {"FaultCode": "UnknownError", "FaultMsg": f"no {subject}"}
    body = {
        "ResponseCode": "FAILED_NoCertificateAvailable",
        "SAProvisioningCertificateChain": chain,
        "ContractSignatureCertChain": {"Id": "id1", **chain},
        "ContractSignatureEncryptedPrivateKey": {"Id": "id2", "value": b"\x00"},
        "DHpublickey": {"Id": "id3", "value": b"\x00"},
        "eMAID": {"Id": "id4", "value": "0" * _SHORTEST_EMAID},
        **members,
    }
    header = {"SessionID": session_id, "Notification": notification}
    return exi.encode({"V2G_Message": {"Header": header, "Body": {name: body}}})


def _chain(value: Message) -> tuple[bytes, tuple[bytes, ...]]:
    return value["Certificate"], tuple(value.get("SubCertificates", {}).get("Certificate", ()))
