"""Containers with a limit for data that other parties send: the oldest entry is evicted."""

from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")

_lock = Lock()


def put(entries: dict[Any, Any], most: int, key: Any, value: Any) -> None:
    """Set `entries[key]`. With `most` entries a new key replaces the oldest. Safe from any
    thread."""
    with _lock:
        if key not in entries and len(entries) >= most:
            del entries[next(iter(entries))]
        entries[key] = value


def append(items: list[T], most: int, item: T) -> None:
    """Append to `items`. With more than `most` items, the oldest `most // 2` are removed."""
    items.append(item)
    if len(items) > most:
        del items[: most // 2]
