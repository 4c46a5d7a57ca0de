"""Names and serial numbers of certificates, as OPCP writes them and as ISO 15118 compares them.

OPCP 1.0.0: distinguished names in the order CN, DC, O, C; serial numbers in lower-case
hexadecimal without separators. Vehicles write the attributes of a root's name in any order.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from evcc.x509 import Certificate

LONGEST = 2000  # characters of a name as text: more than a certificate of 800 bytes can hold
_COMPARED = frozenset({"CN", "OU", "O", "C", "DC"})  # the attributes that evcc.x509 reads
_ORDER = ("CN", "OU", "DC", "O", "ST", "C")


def distinguished_name(names: dict[str, str]) -> str:
    """`CN=V2G Root, DC=V2G, O=Maker, C=DE`."""
    return ", ".join(f"{name}={names[name]}" for name in _ORDER if names.get(name))


def serial_hex(serial: int) -> str:
    """Lower case, no separators, no leading 00."""
    return f"{serial:x}".rjust(2, "0")


def colons(identifier: bytes | None) -> str:
    """A key identifier as PCP writes it: `4b:45:ff`."""
    return identifier.hex(":") if identifier else ""


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=1024)  # every vehicle's request holds the names of the same few roots
def attributes(text: str) -> frozenset[tuple[str, str]]:
    """The set of attributes of a name as text: their order has no meaning."""
    pairs = (part.partition("=") for part in re.findall(r"(?:\\.|[^,+\\])+", text))
    named = ((name.strip().upper(), re.sub(r"\\(.)", r"\1", value)) for name, _, value in pairs)
    return frozenset((name, value.strip()) for name, value in named if name in _COMPARED)


def is_root_of(root: Certificate, issuer_name: str, serial: int) -> bool:
    """Whether an X509IssuerSerial of a vehicle's request is that of `root`."""
    if root.serial != serial or len(issuer_name) > LONGEST:
        return False
    subject = frozenset((kind, value.strip()) for kind, value in root.names.items())
    return attributes(issuer_name) == subject
