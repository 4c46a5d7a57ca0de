"""Names and serial numbers of certificates, as OPCP writes them.

OPCP 1.0.0: distinguished names in the order CN, DC, O, C; serial numbers in lower-case
hexadecimal without separators.
"""

from datetime import UTC, datetime

_ORDER = ("CN", "OU", "DC", "O", "ST", "C")


def distinguished_name(names: dict[str, str]) -> str:
    """A subject as `CN=V2G Root, DC=V2G, O=Maker, C=DE`. `names`: values by attribute type."""
    return ", ".join(f"{name}={names[name]}" for name in _ORDER if names.get(name))


def serial_hex(serial: int) -> str:
    """A serial number in lower-case hexadecimal, without separators and without a leading 00."""
    return f"{serial:x}".rjust(2, "0")


def colons(identifier: bytes | None) -> str:
    """A key identifier as PCP writes it: `4b:45:ff`."""
    return identifier.hex(":") if identifier else ""


def timestamp(seconds: float) -> str:
    """A time as RFC 3339 in UTC, whole seconds. `seconds`: Unix seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
