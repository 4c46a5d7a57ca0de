"""PKCS#10 certificate signing request (RFC 2986) for the OEM provisioning certificate.

Subject: C if given, O, CN = PCID, DC = OEM, as EST `oem/simpleenroll` of the Open Plug&Charge
Protocol expects it. P-256 and ecdsa-with-SHA256 only. The private key stays in its vault: the
caller gives a function that signs a digest.
"""

import hashlib

from evcc import der
from evcc.ids import parse_pcid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_P256_KEY = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
_COUNTRY = bytes.fromhex("550406")
_ORGANISATION = bytes.fromhex("55040a")
_COMMON_NAME = bytes.fromhex("550403")
_DOMAIN_COMPONENT = bytes.fromhex("0992268993f22c640119")


def build(
    pcid: str,
    organisation: str,
    country: "str | None",
    point: bytes,
    sign: "Callable[[bytes], bytes]",
) -> bytes:
    """The request as DER.

    point: 65 bytes, 0x04‖X‖Y. sign: SHA-256 digest (32 bytes) to r‖s (64 bytes), made with the
    private key of `point`. organisation: for a UTF8String. country: two letters, or None.
    Raises: IdError; the errors of `sign`.
    """
    pcid = parse_pcid(pcid)
    subject = (
        _attribute(_COUNTRY, der.PRINTABLE_STRING, country) if country else b"",
        _attribute(_ORGANISATION, der.UTF8_STRING, organisation),
        _attribute(_COMMON_NAME, der.PRINTABLE_STRING, pcid),
        _attribute(_DOMAIN_COMPONENT, der.IA5_STRING, "OEM"),
    )
    info = der.tlv(
        der.SEQUENCE,
        der.tlv(der.INTEGER, b"\0"),
        der.tlv(der.SEQUENCE, *subject),
        der.tlv(der.SEQUENCE, _P256_KEY, der.tlv(der.BIT_STRING, b"\0", point)),
        der.tlv(0xA0),
    )
    signature = der.signature_value(sign(hashlib.sha256(info).digest()))
    return der.tlv(der.SEQUENCE, info, _ECDSA_SHA256, der.tlv(der.BIT_STRING, b"\0", signature))


def _attribute(oid, tag, text):
    value = der.tlv(der.SEQUENCE, der.tlv(der.OID, oid), der.tlv(tag, text.encode()))
    return der.tlv(der.SET, value)
