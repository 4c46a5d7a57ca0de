"""XML signatures over EXI, as ISO 15118-2 uses them: `sign` and `verify`.

A message carries a `Signature` in its header. It refers to elements of the body by their Id, holds
the SHA-256 of each one's EXI fragment, and signs the EXI fragment of `SignedInfo`, coded with the
xmldsig schema alone [V2G2-764..771, annex J]. The digests cover fragments encoded again from the
decoded values, so that the checked values are the used ones.

No key is used here: the caller passes functions that sign and verify with ECDSA.
"""

import hashlib

from . import exi
from .errors import EvccError
from .p256_curve import N

CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"

MAX_REFERENCES = 4  # [V2G2-909]

_SIGNATURE = ("SignedInfo", "SignatureValue")
_SIGNED_INFO = ("CanonicalizationMethod", "SignatureMethod", "Reference")
_REFERENCE = ("URI", "Transforms", "DigestMethod", "DigestValue")
_TRANSFORMS = ("Transform",)
_ALGORITHM = ("Algorithm",)
_VALUE = ("value",)


class SignatureError(EvccError):
    """A signature that is not valid. `reason`: the failed step."""

    REASONS = ("members", "algorithm", "references", "digest", "signature")


def sign(parts: list, sign) -> dict:
    """Sign elements; return the `Signature` element.

    parts: [(id, element name, value)] in the order of the references.
    sign: digest (32 bytes) -> r‖s (64 bytes).
    """
    references = []
    for ident, name, value in parts:
        reference = {
            "URI": "#" + ident,
            "Transforms": {"Transform": [{"Algorithm": CANONICAL_EXI}]},
            "DigestMethod": {"Algorithm": SHA256},
            "DigestValue": digest(name, value, False),
        }
        references.append(reference)
    info = {
        "CanonicalizationMethod": {"Algorithm": CANONICAL_EXI},
        "SignatureMethod": {"Algorithm": ECDSA_SHA256},
        "Reference": references,
    }
    # A call by `signed_info_digest` would be one more where a board's stack is deepest.
    value = sign(digest("SignedInfo", info, False, "xmldsig"))
    return {"SignedInfo": info, "SignatureValue": {"value": value}}


def verify(
    signature: dict,
    parts: list,
    point: bytes,
    verify,
    legacy_emaid: bool = False,
) -> bool:
    """Check that a `Signature` covers exactly these elements and is made by this key.

    signature: the decoded element. parts: [(id, element name, value)], each to be referenced once,
    and no other element. point: 65 bytes, the signer's key. verify: (point, digest, r‖s) -> bool.
    legacy_emaid: also accept the eMAID digest of peers that code its fragment by its own type
    instead of the element-fragment grammar of EXI 1.0 section 8.5.3.

    Returns True when the legacy form was needed (to be reported), else False.
    Raises SignatureError with the failed step as its reason; the errors of `verify`.
    """
    _exactly(signature, _SIGNATURE)
    info = signature["SignedInfo"]
    raw = _exactly(signature["SignatureValue"], _VALUE)["value"]
    digests = referenced(info)
    if len(digests) != len(parts):
        raise SignatureError("references", "%d instead of %d" % (len(digests), len(parts)))
    legacy = False
    for ident, name, value in parts:
        expected = digests.pop("#" + ident, None)
        if expected is None:  # also for the second of two parts with one Id
            raise SignatureError("references", name + " is not signed")
        if expected != digest(name, value, False):
            if not (legacy_emaid and expected == digest(name, value, True)):
                raise SignatureError("digest", name)
            legacy = True
    if not in_range(raw) or not verify(point, signed_info_digest(info), raw):
        raise SignatureError("signature", "SignedInfo is not signed by this key")
    return legacy


def digest(name: str, value, typed: bool = False, schema: str = "iso2") -> bytes:
    """SHA-256 of one element's EXI fragment. typed: the legacy form of an ambiguous name. schema:
    as in `exi.fragment`."""
    hashed = hashlib.sha256()
    exi.fragment(name, value, schema, typed, hashed.update)  # a board has no room for the octets
    return hashed.digest()


def signed_info_digest(info: dict) -> bytes:
    """SHA-256 of SignedInfo as a fragment of the xmldsig schema: the digest that ECDSA signs."""
    return digest("SignedInfo", info, False, "xmldsig")


def in_range(raw: bytes) -> bool:
    """Whether r‖s has 64 bytes and 1 <= r, s < n [FIPS 186-5, 6.4.2]: not every library checks
    it."""
    if len(raw) != 64:
        return False
    r = int.from_bytes(raw[:32], "big")
    s = int.from_bytes(raw[32:], "big")
    return 0 < r < N and 0 < s < N


def referenced(info: dict) -> dict:
    """{URI: digest} of a SignedInfo that conforms to [V2G2-767..771].

    Raises: SignatureError("members" | "algorithm" | "references").
    """
    _exactly(info, _SIGNED_INFO)
    _algorithm(info["CanonicalizationMethod"], CANONICAL_EXI)
    _algorithm(info["SignatureMethod"], ECDSA_SHA256)
    if len(info["Reference"]) > MAX_REFERENCES:
        raise SignatureError("references", "more than %d" % MAX_REFERENCES)
    digests: dict = {}
    for reference in info["Reference"]:
        uri = _exactly(reference, _REFERENCE)["URI"]
        transforms = _exactly(reference["Transforms"], _TRANSFORMS)["Transform"]
        if len(transforms) != 1:
            raise SignatureError("algorithm", "%d transforms" % len(transforms))
        _algorithm(transforms[0], CANONICAL_EXI)
        _algorithm(reference["DigestMethod"], SHA256)
        if uri in digests:
            raise SignatureError("references", uri + " twice")
        digests[uri] = reference["DigestValue"]
    return digests


def _exactly(element: dict, names: tuple) -> dict:
    """An element that holds these members and no others [V2G2-771]."""
    good = len(element) == len(names)
    for name in names:
        good = good and name in element
    if not good:
        raise SignatureError("members", "%s instead of %s" % (sorted(element), names))
    return element


def _algorithm(element: dict, expected: str) -> None:
    if _exactly(element, _ALGORITHM)["Algorithm"] != expected:
        raise SignatureError("algorithm", element["Algorithm"])
