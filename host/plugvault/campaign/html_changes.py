"""The changed values of a message beside those of its good twin, the differing bytes marked."""

from collections.abc import Iterator
from itertools import groupby, zip_longest
from typing import Any

from cryptography import x509

from plugvault.campaign.markup import Html, joined, pairs, tag

_ROW = 16  # bytes of a line
_MOST_ROWS = 8
_MOST_CHARACTERS = 160
_DERIVED = ("/DigestValue", "/SignatureValue/value")  # these values follow from another change


def to_html(changes: list[dict[str, str]]) -> Html:
    """A table of changed values. changes: of `plugvault.cases.difference`, as the manifest has
    them."""
    shown = [change for change in changes if not change["element"].endswith(_DERIVED)] or changes
    parts = [_change(change) for change in shown]
    if len(shown) < len(changes):
        names = ", ".join(_name(c["element"]) for c in changes if c not in shown)
        parts.append(tag("p", f"Changed with it: {names}.", kind="quiet"))
    return joined(parts)


def _name(element: str) -> str:
    """The end of an element's path: "Reference[1]/DigestValue"."""
    return "/".join(element.split("/")[-2:])


def _change(change: dict[str, str]) -> Html:
    good, sent = _bytes(change["good"]), _bytes(change["changed"])
    if good is None or sent is None:
        content = _texts(change["good"], change["changed"])
    else:
        content = joined([_certificates(good, sent), _hexadecimal(good, sent)], "")
    return tag("figure", tag("figcaption", change["element"]), content)


def _bytes(text: str) -> bytes | None:
    """The bytes of a hexadecimal value; None for another text."""
    if len(text) % 2 or set(text) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(text)


def _hexadecimal(good: bytes, sent: bytes) -> Html:
    """The lines of 16 bytes in which the two values differ."""
    length = max(len(good), len(sent))
    lines = [at for at in range(0, length, _ROW) if good[at : at + _ROW] != sent[at : at + _ROW]]
    rows = []
    for at in lines[:_MOST_ROWS]:
        pair = list(zip_longest(good[at : at + _ROW], sent[at : at + _ROW]))
        rows.append(_line(at, "good", [(one, one != other) for one, other in pair]))
        rows.append(_line(at, "sent", [(other, one != other) for one, other in pair]))
    size = f"{len(good)} bytes" if len(good) == len(sent) else f"{len(good)} and {len(sent)} bytes"
    more = len(lines) - _MOST_ROWS
    note = f"{size}; {more} more lines differ" if more > 0 else size
    return joined([tag("div", *rows, kind="hex"), tag("p", note, kind="quiet")], "")


def _line(at: int, name: str, values: list[tuple[int | None, bool]]) -> Html:
    present = [(value, differs) for value, differs in values if value is not None]
    runs = groupby(present, key=lambda pair: pair[1])
    octets = [
        tag("mark" if differs else "span", " ".join(f"{value:02x}" for value, _ in run))
        for differs, run in runs
    ] or [tag("i", "nothing")]
    place = tag("span", f"{at:04x}", kind="at")
    return tag("div", place, tag("b", name), tag("code", joined(octets, " ")), kind=name)


def _texts(good: str, sent: str) -> Html:
    rows = []
    for name, text, other in (("good", good, sent), ("sent", sent, good)):
        together = zip_longest(text[:_MOST_CHARACTERS], other[:_MOST_CHARACTERS])
        runs = groupby(
            (pair for pair in together if pair[0] is not None), lambda pair: pair[0] != pair[1]
        )
        characters = [
            tag("mark" if differs else "span", "".join(one for one, _ in run))
            for differs, run in runs
        ]
        rest = len(text) - _MOST_CHARACTERS
        more = f" … {rest} more" if rest > 0 else ""
        value = tag("code", *characters, more) if text else tag("i", "nothing")
        rows.append(tag("div", tag("b", name), value, kind=name))
    return tag("div", *rows, kind="hex text")


def _certificates(good: bytes, sent: bytes) -> Html:
    """The members in which two certificates differ; nothing for other values."""
    try:
        ours, theirs = (dict(_members(value)) for value in (good, sent))
    except ValueError:
        return Html()
    rows = [
        (name, f"{ours.get(name, 'none')} → {theirs.get(name, 'none')}")
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    return pairs(rows) if rows else Html()


def _members(der: bytes) -> Iterator[tuple[str, Any]]:
    certificate = x509.load_der_x509_certificate(der)
    yield "subject", certificate.subject.rfc4514_string()
    yield "issuer", certificate.issuer.rfc4514_string()
    yield "not before", str(certificate.not_valid_before_utc)
    yield "not after", str(certificate.not_valid_after_utc)
    for extension in certificate.extensions:
        name = extension.oid._name
        if not name.endswith("KeyIdentifier"):  # they follow from the keys
            yield f"{name}{' (critical)' if extension.critical else ''}", _value(extension.value)


def _value(value: x509.ExtensionType) -> str:
    if isinstance(value, x509.BasicConstraints):
        return f"CA {value.ca}, path length {value.path_length}"
    if isinstance(value, x509.KeyUsage):
        bits = ("digital_signature", "content_commitment", "key_encipherment", "key_agreement")
        named = [bit for bit in (*bits, "key_cert_sign", "crl_sign") if getattr(value, bit)]
        return ", ".join(named) or "nothing"
    return str(value.public_bytes().hex())
