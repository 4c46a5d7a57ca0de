"""EN: the message itself, as EXI and by its schema."""

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from evcc import exi
from plugvault.cases.case import ACCEPT, EITHER, REFUSE, Case, Change
from plugvault.cases.groups.bits import length_of, overwritten
from plugvault.cases.pki import Issued
from plugvault.cases.scene import Scene, body_of

_EXI = "ISO 15118-2, 7.9.1 (EXI)"
_BROKEN = "A message that does not follow the grammar has no defined content."
_GUESS = "The sender chooses the content that the module reads into a broken message."
_MEMORY = "A length without an upper bound lets any sender exhaust the module's memory."


def _big(scene: Scene) -> dict[str, Any]:
    """Both leaves filled up to nearly 800 bytes, the most that the schema allows."""
    filler = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), bytes(230))
    contract = scene.contract(extensions=[(filler, False)])
    return {"contract": contract, "cps": scene.cps(extensions=[(filler, False)])}


def _longest(scene: Scene) -> dict[str, Any]:
    """Every certificate filled up to nearly 800 bytes."""

    def filled(size: int) -> dict[str, Any]:
        filler = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), bytes(size))
        return {"extensions": [(filler, False)]}

    def sub_ca(root: Issued, name: str, dc: str) -> Issued:
        first = root.issue(f"{name} Sub1", dc=dc, ca=True, path_length=1, **filled(260))
        return first.issue(f"{name} Sub2", dc=dc, ca=True, path_length=0, **filled(260))

    contract = scene.contract_under(sub_ca(scene.pki.mo_root, "MO", "MO"), **filled(280))
    provisioning = sub_ca(scene.pki.v2g_root, "Prov", "V2G")
    return {"contract": contract, "cps": provisioning.issue("CPS Leaf", dc="CPS", **filled(280))}


def _one_sub(scene: Scene) -> dict[str, Any]:
    sub = scene.pki.mo_root.sub("MO Sub only", dc="MO")
    return {"contract": scene.contract_under(sub)}


def _other_message(name: str, body: dict[str, Any]) -> Any:
    def build(scene: Scene) -> bytes:
        header = {"SessionID": scene.session}
        return exi.encode({"V2G_Message": {"Header": header, "Body": {name: body}}})

    return build


def _unknown_code(scene: Scene) -> dict[str, Any]:
    """ResponseCode has 26 values in 5 bits; the message gets the 32nd."""
    contract = scene.contract()
    one, two = (
        scene.response(contract=contract, code=code) for code in ("OK", "OK_NewSessionEstablished")
    )
    difference = int.from_bytes(one, "big") ^ int.from_bytes(two, "big")
    last_bit = len(one) * 8 - difference.bit_length()
    return {"contract": contract, "raw": lambda message: overwritten(message, last_bit - 4, 31, 5)}


def _as_bytes(change: Callable[[bytes], bytes]) -> Change:
    """A change of the message's bytes."""
    return lambda scene: {"raw": change}


def _dh(message: bytes) -> bytes:
    value: bytes = body_of(exi.decode(message))["DHpublickey"]["value"]
    return value


def _certificate(message: bytes) -> bytes:
    der: bytes = body_of(exi.decode(message))["ContractSignatureCertChain"]["Certificate"]
    return der


_BROKEN_MESSAGES: tuple[tuple[int, str, Callable[[bytes], bytes]], ...] = (
    (10, "an empty message", lambda message: b""),
    (11, "the EXI header alone", lambda message: message[:1]),
    (12, "a message cut in the middle", lambda message: message[: len(message) // 2]),
    (13, "a message without its last 40 bytes", lambda message: message[:-40]),
    (14, "64 bytes of noise", lambda message: b"\x55" * 64),
    (15, "only ones after the header", lambda message: b"\x80" + b"\xff" * 400),
    (16, "only zeros after the header", lambda message: b"\x80" + bytes(400)),
    (17, "an EXI version that does not exist", lambda message: b"\x8e" + message[1:]),
    (
        18,
        "EXI options, which the standard excludes",
        lambda message: b"\xa0" + message[1:],
    ),
    (19, "XML in place of EXI", lambda message: b"<?xml version='1.0'?><V2G_Message/>"),
)

CASES = [
    Case(
        "EN-001",
        "a plain, good response",
        ACCEPT,
        "V2G2-814",
        "The message every other case is a change of.",
    ),
    Case(
        "EN-002",
        "certificates near the longest that the schema allows (800 bytes)",
        ACCEPT,
        "ISO 15118-2, certificateType",
        "Operators send such certificates; a buffer of 2 or 4 kB loses the message.",
        change=_big,
    ),
    Case(
        "EN-007",
        "every certificate near the longest that the schema allows: 5.4 kB in all",
        ACCEPT,
        "ISO 15118-2, certificateType",
        "The schema allows it; a buffer of 4 kB loses the message.",
        change=_longest,
    ),
    Case(
        "EN-003",
        "a contract chain with one sub-CA",
        ACCEPT,
        "V2G2-656",
        "One or two sub-CAs stand between root and leaf.",
        change=_one_sub,
    ),
    Case(
        "EN-004",
        "one zero byte behind the document",
        EITHER,
        "house",
        "A widely used station adds one. The document is complete without it.",
        change=lambda scene: {"raw": lambda message: message + b"\0"},
    ),
    Case(
        "EN-005",
        "bytes other than zero behind the document",
        EITHER,
        "house",
        "The document is complete; a strict reader refuses what is left over.",
        change=lambda scene: {"raw": lambda message: message + b"\xa5\x5a"},
    ),
    Case(
        "EN-006",
        "zeros behind the document, 20 kB in all",
        EITHER,
        "house",
        "A module may bound a message at its real size; it must not crash.",
        _MEMORY,
        change=lambda scene: {"raw": lambda message: message.ljust(20_000, b"\0")},
    ),
    *(
        Case(
            f"EN-{number:03}",
            title,
            REFUSE,
            _EXI,
            _BROKEN,
            _GUESS,
            "decode",
            change=_as_bytes(raw),
        )
        for number, title, raw in _BROKEN_MESSAGES
    ),
    Case(
        "EN-020",
        "the length of DHpublickey: 127 for 65 bytes",
        REFUSE,
        _EXI,
        "The value takes the elements behind it along; the rest has no grammar.",
        _GUESS,
        "decode",
        change=lambda scene: {"raw": length_of(_dh, b"\x7f")},
    ),
    Case(
        "EN-021",
        "the length of DHpublickey: 0 for 65 bytes",
        REFUSE,
        _EXI,
        "The value's bytes are read as elements.",
        _GUESS,
        "decode",
        change=lambda scene: {"raw": length_of(_dh, b"\x00")},
    ),
    Case(
        "EN-022",
        "the length of a certificate: 16,383 bytes",
        REFUSE,
        "ISO 15118-2, certificateType",
        "A certificate has at most 800 bytes, and the message ends before that.",
        _MEMORY,
        "decode",
        change=lambda scene: {"raw": length_of(_certificate, b"\xff\x7f")},
    ),
    Case(
        "EN-023",
        "a ResponseCode that does not exist",
        REFUSE,
        "ISO 15118-2, responseCodeType",
        "Six of the 32 codes that fit into the field have no meaning.",
        "A module that takes every code but the known failures installs after a failure.",
        "decode",
        change=_unknown_code,
    ),
    Case(
        "EN-024",
        "a SessionStopRes in place of the response",
        REFUSE,
        "ISO 15118-2, 8.8.3",
        "It is no answer to the request.",
        "",
        "decode",
        message=_other_message("SessionStopRes", {"ResponseCode": "OK"}),
    ),
    Case(
        "EN-025",
        "an AuthorizationRes in place of the response",
        REFUSE,
        "ISO 15118-2, 8.8.3",
        "It is no answer to the request.",
        "A module that goes on believes a contract installed that is not there.",
        "decode",
        message=_other_message(
            "AuthorizationRes", {"ResponseCode": "OK", "EVSEProcessing": "Finished"}
        ),
    ),
]
