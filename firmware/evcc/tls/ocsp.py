"""OCSP answers [RFC 6960], as a station staples one to its certificate in TLS.

An answer is accepted when the certificate's issuer has signed it, or a responder whose certificate
the same issuer has signed for that purpose; when it is about this certificate; and when it is
current. P-256 and SHA-256 only. Extensions are skipped, also a nonce, which a stapled answer
cannot have.

Not on a board: it has no TLS.
"""

import hashlib

from evcc import chain, der, x509
from evcc.errors import EvccError

GOOD = "good"
REVOKED = "revoked"
UNKNOWN = "unknown"
LIMIT = 8192  # bytes of an answer
SKEW = 300  # seconds between the responder's clock and the car's
AGE = 86400  # seconds: of an answer that does not say its end
MAX_RESPONDERS = 4  # certificates in an answer

_ENUMERATED = 0x0A
_GOOD, _REVOKED, _UNKNOWN = 0x80, 0xA1, 0x82  # tags of the status
_STATUS = {_GOOD: GOOD, _REVOKED: REVOKED, _UNKNOWN: UNKNOWN}
_BASIC = bytes.fromhex("2b0601050507300101")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")
_OCSP_SIGNING = bytes.fromhex("06082b06010505070309")
_HASHES = {bytes.fromhex("2b0e03021a"): "sha1", bytes.fromhex("608648016503040201"): "sha256"}


class OcspError(EvccError):
    """An answer that proves nothing about the certificate."""

    REASONS = (
        "format",
        "unsuccessful",  # the responder refused the station's question
        "algorithm",  # of the signature
        "certificate",  # the answer is about another one
        "not-yet-valid",
        "stale",
        "signature",  # by neither the issuer nor a responder of the issuer
    )


def read(answer: bytes, certificate, issuer, now, verify) -> str:
    """The status of a certificate: `GOOD`, `REVOKED` or `UNKNOWN`.

    answer: OCSPResponse, DER. certificate, issuer: `x509.Certificate`. now: unix seconds; None:
    the time is not known, and no date is judged. verify(point, digest, signature): see
    `p256.verify`. Raises: OcspError; the errors of `verify`.
    """
    if len(answer) > LIMIT:
        raise OcspError("format", "%d bytes" % len(answer))
    try:
        basic = _basic(answer)
        signed, start, signature, certificates = _parts(basic)
        status, this_update, next_update = _single(basic, start, signed[1], certificate, issuer)
        responders = [issuer] + _responders(basic, certificates, issuer, now, verify)
    except (der.DerError, x509.CertificateError) as error:
        raise OcspError("format", str(error))
    _check_current(this_update, next_update, now)
    digest = hashlib.sha256(basic[signed[0] : signed[1]]).digest()
    if not any(verify(responder.point, digest, signature) for responder in responders):
        raise OcspError("signature")
    return status


def _check_current(this_update: int, next_update, now) -> None:
    if now is None:
        return
    if this_update > now + SKEW:
        raise OcspError("not-yet-valid")
    if (this_update + AGE if next_update is None else next_update) < now - SKEW:
        raise OcspError("stale")


def _basic(answer: bytes) -> bytes:
    """The BasicOCSPResponse of an OCSPResponse."""
    at, end = der.whole(answer, der.SEQUENCE)
    start, at = der.expect(answer, at, end, _ENUMERATED)
    if answer[start:at] != b"\0":
        raise OcspError("unsuccessful", answer[start:at].hex())
    at, stop = der.expect(answer, at, end, 0xA0)
    at, inner = der.expect(answer, at, stop, der.SEQUENCE)
    start, at = der.expect(answer, at, inner, der.OID)
    if answer[start:at] != _BASIC:
        raise OcspError("format", "not a basic answer")
    start, at = der.expect(answer, at, inner, der.OCTET_STRING)
    if not at == inner == stop == end:
        raise der.DerError("trailing")
    return answer[start:at]


def _parts(basic: bytes) -> tuple:
    """((start, stop) of the signed part, start of its content, the signature's 64 bytes,
    (start, stop) of the certificates)."""
    at, end = der.whole(basic, der.SEQUENCE)
    content, stop = der.expect(basic, at, end, der.SEQUENCE)
    signed = (at, stop)
    _, at = der.expect(basic, stop, end, der.SEQUENCE)
    if basic[stop:at] != _ECDSA_SHA256:
        raise OcspError("algorithm", "not ecdsa-with-SHA256")
    start, at = der.expect(basic, at, end, der.BIT_STRING)
    if start == at or basic[start]:
        raise der.DerError("value", "signature is not whole bytes")
    signature = der.raw_signature(basic, start + 1, at)
    certificates = (end, end)
    if at < end:
        at, stop = der.expect(basic, at, end, 0xA0)
        certificates = der.expect(basic, at, stop, der.SEQUENCE)
        if not certificates[1] == stop == end:
            raise der.DerError("trailing")
    return signed, content, signature, certificates


def _single(basic: bytes, at: int, end: int, certificate, issuer) -> tuple:
    """(status, this update, next update or None) of the answer about `certificate`."""
    if basic[at] == 0xA0:  # the version
        _, at = der.expect(basic, at, end, 0xA0)
    tag, _, at = der.header(basic, at, end)
    if tag not in (0xA1, 0xA2):
        raise der.DerError("tag", "no responder's name or key")
    _, at = x509.instant(basic, at, end)
    at, stop = der.expect(basic, at, end, der.SEQUENCE)
    while at < stop:
        start, at = der.expect(basic, at, stop, der.SEQUENCE)
        if _is_about(basic, start, at, certificate, issuer):
            _, start = der.expect(basic, start, at, der.SEQUENCE)
            return _status(basic, start, at)
    raise OcspError("certificate")


def _is_about(basic: bytes, at: int, end: int, certificate, issuer) -> bool:
    """Whether the CertID at `at` names this certificate."""
    at, end = der.expect(basic, at, end, der.SEQUENCE)
    algorithm, stop = der.expect(basic, at, end, der.SEQUENCE)
    start, oid_end = der.expect(basic, algorithm, stop, der.OID)
    name, name_end = der.expect(basic, stop, end, der.OCTET_STRING)
    key, key_end = der.expect(basic, name_end, end, der.OCTET_STRING)
    number, number_end = der.expect(basic, key_end, end, der.INTEGER)
    der.check_integer(basic, number, number_end)
    hash_function = getattr(hashlib, _HASHES.get(basic[start:oid_end], ""), None)
    if number_end != end or hash_function is None:
        return False
    return (
        basic[name:name_end] == hash_function(certificate.issuer).digest()
        and basic[key:key_end] == hash_function(issuer.point).digest()
        and int.from_bytes(basic[number:end], "big") == certificate.serial
    )


def _status(basic: bytes, at: int, end: int) -> tuple:
    tag, _, at = der.header(basic, at, end)
    if tag not in _STATUS:
        raise der.DerError("tag", "status %02x" % tag)
    this_update, at = x509.instant(basic, at, end)
    next_update = None
    if at < end and basic[at] == 0xA0:
        start, at = der.expect(basic, at, end, 0xA0)
        next_update, start = x509.instant(basic, start, at)
        if start != at:
            raise der.DerError("trailing")
    return _STATUS[tag], this_update, next_update


def _responders(basic: bytes, span: tuple, issuer, now, verify) -> list:
    """The certificates in an answer that the issuer has made for responders."""
    at, end = span
    responders = []
    while at < end:
        start = at
        _, at = der.expect(basic, start, end, der.SEQUENCE)
        if len(responders) == MAX_RESPONDERS:
            raise OcspError("format", "more than %d certificates" % MAX_RESPONDERS)
        try:
            responder = x509.parse(basic[start:at], LIMIT)
            if _may_answer(responder, issuer, now, verify):
                responders.append(responder)
        except x509.CertificateError:
            continue  # of another curve, or out of date: not the one that has signed
    return responders


def _may_answer(responder, issuer, now, verify) -> bool:
    """Whether the issuer has certified a responder of its answers [RFC 6960, 4.2.2.2]."""
    usages, others = _extended_key_usage(responder)
    if responder.issuer != issuer.subject or _OCSP_SIGNING not in usages or others:
        return False
    if now is not None and not responder.not_before <= now <= responder.not_after:
        return False
    usage = responder.key_usage
    if usage is not None and not usage & x509.DIGITAL_SIGNATURE:
        return False
    chain.verify_link(responder, [issuer], verify)
    return True


def _extended_key_usage(certificate) -> tuple:
    """([the purposes, OIDs as DER], whether another critical extension is not known)."""
    data = certificate.tbs
    at, end = der.whole(data, der.SEQUENCE)
    usages, critical = [], False
    while at < end:
        tag, start, at = der.header(data, at, end)
        if tag != 0xA3:
            continue
        position, stop = der.expect(data, start, at, der.SEQUENCE)
        while position < stop:
            start, position = der.expect(data, position, stop, der.SEQUENCE)
            _, oid_end = der.expect(data, start, position, der.OID)
            if data[start + 2 : oid_end] == _EXTENDED_KEY_USAGE:
                critical = der.header(data, oid_end, position)[0] == der.BOOLEAN
                usages = _purposes(data, oid_end, position)
    return usages, certificate.unknown_critical and not critical


def _purposes(data: bytes, at: int, end: int) -> list:
    tag, _, stop = der.header(data, at, end)
    if tag == der.BOOLEAN:
        at = stop
    start, stop = der.expect(data, at, end, der.OCTET_STRING)
    at, stop = der.expect(data, start, stop, der.SEQUENCE)
    purposes = []
    while at < stop:
        start = at
        _, at = der.expect(data, at, stop, der.OID)
        purposes.append(data[start:at])
    return purposes
