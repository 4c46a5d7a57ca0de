"""Names and numbers of certificates as OPCP writes them, and as ISO 15118 compares them.

OPCP 1.0.0: distinguished names in the order CN, DC, O, C; serial numbers in lower-case
hexadecimal without separators. Vehicles write the name of a root in any order they like.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from evcc.x509 import Certificate

LONGEST = 2000  # characters of a written name: a certificate of 800 bytes has no such name
_COMPARED = frozenset({"CN", "OU", "O", "C", "DC"})  # what evcc.x509 reads of a name
_ORDER = ("CN", "OU", "DC", "O", "ST", "C")


def distinguished_name(names: dict[str, str]) -> str:
    """`CN=V2G Root, DC=V2G, O=Maker, C=DE`."""
    return ", ".join(f"{name}={names[name]}" for name in _ORDER if names.get(name))


def serial_hex(serial: int) -> str:
    """Lower case, no separators, no leading 00."""
    return f"{serial:x}".rjust(2, "0")


def colons(identifier: bytes | None) -> str:
    """`4b:45:ff`: how PCP writes key identifiers."""
    return identifier.hex(":") if identifier else ""


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=1024)  # the names of a few roots, in each vehicle's request
def attributes(text: str) -> frozenset[tuple[str, str]]:
    """A written name as a set of attributes, because its order says nothing."""
    pairs = (part.partition("=") for part in re.findall(r"(?:\\.|[^,+\\])+", text))
    named = ((name.strip().upper(), re.sub(r"\\(.)", r"\1", value)) for name, _, value in pairs)
    return frozenset((name, value.strip()) for name, value in named if name in _COMPARED)


def is_root_of(root: Certificate, issuer_name: str, serial: int) -> bool:
    """Whether a request's X509IssuerSerial names this root."""
    if root.serial != serial or len(issuer_name) > LONGEST:
        return False
    named = frozenset((kind, value.strip()) for kind, value in root.names.items())
    return attributes(issuer_name) == named
