"""SG: the signature of the CPS: what it covers, its algorithms, its form."""

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evcc import exi
from evcc import signature as xml_signature
from evcc.p256_curve import N
from plugvault.cases.case import ACCEPT, REFUSE, Case, Change
from plugvault.cases.pki import Key, sign
from plugvault.cases.scene import (
    OTHER_EMAID,
    SIGNED,
    Message,
    Scene,
    body_of,
    header_of,
    sign_signed_info,
)

_COVER = "The CPS signs four elements, each once; an unsigned element has no author."
_FORM = "The standard allows exactly these members and algorithms."
_DIGEST = "The digest of the element differs from the signed one."
_ECDSA = "r and s lie between 1 and n-1."
_XML = "V2G2-771"
_ECDSA_CLAUSE = "FIPS 186-5, 6.4.2"


def _info(edit: Callable[[Message], object]) -> Change:
    return lambda scene: {"edit_signed_info": edit}


def _value(make: Callable[[bytes], bytes]) -> Change:
    """Another SignatureValue in place of r | s."""

    def edit(message: Message) -> None:
        element = header_of(message)["Signature"]["SignatureValue"]
        element["value"] = make(element["value"])

    return lambda scene: {"edit": edit}


def _set(path: tuple[Any, ...], value: Any) -> Callable[[Message], None]:
    """A change of SignedInfo: the member at `path` becomes `value`."""

    def edit(info: Message) -> None:
        element: Any = info
        for step in path[:-1]:
            element = element[step]
        element[path[-1]] = value

    return edit


def _signature(path: tuple[Any, ...], value: Any) -> Change:
    """A change of the Signature after it was made."""

    def edit(message: Message) -> None:
        _set(path, value)(header_of(message)["Signature"])

    return lambda scene: {"edit": edit}


def _swapped(name: str, value: Callable[[Scene], Any], member: str = "value") -> Change:
    def change(scene: Scene) -> dict[str, Any]:
        other = value(scene)

        def edit(message: Message) -> None:
            body_of(message)[name][member] = other

        return {"edit": edit}

    return change


def _wrapped(scene: Scene) -> dict[str, Any]:
    """The signed chain moves to the element that nothing signs; another takes its place."""
    other = scene.contract()

    def edit(message: Message) -> None:
        body = body_of(message)
        body["SAProvisioningCertificateChain"]["Id"] = body["ContractSignatureCertChain"]["Id"]
        body["ContractSignatureCertChain"]["Certificate"] = other.der
        body["ContractSignatureCertChain"]["Id"] = "id5"

    return {"edit": edit}


def _all_replaced(scene: Scene) -> dict[str, Any]:
    """All four signed elements are those of another contract, under the old signature."""
    other = scene.body(scene.contract(), ephemeral=scene.key("other ephemeral"))

    def edit(message: Message) -> None:
        body_of(message).update(other)

    return {"edit": edit}


def _doubled(info: Message) -> None:
    info["Reference"][3] = dict(info["Reference"][0])


def _fifth(info: Message) -> None:
    info["Reference"].append({**info["Reference"][0], "URI": "#id5"})


def _two_transforms(info: Message) -> None:
    transforms = info["Reference"][0]["Transforms"]["Transform"]
    transforms.append(dict(transforms[0]))


def _typed_emaid(info: Message) -> None:
    """The eMAID's digest as peers compute it that code its fragment by its own type."""
    # the element as `Scene.body` makes it
    info["Reference"][3]["DigestValue"] = xml_signature.digest(
        "eMAID", {"Id": "id4", "value": "DEPVT0000000012"}, True
    )


def _halves(value: bytes) -> tuple[int, int]:
    return int.from_bytes(value[:32], "big"), int.from_bytes(value[32:], "big")


def _der(value: bytes) -> bytes:
    return encode_dss_signature(*_halves(value))


def _high_s(value: bytes) -> bytes:
    """(r, n - s), which ECDSA accepts as the same signature."""
    r, s = _halves(value)
    return r.to_bytes(32, "big") + (N - s).to_bytes(32, "big")


def _raw(r: int, s: int) -> Change:
    return _value(lambda _: r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def _schema_grammar(key: Key, info: Message) -> bytes:
    """SignedInfo in the grammar of ISO 15118-2's whole schema, as some stacks code it."""
    return sign(key, exi.fragment("SignedInfo", info, "iso2"))


def _hashed_twice(key: Key, info: Message) -> bytes:
    return sign(key, hashlib.sha256(exi.fragment("SignedInfo", info, "xmldsig")).digest())


def _by_contract(scene: Scene) -> dict[str, Any]:
    contract = scene.contract()
    return {
        "contract": contract,
        "sign_as": lambda key, info: sign_signed_info(contract.private_key, info),
    }


def _by_another(scene: Scene) -> dict[str, Any]:
    unknown = scene.key("unknown")
    return {"sign_as": lambda key, info: sign_signed_info(unknown, info)}


def _no_signature(message: Message) -> None:
    del header_of(message)["Signature"]


_W3 = "http://www.w3.org/"
_SWAP = "A carrier of the message exchanges the part, and the signature still holds."
_WEAK = "A weaker algorithm lets an attacker find a second message for the signature."

# number, title, because, gain, change
_REFUSED: tuple[tuple[int, str, str, str, Change], ...] = (
    *(
        (number, f"{name} is not signed", _COVER, _SWAP, lambda scene, name=name: {
            "references": [other for other in SIGNED if other != name]
        })
        for number, name in enumerate(SIGNED, 1)
    ),
    (5, "two elements with one Id", _COVER, _SWAP, lambda scene: {
        "ids": ("id1", "id2", "id2", "id4")
    }),
    (6, "one reference twice, another missing", _COVER, _SWAP, _info(_doubled)),
    (7, "a fifth reference", "At most four are allowed.", _SWAP, _info(_fifth)),
    (8, "the signed chain moved, another in its place", _COVER, _SWAP, _wrapped),
    (9, "no signature", _COVER, _SWAP, lambda scene: {"edit": _no_signature}),
    (10, "another contract certificate under the signed Id", _DIGEST, _SWAP, _swapped(
        "ContractSignatureCertChain", lambda scene: scene.contract().der, "Certificate"
    )),
    (11, "another ciphertext under the signed Id", _DIGEST, _SWAP, _swapped(
        "ContractSignatureEncryptedPrivateKey", lambda scene: scene.octets("other", 48)
    )),
    (12, "another DH point under the signed Id", _DIGEST, _SWAP, _swapped(
        "DHpublickey", lambda scene: scene.pki.cpo.point
    )),
    (13, "another EMAID under the signed Id", _DIGEST, _SWAP, _swapped(
        "eMAID", lambda scene: OTHER_EMAID
    )),
    (14, "another contract whole, under the signature of the first", _DIGEST, _SWAP,
     _all_replaced),
    (20, "a digest by SHA-1", _FORM, _WEAK, _info(
        _set(("Reference", 1, "DigestMethod", "Algorithm"), _W3 + "2000/09/xmldsig#sha1")
    )),
    (21, "a digest that claims SHA-512", _FORM, _WEAK, _info(
        _set(("Reference", 1, "DigestMethod", "Algorithm"), _W3 + "2001/04/xmlenc#sha512")
    )),
    (22, "a signature by ECDSA with SHA-1", _FORM, _WEAK, _info(
        _set(("SignatureMethod", "Algorithm"), _W3 + "2001/04/xmldsig-more#ecdsa-sha1")
    )),
    (23, "a signature that claims HMAC", _FORM, _WEAK, _info(
        _set(("SignatureMethod", "Algorithm"), _W3 + "2000/09/xmldsig#hmac-sha1")
    )),
    (24, "another canonicalization", _FORM, _SWAP, _info(
        _set(("CanonicalizationMethod", "Algorithm"), _W3 + "2001/10/xml-exc-c14n#")
    )),
    (25, "another transform", _FORM, _SWAP, _info(
        _set(
            ("Reference", 0, "Transforms", "Transform", 0, "Algorithm"),
            _W3 + "TR/1999/REC-xpath-19991116",
        )
    )),
    (26, "two transforms", _FORM, _SWAP, _info(_two_transforms)),
    (30, "an Id of SignedInfo", _FORM, "", _info(_set(("Id",), "id9"))),
    (31, "a Type of a Reference", _FORM, "", _info(_set(("Reference", 0, "Type"), _W3))),
    (32, "an Id of SignatureValue", _FORM, "", _signature(("SignatureValue", "Id"), "id9")),
    (33, "an Id of the Signature", _FORM, "", _signature(("Id",), "id9")),
    (40, "r = 0", _ECDSA, "Some libraries accept such a signature of any message.", _raw(0, 1)),
    (41, "s = 0", _ECDSA, "Some libraries accept such a signature of any message.", _raw(1, 0)),
    (42, "r = s = 0", _ECDSA, "Some libraries accept it for any message.", _raw(0, 0)),
    (43, "r = n", _ECDSA, "Some libraries accept it for any message.", _raw(N, 1)),
    (44, "s = n", _ECDSA, "Some libraries accept it for any message.", _raw(1, N)),
    (45, "s and n added", _ECDSA, "", _value(
        lambda value: value[:32] + (_halves(value)[1] + N).to_bytes(33, "big")
    )),
    (46, "r | s without its last byte", "It has 64 bytes.", "", _value(lambda value: value[:-1])),
    (47, "r | s and one byte more", "It has 64 bytes.", "", _value(lambda value: value + b"\0")),
    (48, "an empty SignatureValue", "It has 64 bytes.", _SWAP, _value(lambda value: b"")),
    (49, "one bit of the signature changed", "It fails.", _SWAP, _value(
        lambda value: value[:-1] + bytes([value[-1] ^ 1])
    )),
    (50, "s and r exchanged", "It fails.", _SWAP, _value(
        lambda value: value[32:] + value[:32]
    )),
    (51, "the signature as DER", "The value is r | s, 64 bytes [V2G2-764].", "", _value(_der)),
    (52, "signed by the contract's key", "Only the CPS signs.", _SWAP, _by_contract),
    (53, "signed by an unknown key", "Only the CPS signs.", _SWAP, _by_another),
    (54, "SignedInfo coded with the grammar of the whole -2 schema",
     "It is coded with the schema of xmldsig alone.", "",
     lambda scene: {"sign_as": _schema_grammar}),
    (55, "SignedInfo hashed twice", "ECDSA signs one SHA-256.", "",
     lambda scene: {"sign_as": _hashed_twice}),
    (56, "the eMAID's digest by its own type's grammar",
     "The name stands for two types: EXI 1.0, 8.5.3 asks for the element-fragment grammar.", "",
     _info(_typed_emaid)),
)  # fmt: skip
_ACCEPTED: tuple[tuple[int, str, str, Change], ...] = (
    (70, "the references in another order", "A reference is found by its URI.", lambda scene: {
        "references": [SIGNED[1], SIGNED[0], SIGNED[3], SIGNED[2]]
    }),
    (71, "Ids in capital letters", "An Id is the sender's to choose.", lambda scene: {
        "ids": ("ID1", "ID2", "ID3", "ID4")
    }),
    (72, "Ids that are long and speak", "An Id is the sender's to choose.", lambda scene: {
        "ids": ("contract-chain-of-this-message", "key", "_dh.point", "e")
    }),
    (73, "n - s in place of s", "Both are signatures; ECDSA has no preferred half.",
     _value(_high_s)),
)  # fmt: skip

CASES = [
    *(
        Case(
            f"SG-{number:03}",
            title,
            REFUSE,
            "V2G2-909" if number == 7 else _XML if number < 40 else _ECDSA_CLAUSE,
            because,
            gain,
            "signature",
            change=change,
        )
        for number, title, because, gain, change in _REFUSED
    ),
    *(
        Case(f"SG-{number:03}", title, ACCEPT, "V2G2-767", because, change=change)
        for number, title, because, change in _ACCEPTED
    ),
]
