"""Names of root certificates as text, in the spellings that vehicles in the field use.

A vehicle's request names each of its roots by issuer name and serial number (X509IssuerSerial).
RFC 4514 is the rule for the name, in any order, with spaces around "=" and separators as OpenSSL
writes them. Every other spelling is a tolerance of `TOLERANCES`; the caller logs it by its name.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from evcc import der, x509
from evcc.errors import EvccError
from evcc.x509 import Certificate

LONGEST = 2000  # characters of a name as text: more than a certificate of 800 bytes can hold

TOLERANCES = {
    "oneline": "/C=DE/CN=Root, as X509_NAME_oneline of OpenSSL writes it",
    "semicolon": "CN=Root;C=DE, a separator of RFC 1779",
    "quotes": 'O="Maker, Inc.", quotes of RFC 1779',
    "oid-prefix": "OID.2.5.4.3=Root, as RFC 1779 has it",
    "type-name": "commonName=Root, a long or local name of an attribute type",
    "repr": "<Name(CN=Root,C=DE)>, an object as Python prints it",
    "unescaped": "O=Maker, Inc., a separator inside a value",
    "no-type": "Root alone, which is its CN",
    "case": "values differ in upper and lower case, in spaces or in Unicode compositions",
    "partial": "the CN and not all other attributes of the root",
}
_COMPARISONS = {"case": 1, "partial": 2}  # the weight of each tolerance about the comparison

# OID of an attribute type that evcc.x509 reads: its name in RFC 4514, then its other names.
_TYPES = {
    "2.5.4.3": ("CN", "COMMONNAME"),
    "2.5.4.10": ("O", "ORGANIZATIONNAME", "ORGANISATIONNAME", "ORGANIZATION"),
    "2.5.4.11": ("OU", "ORGANIZATIONALUNITNAME", "ORGANISATIONALUNITNAME", "ORGUNIT"),
    "2.5.4.6": ("C", "COUNTRYNAME", "COUNTRY"),
    "0.9.2342.19200300.100.1.25": ("DC", "DOMAINCOMPONENT"),
}
_COMPARED = frozenset(names[0] for names in _TYPES.values())
_STANDARD = {key: names[0] for oid, names in _TYPES.items() for key in (oid, names[0])}
_OTHER = {name: names[0] for names in _TYPES.values() for name in names[1:]}

_WRAPPERS = (
    re.compile(r"<Name\((.*)\)>", re.DOTALL),
    re.compile(r"<X509Name object '(.*)'>", re.DOTALL),
)
_TYPE = r"\s*(?:OID\.)?[A-Za-z0-9][A-Za-z0-9.-]*\s*="
# A separator stands before the next attribute, before another separator or at the end.
_SEPARATOR = r"(?P<end>[{0}])(?=\s*(?:[{0}]|$)|{1})"
_RFC4514 = re.compile(
    r'\\.|"(?:[^"\\]|\\.)*"|' + _SEPARATOR.format(",+;", _TYPE) + "|.", re.DOTALL | re.IGNORECASE
)
_ONELINE = re.compile(
    r"\\.|" + _SEPARATOR.format("/+", _TYPE) + "|.", re.DOTALL | re.IGNORECASE
)  # it has no quotes and no #hex
_OCTETS = re.compile(r"((?:\\x?[0-9A-Fa-f]{2})+)|\\(.)", re.DOTALL)
_STRINGS = {
    der.PRINTABLE_STRING: "ascii",
    der.IA5_STRING: "ascii",
    der.UTF8_STRING: "utf-8",
    0x14: "latin-1",  # TeletexString, as most stacks read it
    0x1E: "utf-16-be",  # BMPString
}


@dataclass(frozen=True)
class IssuerName:
    """A name that was read from text. `attributes`: (type as in RFC 4514, value), without an
    order; `tolerances`: of `TOLERANCES`, those that its spelling needs."""

    attributes: frozenset[tuple[str, str]]
    tolerances: frozenset[str]


@lru_cache(maxsize=1024)  # every vehicle's request holds the names of the same few roots
def read(text: str) -> IssuerName:
    """The attributes of any text of at most LONGEST characters. A text that is no name has
    none."""
    tolerances: set[str] = set()
    inner = _unwrap(text.strip(), tolerances)
    if "=" not in inner:
        return _typeless(inner, tolerances)
    form = _RFC4514
    if inner.startswith("/"):
        tolerances.add("oneline")
        form, inner = _ONELINE, inner[1:]
    parts = _parts(inner, form, tolerances)
    pairs = [_attribute(part, form, tolerances) for part in parts]
    known = frozenset(pair for pair in pairs if pair[0] in _COMPARED)
    return IssuerName(known, frozenset(tolerances))


def match(name: IssuerName, root: Certificate) -> frozenset[str] | None:
    """The tolerances that are needed to take `name` for the subject of `root`; None for the name
    of another root. The caller compares the serial numbers."""
    subjects = _subjects(root)
    if name.attributes in subjects:
        return name.tolerances
    for subject in subjects:
        if _folded(name.attributes) == _folded(subject):
            return name.tolerances | {"case"}
    return _partial(name, subjects[0])


def looseness(tolerances: frozenset[str]) -> int:
    """The distance of the compared attributes from equality: 0 for equal attributes, more for
    weaker comparisons."""
    return sum(_COMPARISONS.get(tolerance, 0) for tolerance in tolerances)


def _partial(name: IssuerName, subject: frozenset[tuple[str, str]]) -> frozenset[str] | None:
    if not any(kind == "CN" for kind, _ in name.attributes):
        return None
    if name.attributes < subject:
        return name.tolerances | {"partial"}
    if _folded(name.attributes) < _folded(subject):
        return name.tolerances | set(_COMPARISONS)
    return None


@lru_cache(maxsize=64)
def _subjects(root: Certificate) -> tuple[frozenset[tuple[str, str]], ...]:
    """The attributes of a root: all of them, and the first of each type, which our own vehicles
    write."""
    first = frozenset((kind, value.strip()) for kind, value in root.names.items())
    every = [
        (kind, _decoded(tag, root.subject[start:stop]).strip())
        for kind, tag, start, stop in x509.attributes(root.subject)
        if kind is not None
    ]
    return frozenset(every), first


def _folded(attributes: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset(
        (kind, " ".join(unicodedata.normalize("NFKC", value).casefold().split()))
        for kind, value in attributes
    )


def _unwrap(text: str, tolerances: set[str]) -> str:
    for wrapper in _WRAPPERS:
        wrapped = wrapper.fullmatch(text)
        if wrapped:
            tolerances.add("repr")
            return wrapped[1].strip()
    return text


def _typeless(text: str, tolerances: set[str]) -> IssuerName:
    if not text:
        return IssuerName(frozenset(), frozenset(tolerances))
    common_name = ("CN", _value(text, _RFC4514, tolerances))
    return IssuerName(frozenset({common_name}), frozenset(tolerances | {"no-type"}))


def _parts(text: str, form: re.Pattern[str], tolerances: set[str]) -> list[str]:
    """The text of each attribute."""
    parts: list[list[str]] = [[]]
    for piece in form.finditer(text):
        if piece["end"]:
            parts.append([])
            if piece[0] == ";":
                tolerances.add("semicolon")
        else:
            parts[-1].append(piece[0])
            if form is _RFC4514 and piece[0] in (",", "+", ";"):
                tolerances.add("unescaped")
    return [joined for part in parts if (joined := "".join(part)).strip()]


def _attribute(text: str, form: re.Pattern[str], tolerances: set[str]) -> tuple[str, str]:
    """(type, value); the type is "" where it is none that is compared."""
    written, _, value = text.partition("=")
    kind = written.strip().upper()
    if kind.startswith("OID."):
        tolerances.add("oid-prefix")
        kind = kind.removeprefix("OID.")
    if kind in _OTHER:
        tolerances.add("type-name")
    return _STANDARD.get(kind) or _OTHER.get(kind, ""), _value(value, form, tolerances)


def _value(text: str, form: re.Pattern[str], tolerances: set[str]) -> str:
    bare = text.strip() if form is _RFC4514 else ""
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        tolerances.add("quotes")
        text = bare[1:-1]
    elif bare.startswith("#"):
        return _of_der(bare)
    return _OCTETS.sub(_unescape, text).strip()


def _unescape(escaped: re.Match[str]) -> str:
    """Hexadecimal pairs are octets of UTF-8; any other character after a backslash is itself."""
    octets, character = escaped.groups()
    if character:
        return str(character)
    return bytes.fromhex(re.sub(r"\\x?", "", octets)).decode("utf-8", "replace")


def _of_der(text: str) -> str:
    """The value of `#` and a string's DER in hexadecimal [RFC 4514, 2.4]; other text unchanged."""
    try:
        data = bytes.fromhex(text[1:])
        tag, start, stop = der.header(data, 0, len(data))
        return _decoded(tag, data[start:stop]).strip() if stop == len(data) else text
    except (EvccError, ValueError):
        return text


def _decoded(tag: int, data: bytes) -> str:
    return data.decode(_STRINGS.get(tag, "latin-1"))
