"""What is remembered of what others send: so much of it, and then the oldest goes."""

from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")

_one = Lock()


def keep(kept: dict[Any, Any], most: int, key: Any, value: Any) -> None:
    """Put it in; the oldest goes for it when there are `most`. From any thread."""
    with _one:
        if key not in kept and len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = value


def add(kept: list[T], most: int, one: T) -> None:
    """Put it at the end; the older half goes when there are more than `most`."""
    kept.append(one)
    if len(kept) > most:
        del kept[: most // 2]
