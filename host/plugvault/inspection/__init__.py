"""Explanation of an artefact of Plug & Charge: its content, and every check with its verdict.

`inspect(data, scope)` detects the format: EXI, V2GTP, certificates (DER, PEM, PKCS#7), certificate
requests, OPCP JSON, XML of a bundle, each also in hexadecimal or base64; and captures of network
traffic. It uses no network and no private key.
"""

import base64
import binascii
import io
import re

from cryptography import x509 as reference
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from evcc import chain, der, x509
from evcc.errors import EvccError
from plugvault import exi_json
from plugvault.capture.files import is_capture
from plugvault.inspection.capture import LIMIT as CAPTURE_LIMIT
from plugvault.inspection.capture import inspect_capture
from plugvault.inspection.certificates import inspect_certificates
from plugvault.inspection.messages import inspect_exi
from plugvault.inspection.opcp import inspect_json, inspect_xml
from plugvault.inspection.report import Report, Scope, UnreadableError
from plugvault.inspection.v2gtp import VERSION, inspect_v2gtp
from plugvault.pki import request
from plugvault.pki.verify import verify_p256

LIMIT = 1_000_000  # bytes of a file: the largest real one, but for a capture, is a list of roots
_MARKUP = (b"{", b"[", b"<")  # JSON and XML, which may hold any UTF-8
_WRAPPERS = 3  # base64 of PEM of base64 exists in the field
_PEM = re.compile(b"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \\1-----", re.DOTALL)
_HEX = re.compile(b"(?:[0-9A-Fa-f]{2})+")
_BASE64 = re.compile(b"[A-Za-z0-9+/]+={0,2}")


def inspect(data: bytes, scope: Scope) -> Report:
    """The report of one artefact. Raises UnreadableError."""
    if len(data) > limit_of(data):
        raise UnreadableError(
            f"more than {limit_of(data):,} bytes, which no known artefact has;"
            " `editcap` cuts a capture into parts"
        )
    if is_capture(data):
        return inspect_capture(io.BytesIO(data), scope)
    return _unwrap(data, scope, [])


def limit_of(head: bytes) -> int:
    """The most bytes of a file that begins so."""
    return CAPTURE_LIMIT if is_capture(head) else LIMIT


def _unwrap(data: bytes, scope: Scope, wrappers: list[str]) -> Report:
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise UnreadableError("empty")
    if len(wrappers) > _WRAPPERS:
        raise UnreadableError("wrapped too often: " + " in ".join(reversed(wrappers)))
    if text.isascii() or text[:1] in _MARKUP:
        report = _text(text, scope, wrappers)
    else:
        report = _binary(data, scope)
    if report is None:
        raise UnreadableError(
            "unknown format: neither EXI, V2GTP, certificate, JSON, XML nor capture"
        )
    if wrappers and "form" not in report.content:
        report.content = {"form": ", ".join(wrappers), **report.content}
    return report


def _text(text: bytes, scope: Scope, wrappers: list[str]) -> Report | None:
    if text[:1] in (b"{", b"["):
        try:
            return inspect_json(exi_json.loads(text), scope)
        except EvccError as error:
            raise UnreadableError(str(error)) from error
    if text[:1] == b'"' and text[-1:] == b'"':
        return _unwrap(text[1:-1], scope, [*wrappers, "JSON string"])
    if text[:1] == b"<":
        return inspect_xml(text, scope)
    if text.startswith(b"-----BEGIN"):
        return _pem(text, scope)
    joined = b"".join(text.split())
    digits = joined.removeprefix(b"0x").replace(b":", b"")
    if _HEX.fullmatch(digits):
        return _unwrap(bytes.fromhex(digits.decode()), scope, [*wrappers, "hexadecimal"])
    if _BASE64.fullmatch(joined):
        try:
            return _unwrap(base64.b64decode(joined, validate=True), scope, [*wrappers, "base64"])
        except binascii.Error as error:
            raise UnreadableError(f"looks like base64, but: {error}") from error
    return None


def _pem(text: bytes, scope: Scope) -> Report:
    if b"PRIVATE KEY" in text:
        raise UnreadableError(
            "a private key: this tool reads none, and no file should contain one"
        )
    try:
        blocks = [(m[1], base64.b64decode(m[2])) for m in _PEM.finditer(text)]
    except binascii.Error as error:
        raise UnreadableError(f"PEM, but: {error}") from error
    ders = [content for label, content in blocks if label == b"CERTIFICATE" and content]
    if ders:
        report = inspect_certificates(ders, scope)
    else:
        content = _binary(blocks[0][1], scope) if blocks else None
        if content is None:
            raise UnreadableError("PEM without a certificate or a request")
        report = content
    report.content = {"form": "PEM", **report.content}
    return report


def _binary(data: bytes, scope: Scope) -> Report | None:
    if data[:2] == VERSION:
        return inspect_v2gtp(data, scope)
    if data[:1] == b"\x30":
        return _der(data, scope)
    if data[:1] == b"\x80":
        return inspect_exi(data, scope)
    return None


def _der(data: bytes, scope: Scope) -> Report | None:
    """Certificates after one another, certs-only PKCS#7, or a certificate request."""
    ders = _split(data)
    try:
        bundled = pkcs7.load_der_pkcs7_certificates(data)
        certs = [cert.public_bytes(Encoding.DER) for cert in bundled]
        if certs:
            report = inspect_certificates(certs, scope)
            report.content = {"form": "PKCS#7", **report.content}
            return report
    except Exception:  # noqa: BLE001, S110 - any error means: no PKCS#7
        pass
    request = _request(data)
    if request is not None:
        return request
    return inspect_certificates(ders, scope) if ders else None


def _split(data: bytes) -> list[bytes]:
    ders, at = [], 0
    try:
        while at < len(data):
            _, stop = der.expect(data, at, len(data), der.SEQUENCE)
            ders.append(data[at:stop])
            at = stop
    except EvccError:
        return []
    return ders if all(map(_is_certificate, ders)) else []


def _is_certificate(data: bytes) -> bool:
    """Whether the outline is that of a certificate. Errors inside become failed checks."""
    try:
        at, end = der.whole(data, der.SEQUENCE)
        _, at = der.expect(data, at, end, der.SEQUENCE)
        _, at = der.expect(data, at, end, der.SEQUENCE)
        der.expect(data, at, end, der.BIT_STRING)
    except EvccError:
        return False
    return True


def _request(data: bytes) -> Report | None:
    try:
        csr = reference.load_der_x509_csr(data)
        subject = csr.subject.rfc4514_string()
    except Exception:  # noqa: BLE001 - any error means: no certificate request
        return None
    report = Report("certificate request", {"subject": subject, "bytes": len(data)})
    try:
        request.read(base64.b64encode(data))
        report.add("request as an EST server takes it", True, "P-256, signed with its own key")
    except EvccError as error:
        report.add("request as an EST server takes it", False, str(error))
    return report


def read_anchors(data: bytes) -> list[x509.Certificate]:
    """The roots in a trust file: certificates in any form of `inspect`, or an RCP answer.

    Raises UnreadableError, also for a certificate that is no root.
    """
    anchors = []
    for certificate in inspect(data, Scope(0)).certificates:
        try:
            cert = x509.parse(certificate)
            chain.is_anchor(cert, cert.not_before, verify_p256)  # dates are judged at use
        except EvccError as error:
            raise UnreadableError(f"no trust anchor: {error}") from error
        anchors.append(cert)
    if not anchors:
        raise UnreadableError("no certificate in it")
    return anchors
