"""The difference between a case's message and the same message without its change."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

from evcc import exi


class Change(NamedTuple):
    """One changed value. element: its path in the message, or "byte N" of a message that cannot be
    read. good, changed: the value before and after, bytes as hexadecimal digits; "" where there is
    none."""

    element: str
    good: str
    changed: str


def difference(good: bytes, message: bytes) -> list[Change]:
    """The changed values, in the order of the message. Empty for two equal messages."""
    try:
        ours = dict(_values(exi.decode(message)))
    except exi.ExiError:
        return _bytes(good, message)
    theirs = dict(_values(exi.decode(good)))
    changes = [
        Change(element, theirs.get(element, ""), ours.get(element, ""))
        for element in dict.fromkeys([*theirs, *ours])
        if theirs.get(element) != ours.get(element)
    ]
    return changes or _bytes(good, message)


def _values(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of each simple value below `value`."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _values(member, f"{path}/{name}" if path else name)
    elif isinstance(value, list):
        for number, member in enumerate(value, 1):
            yield from _values(member, f"{path}[{number}]")
    else:
        yield path, value.hex() if isinstance(value, bytes) else str(value)


def _bytes(good: bytes, message: bytes) -> list[Change]:
    """The first difference of two messages as bytes, and 16 bytes from there."""
    for at, (one, other) in enumerate(zip_longest(good, message)):
        if one != other:
            end = at + 16
            return [Change(f"byte {at}", good[at:end].hex(), message[at:end].hex())]
    return []
