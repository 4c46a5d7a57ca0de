"""Certificates, requests and keys in the forms in which files and messages carry them.

One reader serves every place that takes them: DER, several DER values after one another, PKCS#7,
PEM with any text around it [RFC 7468, 5.2], base64 of each; with a byte order mark, any line
breaks, and as a JSON string with escaped line breaks.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from evcc import der
from evcc.errors import EvccError

LIMIT = 1_000_000  # bytes: the largest real file is a list of roots
_WRAPPERS = 3  # base64 of PEM of base64 exists in the field
_BEGIN, _END, _MARK = b"-----BEGIN ", b"-----END ", b"-----"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_HEADER = re.compile(rb"[A-Za-z0-9-]+:[^\n]*(?:\n[ \t][^\n]*)*\n")  # of an encrypted key
_ESCAPES = ((rb"\r", b"\r"), (rb"\n", b"\n"), (rb"\/", b"/"))  # of a JSON string
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_BUNDLES = ("PKCS7", "CMS")
_REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")


class FormError(EvccError):
    """Bytes without a certificate or without a request. The text says what they hold instead."""

    REASONS = ("format",)


class Block(NamedTuple):
    """One block of PEM. label: such as "CERTIFICATE"; content: the decoded bytes; text: the whole
    block."""

    label: str
    content: bytes
    text: bytes


def certificates(data: bytes) -> list[bytes]:
    """DER of every certificate, in their order, at least one. Raises FormError."""
    ders = list(_certificates(data, _WRAPPERS))
    if not ders:
        raise FormError("format", f"{kind(data)} and no certificate")
    return ders


def certificate(data: bytes) -> bytes:
    """DER of the only certificate. Raises FormError."""
    ders = certificates(data)
    if len(ders) > 1:
        raise FormError("format", f"{len(ders)} certificates where one is expected")
    return ders[0]


def request(data: bytes) -> bytes:
    """DER of a certificate request (PKCS#10), whose content is not checked. Raises FormError."""
    for _ in range(_WRAPPERS):
        requests = [block for block in blocks(data) if block.label in _REQUESTS]
        if requests:
            return requests[0].content
        inner = from_base64(data)
        if inner is None:
            break
        data = inner
    if data[:1] != b"\x30":
        raise FormError("format", f"{kind(data)} and no PKCS#10 request in DER, PEM or base64")
    return data


def text_of(data: bytes) -> bytes:
    """A text in UTF-8 with LF line breaks, without its byte order mark, quotes and escaped line
    breaks."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # as PowerShell writes it
        data = data.decode("utf-16", "replace").encode()
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if text[:1] == text[-1:] == b'"':
        text = text[1:-1]
    if _BEGIN in text:
        for written, meant in _ESCAPES:
            text = text.replace(written, meant)
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def blocks(data: bytes) -> list[Block]:
    """The blocks of PEM in a text; [] for bytes without PEM. Raises FormError for a block without
    its end."""
    return list(_blocks(text_of(data))) if _BEGIN in data or b"B\0E\0G\0I\0N" in data else []


def _blocks(text: bytes) -> Iterator[Block]:
    at = text.find(_BEGIN)
    while at >= 0:
        start = text.find(_MARK, at + len(_BEGIN))
        label = text[at + len(_BEGIN) : max(start, 0)]
        end = text.find(_END + label + _MARK, start) if start > 0 else -1
        if end < 0:
            name = label.decode("ascii", "replace")[:40]
            raise FormError("format", f"PEM that is cut off: no END line for BEGIN {name}")
        stop = end + len(_END + label + _MARK)
        content = text[start + len(_MARK) : end].lstrip()
        body = 0
        while header := _HEADER.match(content, body):
            body = header.end()
        try:
            decoded = base64.b64decode(b"".join(content[body:].split()), validate=True)
        except binascii.Error as error:
            name = label.decode("ascii", "replace")
            raise FormError("format", f"PEM of a {name} that is no base64: {error}") from error
        yield Block(label.decode("ascii", "replace"), decoded, text[at:stop] + b"\n")
        at = text.find(_BEGIN, stop)


def _certificates(data: bytes, wrappers: int) -> Iterator[bytes]:
    if data[:1] == b"\x30" and (ders := split(data) or of_pkcs7(data)):
        yield from ders
        return
    found = blocks(data)
    for block in found:
        if block.label in _CERTIFICATES and block.content:
            yield first_value(block.content)
        elif block.label in _BUNDLES:
            yield from of_pkcs7(block.content)
    inner = None if found else from_base64(data)
    if inner is not None and wrappers:
        yield from _certificates(inner, wrappers - 1)


def from_base64(data: bytes) -> bytes | None:
    """The decoded content of a text that is base64 as a whole; None for any other bytes."""
    joined = b"".join(text_of(data).split())
    if not _BASE64.fullmatch(joined):
        return None
    try:
        return base64.b64decode(joined, validate=True)
    except binascii.Error:
        return None


def first_value(data: bytes) -> bytes:
    """The first DER value of some bytes; all of the bytes where they do not begin with one.
    OpenSSL's TRUSTED CERTIFICATE has trust settings after the certificate."""
    try:
        _, stop = der.expect(data, 0, len(data), der.SEQUENCE)
    except EvccError:
        return data
    return data[:stop]


def split(data: bytes) -> list[bytes]:
    """The DER certificates in a sequence of them without separators; [] for any other bytes."""
    ders, at = [], 0
    try:
        while at < len(data):
            _, stop = der.expect(data, at, len(data), der.SEQUENCE)
            ders.append(data[at:stop])
            at = stop
    except EvccError:
        return []
    return ders if all(map(is_certificate, ders)) else []


def is_certificate(data: bytes) -> bool:
    """Whether bytes have the outer structure of a certificate [RFC 5280, 4.1]. The caller checks
    the fields."""
    try:
        at, end = der.whole(data, der.SEQUENCE)
        _, at = der.expect(data, at, end, der.SEQUENCE)
        _, at = der.expect(data, at, end, der.SEQUENCE)
        _, stop = der.expect(data, at, end, der.BIT_STRING)
    except EvccError:
        return False
    return stop == end


def of_pkcs7(data: bytes) -> list[bytes]:
    """DER of the certificates in a PKCS#7 or CMS message in DER; [] for any other bytes."""
    try:
        bundled = pkcs7.load_der_pkcs7_certificates(data)
        return [certificate.public_bytes(Encoding.DER) for certificate in bundled]
    except Exception:  # noqa: BLE001 - the library has many errors for bytes of another kind
        return []


def kind(data: bytes) -> str:
    """The kind of some bytes, in a few words, for the text of an error."""
    if not data.strip():
        return "nothing"
    try:
        labels = [block.label for block in blocks(data)]
    except FormError as error:
        return error.detail
    if labels:
        return f"PEM of {', '.join(dict.fromkeys(labels))}"[:100]
    if data[:1] == b"\x30":
        return "DER"
    return "text" if data.isascii() else "binary data"
