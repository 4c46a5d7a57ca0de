"""X.509 certificates (RFC 5280) as Plug & Charge uses them: P-256 keys, ecdsa-with-SHA256.

`parse` turns bytes of any origin into a `Certificate` or a `CertificateError`, reading only what
the module needs. Real certificates need some tolerance: leaves without key usage or basic
constraints, CA:FALSE written out, 8-byte key identifiers, subjects without DC, validity to 9999.
Does not check signatures, dates or trust: see `chain`.
"""

import hashlib

from evcc import der, utf8
from evcc.errors import EvccError
from evcc.pause import pause
from evcc.vault.schemes import SCHEMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# key_usage bits, RFC 5280 section 4.2.1.3
DIGITAL_SIGNATURE = 1
KEY_AGREEMENT = 16
KEY_CERT_SIGN = 32

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_EC_KEY = bytes.fromhex("06072a8648ce3d0201")
# SubjectPublicKeyInfo of a P-256 key up to its point of 65 bytes.
_P256_KEY = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_NAMES = {
    bytes.fromhex("550403"): "CN",
    bytes.fromhex("550406"): "C",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
    bytes.fromhex("0992268993f22c640119"): "DC",
}
_UNIQUE_NAMES = ("CN", "DC")
_OCSP = bytes.fromhex("2b06010505073001")


class CertificateError(EvccError):
    """A certificate that cannot be read, or a chain that cannot be trusted."""

    REASONS = (
        # x509.parse
        "size",
        "der",
        "version",
        "serial",
        "algorithm",
        "curve",
        "point",
        "name",
        "time",
        "extension",
        # chain
        "expired",
        "not-yet-valid",
        "role",
        "key-usage",
        "leaf-is-ca",
        "leaf-as-ca",
        "no-ca-flag",
        "path-length",
        "critical-extension",
        "too-long",
        "root-in-message",
        "untrusted",
        "wrong-issuer-key",
        "signature",
        "not-a-root",
        "revoked",
    )


class Certificate:
    """One certificate, made by `parse`.

    Parts of `der` are cut out at each access: as copies they would triple the memory of a chain.
    """

    der: bytes
    tbs: bytes  # the signed part
    tbs_digest: bytes  # SHA-256 of `tbs`, which the issuer has signed
    serial: int
    issuer: bytes  # raw DER Name, as subject
    subject: bytes
    names: "dict[str, str]"  # the subject's CN, O, OU, C and DC, as far as present
    not_before: int  # seconds since 1970
    not_after: int
    point: bytes  # 65 bytes, 0x04‖X‖Y
    signature: bytes  # 64 bytes, r‖s
    is_ca: bool
    path_length: "int | None"
    key_usage: "int | None"  # bit n of the extension is 1 << n
    ski: "bytes | None"
    aki: "bytes | None"
    ocsp: "str | None"  # the responder's URL
    unknown_critical: bool  # has a critical extension that this module does not know

    def __init__(self, data: bytes) -> None:
        self.der = data
        self.is_ca = False
        self.path_length = None
        self.key_usage = None
        self.unknown_critical = False
        self._spans = {}  # name: start << 16 | stop

    def __getattr__(self, name: str) -> "Any":
        if name not in _CUT_OUT:
            raise AttributeError(name)
        span = self._spans.get(name)
        if span is None:
            return None
        read = _CUT_OUT[name]
        raw = self.der[span >> 16 : span & 0xFFFF]
        return read(raw) if read else raw

    def _mark(self, name: str, start: int, stop: int) -> None:
        self._spans[name] = start << 16 | stop


def fingerprint(data: bytes) -> bytes:
    """SHA-256 of a certificate's DER, 32 bytes."""
    return _sha256(data)


def parse(data: bytes, limit: int = SCHEMES["iso2"].certificate_limit) -> Certificate:
    """Read one certificate, DER; `limit` is its greatest size in bytes.

    Raises: CertificateError, for any bytes that are not a certificate this module can use.
    """
    if not 0 < len(data) <= limit:
        raise CertificateError("size", "%d bytes, at most %d" % (len(data), limit))
    pause()
    try:
        return _parse(bytes(data))
    except der.DerError as e:
        raise CertificateError("der", str(e))


def names(name: bytes) -> "dict[str, str]":
    """CN, O, OU, C and DC of a raw DER Name, the first of each; CN and DC may be there only once.

    Raises: CertificateError("name"), DerError.
    """
    pause()
    out: "dict[str, str]" = {}
    for key, tag, start, stop in attributes(name):
        if key is None:
            continue
        if key not in out:
            out[key] = _text(tag, name[start:stop])
        elif key in _UNIQUE_NAMES:
            raise CertificateError("name", "more than one " + key)
    return out


def attributes(name: bytes) -> "Iterator[tuple[str | None, int, int, int]]":
    """(CN, O, OU, C, DC or None; tag, start, stop of its value in `name`) of each attribute of a
    raw DER Name. Raises: DerError."""
    at, end = der.whole(name, der.SEQUENCE)
    while at < end:
        rdn, at = der.expect(name, at, end, der.SET)
        while rdn < at:
            start, rdn = der.expect(name, rdn, at, der.SEQUENCE)
            oid, oid_end = der.expect(name, start, rdn, der.OID)
            tag, text, text_end = der.header(name, oid_end, rdn)
            if text_end != rdn:
                raise der.DerError("trailing")
            yield _NAMES.get(name[oid:oid_end]), tag, text, text_end


def _text(tag, raw):
    if tag not in (der.PRINTABLE_STRING, der.UTF8_STRING, der.IA5_STRING):
        raise CertificateError("name", "string type %02x" % tag)
    for b in raw:
        if b < 0x20 or b == 0x7F or (b > 0x7F and tag != der.UTF8_STRING):
            raise CertificateError("name", "character %02x" % b)
    try:
        text = utf8.decode(raw)
    except UnicodeError:
        raise CertificateError("name", "not UTF-8")
    if len(text) < len(raw):  # U+0080 to U+009F are control characters too: terminals obey them
        for c in text:
            if "\x7f" < c < "\xa0":
                raise CertificateError("name", "control character")
    return text


def _url(raw):
    return _text(der.IA5_STRING, raw)


def _sha256(raw):
    return hashlib.sha256(raw).digest()


_CUT_OUT = {
    "tbs": None,
    "tbs_digest": _sha256,
    "serial": lambda raw: int.from_bytes(raw, "big"),
    "issuer": None,
    "subject": None,
    "names": names,
    "point": None,
    "signature": lambda raw: der.raw_signature(raw, 0, len(raw)),
    "ski": None,
    "aki": None,
    "ocsp": _url,
}


def _parse(data):
    cert = Certificate(data)
    at, end = der.whole(data, der.SEQUENCE)
    start, stop = der.expect(data, at, end, der.SEQUENCE)
    cert._mark("tbs", at, stop)
    cert._mark("tbs_digest", at, stop)
    _parse_tbs(cert, data, start, stop)
    at = _algorithm(data, stop, end)
    start, at = der.expect(data, at, end, der.BIT_STRING)
    if at != end:
        raise der.DerError("trailing")
    if start == at or data[start]:
        raise der.DerError("value", "signature is not whole bytes")
    der.raw_signature(data, start + 1, at)
    cert._mark("signature", start + 1, at)
    return cert


def _parse_tbs(cert, data, at, end):
    if data[at : at + 5] != b"\xa0\x03\x02\x01\x02":
        raise CertificateError("version", "not v3")
    start, stop = der.expect(data, at + 5, end, der.INTEGER)
    der.check_integer(data, start, stop)
    if stop - start > 20 + (data[start] == 0):
        raise CertificateError("serial", "longer than 20 bytes")
    cert._mark("serial", start, stop)
    at = _algorithm(data, stop, end)
    _, stop = der.expect(data, at, end, der.SEQUENCE)
    cert._mark("issuer", at, stop)
    start, at = der.expect(data, stop, end, der.SEQUENCE)
    cert.not_before, start = instant(data, start, at)
    cert.not_after, start = instant(data, start, at)
    if start != at:
        raise der.DerError("trailing")
    _, stop = der.expect(data, at, end, der.SEQUENCE)
    names(data[at:stop])
    cert._mark("subject", at, stop)
    cert._mark("names", at, stop)
    at = _public_key(cert, data, stop, end)
    if at < end:
        start, _ = der.expect(data, at, end, 0xA3)
        _extensions(cert, data, start, end)


def _algorithm(data, at, end):
    """Step over an AlgorithmIdentifier, which must be ecdsa-with-SHA256."""
    _, stop = der.expect(data, at, end, der.SEQUENCE)
    if data[at:stop] != _ECDSA_SHA256:
        raise CertificateError("algorithm", "not ecdsa-with-SHA256")
    return stop


def _public_key(cert, data, at, end):
    start, stop = der.expect(data, at, end, der.SEQUENCE)
    point = at + len(_P256_KEY)
    if data[at:point] == _P256_KEY and data[point] == 4:
        cert._mark("point", point, stop)
        return stop
    # Not usable: find the reason.
    start, key_at = der.expect(data, start, stop, der.SEQUENCE)
    if data[start : start + len(_EC_KEY)] != _EC_KEY:
        raise CertificateError("algorithm", "not an elliptic curve key")
    if data[start:key_at] != _P256_KEY[4:23]:
        raise CertificateError("curve", "not P-256")
    raise CertificateError("point", "not an uncompressed point")


def instant(data: bytes, at: int, end: int) -> "tuple[int, int]":
    """(seconds since 1970, where it stops) of a UTCTime or GeneralizedTime in its DER form.

    Raises: CertificateError("time"), DerError.
    """
    tag, start, stop = der.header(data, at, end)
    digits = data[start : stop - 1]
    expected = {der.UTC_TIME: 12, der.GENERALIZED_TIME: 14}.get(tag)
    if len(digits) != expected or data[stop - 1] != 0x5A or not digits.isdigit():
        raise CertificateError("time", "form")
    date = int(digits[:-6])
    clock = int(digits[-6:])
    year = date // 10000
    if tag == der.UTC_TIME:
        year += 2000 if year < 50 else 1900
    month = date // 100 % 100
    day = date % 100
    hour, minute, second = clock // 10000, clock // 100 % 100, clock % 100
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 28 + leap if month == 2 else 30 + (month + month // 8) % 2
    if not (0 < month < 13 and 0 < day <= last and hour < 24 and minute < 60 and second < 60):
        raise CertificateError("time", "value")
    # Days since 1970-01-01, counting years from March.
    if month < 3:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400
    days += (153 * (month - 3) + 2) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second, stop


def _extensions(cert, data, at, end):
    at, stop = der.expect(data, at, end, der.SEQUENCE)
    if stop != end:
        raise der.DerError("trailing")
    seen = []
    while at < end:
        start, at = der.expect(data, at, end, der.SEQUENCE)
        tail, stop = der.expect(data, start, at, der.OID)
        oid = data[tail:stop]
        if oid in seen:
            raise CertificateError("extension", "twice")
        seen.append(oid)
        critical, start = _boolean(data, stop, at)
        start, stop = der.expect(data, start, at, der.OCTET_STRING)
        if stop != at:
            raise der.DerError("trailing")
        reader = _EXTENSIONS.get(oid)
        if reader is not None:
            reader(cert, data, start, stop)
        elif critical:
            cert.unknown_critical = True


def _boolean(data, at, end):
    """(value, where it stops) of a BOOLEAN DEFAULT FALSE.

    A FALSE that is written out is no DER, but the pools' own CPS certificates have one.
    """
    if at < end and data[at] == der.BOOLEAN:
        start, stop = der.expect(data, at, end, der.BOOLEAN)
        if stop - start != 1 or data[start] not in (0, 0xFF):
            raise der.DerError("value", "boolean")
        return data[start] != 0, stop
    return False, at


def _basic_constraints(cert, data, at, end):
    at, stop = der.expect(data, at, end, der.SEQUENCE)
    cert.is_ca, at = _boolean(data, at, stop)
    if at < stop:
        start, at = der.expect(data, at, stop, der.INTEGER)
        der.check_integer(data, start, at)
        if not cert.is_ca or at - start > 1:
            raise CertificateError("extension", "path length")
        cert.path_length = data[start]
    if at != end:
        raise der.DerError("trailing")


def _key_usage(cert, data, at, end):
    start, stop = der.expect(data, at, end, der.BIT_STRING)
    size = stop - start
    if stop != end or size not in (2, 3) or data[start] > 7:
        raise CertificateError("extension", "key usage")
    if data[stop - 1] & ((1 << data[start]) - 1):
        raise CertificateError("extension", "key usage")
    usage = 0
    for i in range(9 if size == 3 else 8):
        usage |= (data[start + 1 + i // 8] >> (7 - i % 8) & 1) << i
    cert.key_usage = usage


def _subject_key_id(cert, data, at, end):
    start, stop = der.expect(data, at, end, der.OCTET_STRING)
    if stop != end:
        raise der.DerError("trailing")
    cert._mark("ski", start, stop)


def _authority_key_id(cert, data, at, end):
    at, stop = der.expect(data, at, end, der.SEQUENCE)
    if stop != end:
        raise der.DerError("trailing")
    if at < end and data[at] == 0x80:
        start, stop = der.expect(data, at, end, 0x80)
        cert._mark("aki", start, stop)


def _authority_info_access(cert, data, at, end):
    at, stop = der.expect(data, at, end, der.SEQUENCE)
    if stop != end:
        raise der.DerError("trailing")
    while at < end:
        start, at = der.expect(data, at, end, der.SEQUENCE)
        oid, stop = der.expect(data, start, at, der.OID)
        tag, start, end_of_location = der.header(data, stop, at)
        if end_of_location != at:
            raise der.DerError("trailing")
        if tag == 0x86 and data[oid:stop] == _OCSP and cert.ocsp is None:
            _url(data[start:at])
            cert._mark("ocsp", start, at)


def _ignore(cert, data, at, end):
    """Certificate policies: every policy is acceptable, so there is nothing to decide."""


_EXTENSIONS = {
    bytes.fromhex("551d13"): _basic_constraints,
    bytes.fromhex("551d0f"): _key_usage,
    bytes.fromhex("551d0e"): _subject_key_id,
    bytes.fromhex("551d23"): _authority_key_id,
    bytes.fromhex("2b06010505070101"): _authority_info_access,
    bytes.fromhex("551d20"): _ignore,
}
