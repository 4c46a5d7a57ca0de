"""What is remembered of what others send: so much of it, and then the oldest goes."""

from threading import Lock
from typing import Any

_one = Lock()


def keep(kept: dict[Any, Any], most: int, key: Any, value: Any) -> None:
    """Put it in; the oldest goes for it when there are `most`. From any thread."""
    with _one:
        if key not in kept and len(kept) >= most:
            del kept[next(iter(kept))]
        kept[key] = value
