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

from evcc import chain, x509
from evcc.errors import EvccError
from plugvault import exi_json
from plugvault.capture.files import is_capture
from plugvault.inspection.capture import LIMIT as CAPTURE_LIMIT
from plugvault.inspection.capture import inspect_capture
from plugvault.inspection.certificates import inspect_certificates
from plugvault.inspection.messages import inspect_exi
from plugvault.inspection.ocsp import inspect_ocsp
from plugvault.inspection.opcp import inspect_json, inspect_xml
from plugvault.inspection.report import Report, Scope, UnreadableError
from plugvault.inspection.v2gtp import VERSION, inspect_v2gtp
from plugvault.pki import collection, forms, keystore, request
from plugvault.pki.verify import verify_p256

LIMIT = 1_000_000  # bytes of a file: the largest real one, but for a capture, is a list of roots
_MARKUP = (b"{", b"[", b"<")  # JSON and XML, which may hold any UTF-8
_WRAPPERS = 3  # base64 of PEM of base64 exists in the field
_PEM = b"-----BEGIN "
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_STORE = "`plugvault pki import FILE` shows its certificates, with their passwords in a file"
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
    """The largest number of bytes of a file with this beginning."""
    return CAPTURE_LIMIT if is_capture(head) else LIMIT


def _unwrap(data: bytes, scope: Scope, wrappers: list[str]) -> Report:
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if data[:2] in _UTF16:
        text = forms.text_of(data)
    if not text:
        raise UnreadableError("empty")
    if len(wrappers) > _WRAPPERS:
        raise UnreadableError("wrapped too often: " + " in ".join(reversed(wrappers)))
    if text.isascii() or text[:1] in _MARKUP or _PEM in text:
        report = _text(text, scope, wrappers) or _binary(data, scope)  # short DER may be ASCII
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
        return _unwrap(forms.text_of(text), scope, [*wrappers, "JSON string"])
    if text[:1] == b"<":
        return inspect_xml(text, scope)
    if _PEM in text:
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
    try:
        blocks = forms.blocks(text)
    except forms.FormError as error:
        raise UnreadableError(error.detail) from error
    if any(block.label.endswith("PRIVATE KEY") for block in blocks):
        raise UnreadableError(
            "a private key: this tool reads none; `plugvault pki import` puts it into a token"
        )
    ders = [forms.first_value(b.content) for b in blocks if "CERTIFICATE" in b.label.split()
            and not b.label.endswith("REQUEST") and b.content]  # fmt: skip
    if ders:
        report = inspect_certificates(ders, scope)
    else:
        content = _binary(blocks[0].content, scope) if blocks else None
        if content is None:
            labels = ", ".join(block.label for block in blocks)
            raise UnreadableError(f"PEM of {labels}: no certificate and no request")
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
    if data[:4] in (keystore.MAGIC, b"\xce\xce\xce\xce"):
        raise UnreadableError(f"a Java key store: {_STORE}")
    return None


def _der(data: bytes, scope: Scope) -> Report | None:
    """Certificates after one another, PKCS#7, a certificate request, or OCSP."""
    bundled = forms.of_pkcs7(data)
    if bundled:
        report = inspect_certificates(bundled, scope)
        report.content = {"form": "PKCS#7", **report.content}
        return report
    other = _request(data) or inspect_ocsp(data, scope)
    if other is not None:
        return other
    if collection.is_pkcs12(data):
        raise UnreadableError(f"a PKCS#12 key store: {_STORE}")
    ders = forms.split(data)
    return inspect_certificates(ders, scope) if ders else None


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
